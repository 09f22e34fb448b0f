"""Members: sticky, bounded, spread, ordered by preference; who must stay told."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from carp_operator.api.objects import Advertisement, NodePreference, Selector
from carp_operator.plan import members as module
from carp_operator.plan.facts import EXCLUDED
from planfix import World, cluster, link

if TYPE_CHECKING:
    import pytest

X = Selector((("zone", "x"),))


def _zones(*zones: str) -> World:
    world = World()
    for number, zone in enumerate(zones, start=1):
        world.node(f"n{number}", labels={"zone": zone})
    return world


# --- spread -------------------------------------------------------------------------------------------


def test_100_vips_over_5_nodes_are_spread() -> None:
    """Preferred masters differ by at most 20 %; everybody is a member of all."""
    world = cluster(5)
    for number in range(100):
        world.vip(f"v{number}", f"10.0.100.{number}")
    world.settle()
    masters = Counter(world.members(f"v{n}")[0] for n in range(100))
    assert 5 == len(masters)
    assert max(masters.values()) <= min(masters.values()) * 1.2
    seconds = Counter(world.members(f"v{n}")[1] for n in range(100))
    assert min(seconds.values()) > 0


def test_members_are_at_most_max_nodes_and_spread() -> None:
    """2 of 10: every node has some, none has more than thrice its share."""
    world = cluster(10)
    for number in range(100):
        world.vip(f"v{number}", f"10.0.100.{number}", max_nodes=2)
    world.settle()
    loads = Counter(n for v in world.vips for n in world.members(v))
    assert {2} == {len(world.members(v)) for v in world.vips}
    assert 10 == len(loads)
    assert max(loads.values()) <= 60


def test_a_lost_node_moves_only_its_own() -> None:
    """The others' members stay, and keep their order."""
    world = cluster(6)
    for number in range(30):
        world.vip(f"v{number}", f"10.0.100.{number}", max_nodes=3)
    world.settle()
    before = {v: world.members(v) for v in world.vips}
    del world.nodes["n3"], world.carpnodes["n3"]
    world.settle()
    for name, was in before.items():
        now = world.members(name)
        kept = [n for n in was if n != "n3"]
        assert 3 == len(now)
        assert kept == [n for n in now if n in kept]
        if "n3" not in was:
            assert was == now


def test_a_new_node_moves_nothing_that_is_complete() -> None:
    """Sticky: it gets what comes, and fills where somebody was missing, at the end."""
    world = cluster(2)
    world.vip("full", "10.0.100.1", max_nodes=2)
    world.vip("short", "10.0.100.2", max_nodes=3)
    world.settle()
    before = world.members("full"), world.members("short")
    world.node("n9")
    world.settle()
    assert before[0] == world.members("full")
    assert [*before[1], "n9"] == world.members("short")


def test_fewer_max_nodes_take_the_last_away() -> None:
    """And more add at the end."""
    world = cluster(5)
    world.vip("a", "10.0.100.1", max_nodes=5)
    world.settle()
    before = world.members("a")
    world.vip("a", "10.0.100.1", max_nodes=2)
    world.settle()
    assert before[:2] == world.members("a")
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    assert before[:2] == world.members("a")[:2]


# --- preferences --------------------------------------------------------------------------------------


def test_preferences_order_the_members() -> None:
    """Weights add up; the best has rank 0."""
    world = World()
    for number, labels in enumerate(({}, {"a": "1"}, {"b": "1"}, {"a": "1", "b": "1"}), start=1):
        world.node(f"n{number}", labels=dict(labels))
    wanted = (NodePreference(10, (("a", "1"),)), NodePreference(20, (("b", "1"),)))
    world.vip("v", "10.0.100.1", node_preferences=wanted)
    world.settle()
    assert ["n4", "n3", "n2", "n1"] == world.members("v")


def test_preferences_choose_who_is_a_member_and_may_change() -> None:
    """New ones: the preferred; those there are: reordered, not replaced."""
    world = _zones("y", "y", "x", "y")
    world.vip("v", "10.0.100.1", max_nodes=2, node_preferences=(NodePreference(5, (("zone", "x"),)),))
    world.settle()
    members = world.members("v")
    assert "n3" == members[0]
    world.vip("v", "10.0.100.1", max_nodes=2, node_preferences=(NodePreference(5, (("zone", "y"),)),))
    world.settle()
    assert [members[1], "n3"] == world.members("v")


# --- nodes that go ------------------------------------------------------------------------------------


def test_a_not_ready_node_keeps_its_membership_for_a_time() -> None:
    """Until replace_after nothing is written; the plan asks to be woken then."""
    world = cluster(4)
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    before = world.members("a")
    world.change_node(before[0], ready=False, ready_since=world.now)
    world.down.add(before[0])
    made = world.plan()
    assert ((), world.now + 300) == (made.writes, made.wake_at)
    world.settle()
    world.now += 299
    assert before == world.members("a")
    assert () == world.plan().writes


def test_away_for_long_it_is_replaced_but_stays_told() -> None:
    """It may still run the vhost: it comes last, and is taken out when it is back and confirms."""
    world = cluster(4)
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    before = world.members("a")
    gone = before[0]
    world.change_node(gone, ready=False, ready_since=world.now)
    world.down.add(gone)
    world.now += 300
    world.settle()
    now = world.members("a")
    assert before[1:] == now[:2]
    assert (4, gone) == (len(now), now[3])
    assert f"{gone}: is away: it is told to go when it is back" in world.condition("a", "Ready")[2]
    world.change_node(gone, ready=True, ready_since=world.now)
    world.down.discard(gone)
    world.settle()
    assert now[:3] == world.members("a")


def test_with_nobody_to_replace_it_a_node_that_comes_back_is_a_member_again() -> None:
    """At the end: the others keep their ranks."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    before = world.members("a")
    world.change_node(before[0], ready=False, ready_since=world.now)
    world.now += 300
    world.settle()
    world.change_node(before[0], ready=True)
    world.settle()
    assert [*before[1:], before[0]] == world.members("a")


def test_a_lost_label_moves_away_first() -> None:
    """The only member stays until its successor takes part; then it goes."""
    world = _zones("x", "y")
    world.vip("a", "10.0.100.1", max_nodes=1, node_selector=X)
    world.settle()
    world.change_node("n1", labels={})
    world.change_node("n2", labels={"zone": "x"})
    world.down.add("n2")
    world.settle()
    assert ["n2", "n1"] == world.members("a")
    assert "n1: goes when another member is ready" in world.condition("a", "Ready")[2]
    world.down.discard("n2")
    world.settle()
    assert ["n2"] == world.members("a")


def test_a_node_that_has_not_confirmed_is_not_told_to_go() -> None:
    """What it runs is unknown."""
    world = _zones("x", "x", "x")
    world.vip("a", "10.0.100.1", max_nodes=2, node_selector=X)
    world.settle()
    one = world.members("a")[1]
    world.down.add(one)
    world.vip("a", "10.0.100.1", max_nodes=2, node_selector=X, failover_time=6.0)
    world.step()
    world.change_node(one, labels={})
    world.settle()
    assert one in world.members("a")
    assert f"{one}: has not confirmed its settings yet" in world.condition("a", "Ready")[2]
    world.down.discard(one)
    world.settle()
    assert one not in world.members("a")


def test_a_node_being_deleted_goes_when_another_is_ready() -> None:
    """Like a lost label; and nobody new is placed on it."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", max_nodes=2)
    world.settle()
    going, staying = world.members("a")
    world.change_node(going, deleting=True)
    world.settle()
    now = world.members("a")
    assert (staying, 2) == (now[0], len(now))
    assert going not in now


def test_no_candidate_left_keeps_what_runs() -> None:
    """Every node was given the label that excludes it: a condition, and nothing on the wire changes."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = world.carpnodes["n1"].vhosts
    for name in ("n1", "n2"):
        world.change_node(name, labels={EXCLUDED: ""})
    world.settle()
    assert before == world.carpnodes["n1"].vhosts
    assert ("False", "NoCandidate") == world.condition("a", "Accepted")[:2]
    assert EXCLUDED in world.condition("a", "Accepted")[2]
    assert ("True", "Degraded") == world.condition("a", "Ready")[:2]


def test_a_lost_interface_is_no_reason_to_go() -> None:
    """A cable, a driver, a rename: the vhost waits for it and says so; the node stays a member."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = world.members("a")
    world.hardware["n1"] = (link("eth1", "10.9.0.1/16"),)
    world.settle()
    assert before == world.members("a")
    assert {"name": "eth0"} == (world.entry("n1", "a") or {})["interface"]


def test_an_interface_that_is_no_longer_meant_is_a_reason_to_go() -> None:
    """It is still there, but in another subnet."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.hardware["n1"] = (link("eth0", "10.9.0.1/16"),)
    world.settle()
    assert ["n2"] == world.members("a")


# --- cordons ------------------------------------------------------------------------------------------


def test_a_cordoned_node_stays_a_member_with_its_rank() -> None:
    """Demoted with that reason, never removed; back again, nothing is left of it."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = [dict(c.vhosts[0]) for c in world.carpnodes.values()]
    first = world.members("a")[0]
    members = world.members("a")
    world.change_node(first, unschedulable=True)
    world.settle()
    assert members == world.members("a")
    assert [{"reason": "Cordoned", "amount": 100}] == (world.entry(first, "a") or {})["demotions"]
    world.change_node(first, unschedulable=False)
    world.settle()
    assert before == [dict(c.vhosts[0]) for c in world.carpnodes.values()]


def test_with_all_cordoned_nothing_changes() -> None:
    """Equal demotions would only reorder nothing."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    for name in ("n1", "n2"):
        world.change_node(name, unschedulable=True)
    assert () == world.plan().writes


def test_a_new_vip_prefers_a_master_that_is_in_service() -> None:
    """Unless none is."""
    world = cluster(3)
    world.change_node("n1", unschedulable=True)
    world.change_node("n2", unschedulable=True)
    for number in range(4):
        world.vip(f"v{number}", f"10.0.100.{number}")
    world.settle()
    assert {"n3"} == {world.members(v)[0] for v in world.vips}
    world.change_node("n3", unschedulable=True)
    world.vip("last", "10.0.100.9")
    world.settle()
    assert 3 == len(world.members("last"))


# --- limits -------------------------------------------------------------------------------------------


def test_nodes_full_of_vhosts_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition gives the reason; what runs is not disturbed."""
    monkeypatch.setattr(module, "MOST_VHOSTS", 3)
    world = cluster(2)
    for number in range(4):
        world.vip(f"v{number}", f"10.0.100.{number}", max_nodes=2)
    world.settle()
    assert ("False", "NodesFull") == world.condition("v3", "Accepted")[:2]
    assert [2, 2, 2, 0] == [len(world.members(v)) for v in world.vips]


def test_nodes_full_of_adverts_are_left_out() -> None:
    """At 256/5 adverts a second each, 5,000 is a bound of 97; the slow ones still fit."""
    world = cluster(1)
    for number in range(99):
        fast = Advertisement(0, None, 3)
        world.vip(f"v{number}", f"10.0.100.{number}", advertisement=fast)
    made = world.plan()
    reasons = Counter(s["conditions"][0]["reason"] for s in made.vip_statuses.values())
    assert {"Planned", "NodesFull"} == set(reasons)
    assert reasons["Planned"] * 256 <= 5000


def test_510_is_the_bound() -> None:
    """As design.md states it."""
    assert (510, 5000.0) == (module.MOST_VHOSTS, module.MOST_ADVERTS)


def test_a_lost_status_changes_nothing() -> None:
    """The CarpNodes alone say who is a member, and in which order."""
    world = cluster(4)
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    before = world.members("a")
    world.vips["a"] = replace(world.vips["a"], status={})
    assert () == world.plan().writes
    world.settle()
    assert before == world.members("a")
