"""A change of failoverTime: longer for those who wait first, shorter for them last."""

from __future__ import annotations

from typing import Any

import pytest

from carp_operator.plan.clock import Clock
from carp_operator.plan.members import View
from carp_operator.plan.paces import Kept, keep
from planfix import World, cluster

FAST, USUAL, SLOW = Clock(0, 41, 1, 3), Clock(1, 0, 20, 3), Clock(10, 0, 20, 3)
SLOWER = Clock(3, 0, 20, 3)


def _view(node: str, clock: Clock, rank: int = 0) -> View:
    told = {"name": "a", "advbase": clock.advbase, "deadRatio": clock.ratio, "advskew": clock.skew(rank)}
    return View(node, told, confirmed=True, state=None)


@pytest.mark.parametrize(
    ("clocks", "target", "options", "kept"),
    [
        ((USUAL, USUAL, USUAL), USUAL, {}, Kept()),
        ((USUAL, USUAL, USUAL), SLOW, {}, Kept(frozenset({"n1"}))),
        ((USUAL, SLOW, SLOW), SLOW, {}, Kept()),
        ((USUAL, SLOW, SLOW), SLOW, {"unsettled": ["n3"]}, Kept(frozenset({"n1"}), ("n3",))),
        ((USUAL, SLOW, SLOW), SLOW, {"ghosts": ["n9"]}, Kept(frozenset({"n1"}), ("n9",))),
        ((SLOW, SLOW, SLOW), USUAL, {}, Kept(frozenset({"n2", "n3"}))),
        ((USUAL, SLOW, SLOW), USUAL, {"unsettled": ["n1"]}, Kept(frozenset({"n2", "n3"}), ("n1",))),
        ((USUAL, SLOW, SLOW), USUAL, {"unsettled": ["n2"]}, Kept()),
        ((SLOW, USUAL, USUAL), USUAL, {"unsettled": ["n2"]}, Kept()),
        ((USUAL, USUAL, USUAL), SLOW, {"holder": ""}, Kept()),
        ((USUAL, SLOW, SLOW), SLOWER, {}, Kept()),
        ((USUAL, SLOW, SLOW), SLOWER, {"unsettled": ["n2"]}, Kept(frozenset({"n1"}), ("n2",))),
        ((SLOW, USUAL, USUAL), SLOWER, {}, Kept()),
        ((FAST, FAST, FAST), USUAL, {}, Kept(frozenset({"n1"}))),
        ((USUAL, USUAL, USUAL), FAST, {}, Kept(frozenset({"n2", "n3"}))),
        ((FAST, FAST, FAST), FAST, {}, Kept()),
        ((FAST, FAST, FAST), Clock(0, 85, 1, 3), {}, Kept(frozenset({"n1"}))),
    ],
    ids=[
        "nothing to do", "longer", "longer, others ready", "longer, one unsettled", "longer, one unknown",
        "shorter", "shorter, not confirmed", "shorter, confirmed", "shorter, half done", "no master",
        "longer, then less long", "longer, then less long, one unsettled", "both at once",
        "from below a second", "to below a second", "below a second", "longer below a second",
    ],
)  # fmt: skip
def test_who_keeps_its_pace(
    clocks: tuple[Clock, ...], target: Clock, options: dict[str, Any], kept: Kept
) -> None:
    """n1 is master but where nobody is known to be."""
    views = [_view(f"n{rank + 1}", clock, rank) for rank, clock in enumerate(clocks)]
    given: dict[str, Any] = {"holder": "n1", "unsettled": [], "ghosts": []} | options
    assert kept == keep(target, views, **given)


def _paces(world: World) -> list[tuple[int, int]]:
    """Return advbase and advskew of each node, the master first."""
    order = sorted(world.carpnodes, key=lambda n: n != world.masters["a"])
    return [((e := world.entry(n, "a") or {})["advbase"], e["advskew"]) for n in order]


@pytest.mark.parametrize(
    ("before", "after", "held_up"),
    [(3.0, 30.0, [1, 10, 10]), (30.0, 3.0, [1, 1, 1]), (0.5, 3.0, [0, 1, 1]), (3.0, 0.5, [0, 0, 0])],
)
def test_a_silent_backup_is_waited_for_with_a_longer_time(
    before: float, after: float, held_up: list[int]
) -> None:
    """It would take over while the master's addresses live on; a shorter time it may have later."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", failover_time=before)
    world.settle()
    silent = next(n for n in world.carpnodes if n != world.masters["a"])
    world.down.add(silent)
    world.vip("a", "10.0.100.1", failover_time=after)
    world.settle()
    assert held_up == [advbase for advbase, _ in _paces(world)]
    said = f"failoverTime: its change waits for {silent} (or until the Node is deleted)"
    assert (held_up[0] != held_up[1]) == (said in world.condition("a", "Ready")[2])
    world.down.clear()
    world.settle()
    assert 1 == len({advbase for advbase, _ in _paces(world)})
    assert 3 == len({advskew for _, advskew in _paces(world)})
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]


def test_a_longer_time_that_is_shortened_on_the_way_comes_to_an_end() -> None:
    """The master had not moved yet: it may go up as the others come down."""
    world = cluster(3)
    for failover in (3.0, 30.0, 10.0):
        world.vip("a", "10.0.100.1", failover_time=failover)
        world.step()
    world.settle()
    assert [3, 3, 3] == [advbase for advbase, _ in _paces(world)]


def test_below_a_second_the_masters_interval_grows_last() -> None:
    """There the advskew is the interval: a backup that was told nothing would time out between adverts."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", failover_time=0.04)
    world.settle()
    short = _paces(world)[0]
    silent = next(n for n in world.carpnodes if n != world.masters["a"])
    world.down.add(silent)
    world.vip("a", "10.0.100.1", failover_time=0.9)
    world.settle()
    master, *others = _paces(world)
    assert (short, [True, True]) == (master, [advskew > 60 for _, advskew in others])
    assert f"failoverTime: its change waits for {silent}" in world.condition("a", "Ready")[2]
    world.down.clear()
    world.settle()
    assert all(advskew > 60 for _, advskew in _paces(world))


@pytest.mark.parametrize(("before", "after"), [(3.0, 0.9), (0.9, 3.0), (0.04, 0.9), (0.9, 0.04), (3.0, 30.0)])
def test_ranks_stay(before: float, after: float) -> None:
    """In the middle of a change the advskew of some is on another scale."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", failover_time=before)
    world.settle()
    ranks = world.members("a")
    world.vip("a", "10.0.100.1", failover_time=after)
    world.settle()
    assert ranks == world.members("a")
    assert ranks == [node["name"] for node in world.vips["a"].status["nodes"]]


def test_a_silent_master_is_waited_for_with_a_shorter_time() -> None:
    """It holds the addresses for its own time: until it is known to hold them for less, others wait."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", failover_time=30.0)
    world.settle()
    master = world.masters["a"]
    world.vip("a", "10.0.100.1", failover_time=3.0)
    made = world.plan()
    assert [master] == [each.name for each in made.writes]
    for each in made.writes:
        world.write(each)
    assert () == world.plan().writes
    said = f"failoverTime: its change waits for {master} (or until the Node is deleted)"
    assert said in world.plan().vip_statuses["a"]["conditions"][2]["message"]
    world.settle()
    assert [1, 1, 1] == [advbase for advbase, _ in _paces(world)]
