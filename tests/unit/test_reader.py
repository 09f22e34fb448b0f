"""Typed values out of untyped mappings."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.reader import Reader, parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.errors import ConfigError


class _Mode(enum.StrEnum):
    ONE = "One"
    TWO = "Two"


def _read(data: object, call: Callable[[Reader], Any], path: str = "vhosts[0]") -> tuple[Any, list[str]]:
    """Return what a call reads and which errors it leaves."""
    errors: list[ConfigError] = []
    value = call(Reader(data, path, errors))
    return value, [str(error) for error in errors]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3.0),
        ("500ms", 0.5),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("1s1s", 2.0),
        ("", None),
        ("3", None),
        ("s", None),
        ("3 s", None),
        ("-3s", None),
        ("3d", None),
        ("1.5.5s", None),
        ("1s2", None),
        (3, None),
        (None, None),
    ],
)
def test_durations(text: object, seconds: float | None) -> None:
    """Numbers with ms, s, m, h, in sequence; nothing else."""
    assert seconds == parse_duration(text)


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        (7, 7, []),
        (1, 1, []),
        (255, 255, []),
        (None, 3, []),
        (0, 3, ["vhosts[0].vhid: 0 is not between 1 and 255"]),
        (256, 3, ["vhosts[0].vhid: 256 is not between 1 and 255"]),
        (10**30, 3, [f"vhosts[0].vhid: {10**30} is not between 1 and 255"]),
        ("7", 3, ["vhosts[0].vhid: '7' is not a whole number"]),
        (7.0, 3, ["vhosts[0].vhid: 7.0 is not a whole number"]),
        (True, 3, ["vhosts[0].vhid: True is not a whole number"]),
        ([7], 3, ["vhosts[0].vhid: a list is not a whole number"]),
    ],
)
def test_integer(given: object, value: int, errors: list[str]) -> None:
    """A whole number within its range; truth values and texts are none."""
    assert (value, errors) == _read({"vhid": given}, lambda r: r.integer("vhid", 3, 1, 255))


@pytest.mark.parametrize("given", [{}, {"vhid": None}])
def test_a_required_integer(given: dict[str, object]) -> None:
    """Without default it is required; an explicit null counts as not given."""
    expected = (1, ["vhosts[0].vhid: is required: a number from 1 to 255"])
    assert expected == _read(given, lambda r: r.integer("vhid", None, 1, 255))


def test_a_wrong_required_integer_is_reported_once() -> None:
    """A wrong value of a required field is one error, not two."""
    expected = (1, ["vhosts[0].vhid: 300 is not between 1 and 255"])
    assert expected == _read({"vhid": 300}, lambda r: r.integer("vhid", None, 1, 255))


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        ("x", "x", []),
        ("", "", []),
        (None, "d", []),
        (5, "d", ["vhosts[0].k: 5 is not a text: put it into quotes"]),
        ({}, "d", ["vhosts[0].k: a mapping is not a text: put it into quotes"]),
    ],
)
def test_text(given: object, value: str, errors: list[str]) -> None:
    """A string or the default."""
    assert (value, errors) == _read({"k": given}, lambda r: r.text("k", "d"))


def test_a_secret_never_stands_in_an_error() -> None:
    """A password written as a number is refused without being shown."""
    expected = ("", ["vhosts[0].k: is not a text: put it into quotes"])
    assert expected == _read({"k": 12345678}, lambda r: r.text("k", secret=True))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "vhosts[0]",
        "vhosts[0].accept[1]",
        "vhosts[0].authentication",
        "spec.vhosts[12].password",
        "vhosts[0].healthChecks[0]",
        "vhosts[0].healthChecks[0].http",
        "vhosts[0].healthChecks[0].exec",
        "vhosts[0].scripts",
    ],
)
@pytest.mark.parametrize("given", ["hunter2", 7331, {"hunter2": None}])
def test_what_may_be_a_secret_is_never_shown(path: str, given: object) -> None:
    """A password where a mapping belongs is told by its kind; so is one that YAML takes for a key."""
    _, (error,) = _read(given, lambda r: r.finish(), path)
    assert error.startswith(f"{path or 'settings'}: ")
    assert "hunter2" not in error
    assert "7331" not in error


@pytest.mark.parametrize(
    ("key", "given", "error"),
    [
        ("accept", "hunter2", "accept: a text is not a list"),
        ("accept", 7331, "accept: a value is not a list"),
        ("command", "curl -u me:hunter2", "command: a text is not a list"),
        ("addresses", "10.1.1.1", "addresses: '10.1.1.1' is not a list"),
    ],
)
def test_a_secret_in_place_of_a_list_is_never_shown(key: str, given: object, error: str) -> None:
    """Where a list may hold secrets, what stands in its place is told by its kind."""
    assert ([], [error]) == _read({key: given}, lambda r: r.sequence(key), "")


def test_a_number_as_name_of_a_password_file_is_not_shown() -> None:
    """It is the password itself, in the wrong field."""
    expected = ("", ["passwordFile: is not a text: put it into quotes"])
    assert expected == _read({"passwordFile": 7331}, lambda r: r.text("passwordFile"), "")


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        (True, True, []),
        (False, False, []),
        (None, True, []),
        (1, True, ["vhosts[0].k: 1 is neither true nor false"]),
        ("false", True, ["vhosts[0].k: 'false' is neither true nor false"]),
    ],
)
def test_flag(given: object, value: bool, errors: list[str]) -> None:
    """True, false or the default."""
    assert (value, errors) == _read({"k": given}, lambda r: r.flag("k", default=True))


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        ("Two", _Mode.TWO, []),
        (None, _Mode.ONE, []),
        ("two", _Mode.ONE, ["vhosts[0].k: 'two' is not one of One, Two"]),
        (2, _Mode.ONE, ["vhosts[0].k: 2 is not one of One, Two"]),
        (["Two"], _Mode.ONE, ["vhosts[0].k: a list is not one of One, Two"]),
    ],
)
def test_choice(given: object, value: _Mode, errors: list[str]) -> None:
    """A member of the enumeration, in its own spelling."""
    assert (value, errors) == _read({"k": given}, lambda r: r.choice("k", _Mode.ONE))


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        ("2s", 2.0, []),
        ("500ms", 0.5, []),
        (None, 1.0, []),
        ("499ms", 1.0, ["vhosts[0].k: '499ms' is not between 0.5s and 60s"]),
        ("61s", 1.0, ["vhosts[0].k: '61s' is not between 0.5s and 60s"]),
        (2, 1.0, ["vhosts[0].k: 2 is not a duration: write 3s, 500ms or 1m30s"]),
    ],
)
def test_seconds(given: object, value: float, errors: list[str]) -> None:
    """A duration within its range."""
    assert (value, errors) == _read({"k": given}, lambda r: r.seconds("k", 1.0, 0.5, 60.0))


@pytest.mark.parametrize(
    ("given", "value", "errors"),
    [
        ([1, 2], [1, 2], []),
        ((1, 2), [1, 2], []),
        (None, [], []),
        ("ab", [], ["vhosts[0].k: 'ab' is not a list"]),
        ({}, [], ["vhosts[0].k: a mapping is not a list"]),
    ],
)
def test_sequence(given: object, value: list[object], errors: list[str]) -> None:
    """A list; a text is none."""
    assert (value, errors) == _read({"k": given}, lambda r: r.sequence("k"))


@pytest.mark.parametrize(
    ("data", "path", "errors"),
    [
        (None, "vhosts[0]", []),
        ({}, "vhosts[0]", []),
        ([], "vhosts[0]", ["vhosts[0]: a list is not a mapping of fields"]),
        ("x", "", ["settings: a text is not a mapping of fields"]),
        ("x", "preempt", ["preempt: 'x' is not a mapping of fields"]),
    ],
)
def test_settings_are_a_mapping(data: object, path: str, errors: list[str]) -> None:
    """Nothing at all reads as empty; anything else but a mapping is an error."""
    assert (None, errors) == _read(data, lambda r: r.finish(), path)


def test_sections_have_paths() -> None:
    """A field of a section is named with its section."""
    expected = (0, ["a.b.n: 9 is not between 0 and 5"])
    assert expected == _read({"b": {"n": 9}}, lambda r: r.section("b").integer("n", 0, 0, 5), "a")
    assert "n" == Reader({}, "", []).field("n")


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("adskew", "adskew: is not a known field; did you mean advskew?"),
        ("zzz", "zzz: is not a known field"),
        (7, "7: is not a known field"),
    ],
)
def test_unknown_fields_are_reported(key: object, error: str) -> None:
    """A field that nobody asked for is an error, with the nearest known name if there is one."""

    def call(reader: Reader) -> None:
        reader.integer("advskew", 0, 0, 254)
        reader.finish()

    assert (None, [error]) == _read({key: 1}, call, "")


def test_null_counts_as_not_given() -> None:
    """`has` is true only for a value."""
    reader = Reader({"a": None, "b": 0}, "", [])
    assert [False, True, False] == [reader.has(key) for key in "abc"]
