"""Intervals, dead times, lifetimes (carp-protocol.md sections 4-6; design.md rule 3 and section 5)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.core.timing import (
    GUARD,
    KERNEL_LAG,
    LEASE_MARGIN,
    Timing,
    demoted_skew,
    grid,
    interval,
    skew_seconds,
)
from pair import config, plain

TIMINGS = st.builds(
    Timing, advbase=st.integers(1, 255), advskew=st.integers(0, 254), ratio=st.integers(1, 255)
)


@pytest.mark.parametrize(
    ("advskew", "seconds"), [(0, 0.0), (1, 0.003906), (100, 0.390625), (254, 0.992187), (255, 0.996093)]
)
def test_skew_is_floored_to_microseconds(advskew: int, seconds: float) -> None:
    """Skew/256 s in whole microseconds, as every implementation computes it (section 4)."""
    assert seconds == skew_seconds(advskew)


def test_interval_is_base_plus_skew() -> None:
    """The time between two adverts is base + skew/256 s."""
    assert 1.390625 == interval(1, 100)
    assert 0.003906 == interval(0, 1)


@pytest.mark.parametrize(
    ("advskew", "demotion", "expected"),
    [(0, 0, 0), (100, 0, 100), (10, 20, 30), (100, 240, 240), (100, 254, 240), (250, 5, 250), (250, 0, 250)],
)
def test_demoted_skew_is_clamped_at_240(advskew: int, demotion: int, expected: int) -> None:
    """Demotion raises the skew to 240 at most (FreeBSD, section 6) and never lowers it."""
    assert expected == demoted_skew(advskew, demotion)


@pytest.mark.parametrize(
    ("advbase", "advskew", "ratio", "demotion", "expected"),
    [
        (1, 0, 3, 0, 3.2),
        (1, 100, 3, 0, 3.590625),
        (1, 0, 3, 240, 4.1375),
        (2, 50, 5, 0, 10.395312),
        (0, 26, 3, 0, 0.304686),
        (0, 1, 3, 0, 0.011718),
        (0, 26, 3, 100, 0.404686),
    ],
)
def test_dead_time(advbase: int, advskew: int, ratio: int, demotion: int, expected: float) -> None:
    """Ratio x base + skew/256 + 0.2 s; at base 0 ratio x skew/256 without guard, 1 ms per demotion."""
    assert expected == pytest.approx(Timing(advbase, advskew, ratio).dead_time(demotion), abs=1e-9)


@pytest.mark.parametrize(
    ("advbase", "advskew", "ratio", "lifetime", "overlap"),
    [
        (1, 0, 1, 1, 1.0),
        (1, 0, 2, 1, 0.0),
        (1, 0, 3, 2, 0.0),
        (1, 254, 3, 2, 0.0),
        (1, 0, 4, 3, 0.0),
        (2, 0, 3, 5, 0.0),
        (10, 0, 3, 29, 0.0),
        (255, 254, 255, 65024, 0.0),
        (0, 26, 3, 1, 1.895314),
        (0, 255, 3, 1, 0.0),
        (0, 255, 255, 252, 0.0),
    ],
)
def test_lifetime(advbase: int, advskew: int, ratio: int, lifetime: int, overlap: float) -> None:
    """L is the largest whole number with L + 1.2 <= the dead time of a successor with skew 0, at least 1."""
    timing = Timing(advbase, advskew, ratio)
    assert lifetime == timing.lifetime()
    assert overlap == pytest.approx(timing.overlap_bound(), abs=1e-6)


@given(TIMINGS)
def test_lifetime_is_the_largest_that_fits(timing: Timing) -> None:
    """Where any lifetime fits, ours fits into the fastest successor's dead time and one more would not."""
    fastest = timing.ratio * timing.advbase + GUARD
    if fastest < 1 + LEASE_MARGIN - 1e-6:
        assert 1 == timing.lifetime()
        return
    assert timing.lifetime() + LEASE_MARGIN <= fastest + 1e-6
    assert timing.lifetime() + 1 + LEASE_MARGIN > fastest
    assert 0.0 == timing.overlap_bound()
    assert KERNEL_LAG < LEASE_MARGIN


@given(TIMINGS, st.integers(0, 254))
def test_a_dead_time_exceeds_what_others_wait(timing: Timing, demotion: int) -> None:
    """Our own dead time is never shorter than the one of ucarp and FreeBSD plus the guard."""
    wire = timing.ratio * timing.advbase + skew_seconds(timing.advskew)
    assert timing.dead_time(demotion) >= wire + GUARD - 1e-9


@pytest.mark.parametrize(
    ("timing", "demotion", "fenced", "expected"),
    [
        (Timing(1, 0, 3), 0, True, 0.5),
        (Timing(1, 0, 3), 0, False, 1.0),
        (Timing(1, 100, 3), 0, False, 1.390625),
        (Timing(1, 0, 3), 240, False, 1.9375),
        (Timing(1, 0, 3), 240, True, 0.5),
        (Timing(1, 0, 255), 0, True, 1.0),
        (Timing(0, 26, 3), 0, True, 0.101562),
        (Timing(0, 26, 3), 200, True, 0.101562),
        (Timing(0, 255, 3), 0, True, 0.25),
    ],
)
def test_advert_period(timing: Timing, demotion: int, fenced: bool, expected: float) -> None:
    """The interval, at least every L/4 with a fence; at base 0 a demoted master keeps its cadence."""
    assert expected == timing.advert_period(demotion, fenced=fenced)


@pytest.mark.parametrize(
    ("base", "skew", "expected"),
    [(3, 0, False), (3, 1, True), (4, 0, True), (255, 255, True), (2, 255, False)],
)
def test_too_slow_a_master(base: int, skew: int, expected: bool) -> None:
    """At 1/0 with ratio 3, 3/0 is tolerated and 3/1 is not, as measured with ucarp (section 5.3)."""
    assert expected == Timing(1, 0, 3).times_out(plain(config(), base, skew))


@pytest.mark.parametrize(("base", "skew", "expected"), [(1, 0, False), (254, 255, False), (255, 255, True)])
def test_at_base_0_only_a_bow_out_is_too_slow(base: int, skew: int, expected: bool) -> None:
    """At base 0 that line would preempt despite Never, so it is for 255/255 alone (design.md section 5)."""
    assert expected == Timing(0, 26, 3).times_out(plain(config(), base, skew))


@given(st.floats(0, 1e7), st.floats(0.003, 300))
def test_grid_is_early_by_at_most_a_tenth_and_never_late(now: float, period: float) -> None:
    """The next wake-up is at most one period away and at most a tenth of it early."""
    due = grid(now, period)
    assert period * 0.9 - 1e-6 <= due - now <= period + 1e-6


@pytest.mark.parametrize("period", [0.5, 1.390625, 0.101562, 0.25, 0.003906])
@given(start=st.floats(0, 1e6))
def test_grid_brings_equal_periods_together(period: float, start: float) -> None:
    """Within a dozen rounds everybody ticks at whole multiples of the period, and stays there."""
    for _ in range(12):
        start = grid(start, period)
    for _ in range(50):
        assert period * 0.01 > abs(start / period - round(start / period)) * period
        start, before = grid(start, period), start
        assert pytest.approx(period, rel=1e-3) == start - before


def test_grid_never_stands_still() -> None:
    """From a moment on the grid the next is a whole period later."""
    moments = [100.0]
    for _ in range(5):
        moments.append(grid(moments[-1], 0.5))
    assert [0.5] * 5 == [later - earlier for earlier, later in pairwise(moments)]
