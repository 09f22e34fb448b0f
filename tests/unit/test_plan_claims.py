"""Addresses and vhids are unique, sticky, and the older VirtualIP's."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from carp_operator.api.objects import Speaker
from carp_operator.plan.claims import by_age, members
from carp_operator.plan.facts import gather
from planfix import World, cluster, link


def _vhid(world: World, name: str) -> int:
    found: int = world.vips[name].status["vhid"]
    return found


def test_the_older_first_then_by_name() -> None:
    """The API server's times have seconds only."""
    world = cluster(1)
    for name in ("c", "b", "a"):
        world.vip(name, "10.0.100.1")
    world.vips["a"] = replace(world.vips["a"], created=world.vips["b"].created)
    assert ["c", "a", "b"] == [vip.name for vip in by_age(world.vips.values())]


# --- addresses ----------------------------------------------------------------------------------------


def test_of_two_with_one_address_the_older_wins_and_the_younger_names_it() -> None:
    """The younger has no members; nothing of the older changes; it follows when the older is gone."""
    world = cluster(2)
    world.vip("old", "10.0.100.1", "10.0.100.2")
    world.settle()
    before = world.entry("n1", "old")
    world.vip("new", "10.0.100.2")
    world.settle()
    message = "addresses: 10.0.100.2 belongs to the older VirtualIP old"
    assert ("False", "AddressInUse", message) == world.condition("new", "Accepted")
    assert [] == world.members("new")
    assert before == world.entry("n1", "old")
    world.delete("old")
    world.settle()
    assert ("True", 2) == (world.condition("new", "Accepted")[0], len(world.members("new")))


def test_a_nodes_own_address_is_refused() -> None:
    """The message names the node."""
    world = cluster(2)
    world.vip("a", "10.0.0.2")
    world.settle()
    found = ("False", "AddressOfNode", "addresses: 10.0.0.2 is node n1's own address")
    assert found == world.condition("a", "Accepted")
    assert [] == world.members("a")


def test_prefix_lengths_do_not_make_addresses_different() -> None:
    """10.0.100.1/24 is 10.0.100.1."""
    world = cluster(1)
    world.vip("a", "10.0.100.1/24")
    world.vip("b", "10.0.100.1")
    world.settle()
    assert "AddressInUse" == world.condition("b", "Accepted")[1]


# --- pools --------------------------------------------------------------------------------------------


def test_a_pool_gives_the_lowest_free_address_and_it_stays() -> None:
    """A deletion frees the address once no node is told to serve it; nobody else moves."""
    world = cluster(2)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("explicit", "10.0.100.2")
    for name in "abc":
        world.vip(name, pool="p")
    world.settle()
    found = {name: world.vips[name].status["addresses"] for name in "abc"}
    assert {"a": ["10.0.100.1"], "b": ["10.0.100.3"], "c": ["10.0.100.4"]} == found
    world.delete("a")
    world.vip("d", pool="p")
    world.settle()
    found = {name: world.vips[name].status["addresses"] for name in "bcd"}
    assert {"b": ["10.0.100.3"], "c": ["10.0.100.4"], "d": ["10.0.100.5"]} == found
    world.vip("e", pool="p")
    world.settle()
    assert ["10.0.100.1"] == world.vips["e"].status["addresses"]
    assert {"used": 5, "available": 4} == world.pools["p"].status["ipv4"]


def test_a_full_pool_is_a_condition_of_the_youngest() -> None:
    """Named with the family; the others run."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.1")
    world.vip("a", pool="p")
    world.vip("b", pool="p")
    world.settle()
    message = "addressesFrom.pool: 'p' has no free IPv4 address"
    assert ("False", "PoolExhausted", message) == world.condition("b", "Accepted")
    assert ["n1"] == world.members("a")


def test_a_pool_that_is_missing_keeps_what_runs() -> None:
    """A new VirtualIP waits with a condition; one that runs goes on with its address."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    del world.pools["p"]
    world.vip("b", pool="p")
    world.settle()
    for name in "ab":
        assert "PoolMissing" == world.condition(name, "Accepted")[1]
    assert "'p'" in world.condition("b", "Accepted")[2]
    assert (["n1"], []) == (world.members("a"), world.members("b"))
    assert ["10.0.100.1"] == world.vips["a"].status["addresses"]


def test_an_address_that_left_its_pool_is_replaced_in_steps() -> None:
    """The pool was edited: the next free one is taken."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    world.pool("p", "10.0.101.1-10.0.101.9")
    world.settle()
    assert ["10.0.101.1"] == (world.entry("n1", "a") or {})["addresses"]


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ((), ["10.0.100.1", "2001:db8::"]),
        ((6,), ["2001:db8::"]),
        ((4,), ["10.0.100.1"]),
        ((6, 4), ["2001:db8::", "10.0.100.1"]),
    ],
)
def test_a_pool_gives_the_families_that_are_asked_for(families: tuple[int, ...], expected: list[str]) -> None:
    """All that it has by default; an IPv6 pool of 2^64 addresses costs nothing."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16", "2001:db8::ffff:1/64"))
    world.pool("p", "10.0.100.1-10.0.100.9", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff")
    world.vip("a", pool="p", families=families)
    world.settle()
    assert expected == world.vips["a"].status["addresses"]


def test_a_pool_without_any_address_is_exhausted() -> None:
    """Such as one whose ranges were all refused."""
    world = cluster(1)
    world.pool("p")
    world.vip("a", pool="p")
    world.settle()
    expected = ("False", "PoolExhausted", "addressesFrom.pool: 'p' has no addresses")
    assert expected == world.condition("a", "Accepted")


def test_a_pool_leaves_out_nodes_addresses_and_buggy_ones() -> None:
    """With avoidBuggyIPs .0 and .255 are out; a node's own address is never given."""
    world = World()
    world.node("n1", link("eth0", "10.0.100.1/16"))
    world.pool("p", "10.0.99.255-10.0.100.9", avoid_buggy=True)
    world.vip("a", pool="p")
    world.settle()
    assert ["10.0.100.2"] == world.vips["a"].status["addresses"]


def test_a_buggy_address_is_not_kept() -> None:
    """Where avoidBuggyIPs was switched on later."""
    world = cluster(1)
    world.pool("p", "10.0.100.0-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    assert ["10.0.100.0"] == world.vips["a"].status["addresses"]
    world.pool("p", "10.0.100.0-10.0.100.9", avoid_buggy=True)
    world.settle()
    assert ["10.0.100.1"] == world.vips["a"].status["addresses"]


def test_ranges_are_walked_lowest_first() -> None:
    """Whatever their order in the pool."""
    world = World()
    world.pool("p", "10.0.2.1-10.0.2.2", "2001:db8::1-2001:db8::1", "10.0.1.1-10.0.1.1")
    expected = [ip_address(a) for a in ("10.0.1.1", "10.0.2.1", "10.0.2.2")]
    assert expected == list(members(world.pools["p"], 4))


# --- vhids --------------------------------------------------------------------------------------------


def test_vhids_are_unique_on_a_segment_and_may_repeat_on_another() -> None:
    """255 on each of two; the 256th has a condition that says so, and disturbs nobody."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16"), link("eth1", "10.1.0.1/16"))
    for number in range(255):
        world.vip(f"a{number}", f"10.0.100.{number}", max_nodes=1)
        world.vip(f"b{number}", f"10.1.100.{number}", max_nodes=1)
    world.vip("more", "10.0.101.1")
    made = world.plan()
    for kind in "ab":
        assert set(range(1, 256)) == {made.vip_statuses[f"{kind}{n}"]["vhid"] for n in range(255)}
    condition = made.vip_statuses["more"]["conditions"][0]
    assert ("False", "NoVhidLeft") == (condition["status"], condition["reason"])
    assert "255" in condition["message"]


def test_a_vhid_stays_whatever_comes_and_goes() -> None:
    """Older VirtualIPs applied later, deletions, a lost status: the told one is kept."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    world.settle()
    held = _vhid(world, "b")
    world.delete("a")
    world.vips["b"] = replace(world.vips["b"], status={})
    world.settle()
    assert held == _vhid(world, "b") == (world.entry("n1", "b") or {})["vhid"]


def test_a_vhid_heard_from_a_foreign_speaker_is_not_allocated() -> None:
    """CARP or VRRP: they share the virtual MAC's last byte."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    free = world.plan().vip_statuses["a"]["vhid"]
    world.carp("n2", speakers=(Speaker("eth0", "vrrp", free, "10.0.77.1", ""),))
    assert free != world.plan().vip_statuses["a"]["vhid"]


def test_a_held_vhid_stays_when_it_is_heard_from_others_and_that_is_said() -> None:
    """A new vhid would be a new vhost."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    held = _vhid(world, "a")
    world.carp("n2", speakers=(Speaker("eth0", "carp", held, "10.0.77.1", ""),))
    world.settle()
    assert held == _vhid(world, "a")
    message = f"vhid {held} is also spoken by 10.0.77.1 (carp)"
    assert ("True", "Degraded", message) == world.condition("a", "Ready")


def test_all_ids_used_or_heard_is_a_condition() -> None:
    """254 heard and one used."""
    world = cluster(1)
    world.vip("a", "10.0.100.1")
    world.settle()
    others = set(range(1, 256)) - {_vhid(world, "a")}
    world.carp("n1", speakers=tuple(Speaker("eth0", "carp", v, "10.0.77.1", "") for v in others))
    world.vip("b", "10.0.100.2")
    world.settle()
    assert "NoVhidLeft" == world.condition("b", "Accepted")[1]
    assert ["n1"] == world.members("a")


def test_of_two_explicit_vhids_the_older_wins() -> None:
    """The younger names it and is withdrawn; on another segment the same id is fine."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16"), link("eth1", "10.1.0.1/16"))
    world.vip("a", "10.0.100.1", vhid=7)
    world.vip("b", "10.0.100.2", vhid=7)
    world.vip("c", "10.1.100.1", vhid=7)
    world.settle()
    message = "vhid: 7 on this segment belongs to the older VirtualIP a"
    assert ("False", "VhidInUse", message) == world.condition("b", "Accepted")
    assert (["n1"], [], ["n1"]) == tuple(world.members(v) for v in "abc")


def test_an_explicit_vhid_of_an_older_one_moves_an_allocated_one() -> None:
    """By age: the younger, which did not ask for it, gets another."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    world.settle()
    wanted = _vhid(world, "b")
    world.vip("a", "10.0.100.1", vhid=wanted)
    world.settle()
    assert wanted == _vhid(world, "a")
    assert _vhid(world, "b") not in (wanted, None)


def test_interfaces_joined_by_a_subnet_share_their_ids() -> None:
    """Two subnets on one wire are one segment."""
    world = World()
    world.node("n1", link("eth0", "10.0.0.1/16"))
    world.node("n2", link("eth0", "10.0.0.2/16", "10.1.0.2/16"))
    world.vip("a", "10.0.100.1", vhid=7)
    world.vip("b", "10.1.100.1", vhid=7)
    world.settle()
    assert "VhidInUse" == world.condition("b", "Accepted")[1]
    assert "10.0.0.0/16" == gather(world.snapshot(), None)[0].segments["n2", "eth0"]
