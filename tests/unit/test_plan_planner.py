"""The entry point: deterministic, nothing twice, nothing taken away by what is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carp_operator.api.objects import Node
from carp_operator.plan.planner import Cache, plan
from planfix import World, cluster, link


def _many() -> World:
    world = cluster(5)
    world.pool("p", "10.0.101.1-10.0.101.20")
    for number in range(8):
        world.vip(f"v{number}", f"10.0.100.{number}", max_nodes=3)
    world.vip("pooled", pool="p")
    world.vip("wrong", "192.0.2.1")
    return world


def _again(world: World, name: str) -> None:
    """Register a Node again: with a new uid."""
    old = world.nodes.get(name)
    labels = old.labels if old is not None else {}
    world.nodes[name] = Node(name, f"uid-{name}-again", labels, True, 0.0, False, False)


# --- deterministic ------------------------------------------------------------------------------------


@pytest.mark.parametrize("settled", [False, True])
def test_the_order_of_the_snapshot_does_not_matter(settled: bool) -> None:
    """The same plan, field by field, from mappings in reverse."""
    world = _many()
    if settled:
        world.settle()
        world.change_node("n2", unschedulable=True)
    snapshot = world.snapshot()
    turned: dict[str, Any] = {
        name: dict(reversed(list(getattr(snapshot, name).items())))
        for name in ("vips", "pools", "nodes", "carpnodes", "keys")
    }
    assert plan(snapshot) == plan(replace(snapshot, **turned))


def test_the_plan_of_the_planned_world_is_empty() -> None:
    """Nothing is written twice, whatever is wrong with some of it."""
    world = _many()
    assert world.settle() <= 4
    made = world.plan()
    assert ((), {}, {}, ()) == (made.writes, made.vip_statuses, made.pool_statuses, made.notices)
    assert made.settled


@pytest.mark.parametrize("cached", [True, False])
def test_a_cache_makes_no_difference(cached: bool) -> None:
    """After each of a row of changes the same plan (`World.plan` compares), from the same world."""
    world = _many()
    world.cache = Cache() if cached else None
    world.settle()
    world.change_node("n1", unschedulable=True)
    world.settle()
    world.delete("v3")
    world.settle()
    world.node("new", link("eth0", "10.0.50.1/16"))
    world.settle()
    world.change_node("n2", ready=False, ready_since=world.now)
    world.now += 300
    world.settle()
    del world.nodes["n4"], world.carpnodes["n4"]
    world.settle()
    assert 3 == len([n for n in world.members("v1") if n != "n2"])


def test_what_a_cluster_no_longer_has_is_no_longer_planned() -> None:
    """A deleted VirtualIP leaves every spec; a deleted Node is no part of the plan."""
    world = _many()
    world.settle()
    world.delete("v0")
    del world.nodes["n5"]
    made = world.plan()
    assert "n5" not in made.nodes
    world.settle()
    assert all(v["name"] != "v0" for n in world.nodes for v in world.carpnodes[n].vhosts)


def test_nothing_at_all() -> None:
    """An empty cluster has an empty plan, and is not called settled: nobody confirmed anything."""
    made = World().plan()
    assert ({}, (), False) == (made.nodes, made.writes, made.settled)


def test_no_cache_grows_from_plan_to_plan() -> None:
    """The controller runs for months: what is remembered is about what there is, and that once."""
    world, cache = _many(), Cache()
    world.settle()

    def sizes() -> list[int]:
        facts, finder = cache.facts, cache.finder
        assert facts is not None
        assert finder is not None
        known = (facts.known, finder.answers(), cache.ips, cache.equal, cache.results, cache.specs)
        return [len(each) for each in (*known, cache.book.told)]

    plan(world.snapshot(), cache)
    before = sizes()
    for number in range(20):
        world.vip(f"w{number}", pool="p")
        world.vip("edited", f"192.0.2.{number}")
        world.node(f"x{number}")
        plan(world.snapshot(), cache)
        world.delete(f"w{number}")
        del world.nodes[f"x{number}"], world.carpnodes[f"x{number}"]
    world.delete("edited")
    for _ in range(3):
        plan(world.snapshot(), cache)
        assert all(now <= most for now, most in zip(sizes(), before, strict=True)), (before, sizes())


# --- writes -------------------------------------------------------------------------------------------


def test_a_spec_that_was_edited_by_hand_is_put_right() -> None:
    """A vhost changed or added; another cluster's uid; another owner."""
    world = _many()
    world.settle()
    good = world.carpnodes["n1"]
    first = dict(good.vhosts[0])
    for changes in (
        {"vhosts": (first | {"advskew": 99}, *good.vhosts[1:])},
        {"vhosts": (*good.vhosts, first | {"name": "mine", "vhid": 200})},
        {"cluster": "other"},
        {"owner": "somebody"},
    ):
        world.carp("n1", **changes)
        writes = world.plan().writes
        assert ["n1"] == [w.name for w in writes], changes
        assert list(good.vhosts) == writes[0].spec["vhosts"]
        world.carp("n1", **{key: getattr(good, key) for key in changes})
    assert () == world.plan().writes


def test_a_vhost_that_was_removed_by_hand_comes_back() -> None:
    """The node obeyed at once, so it is a new member; there are as many as before."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.carp("n1", vhosts=(), generation=7)
    world.settle()
    assert ["n1", "n2", "n3"] == sorted(world.members("a"))
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]


def test_a_new_node_is_given_an_object() -> None:
    """Owned by its Node, and for this cluster."""
    world = cluster(1)
    _again(world, "n2")
    made = world.plan()
    assert [("n2", "uid-n2-again", "c")] == [(w.name, w.owner, w.spec["cluster"]) for w in made.writes]


def test_vhosts_stand_in_the_order_of_their_names() -> None:
    """So that the list of a spec does not depend on age."""
    world = cluster(1)
    for name in ("c", "a", "b"):
        world.vip(name, f"10.0.100.{ord(name)}")
    world.settle()
    assert ["a", "b", "c"] == [v["name"] for v in world.carpnodes["n1"].vhosts]


# --- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_in_use_until_nobody_is_told_of_it() -> None:
    """Wanted, planned or told; `settled` says when nodes have stored what they were told."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    assert frozenset({"a.1"}) == world.plan().keys_in_use
    world.vip("a", "10.0.100.1", key="a.2")
    for _ in range(3):
        assert frozenset({"a.1", "a.2"}) == world.plan().keys_in_use
        world.step()
    world.settle()
    assert (frozenset({"a.2"}), True) == (world.plan().keys_in_use, world.plan().settled)


def test_the_key_of_a_deleted_vip_is_in_use_while_a_node_is_told_of_it() -> None:
    """Its removal must have been written, and confirmed: `settled`."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.down.add("n2")
    world.delete("a")
    assert frozenset({"a.1"}) == world.plan().keys_in_use
    world.settle()
    assert (frozenset(), False) == (world.plan().keys_in_use, world.plan().settled)


# --- unknown is not empty -----------------------------------------------------------------------------


def _listed(world: World, name: str) -> list[str] | None:
    """Return the vhosts that a plan gives a node; None: no list at all."""
    spec = world.plan().nodes[name].spec
    return [v["name"] for v in spec["vhosts"]] if "vhosts" in spec else None


def test_a_node_whose_carpnode_is_lost_is_never_told_a_short_list() -> None:
    """Until it has reported what it runs it gets no list, or a whole one."""
    world = cluster(3)
    for name in "abc":
        world.vip(name, f"10.0.100.{ord(name)}")
    world.settle()
    before = {v: world.members(v) for v in "abc"}
    del world.carpnodes["n1"]
    assert _listed(world, "n1") in (None, ["a", "b", "c"])
    world.settle()
    assert before == {v: world.members(v) for v in "abc"}


def test_what_runs_on_a_lost_node_stays_although_its_password_is_gone_too() -> None:
    """Nothing can be said of that VirtualIP, so nothing is said to the node."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", max_nodes=1)
    world.vip("b", "10.0.100.2", max_nodes=2)
    world.settle()
    node = world.members("a")[0]
    del world.carpnodes[node], world.keys["a"]
    world.settle()
    assert ["a", "b"] == sorted(v["name"] for v in world.running[node][1])


def test_a_lone_node_that_is_registered_again_keeps_everything() -> None:
    """Its Node and its CarpNode were gone for a while; a plan was made meanwhile."""
    world = cluster(1)
    world.vip("a", "10.0.100.1")
    world.settle()
    vhid = world.vips["a"].status["vhid"]
    del world.nodes["n1"], world.carpnodes["n1"]
    world.settle()
    _again(world, "n1")
    for _ in range(5):
        world.step()
        assert ["a"] == [v["name"] for v in world.running["n1"][1]]
    world.settle()
    assert (["n1"], vhid) == (world.members("a"), (world.entry("n1", "a") or {})["vhid"])
    assert "uid-n1-again" == world.carpnodes["n1"].owner


def test_all_carpnodes_lost_at_once() -> None:
    """Such as a CRD deleted and applied again: members, ranks and vhids are the same afterwards."""
    world = cluster(4)
    for name in "ab":
        world.vip(name, f"10.0.100.{ord(name)}", max_nodes=2)
    world.settle()
    before = {v: (world.members(v), world.vips[v].status["vhid"]) for v in "ab"}
    running = {n: [v["name"] for v in spec] for n, (_, spec) in world.running.items()}
    world.carpnodes.clear()
    for _ in range(4):
        world.step()
        now = {n: [v["name"] for v in spec] for n, (_, spec) in world.running.items()}
        assert running == now
    world.settle()
    assert before == {v: (world.members(v), world.vips[v].status["vhid"]) for v in "ab"}


def test_a_new_owner_alone_changes_no_list() -> None:
    """The Node was registered again, the CarpNode outlived it: the owner is written, nothing else moves."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = world.carpnodes["n1"].vhosts
    _again(world, "n1")
    assert [("n1", "uid-n1-again", list(before))] == [
        (w.name, w.owner, w.spec["vhosts"]) for w in world.plan().writes
    ]
    world.settle()
    assert before == world.carpnodes["n1"].vhosts


def test_what_nobody_knows_that_a_node_reports_is_taken_away() -> None:
    """A VirtualIP deleted while the node's object was lost."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    world.settle()
    del world.carpnodes["n1"]
    world.delete("b")
    world.settle()
    assert ["a"] == [v["name"] for v in world.running["n1"][1]]
