"""Addresses and vhids are unique and sticky: who runs with them has them, then the older VirtualIP."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from carp_operator.api import codec
from carp_operator.api.objects import Speaker
from carp_operator.plan.claims import by_age, members
from carp_operator.plan.facts import gather
from planfix import World, cluster, link


def _vhid(world: World, name: str) -> int:
    found: int = world.vips[name].status["vhid"]
    return found


def _told(world: World, name: str) -> list[str]:
    """Return the addresses that the first member signs with."""
    entry = world.entry(world.members(name)[0], name) or {}
    return list(entry["addresses"])


def _carry_out_specs(world: World) -> None:
    """Write what a plan tells the nodes and no status; let the nodes confirm."""
    for each in world.plan().writes:
        world.write(each)
    for name in world.carpnodes:
        world.take(name)
        world.confirm(name)


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


def test_what_may_still_run_on_a_node_without_its_carpnode_is_nobody_elses() -> None:
    """An edit moves a VirtualIP to another address, and the CarpNode of its member is lost: the old address
    may be served until the node says what it runs.
    """
    world = cluster(2)
    world.vip("a", "10.0.100.1", max_nodes=1)
    world.settle()
    (member,) = world.members("a")
    world.vip("a", "10.0.100.2", max_nodes=1)
    del world.carpnodes[member]
    world.vip("b", "10.0.100.1")
    made = world.plan()
    told = [e for node in made.nodes.values() for e in node.spec.get("vhosts", ()) if e["name"] == "b"]
    assert [] == told
    (accepted, *_) = made.vip_statuses["b"]["conditions"]
    assert ("AddressInUse", True) == (accepted["reason"], "still served" in accepted["message"])
    world.settle()
    assert ("True", "True") == tuple(world.condition(name, "Accepted")[0] for name in "ab")


def test_a_nodes_own_address_is_refused() -> None:
    """The message names the node."""
    world = cluster(2)
    world.vip("a", "10.0.0.2")
    world.settle()
    found = ("False", "AddressOfNode", "addresses: 10.0.0.2 is node n1's own address")
    assert found == world.condition("a", "Accepted")
    assert [] == world.members("a")


def test_an_address_that_a_node_has_too_is_no_reason_to_withdraw_what_runs() -> None:
    """A stray `ip addr add` on one node would take it from all; the message says where to remove it."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    before = [carp.vhosts for carp in world.carpnodes.values()]
    links = world.hardware["n2"] = (link("eth0", "10.0.0.3/16", "10.0.100.1/16"),)
    world.carp("n2", links=links)
    world.settle()
    assert before == [carp.vhosts for carp in world.carpnodes.values()]
    status, _, message = world.condition("a", "Accepted")
    assert "True" == status
    assert message.endswith("; 10.0.100.1 is node n2's own address, too: remove it there")
    world.vip("a", "10.0.100.1", "10.0.0.3")
    world.settle()
    assert "AddressOfNode" == world.condition("a", "Accepted")[1]
    assert before == [carp.vhosts for carp in world.carpnodes.values()]


@pytest.mark.parametrize(("who", "other"), [("old", "young"), ("young", "old")])
def test_an_edit_does_not_take_an_address_that_another_serves(who: str, other: str) -> None:
    """What runs beats age: a typo must not stop somebody else's service."""
    world = cluster(2)
    world.vip("old", "10.0.100.1")
    world.vip("young", "10.0.100.2")
    world.settle()
    before = [carp.vhosts for carp in world.carpnodes.values()]
    mine, theirs = ["10.0.100.1", "10.0.100.2"] if who == "old" else ["10.0.100.2", "10.0.100.1"]
    world.vip(who, mine, theirs)
    world.settle()
    assert before == [carp.vhosts for carp in world.carpnodes.values()]
    assert "AddressInUse" == world.condition(who, "Accepted")[1]
    assert other in world.condition(who, "Accepted")[2]
    assert ("True", "Planned") == world.condition(other, "Accepted")[:2]
    world.delete(other)
    world.settle()
    assert [mine, theirs] == _told(world, who)


def test_two_that_swap_their_addresses_are_told_the_way_out() -> None:
    """Both stay as they are; moving one away first lets both through."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    world.settle()
    world.vip("a", "10.0.100.2")
    world.vip("b", "10.0.100.1")
    world.settle()
    assert [["10.0.100.1"], ["10.0.100.2"]] == [_told(world, name) for name in "ab"]
    way_out = "where each waits for the other, delete one or move it to a free address first"
    for name, ip, other in (("a", "10.0.100.2", "b"), ("b", "10.0.100.1", "a")):
        message = f"addresses: {ip} is still served for VirtualIP {other}; {way_out}"
        assert ("False", "AddressInUse", message) == world.condition(name, "Accepted")
    world.vip("b", "10.0.100.3")
    world.settle()
    world.vip("b", "10.0.100.1")
    world.settle()
    assert [["10.0.100.2"], ["10.0.100.1"]] == [_told(world, name) for name in "ab"]


def test_of_two_that_run_one_address_the_older_keeps_it() -> None:
    """Such as after the edit of a CarpNode by hand, or a restored etcd."""
    world = cluster(2)
    world.vip("old", "10.0.100.1")
    world.vip("young", "10.0.100.2")
    world.settle()
    for name, carp in list(world.carpnodes.items()):
        vhosts = tuple({**v, "addresses": ["10.0.100.1"]} for v in carp.vhosts)
        world.carp(name, vhosts=vhosts, generation=carp.generation + 1)
    world.vip("young", "10.0.100.1")
    world.settle()
    assert (2, 0) == (len(world.members("old")), len(world.members("young")))
    message = "addresses: 10.0.100.1 belongs to the older VirtualIP old"
    assert ("False", "AddressInUse", message) == world.condition("young", "Accepted")


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


def test_an_address_that_left_its_pool_stays_and_that_is_said() -> None:
    """The pool was edited: an address that serves moves only with its VirtualIP."""
    world = cluster(2)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    world.pool("p", "10.0.101.1-10.0.101.9")
    world.vip("b", pool="p")
    world.settle()
    assert [["10.0.100.1"], ["10.0.101.1"]] == [_told(world, name) for name in "ab"]
    note = "no longer in pool p: 10.0.100.1; such addresses stay until the VirtualIP is deleted"
    members = ", ".join(world.members("a"))
    assert ("True", "Planned", f"2 members: {members}; {note}") == world.condition("a", "Accepted")
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]
    world.delete("a")
    world.settle()
    world.vip("a", pool="p")
    world.settle()
    assert ["10.0.101.2"] == _told(world, "a")


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


def test_half_of_what_is_asked_for_is_not_taken() -> None:
    """Without an IPv6 address the IPv4 address is of no use, and the next one gets it."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.1", "2001:db8::1-2001:db8::1")
    world.vip("a", pool="p", families=(6,))
    world.vip("b", pool="p", families=(4, 6))
    world.vip("c", pool="p", families=(4,))
    world.settle()
    assert "PoolExhausted" == world.condition("b", "Accepted")[1]
    assert ["10.0.100.1"] == world.vips["c"].status["addresses"]


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


def test_a_buggy_address_is_kept_too() -> None:
    """Where avoidBuggyIPs was switched on later."""
    world = cluster(1)
    world.pool("p", "10.0.100.0-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    world.pool("p", "10.0.100.0-10.0.100.9", avoid_buggy=True)
    world.settle()
    assert ["10.0.100.0"] == _told(world, "a")
    assert "no longer in pool p: 10.0.100.0" in world.condition("a", "Accepted")[2]


def test_an_address_outside_of_its_pool_survives_an_invalid_edit() -> None:
    """While what runs stays, the status goes on saying which pool gave it."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("a", pool="p")
    world.settle()
    world.pool("p", "10.0.101.1-10.0.101.9")
    world.settle()
    world.vips["a"] = replace(world.vips["a"], spec=None, generation=2)
    world.settle()
    assert "p" == world.vips["a"].status["pool"]
    world.vip("a", pool="p")
    world.settle()
    assert ["10.0.100.1"] == _told(world, "a")


def test_another_pool_gives_another_address() -> None:
    """What the old pool gave is kept only where the new one has it, also while no status is written."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.pool("q", "10.0.101.1-10.0.101.9")
    world.vip("a", pool="p")
    world.vip("other", pool="q")
    world.settle()
    world.vip("a", pool="q")
    _carry_out_specs(world)
    world.delete("other")
    for _ in range(3):
        _carry_out_specs(world)
    world.settle()
    assert (["10.0.101.2"], "q") == (_told(world, "a"), world.vips["a"].status["pool"])


def test_an_edit_to_a_pool_that_gives_nothing_keeps_the_old_pools_address() -> None:
    """And does not count it as the new pool's."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.pool("q")
    world.vip("a", pool="p")
    world.settle()
    world.vip("a", pool="q")
    world.settle()
    assert "PoolExhausted" == world.condition("a", "Accepted")[1]
    assert (["10.0.100.1"], "p") == (_told(world, "a"), world.vips["a"].status["pool"])
    world.pool("q", "10.0.101.1-10.0.101.9")
    world.settle()
    assert ["10.0.101.1"] == _told(world, "a")


def test_a_pool_with_an_error_keeps_what_it_gave_and_gives_nothing_new() -> None:
    """A typo in one range must not renumber what that range gave."""
    world = cluster(1)
    world.pool("p", "10.0.100.10-10.0.100.19", "10.0.101.1-10.0.101.9")
    world.vip("a", pool="p")
    world.settle()
    typo = ["10.0.100.19-10.0.100.10", "10.0.101.1-10.0.101.9"]
    world.pools["p"] = codec.pool({"metadata": {"name": "p"}, "spec": {"addresses": typo}})
    world.vip("b", pool="p")
    world.vip("c", pool="p", families=(4, 6))
    world.settle()
    assert (["10.0.100.10"], []) == (_told(world, "a"), world.members("b"))
    assert ("True", "Planned", "1 member: n1") == world.condition("a", "Accepted")
    for name in "bc":
        status, reason, message = world.condition(name, "Accepted")
        assert ("False", "PoolInvalid") == (status, reason)
        assert "10.0.100.19-10.0.100.10" in message
    world.pool("p", "10.0.100.10-10.0.100.19", "10.0.101.1-10.0.101.9")
    world.settle()
    assert [["10.0.100.10"], ["10.0.100.11"]] == [_told(world, name) for name in "ab"]


def test_a_pooled_address_stays_when_no_status_was_written() -> None:
    """The nodes were told, then the controller was killed, or many statuses wait for the budget."""
    world = cluster(2)
    world.pool("p", "10.0.100.1-10.0.100.9", "fd00::1-fd00::9")
    for number in (1, 2):
        world.hardware[f"n{number}"] = (link("eth0", f"10.0.0.{number}/16", f"fd00::1:{number}/64"),)
        world.carp(f"n{number}", links=world.hardware[f"n{number}"])
    for name in "abc":
        world.vip(name, pool="p")
    expected = {name: [f"10.0.100.{i}", f"fd00::{i}"] for i, name in enumerate("abc", 1)}
    for _ in range(4):
        made = world.plan()
        assert expected == {name: status["addresses"] for name, status in made.vip_statuses.items()}
        _carry_out_specs(world)
    world.settle()
    assert expected == {name: _told(world, name) for name in "abc"}


def test_a_pooled_address_stays_for_a_vip_of_the_same_name() -> None:
    """Deleted and applied again at once: the nodes serve it on."""
    world = cluster(2)
    world.pool("p", "10.0.100.1-10.0.100.9")
    for name in "abc":
        world.vip(name, pool="p")
    world.settle()
    world.delete("b")
    world.vip("b", pool="p")
    world.settle()
    assert [[f"10.0.100.{i}"] for i in (1, 2, 3)] == [_told(world, name) for name in "abc"]


def test_an_explicit_address_does_not_take_what_a_pool_gave() -> None:
    """Whoever is older: it is served."""
    world = cluster(1)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.vip("old", "10.0.100.20")
    world.vip("a", pool="p")
    world.settle()
    world.vip("old", "10.0.100.1")
    world.settle()
    assert ([["10.0.100.1"], ["10.0.100.20"]]) == [_told(world, name) for name in ("a", "old")]
    message = "addresses: 10.0.100.1 belongs to VirtualIP a, which has it already"
    assert ("False", "AddressInUse", message) == world.condition("old", "Accepted")


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


def test_an_edit_to_a_vhid_that_runs_waits_whoever_is_older() -> None:
    """Another vhid is another vhost: nobody is moved by somebody else's edit."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.vip("b", "10.0.100.2")
    world.settle()
    before = _vhid(world, "a"), _vhid(world, "b")
    world.vip("a", "10.0.100.1", vhid=before[1])
    world.settle()
    message = f"vhid: {before[1]} on this segment belongs to VirtualIP b, which has it already"
    assert ("False", "VhidInUse", message) == world.condition("a", "Accepted")
    assert before == tuple((world.entry("n1", name) or {})["vhid"] for name in "ab")
    world.delete("b")
    world.settle()
    assert before[1] == (world.entry("n1", "a") or {})["vhid"]


def test_the_old_vhid_of_a_vip_that_waits_for_another_is_not_given_away() -> None:
    """It runs with it."""
    world = cluster(2)
    for name, vhid in (("a", 7), ("b", 8), ("c", 9)):
        world.vip(name, f"10.0.100.{vhid}", vhid=vhid)
    world.settle()
    world.vip("b", "10.0.100.8", vhid=9)
    world.vip("a", "10.0.100.7", vhid=8)
    world.settle()
    assert [7, 8, 9] == [(world.entry("n1", name) or {})["vhid"] for name in "abc"]
    assert ["VhidInUse", "VhidInUse", "Planned"] == [world.condition(name, "Accepted")[1] for name in "abc"]


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
