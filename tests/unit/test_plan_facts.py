"""Nodes, subnets and segments."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest

from carp.core.config import Interface
from carp_operator.api.objects import Speaker
from carp_operator.plan.facts import INTERFACES, MAINTENANCE, Facts, gather, place
from carp_operator.plan.members import View
from planfix import World, cluster, link

if TYPE_CHECKING:
    from carp_operator.plan.model import Snapshot


def _facts(world: World) -> Facts:
    return gather(world.snapshot(), None)[0]


def test_interfaces_that_meet_through_a_common_subnet_are_one_segment() -> None:
    """n1 and n3 share no subnet, but n2's interface has both: one L2 network, through any number of steps."""
    world = World()
    world.node("n1", link("eth0", "10.1.0.1/24"))
    world.node("n2", link("ens1", "10.1.0.2/24", "10.2.0.2/24"))
    world.node("n3", link("eth0", "10.2.0.3/24", "10.3.0.3/24"))
    world.node("n4", link("eth0", "10.3.0.4/24"))
    world.node("n5", link("eth0", "10.4.0.5/24"))
    segments = _facts(world).segments
    assert {"10.1.0.0/24"} == {segments[n, i] for n, i in segments if n != "n5"}
    assert "10.4.0.0/24" == segments["n5", "eth0"]


def test_an_interface_without_a_subnet_is_a_segment_of_its_own() -> None:
    """Link-local and host addresses tell nothing of neighbours."""
    world = World()
    world.node("n1", link("eth0", "fe80::1/64"), link("lo", "127.0.0.1/32", "::1/128"))
    world.node("n2", link("eth0", "fe80::2/64"))
    expected = {(n, i): f"{n}/{i}" for n, i in (("n1", "eth0"), ("n1", "lo"), ("n2", "eth0"))}
    assert expected == _facts(world).segments


def test_the_smallest_subnet_of_an_address_is_its_home() -> None:
    """Both families; no home where one address has none."""
    world = World()
    world.node("n1", link("a", "10.0.0.1/8"), link("b", "10.1.0.1/16", "2001:db8::1/64"))
    facts = _facts(world)
    vips = [ip_interface(a) for a in ("10.1.0.9", "2001:db8::9", "10.9.0.9", "10.1.0.8")]
    wanted = ("10.1.0.0/16", "2001:db8::/64", "10.0.0.0/8")
    assert tuple(map(ip_network, wanted)) == facts.homes(vips)
    assert () == facts.homes([vips[0], ip_interface("192.0.2.1")])


def test_a_smaller_subnet_on_one_node_is_the_same_network() -> None:
    """Somebody's /24 beside the /16 on one interface: the home is where most nodes are."""
    world = cluster(3)
    world.node("n4", link("eth0", "10.0.0.40/16", "10.0.100.200/24"))
    assert (ip_network("10.0.0.0/16"),) == _facts(world).homes([ip_interface("10.0.100.1")])
    for name in ("n1", "n2", "n3"):
        world.carp(name, links=(link("eth0", "10.0.0.9/16", "10.0.100.9/24"),))
    assert (ip_network("10.0.100.0/24"),) == _facts(world).homes([ip_interface("10.0.100.1")])


def _told(**places: str) -> list[View]:
    entries = {node: {"name": "a", "interface": {"name": name}} for node, name in places.items()}
    return [View(node, entry, confirmed=True, state=None) for node, entry in entries.items()]


def test_what_is_served_stays_in_its_subnet() -> None:
    """A smaller one elsewhere counts for who is served nowhere yet, or no longer in any that fits."""
    world = cluster(3)
    world.node("n4", link("docker0", "10.0.100.254/24"))
    facts, vips = _facts(world), [ip_interface("10.0.100.1")]
    wide, narrow = (ip_network("10.0.0.0/16"),), (ip_network("10.0.100.0/24"),)
    assert narrow == facts.homes(vips) == facts.anchored(vips, [])
    assert wide == facts.anchored(vips, _told(n1="eth0", gone="eth0"))
    assert narrow == facts.anchored(vips, _told(n1="eth0", n4="docker0"))
    assert narrow == facts.anchored(vips, _told(n1="eth9"))
    assert () == facts.anchored([ip_interface("192.0.2.1")], _told(n1="eth0"))


def test_every_address_of_a_node_is_its_own() -> None:
    """Also one on an interface that carries none of ours: a pool must not give it out."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/24"), link("eth1", "10.9.0.1/24"))
    world.carp("n1", annotations={INTERFACES: "eth1"})
    assert {"10.0.0.1", "10.9.0.1"} == {str(ip) for ip in _facts(world).own}


@pytest.mark.parametrize(
    ("known", "elapsed", "ready", "silent"),
    [(True, 59, True, False), (True, 60, True, True), (False, 999, True, False), (True, 999, False, False)],
)
def test_a_node_without_a_ready_pod(known: bool, elapsed: int, ready: bool, silent: bool) -> None:
    """For a minute it may be an upgrade; unknown is no trouble, and a Node that is not Ready says more."""
    world = cluster(1)
    world.change_node("n1", ready=ready)
    world.agents = {"n1": world.now} if known else None
    began = world.now
    world.now += elapsed
    facts, wake = gather(world.snapshot(), None)
    assert silent is facts.nodes["n1"].silent
    assert (began + 60 if known and ready and not silent else None) == wake


@pytest.mark.parametrize(("dead_ratio", "patience"), [(3, 60), (12, 150)])
def test_a_pod_is_ready_when_its_vhosts_have_listened(dead_ratio: int, patience: int) -> None:
    """One of a long dead time takes as long at each start: that is no trouble."""
    world = cluster(1)
    vhosts = ({"name": "a"}, {"name": "b", "advbase": 10, "deadRatio": dead_ratio})
    world.carp("n1", vhosts=vhosts)
    world.agents = {"n1": world.now}
    assert pytest.approx(world.now + patience, abs=0.3) == gather(world.snapshot(), None)[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("eth1", ["eth1"]), ("eth1, bond*", ["eth1", "bond0"]), ("*", ["eth0", "eth1", "bond0"]), ("x", [])],
)
def test_an_annotation_narrows_a_nodes_interfaces(text: str, expected: list[str]) -> None:
    """Names or patterns with commas."""
    world = World()
    names = ("eth0", "eth1", "bond0")
    world.node("n1", *(link(n, f"10.{i}.0.1/16") for i, n in enumerate(names)))
    world.carp("n1", annotations={INTERFACES: text})
    assert expected == [each.name for each in _facts(world).nodes["n1"].links]


@pytest.mark.parametrize(("text", "expected"), [("true", True), ("false", False), ("", False)])
def test_maintenance_is_an_annotation(text: str, expected: bool) -> None:
    """Only `true` takes a node out."""
    world = cluster(1)
    world.carp("n1", annotations={MAINTENANCE: text})
    assert expected is _facts(world).nodes["n1"].out


def test_what_is_heard_on_a_segment() -> None:
    """Every id counts, whoever speaks it; whether that is one of our nodes is known by its address."""
    world = cluster(2)
    world.carp(
        "n1",
        speakers=(
            Speaker("eth0", "vrrp", 7, "10.0.9.9", "02:00:00:00:00:99"),
            Speaker("eth0", "carp", 8, "10.0.9.8", ""),
            Speaker("eth0", "carp", 9, "10.0.0.3", ""),
            Speaker("gone0", "carp", 10, "10.0.9.8", ""),
        ),
    )
    facts = _facts(world)
    assert {"10.0.0.0/16": {7, 8, 9}} == facts.heard
    assert [False, False, True] == [facts.is_own(s) for s in ("10.0.9.9", "somebody", "10.0.0.3")]
    assert "n2" == _facts(world).own[ip_address("10.0.0.3")]


@pytest.mark.parametrize(("elapsed", "away"), [(0, False), (299, False), (300, True)])
def test_a_node_is_away_when_not_ready_for_long(elapsed: int, away: bool) -> None:
    """Until then the plan is woken when that time is over."""
    world = cluster(1)
    world.change_node("n1", ready=False, ready_since=world.now)
    began = world.now
    world.now += elapsed
    facts, wake = gather(world.snapshot(), None)
    assert away is facts.nodes["n1"].away
    assert (None if away else began + 300) == wake


def test_not_ready_since_unknown_is_not_away() -> None:
    """Unknown is not long ago."""
    world = cluster(1)
    world.change_node("n1", ready=False, ready_since=0.0)
    assert (False, None) == (_facts(world).nodes["n1"].away, gather(world.snapshot(), None)[1])


def _changed(world: World) -> Snapshot:
    world.change_node("n1", unschedulable=True)
    return world.snapshot()


def test_what_did_not_change_is_the_same_object() -> None:
    """Nothing new: the same facts; one node cordoned: the others' and the segments stay."""
    world = cluster(2)
    before = _facts(world)
    world.carp("n1", written="2026-01-01T00:00:00Z")
    assert gather(world.snapshot(), before)[0] is before
    after = gather(_changed(world), before)[0]
    assert after is not before
    assert after.nodes["n2"] is before.nodes["n2"]
    assert after.segments is before.segments
    world.carp("n1", links=(link("eth1", "10.5.0.1/16"),))
    assert ("n1", "eth1") in gather(world.snapshot(), after)[0].segments


@pytest.mark.parametrize(
    ("interface", "homes", "expected"),
    [
        (None, ("10.1.0.0/16",), "eth1"),
        (None, ("10.1.0.0/16", "2001:db8::/64"), "eth1"),
        (None, ("10.1.0.0/16", "10.0.0.0/16"), ""),
        (None, ("10.7.0.0/16",), ""),
        (None, (), ""),
        (Interface(name="eth0"), (), "eth0"),
        (Interface(name="eth7"), ("10.0.0.0/16",), ""),
        (Interface(subnet="auto"), ("10.0.0.0/16",), "eth0"),
        (Interface(subnet="10.1.0.0/16"), (), "eth1"),
        (Interface(subnet="10.7.0.0/16"), ("10.0.0.0/16",), ""),
        (Interface(subnet="10.1.0.0/24"), (), "eth1"),
        (Interface(subnet="10.0.0.0/8"), (), "eth0"),
        (Interface(subnet="2001:DB8:0::/64"), (), "eth1"),
        (Interface(subnet="2001:db8::/32"), ("10.0.0.0/16",), "eth1"),
        (Interface(subnet="2001:db8::/128"), (), ""),
        (Interface(subnet="::/0"), (), "eth1"),
        (Interface(subnet="nonsense"), ("10.0.0.0/16",), ""),
        (Interface(pattern="eth*"), ("10.1.0.0/16",), "eth1"),
        (Interface(pattern="en*"), ("10.1.0.0/16",), ""),
        (Interface(pattern="eth*"), (), "eth0"),
        (Interface(pattern="en*"), (), ""),
    ],
)
def test_the_interface_follows_from_subnet_name_or_pattern(
    interface: Interface | None, homes: tuple[str, ...], expected: str
) -> None:
    """By the subnet of the addresses unless the VirtualIP says otherwise; one interface for all of them. A
    subnet means the first interface by name that has an address in it, as carpd takes it.
    """
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16"), link("eth1", "10.1.0.1/16", "2001:db8::1/64"))
    facts = _facts(world)
    assert expected == place(facts.nodes["n1"], interface, [ip_network(h) for h in homes])


def test_another_node_with_the_same_interfaces_is_another_node() -> None:
    """Renamed, or registered under another name: segments and addresses are its own."""
    world = cluster(1)
    before = _facts(world)
    world.nodes.pop("n1")
    links = world.carpnodes.pop("n1").links
    world.node("n2", *links)
    after = gather(world.snapshot(), before)[0]
    assert ({("n2", "eth0")}, {"n2"}) == (set(after.segments), set(after.own.values()))


def test_a_removed_carpnode_leaves_a_node_that_has_not_reported() -> None:
    """It has no interfaces then; nothing raises."""
    world = cluster(1)
    world.nodes["n2"] = replace(world.nodes["n1"], name="n2")
    node = _facts(world).nodes["n2"]
    assert (False, (), False) == (node.reported, node.links, node.out)
