"""The entries of CarpNode.spec.vhosts (design.md section 8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carp.core.config import Interface, Preempt, PreemptMode, SealMode
from carp.core.schema import parse_vhost
from carp_operator.api.objects import Advertisement, Selector, Transport
from carp_operator.plan.facts import INTERFACES, MAINTENANCE
from planfix import World, cluster, link


def _entry(node: str = "n1", count: int = 2, **spec: Any) -> dict[str, Any]:
    world = cluster(count)
    world.vip("a", "10.0.100.1", **spec)
    world.settle()
    return world.entry(node, "a") or {}


def test_the_default_entry_has_nothing_that_is_a_default() -> None:
    """Server-side apply compares it; a person reads it."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", vhid=7)
    world.step()
    expected = {
        "name": "a",
        "vhid": 7,
        "interface": {"name": "eth0"},
        "addresses": ["10.0.100.1"],
        "passwordRef": "a.1",
        "advbase": 1,
        "advskew": 0,
        "deadRatio": 3,
        "authentication": {"mode": "Sealed"},
        "firstClaimant": True,
    }
    first, second = world.members("a")
    assert expected == world.entry(first, "a")
    del expected["firstClaimant"]
    assert expected | {"advskew": 20} == world.entry(second, "a")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"preempt": Preempt(PreemptMode.ALWAYS)}, {"preempt": {"mode": "Always"}}),
        ({"preempt": Preempt(PreemptMode.AFTER, 2.5)}, {"preempt": {"mode": "After", "after": "2.5s"}}),
        ({"announce": {"count": 3}}, {"announce": {"count": 3}}),
        ({"fencing": "Off"}, {"fencing": "Off"}),
        (
            {"health_checks": ({"name": "web", "tcp": {"port": 80}},), "when_all_fail": "Release"},
            {"healthChecks": [{"name": "web", "tcp": {"port": 80}}], "whenAllFail": "Release"},
        ),
        ({"transport": Transport(group4="224.0.0.99")},
         {"transport": {"mode": "Multicast", "group": "224.0.0.99"}}),
        ({"transport": Transport(group6="ff02::99")},
         {"transport": {"mode": "Multicast", "group6": "ff02::99"}}),
        ({"mode": SealMode.INTEROPERABLE}, {"authentication": {"mode": "Interoperable"}}),
        ({"failover_time": 0.5}, {"advbase": 0, "advskew": 41, "deadRatio": 3}),
        ({"failover_time": 10.0}, {"advbase": 3, "deadRatio": 3}),
        ({"advertisement": Advertisement(2, 5, 4)}, {"advbase": 2, "deadRatio": 4}),
    ],
)  # fmt: skip
def test_settings_travel_into_the_entry(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each on every node, and the engine's own schema takes it."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", **spec)
    world.settle()
    found = world.entry(world.members("a")[0], "a") or {}
    assert expected == {key: found.get(key) for key in expected}
    ref = found.pop("passwordRef")
    assert "a.1" == ref
    parse_vhost({**found, "password": "x"})


def test_what_the_engine_would_refuse_is_a_condition() -> None:
    """Its message names the field; nothing is written."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", failover_time=0.5, mode=SealMode.INTEROPERABLE)
    world.settle()
    assert [] == world.members("a")
    status, reason, message = world.condition("a", "Accepted")
    assert ("False", "Invalid") == (status, reason)
    assert "authentication.mode" in message or "advbase" in message


def test_two_health_checks_with_one_name_are_refused_and_what_runs_stays() -> None:
    """An edit that the engine's own rules refuse changes nothing on the wire."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = [c.vhosts for c in world.carpnodes.values()]
    check = {"name": "web", "tcp": {"port": 80}}
    world.vip("a", "10.0.100.1", health_checks=(check, check))
    world.settle()
    assert before == [c.vhosts for c in world.carpnodes.values()]
    assert "Invalid" == world.condition("a", "Accepted")[1]


def test_ranks_become_staggered_advskews() -> None:
    """78 ms apart at the defaults."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    world.settle()
    assert [0, 20, 40] == [(world.entry(n, "a") or {})["advskew"] for n in world.members("a")]


def test_a_prefix_length_is_kept_only_where_it_says_something() -> None:
    """/32 and /128 are the default."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16", "2001:db8::1/64"))
    world.vip("a", "10.0.100.1/24", "10.0.100.2/32", "2001:db8::9/128", "2001:db8::8/64")
    world.settle()
    expected = ["10.0.100.1/24", "10.0.100.2", "2001:db8::9", "2001:db8::8/64"]
    assert expected == (world.entry("n1", "a") or {})["addresses"]


# --- transport ----------------------------------------------------------------------------------------


def test_unicast_peers_are_the_other_members() -> None:
    """Their addresses in the VIP's subnet, one per family; each node's own source is fixed."""
    world = World()
    for number in (1, 2, 3):
        addresses = (f"172.16.0.{number}/24", f"10.0.0.{number}/16", f"2001:db8::{number}/64")
        world.node(f"n{number}", link("eth0", *addresses))
    world.vip("a", "10.0.100.1", "2001:db8::99", transport=Transport("Unicast"))
    world.settle()
    entry = world.entry("n1", "a") or {}
    peers = ["10.0.0.2", "2001:db8::2", "10.0.0.3", "2001:db8::3"]
    assert {"mode": "Unicast", "peers": peers} == entry["transport"]
    assert ("10.0.0.1", "2001:db8::1") == (entry["source"], entry["source6"])
    entry.pop("passwordRef")
    parse_vhost({**entry, "password": "x"})


def test_unicast_peers_are_of_the_families_of_the_addresses() -> None:
    """An IPv4 address needs no IPv6 peer; without an address in its subnet the first one is used."""
    world = World()
    for number in (1, 2):
        world.node(f"n{number}", link("eth0", f"10.9.0.{number}/24", f"2001:db8::{number}/64"))
    world.vip("a", "192.0.2.1", transport=Transport("Unicast"), interface=Interface(name="eth0"))
    world.settle()
    entry = world.entry("n2", "a") or {}
    assert ({"mode": "Unicast", "peers": ["10.9.0.1"]}, "10.9.0.2") == (entry["transport"], entry["source"])
    assert "source6" not in entry


def test_extra_peers_come_last_and_make_it_interoperable() -> None:
    """A firewall's adverts carry no seal."""
    world = cluster(2)
    transport = Transport("Unicast", extra_peers=("10.0.99.1",))
    world.vip("a", "10.0.100.1", transport=transport)
    world.settle()
    first, second = ((world.entry(n, "a") or {}) for n in ("n1", "n2"))
    assert [second["source"], "10.0.99.1"] == first["transport"]["peers"]
    assert {"mode": "Interoperable"} == first["authentication"]


def test_a_lone_member_has_no_peers() -> None:
    """Unicast without peers would be refused by the engine."""
    assert "transport" not in _entry(count=1, transport=Transport("Unicast"))


def test_peers_follow_the_members() -> None:
    """One more node, one more peer."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"))
    world.settle()
    world.node("n9", link("eth0", "10.0.7.9/16"))
    world.settle()
    assert "10.0.7.9" in (world.entry("n1", "a") or {})["transport"]["peers"]


def test_peers_of_who_may_run_it_still_are_kept() -> None:
    """Who cannot be told to go would be deaf, and take over: it is sent to until it has confirmed."""
    world = cluster(3)
    selector = Selector((("x", "1"),))
    for name in world.nodes:
        world.change_node(name, labels={"x": "1"})
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"), node_selector=selector)
    world.settle()
    leaver = world.members("a")[-1]
    source = (world.entry(leaver, "a") or {})["source"]
    world.down.add(leaver)
    world.change_node(leaver, labels={})
    world.settle()
    staying = world.members("a")
    assert leaver not in staying
    assert all(source in (world.entry(n, "a") or {})["transport"]["peers"] for n in staying)
    world.down.clear()
    world.settle()
    assert not any(source in (world.entry(n, "a") or {})["transport"]["peers"] for n in staying)


def test_the_last_member_goes_on_to_who_may_run_it_still() -> None:
    """Alone in the plan, but not for certain on the wire."""
    world = cluster(2)
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"))
    world.settle()
    leaver = world.members("a")[-1]
    world.down.add(leaver)
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"), max_nodes=1)
    world.settle()
    (stays,) = world.members("a")
    assert "Unicast" == (world.entry(stays, "a") or {})["transport"]["mode"]
    world.down.clear()
    world.settle()
    assert "transport" not in (world.entry(stays, "a") or {})


def test_a_source_that_is_not_reported_any_more_stays() -> None:
    """Neither a report without an address nor an annotation that hides the interface makes anybody deaf."""
    world = cluster(3)
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"))
    world.settle()
    before = {n: world.entry(n, "a") for n in world.nodes}
    world.carp("n2", annotations={INTERFACES: "eth9"})
    world.settle()
    assert before == {n: world.entry(n, "a") for n in world.nodes}
    world.down.add("n3")
    world.carp("n3", links=(link("eth0"),))
    world.settle()
    others = [(world.entry(n, "a") or {})["transport"]["peers"] for n in ("n1", "n2")]
    assert all((before["n3"] or {})["source"] in peers for peers in others)


def test_more_peers_than_the_engine_takes() -> None:
    """That is said of this VirtualIP; a list that the server refuses would hold up all others of a node."""
    world = World()
    for number in range(40):
        world.node(f"n{number}", link("eth0", f"10.0.0.{number + 1}/16", f"2001:db8::{number + 1}/64"))
    world.vip("a", "10.0.100.1", "2001:db8::99", transport=Transport("Unicast"), max_nodes=40)
    world.settle()
    assert [] == world.members("a")
    message = "transport: 78 peers are more than 64: lower maxNodes or use Multicast"
    assert ("False", "Invalid", message) == world.condition("a", "Accepted")


# --- demotions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cordoned", "maintained", "expected"),
    [
        (True, False, [{"reason": "Cordoned", "amount": 100}]),
        (False, True, [{"reason": "OutOfService", "amount": 200}]),
        (True, True, [{"reason": "Cordoned", "amount": 100}, {"reason": "OutOfService", "amount": 200}]),
    ],
)
def test_a_node_out_of_service_is_demoted_with_its_reasons(
    cordoned: bool, maintained: bool, expected: list[dict[str, Any]]
) -> None:
    """By the cordon, by the annotation, by both."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.change_node("n1", unschedulable=cordoned)
    if maintained:
        world.carp("n1", annotations={MAINTENANCE: "true"})
    world.settle()
    assert expected == (world.entry("n1", "a") or {})["demotions"]
    assert "demotions" not in (world.entry("n2", "a") or {})


def test_the_context_of_an_entry_is_the_one_it_was_told() -> None:
    """A node configures the addresses of the context that it signs (section 9)."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.down.add("n2")
    world.vip("a", "10.0.100.2", key="a.2")
    world.settle()
    entry = world.entry("n1", "a") or {}
    assert (["10.0.100.1"], "a.1") == (entry["addresses"], entry["passwordRef"])
    assert [{"addresses": ["10.0.100.2"], "passwordRef": "a.2"}] == entry["accept"]
    world.down.discard("n2")
    world.settle()
    entry = world.entry("n1", "a") or {}
    assert (["10.0.100.2"], "a.2") == (entry["addresses"], entry["passwordRef"])
    assert "accept" not in entry


def test_settings_that_were_refused_do_not_count_as_stored() -> None:
    """A node confirms its spec as a whole; a vhost that it refused runs with the older one."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.vip("a", "10.0.100.1", key="a.2")
    world.step()
    states = tuple(replace(s, refused="passwordRef: 'a.2' is no key") for s in world.carpnodes["n1"].states)
    world.carp("n1", states=states)
    made = world.plan()
    assert {"step": "Accept", "waitingFor": ["n1"]} == made.vip_statuses["a"]["authentication"]
    assert () == made.writes
