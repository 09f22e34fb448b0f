from __future__ import annotations

import math

import pytest

from carp.daemon.registry import Family, Histogram, Kind, escape, number


def _one(value: float) -> list[tuple[tuple[str, ...], float]]:
    return [((), value)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (True, "1"),
        (3.0, "3"),
        (0.25, "0.25"),
        (-1.5, "-1.5"),
        (1e-7, "1e-07"),
        (2**53, "9007199254740992"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_written_as_the_format_wants(value: float, text: str) -> None:
    """Whole numbers have no point, the infinities and NaN their names."""
    assert text == number(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [("eth0", "eth0"), ("", ""), ('a"b', r"a\"b"), ("a\\b", r"a\\b"), ("a\nb", r"a\nb"), ("ü{}", "ü{}")],
)
def test_label_values_are_escaped(value: str, text: str) -> None:
    """Backslash, quote and line feed are escaped, everything else stands as it is."""
    assert text == escape(value)


def test_family_without_labels() -> None:
    """A family is its help, its type and its samples; help escapes backslash and line feed."""
    family = Family("a_b", Kind.GAUGE, "one\\two\nthree", (), _one)
    assert "# HELP a_b one\\\\two\\nthree\n# TYPE a_b gauge\na_b 2.5\n" == family.text(2.5)


def test_family_with_labels() -> None:
    """Labels come in the family's order, with their values escaped."""
    family: Family[int] = Family("c_total", Kind.COUNTER, "h", ("x", "y"), lambda n: [(("%s", '"'), n)])
    assert '# HELP c_total h\n# TYPE c_total counter\nc_total{x="%s",y="\\""} 7\n' == family.text(7)


def test_family_without_samples_keeps_its_header() -> None:
    """A family that has nothing to show is still announced."""
    family: Family[int] = Family("c_total", Kind.COUNTER, "h", ("x",), lambda _: [])
    assert "# HELP c_total h\n# TYPE c_total counter\n" == family.text(0)


def test_histogram_is_cumulative_and_its_bounds_are_inclusive() -> None:
    """A value equal to a bound is in that bound's bucket; each bucket holds those below; +Inf holds all."""
    histogram = Histogram((0.5, 1.0))
    for value in (0.5, 0.75, 1.0, 3.0):
        histogram.observe(value)
    family: Family[Histogram] = Family("d_seconds", Kind.HISTOGRAM, "h", (), lambda h: h, (0.5, 1.0))
    assert [
        "# HELP d_seconds h",
        "# TYPE d_seconds histogram",
        'd_seconds_bucket{le="0.5"} 1',
        'd_seconds_bucket{le="1"} 3',
        'd_seconds_bucket{le="+Inf"} 4',
        "d_seconds_sum 5.25",
        "d_seconds_count 4",
    ] == family.text(histogram).splitlines()
