"""failoverTime and ranks -> advbase, advskew, dead ratio (design.md sections 3 and 5)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carp_operator.api.objects import Advertisement
from carp_operator.plan.clock import Clock, derive
from planfix import SPEC


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, Clock(1, 0, 20, 3)),
        (0.04, Clock(0, 2, 1, 3)),
        (0.5, Clock(0, 41, 1, 3)),
        (1.0, Clock(1, 0, 20, 1)),
        (2.0, Clock(1, 0, 20, 2)),
        (2.5, Clock(1, 0, 20, 2)),
        (3.0, Clock(1, 0, 20, 3)),
        (10.0, Clock(3, 0, 20, 3)),
        (600.0, Clock(200, 0, 20, 3)),
    ],
)
def test_failover_time_becomes_base_skew_and_ratio(wanted: float | None, expected: Clock) -> None:
    """From 3 s on the ratio is 3, between 1 and 3 s it shrinks, below 1 s the base is 0; 3 s by default."""
    assert expected == derive(replace(SPEC, failover_time=wanted))


@pytest.mark.parametrize("wanted", [0.04, 0.1, 0.5, 0.9, 1.0, 2.0, 2.5, 3.0, 10.0, 600.0])
def test_the_bound_is_near_what_was_asked_for(wanted: float) -> None:
    """Below 1 s within one step of the skew; else at most the guard and one rank above it."""
    bound = derive(replace(SPEC, failover_time=wanted)).bound()
    assert bound <= wanted + (0.012 if wanted < 1 else 0.2 + 20 / 256 + 1e-6)
    assert bound >= wanted * 0.6


@pytest.mark.parametrize("wanted", [0.04, 0.5, 0.999])
def test_below_a_second_the_bound_is_kept(wanted: float) -> None:
    """What was asked for is an upper bound there: a second rank times out no later."""
    assert derive(replace(SPEC, failover_time=wanted)).bound() <= max(wanted, 9 / 256 + 1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Advertisement(2, None, 4), Clock(2, 0, 20, 4)),
        (Advertisement(1, 7, 3), Clock(1, 0, 7, 3)),
        (Advertisement(0, None, 3), Clock(0, 1, 1, 3)),
        (Advertisement(0, 5, 3), Clock(0, 1, 5, 3)),
    ],
)
def test_an_explicit_advertisement_is_taken_as_it_is(given: Advertisement, expected: Clock) -> None:
    """It wins over failoverTime; without a step one is chosen, and advskew 0 is avoided at base 0."""
    assert expected == derive(replace(SPEC, advertisement=given, failover_time=9.0))


@pytest.mark.parametrize("count", [1, 2, 5, 13, 14, 64])
def test_every_member_has_a_rank_of_its_own(count: int) -> None:
    """Ranks are staggered up to 240, where FreeBSD clamps; with many members the steps shrink."""
    clock = derive(replace(SPEC, max_nodes=count))
    skews = [clock.skew(rank) for rank in range(count)]
    assert sorted(set(skews)) == skews
    assert skews[-1] <= 240


def test_ranks_beyond_all_steps_share_the_last() -> None:
    """Nodes that are told beside all members have no room above 240."""
    assert [220, 240, 240] == [Clock(1, 0, 20, 3).skew(rank) for rank in (11, 12, 13)]


@pytest.mark.parametrize(("clock", "expected"), [(Clock(1, 0, 20, 3), 2.0), (Clock(3, 0, 20, 3), 0.5)])
def test_a_master_sends_at_least_every_quarter_of_its_lifetime(clock: Clock, expected: float) -> None:
    """Twice a second at the defaults."""
    assert expected == pytest.approx(clock.adverts(), abs=0.01)
