"""Which nodes may hold an address, and what a person is told about the others."""

from __future__ import annotations

import re
from typing import Any

import pytest

from carp.core.config import Interface
from carp_operator.api.objects import Expression, Operator, Selector
from carp_operator.plan.candidates import Finder
from carp_operator.plan.facts import EXCLUDED, gather
from planfix import World, cluster, link

ZONE = Selector((("zone", "x"),), (Expression("old", Operator.DOES_NOT_EXIST),))


def _why(world: World, *addresses: str, **spec: Any) -> tuple[str, str]:
    """Return reason and message of a VirtualIP with nobody."""
    world.vip("a", *(addresses or ("10.0.100.1",)), **spec)
    world.settle()
    assert [] == world.members("a")
    status, reason, message = world.condition("a", "Accepted")
    assert "False" == status
    return reason, message


def test_nodes_excluded_from_load_balancers_are_no_candidates() -> None:
    """The label is named; kubeadm puts it on control-plane nodes."""
    world = World()
    world.node("n1", labels={EXCLUDED: ""})
    reason, message = _why(world)
    assert ("NoCandidate", f"no candidate node: 1 node: has the label {EXCLUDED}") == (reason, message)


def test_an_explicit_selector_overrides_that_label() -> None:
    """So an API server's own address can live on control-plane nodes."""
    world = World()
    world.node("n1", labels={EXCLUDED: "", "zone": "x"})
    world.node("n2", labels={"zone": "y"})
    world.vip("a", "10.0.100.1", node_selector=Selector((("zone", "x"),)))
    world.settle()
    assert ["n1"] == world.members("a")


def test_a_selector_that_matches_nobody_is_named() -> None:
    """As `kubectl get nodes -l` takes it."""
    world = cluster(2)
    expected = "no candidate node: 2 nodes: does not match nodeSelector zone=x,!old"
    assert ("NoCandidate", expected) == _why(world, node_selector=ZONE)


@pytest.mark.parametrize(
    ("addresses", "interface", "expected"),
    [
        (("192.0.2.1",), None, "has no interface whose subnet contains 192.0.2.1"),
        (("10.0.9.1", "10.1.9.1"), None, "has no single interface in 10.0.0.0/16 and 10.1.0.0/16"),
        (("10.0.9.1",), Interface(name="bond0"), "has no interface bond0"),
        (("10.0.9.1",), Interface(pattern="en*"), "has no interface en*"),
        (("10.0.9.1",), Interface(subnet="10.9.0.0/16"), "has no interface in 10.9.0.0/16"),
    ],
)
def test_a_missing_interface_is_described(
    addresses: tuple[str, ...], interface: Interface | None, expected: str
) -> None:
    """By subnet, name or pattern, whatever the VirtualIP asks for."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16"), link("eth1", "10.1.0.1/16"))
    assert ("NoCandidate", f"no candidate node: 1 node: {expected}") == _why(
        world, *addresses, interface=interface
    )


def test_each_cause_is_counted() -> None:
    """One condition tells about all nodes."""
    world = World()
    world.node("n1", labels={EXCLUDED: ""})
    world.node("n2", link("eth0", "10.9.0.1/16"))
    world.node("n3", link("eth0", "10.9.0.2/16"))
    world.node("n4")
    world.change_node("n4", deleting=True)
    _, message = _why(world)
    assert f"1 node: has the label {EXCLUDED}" in message
    assert "1 node: is being deleted" in message
    assert re.search(r"2 nodes: has no .*interface in 10\.0\.0\.0/16", message)


def test_candidates_follow_segments_that_join() -> None:
    """The places stay, the L2 network is another: what was found before must not hide that (World.plan
    compares with a plan that remembers nothing).
    """
    world = World()
    for number in (1, 2):
        world.node(f"n{number}", link("eth0", f"10.1.1.{number}/24"), labels={"zone": "x"})
    world.vip("a", "10.1.1.100", vhid=7)
    world.settle()
    before = Finder(gather(world.snapshot(), None)[0])
    spec = world.vips["a"].spec
    assert spec is not None
    old = before.find(spec, spec.addresses)
    for number in (1, 2):
        links = world.hardware[f"n{number}"] = (link("eth0", f"10.1.1.{number}/24", f"10.0.9.{number}/24"),)
        world.carp(f"n{number}", links=links)
    found = Finder(gather(world.snapshot(), None)[0], before).find(spec, spec.addresses)
    assert (old.places, {"10.0.9.0/24"}) == (found.places, found.segments)
    world.settle()
    world.vip("b", "10.1.1.101", vhid=7, node_selector=Selector((("zone", "x"),)))
    world.settle()
    assert "VhidInUse" == world.condition("b", "Accepted")[1]


def test_two_with_different_addresses_are_told_their_own() -> None:
    """Answers are shared only between VirtualIPs that ask for the same."""
    world = cluster(1)
    world.vip("a", "192.0.2.1")
    world.vip("b", "192.0.2.2")
    world.settle()
    assert "192.0.2.1" in world.condition("a", "Accepted")[2]
    assert "192.0.2.2" in world.condition("b", "Accepted")[2]


def test_no_nodes_at_all() -> None:
    """The condition says so."""
    assert ("NoCandidate", "no candidate node: there are no nodes") == _why(World())


def test_nodes_that_have_not_reported_have_a_reason_of_their_own() -> None:
    """No agent there, or not yet."""
    world = World()
    world.node("n1", reported=False)
    world.down.add("n1")
    reason, message = _why(world)
    assert "NotReported" == reason
    assert "1 node: has not reported its interfaces" in message


def test_candidates_that_are_not_ready_are_named() -> None:
    """Nobody new is placed on a node that Kubernetes calls NotReady."""
    world = cluster(1)
    world.change_node("n1", ready=False, ready_since=world.now)
    assert ("NoCandidate", "no candidate node is Ready: n1") == _why(world)


def test_the_same_question_has_one_answer() -> None:
    """Also after nodes changed in a way that does not matter to it."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    facts = gather(world.snapshot(), None)[0]
    finder = Finder(facts)
    specs = [world.vips[n].spec for n in "ab"]
    assert specs[0] is not None
    assert specs[1] is not None
    first = finder.find(specs[0], specs[0].addresses)
    assert first is finder.find(specs[1], specs[1].addresses)
    world.change_node("n1", unschedulable=True)
    later = Finder(gather(world.snapshot(), facts)[0], finder)
    assert first is later.find(specs[0], specs[0].addresses)
    world.change_node("n1", labels={EXCLUDED: ""})
    last = Finder(gather(world.snapshot(), facts)[0], later)
    assert {"n2": "eth0"} == last.find(specs[0], specs[0].addresses).places
