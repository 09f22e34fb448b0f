"""vhids: what runs keeps its own, whatever becomes of the nodes' addresses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planfix import World, link


def _two_segments() -> World:
    """Return two VirtualIPs with vhid 7, each on three nodes of its own segment."""
    world = World()
    for number in (1, 2, 3):
        world.node(f"a{number}", link("eth0", f"10.1.0.{number}/24"))
        world.node(f"b{number}", link("eth0", f"10.2.0.{number}/24"))
    world.vip("x", "10.1.0.100", vhid=7)
    world.vip("y", "10.2.0.100", vhid=7)
    world.settle()
    return world


def _readdress(world: World, name: str, *addresses: str) -> None:
    world.hardware[name] = (link("eth0", *addresses),)
    world.carp(name, links=world.hardware[name])


@pytest.mark.parametrize("chosen", [True, False])
def test_an_address_that_joins_two_segments_moves_nothing(chosen: bool) -> None:
    """Each goes on where it is, neither with a node of the other's; what they share is said."""
    world = _two_segments()
    if chosen:
        spec = world.vips["y"].spec
        assert spec is not None
        world.vips["y"] = replace(world.vips["y"], spec=replace(spec, vhid=None))
    before = {vip: world.members(vip) for vip in "xy"}
    _readdress(world, "a1", "10.1.0.1/24", "10.2.0.9/24")
    world.settle()
    assert before == {vip: world.members(vip) for vip in "xy"}
    assert {7} == {(world.entry(n, "y") or {})["vhid"] for n in before["y"]}
    status, reason, message = world.condition("y", "Accepted")
    assert ("True", "Planned") == (status, reason)
    assert message.endswith("vhid 7 also belongs to VirtualIP x on what is one segment now")


def test_a_new_node_of_both_serves_one_of_them() -> None:
    """Two with one vhid on one interface: the second would be refused there."""
    world = _two_segments()
    _readdress(world, "a1", "10.1.0.1/24", "10.2.0.9/24")
    world.node("c1", link("eth0", "10.1.0.50/24", "10.2.0.50/24"))
    world.settle()
    assert "c1" in world.members("x")
    assert ["b1", "b2", "b3"] == sorted(world.members("y"))


def test_two_that_really_meet() -> None:
    """A node was told both on one interface: the older keeps the vhid, the other goes."""
    world = _two_segments()
    entry = world.entry("b1", "y")
    assert entry is not None
    world.carp("a1", vhosts=(*world.carpnodes["a1"].vhosts, {**entry, "interface": {"name": "eth0"}}))
    _readdress(world, "a1", "10.1.0.1/24", "10.2.0.9/24")
    accepted = world.plan().vip_statuses["y"]["conditions"][0]
    assert ("False", "VhidInUse") == (accepted["status"], accepted["reason"])
