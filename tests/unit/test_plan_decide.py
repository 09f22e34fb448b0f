"""Decisions: whatever is wrong, what runs stays; who claims first; whom a change waits for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carp.core.errors import ConfigError
from carp_operator.api.objects import Selector
from carp_operator.plan.facts import MAINTENANCE
from carp_operator.plan.model import KeyState
from planfix import World, cluster


def _settled(count: int = 3, **spec: Any) -> World:
    world = cluster(count)
    world.vip("a", "10.0.100.1", **spec)
    world.settle()
    return world


def _specs(world: World) -> list[tuple[Any, ...]]:
    return [carp.vhosts for carp in world.carpnodes.values()]


def _demotions(world: World) -> list[Any]:
    return [(world.entry(name, "a") or {}).get("demotions") for name in ("n1", "n2", "n3")]


def _spoil(world: World, name: str = "a") -> None:
    old = world.vips[name]
    errors = (ConfigError("spec.vhid", 300, "is above 255"),)
    world.vips[name] = replace(old, spec=None, errors=errors, generation=old.generation + 1)


# --- what runs stays ----------------------------------------------------------------------------------


def test_an_invalid_edit_changes_nothing_on_the_wire() -> None:
    """The condition names field and value; it is still Ready, but degraded."""
    world = _settled()
    before = _specs(world)
    _spoil(world)
    world.settle()
    assert before == _specs(world)
    status, reason, message = world.condition("a", "Accepted")
    assert ("False", "Invalid") == (status, reason)
    assert "spec.vhid" in message
    assert "300" in message
    assert ("True", "Degraded") == world.condition("a", "Ready")[:2]
    assert 2 == world.vips["a"].status["observedGeneration"]


def test_a_new_invalid_vip_has_no_members_and_disturbs_nobody() -> None:
    """Its condition is all there is of it."""
    world = _settled()
    before = _specs(world)
    world.vip("b", "10.0.100.2")
    _spoil(world, "b")
    world.settle()
    assert before == _specs(world)
    assert "Invalid" == world.condition("b", "Accepted")[1]


@pytest.mark.parametrize(
    ("key", "reason", "message"),
    [
        (None, "NoPassword", "authentication: its password is being made"),
        (KeyState(""), "", ""),
        (KeyState("", "SecretMissing", "secretRef: there is no Secret x"), "SecretMissing", "secretRef"),
    ],
)
def test_without_a_password_what_runs_stays_and_nothing_starts(
    key: KeyState | None, reason: str, message: str
) -> None:
    """A Secret that cannot be read is not an empty one."""
    world = _settled()
    before = _specs(world)
    world.vip("b", "10.0.100.2")
    for name in "ab":
        world.keys.pop(name)
        if key is not None:
            world.keys[name] = key
    world.settle()
    assert before == _specs(world)
    for name in "ab":
        found = world.condition(name, "Accepted")
        assert ("False", reason) == found[:2]
        assert message in found[2]


def test_an_edit_to_an_address_in_no_subnet_keeps_what_runs() -> None:
    """A typo takes nothing away."""
    world = _settled()
    before = _specs(world)
    world.vip("a", "192.0.2.1")
    world.settle()
    assert before == _specs(world)
    assert "NoCandidate" == world.condition("a", "Accepted")[1]


def test_an_edit_to_an_address_that_is_in_use_keeps_what_runs() -> None:
    """Only what clashes is withdrawn; its own old address does not."""
    world = cluster(2)
    world.vip("o", "10.0.100.9")
    world.vip("a", "10.0.100.1")
    world.settle()
    before = _specs(world)
    world.vip("a", "10.0.100.9")
    world.settle()
    assert "AddressInUse" == world.condition("a", "Accepted")[1]
    assert before == _specs(world)


def test_the_address_of_an_invalid_vip_that_runs_is_not_given_away() -> None:
    """Nor its vhid: two masters of one address would be the price."""
    world = _settled(2, vhid=7)
    _spoil(world)
    world.vip("b", "10.0.100.1")
    world.vip("c", "10.0.100.3", vhid=7)
    world.settle()
    assert ([], []) == (world.members("b"), world.members("c"))
    assert "AddressInUse" == world.condition("b", "Accepted")[1]
    assert "10.0.100.1" in world.condition("b", "Accepted")[2]
    assert "VhidInUse" == world.condition("c", "Accepted")[1]
    assert 2 == len(world.members("a"))


def test_an_address_is_given_away_only_when_nobody_serves_it_any_more() -> None:
    """While a change of addresses waits for a node, the old address is still its VirtualIP's."""
    world = _settled(2)
    world.down.add("n2")
    world.vip("a", "10.0.100.2")
    world.settle()
    world.vip("b", "10.0.100.1")
    world.settle()
    assert [] == world.members("b")
    assert "10.0.100.1" in world.condition("b", "Accepted")[2]
    world.down.discard("n2")
    world.settle()
    assert 2 == len(world.members("b"))
    assert ["10.0.100.2"] == (world.entry("n1", "a") or {})["addresses"]


def test_an_older_vip_gets_an_address_when_the_younger_has_let_go() -> None:
    """The younger moves or goes; the older serves what it served until every node has confirmed that."""
    world = cluster(2)
    world.vip("old", "10.0.100.1")
    world.vip("new", "10.0.100.2")
    world.settle()
    world.vip("old", "10.0.100.2")
    world.down.add("n2")
    world.vip("new", "10.0.100.3")
    for _ in range(4):
        world.step()
        served = {a for n in world.nodes for a in (world.entry(n, "old") or {})["addresses"]}
        assert {"10.0.100.1"} == served
    world.down.discard("n2")
    world.settle()
    assert (2, 2) == (len(world.members("old")), len(world.members("new")))
    assert ["10.0.100.2"] == (world.entry("n1", "old") or {})["addresses"]


def test_a_drain_does_not_wait_until_what_is_wrong_is_right() -> None:
    """Whatever is wrong with a VirtualIP, demotions follow the Nodes; nobody is demoted where all are out."""
    world = _settled()
    world.change_node("n1", unschedulable=True)
    world.settle()
    cordoned = [{"reason": "Cordoned", "amount": 100}]
    assert [cordoned, None, None] == _demotions(world)
    world.keys["a"] = KeyState("", "NoPassword", "Secret x does not exist")
    before = _specs(world)
    world.settle()
    assert before == _specs(world)
    world.change_node("n1", unschedulable=False)
    world.change_node("n2", unschedulable=True)
    world.settle()
    assert [None, cordoned, None] == _demotions(world)
    world.carp("n3", annotations={MAINTENANCE: "true"})
    world.settle()
    assert [None, cordoned, [{"reason": "OutOfService", "amount": 200}]] == _demotions(world)
    world.change_node("n1", unschedulable=True)
    world.settle()
    assert [None, None, None] == _demotions(world)


# --- the first claimant -------------------------------------------------------------------------------


def _claimants(world: World, name: str = "a") -> list[str]:
    return [n for n in world.carpnodes if (world.entry(n, name) or {}).get("firstClaimant")]


def test_one_first_claimant_until_somebody_was_master() -> None:
    """The first by rank; its spec is written first."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    made = world.plan()
    assert [True, False, False] == [w.urgent for w in made.writes]
    for each in made.writes:
        world.write(each)
    first = world.members("a")[0]
    assert ([first], first) == (_claimants(world), made.writes[0].name)
    world.settle()
    assert [] == _claimants(world)


def test_nobody_claims_first_what_was_ever_held() -> None:
    """Also when no one is master now, and after every CarpNode was lost."""
    world = _settled()
    for name in list(world.carpnodes):
        states = tuple(replace(s, state="INIT") for s in world.carpnodes[name].states)
        world.carp(name, states=states)
    world.step()
    assert [] == _claimants(world)
    world.carpnodes.clear()
    world.settle()
    assert 3 == len(world.members("a"))
    assert [] == _claimants(world)


def test_a_first_claimant_that_was_told_stays_the_one() -> None:
    """Two that both claim at once would both be master for a moment."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    for each in world.plan().writes:
        world.write(each)
    first = world.members("a")[0]
    world.take(first)
    world.change_node(first, unschedulable=True)
    for each in world.plan().writes:
        world.write(each)
    assert [first] == _claimants(world)


# --- whom a change waits for --------------------------------------------------------------------------


def test_a_node_that_was_told_to_go_and_is_back_is_waited_for() -> None:
    """It may still run the old context; nobody signs with the new one before it confirms."""
    world = cluster(3)
    selector = Selector((("zone", "x"),))
    for name in world.nodes:
        world.change_node(name, labels={"zone": "x"})
    world.vip("a", "10.0.100.1", node_selector=selector)
    world.settle()
    world.down.add("n3")
    world.change_node("n3", labels={})
    world.settle()
    assert None is world.entry("n3", "a")
    world.change_node("n3", labels={"zone": "x"})
    world.vip("a", "10.0.100.1", node_selector=selector, key="a.2")
    world.settle()
    assert {"a.1"} == {(world.entry(n, "a") or {})["passwordRef"] for n in ("n1", "n2")}
    assert ["n3"] == world.vips["a"].status["authentication"]["waitingFor"]
    world.down.discard("n3")
    world.settle()
    assert {"a.2"} == {(world.entry(n, "a") or {})["passwordRef"] for n in world.nodes}


def test_a_node_whose_carpnode_was_lost_is_waited_for() -> None:
    """What it runs is unknown until it reports."""
    world = _settled()
    world.down.add("n3")
    del world.carpnodes["n3"]
    world.vip("a", "10.0.100.1", key="a.2")
    world.settle()
    assert {"a.1"} == {(world.entry(n, "a") or {})["passwordRef"] for n in ("n1", "n2")}
    world.down.discard("n3")
    world.settle()
    assert {"a.2"} == {(world.entry(n, "a") or {})["passwordRef"] for n in world.nodes}


@pytest.mark.parametrize(
    ("done", "signs"), [(0, "a.2"), (1, "a.1"), (2, "a.2")], ids=["before Accept", "in Accept", "in Sign"]
)
def test_after_all_carpnodes_were_lost_the_old_password_is_still_heard(done: int, signs: str) -> None:
    """What the nodes run is unknown until they say it: whoever is told first accepts the older password, too,
    and signs with it where nobody may have signed with the new one.
    """
    world = _settled()
    world.keys["a"] = KeyState("a.2", older=("a.1",))
    for _ in range(done):
        world.step()
    world.carpnodes.clear()
    for _ in range(2):
        made = world.plan()
        assert not made.settled
        for each in made.writes:
            world.write(each)
        world.confirm("n1")
    other = {"a.1": "a.2", "a.2": "a.1"}[signs]
    told = world.entry("n1", "a") or {}
    assert (signs, [other]) == (told["passwordRef"], [c["passwordRef"] for c in told["accept"]])
    assert {"a.1", "a.2"} <= made.keys_in_use
    world.step()
    assert world.vips["a"].status["authentication"]["waitingFor"]
    world.settle()
    for name in world.nodes:
        told = world.entry(name, "a") or {}
        assert ("a.2", None) == (told["passwordRef"], told.get("accept"))
    assert "authentication" not in world.vips["a"].status


def test_a_deleted_node_is_no_longer_waited_for() -> None:
    """The one way out without it: that is what deleting a Node says."""
    world = _settled()
    world.down.add("n3")
    world.vip("a", "10.0.100.1", key="a.2")
    world.settle()
    assert "a.1" == (world.entry("n1", "a") or {})["passwordRef"]
    del world.nodes["n3"], world.carpnodes["n3"]
    world.settle()
    assert "a.2" == (world.entry("n1", "a") or {})["passwordRef"]
    assert "authentication" not in world.vips["a"].status


def test_a_node_away_is_waited_for_without_end() -> None:
    """A silent backup looks the same as a dead one: replaced, and still waited for."""
    world = cluster(4)
    world.vip("a", "10.0.100.1", max_nodes=3)
    world.settle()
    gone = world.members("a")[2]
    world.down.add(gone)
    world.change_node(gone, ready=False, ready_since=world.now)
    world.now += 4000
    world.settle()
    world.vip("a", "10.0.100.1", max_nodes=3, key="a.2")
    world.settle()
    world.now += 1_000_000
    world.settle()
    assert {"step": "Accept", "waitingFor": [gone]} == world.vips["a"].status["authentication"]
    assert "until the Node is deleted" in world.condition("a", "Ready")[2]


def test_the_vhid_of_a_vip_that_runs_without_a_candidate_is_not_given_away() -> None:
    """Its selector matches nobody any more, so what runs stays, with its id."""
    world = _settled(2, vhid=7)
    nobody = Selector((("zone", "z"),))
    world.vip("a", "10.0.100.1", vhid=7, node_selector=nobody)
    world.vip("b", "10.0.100.2", vhid=7)
    world.settle()
    assert (2, 0) == (len(world.members("a")), len(world.members("b")))
    assert "VhidInUse" == world.condition("b", "Accepted")[1]
