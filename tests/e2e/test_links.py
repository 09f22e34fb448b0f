"""Cables pulled, interfaces removed, renamed and changed: each vhost says why it waits, and comes back."""

from __future__ import annotations

import time
from itertools import pairwise

from beside import Measured, beside, labs
from nodefix import VIP, Daemon, Lab, first, found, holds, idle, in_time, run_ip, wait_until

__all__ = ["labs"]


def waiting(lab: Lab, daemon: Daemon, reason: str) -> None:
    """Wait until the vhost is INIT and both its log and SIGUSR1 give the reason."""
    daemon.wait_state("INIT")
    said = [line["message"] for line in daemon.events("state") if line["new"] == "INIT"]
    assert reason in said[-1], said
    assert reason in lab.status(daemon)


@beside
def test_unplugged_owner_lets_go(lab: Lab) -> Measured:
    """An owner whose cable is pulled deletes the address at once, says why, and comes back when plugged."""
    one, two = lab.pair()
    node = lab.node("n1")
    lab.lan.unplug(node)
    took = wait_until(lambda: not holds(node), 3, "the address is gone", one)
    in_time(took, 0.6)
    waiting(lab, one, "interface eth0 has no carrier")
    two.master(6)
    lab.lan.plug(node)
    back = wait_until(lambda: one.state() == "BACKUP", 3, "it is back", one)
    idle(1)
    assert ("BACKUP", "MASTER") == (one.state(), two.state())
    return {"lets_go_after_s": took, "back_after_s": back}


@beside
def test_set_down_and_up(lab: Lab) -> Measured:
    """An interface that is set down and up again: the vhost waits and comes back without a restart."""
    one = lab.daemon("n1", first()).start().master()
    run_ip(lab.node("n1"), "link", "set", "eth0", "down")
    took = wait_until(lambda: not holds(lab.node("n1")), 3, "the address is gone", one)
    one.wait_state("INIT")  # an advert that was due just then finds no carrier first
    wait_until(lambda: "interface eth0 is down" in lab.status(one), 2, "it says why", one)
    run_ip(lab.node("n1"), "link", "set", "eth0", "up")
    one.master(6)
    assert one.running.poll() is None
    return {"lets_go_after_s": took}


@beside
def test_interface_made_again(lab: Lab) -> None:
    """An interface that is deleted and made again with the same name is found again."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    lab.lan.switch.unwire("n1")
    waiting(lab, one, "interface eth0 does not exist")
    lab.lan.switch.wire(node)
    one.master(6)
    wait_until(lambda: holds(node), 2, "it holds the address", one)
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "adverts", one)


@beside
def test_interface_renamed(lab: Lab) -> None:
    """An interface renamed away takes no address of ours with it, and renamed back it is used again."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    run_ip(node, "link", "set", "eth0", "name", "moved")  # a name may change while the link is up
    waiting(lab, one, "interface eth0 does not exist")
    assert VIP not in run_ip(node, "address", "show", "dev", "moved")
    run_ip(node, "link", "set", "moved", "name", "eth0")
    one.master(6)
    wait_until(lambda: holds(node), 2, "it holds the address", one)


@beside
def test_interface_of_another(lab: Lab) -> None:
    """Another interface that takes over the name is used, and the one before left without our address."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    run_ip(node, "link", "set", "eth0", "name", "old")
    run_ip(node, "link", "add", "eth0", "type", "veth", "peer", "name", "far")
    run_ip(node, "link", "set", "far", "up")
    run_ip(node, "address", "add", "10.99.0.77/24", "dev", "eth0")
    run_ip(node, "link", "set", "eth0", "up")
    wait_until(lambda: VIP in run_ip(node, "address", "show", "dev", "eth0"), 8, "it moves", one)
    assert VIP not in run_ip(node, "address", "show", "dev", "old")


@beside
def test_own_address_changes(lab: Lab) -> None:
    """When the interface's own address changes, adverts leave from the new one without a change of state."""
    node = lab.node("n1")
    one, two = lab.pair()
    marks = one.count, two.count
    node.namespace.sysctl("ipv4/conf/all/promote_secondaries", "1")
    with lab.sniffer() as sniffer:
        run_ip(node, "address", "add", "10.99.0.71/24", "dev", "eth0")
        run_ip(node, "address", "del", "10.99.0.1/24", "dev", "eth0")
        wait_until(lambda: sniffer.adverts("10.99.0.71"), 3, "adverts from the new address", one)
        since = time.monotonic()
        idle(4)
        assert [] == sniffer.adverts("10.99.0.1", since=since)
        times = [frame.at for frame in sniffer.adverts("10.99.0.71")]
    in_time(max(b - a for a, b in pairwise(times)), 0.7)
    assert [[], []] == [d.events("state", since=m) for d, m in zip((one, two), marks, strict=True)]


@beside
def test_own_address_lost(lab: Lab) -> None:
    """Without an address of its own a node cannot advertise: it waits with that reason and comes back."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    run_ip(node, "address", "del", "10.99.0.1/24", "dev", "eth0")
    waiting(lab, one, "has no IPv4 address to send from")
    wait_until(lambda: not holds(node), 3, "the address is gone", one)
    run_ip(node, "address", "add", "10.99.0.1/24", "dev", "eth0")
    one.master(6)


@beside
def test_hardware_address_changes(lab: Lab) -> None:
    """After a change of the interface's MAC the address is announced with the new one."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    with lab.sniffer() as sniffer:
        run_ip(node, "link", "set", "eth0", "address", "02:ca:72:00:09:09")
        wait_until(lambda: sniffer.gratuitous("02:ca:72:00:09:09"), 6, "announcements", one)
    one.master(6)


@beside
def test_interface_appears_later(lab: Lab) -> None:
    """A daemon whose interface is missing at its start waits with a reason and starts when it appears."""
    node = lab.node("n1")
    lab.lan.switch.unwire("n1")
    one = lab.daemon("n1", first()).start()
    wait_until(lambda: one.running.poll() is None and one.count >= 0, 1, "it runs", one)
    idle(1)
    assert "interface eth0 does not exist" in lab.status(one)
    lab.lan.switch.wire(node)
    one.master(6)
    wait_until(lambda: holds(node), 2, "it holds the address", one)


@beside
def test_flapping_cable(lab: Lab) -> Measured:
    """A cable that is out for 0.3 s costs a lone owner no more than that and its way back."""
    one = lab.daemon("n1", first()).start().master()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("flap")
        lab.lan.unplug(lab.node("n1"))
        idle(0.3)
        lab.lan.plug(lab.node("n1"))
        idle(0.2)
        prober.wait_owner(lab.node("n1"), 6)
        idle(1)
        result = prober.stop()
    outage = max(o.duration_ms for o in result.summary.outages)
    in_time(outage, 300 + 1500)
    assert "MASTER" == one.state()
    return {"outage_ms": outage}


@beside
def test_one_interface_of_two(lab: Lab) -> None:
    """The loss of one interface leaves the vhosts of the other alone."""
    node = lab.node("n1")
    run_ip(node, "link", "add", "eth1", "type", "veth", "peer", "name", "far")
    run_ip(node, "link", "set", "far", "up")
    run_ip(node, "address", "add", "10.77.0.1/24", "dev", "eth1")
    run_ip(node, "link", "set", "eth1", "up")
    other = first("other", interface="eth1", addresses=["10.77.0.252"])
    one = lab.daemon("n1", first(), other).start()
    one.wait_state("MASTER", vhost="web")
    one.wait_state("MASTER", vhost="other")
    before = one.count
    lab.lan.unplug(node)
    one.wait_state("INIT", vhost="web")
    run_ip(node, "link", "del", "eth1")
    one.wait_state("INIT", vhost="other")
    lab.lan.plug(node)
    one.wait_state("MASTER", vhost="web")
    moves = [(line["vhost"], line["new"]) for line in one.events("state", since=before)]
    assert [("web", "INIT"), ("other", "INIT"), ("web", "BACKUP"), ("web", "MASTER")] == moves


@beside
def test_ignored_link_state(lab: Lab) -> None:
    """With ignoreLinkState an owner without a carrier stays what it is."""
    one = lab.daemon("n1", first(ignoreLinkState=True)).start().master()
    before = one.count
    lab.lan.unplug(lab.node("n1"))
    idle(1.5)
    assert [] == one.events("state", since=before)
    lab.lan.plug(lab.node("n1"))
    idle(0.5)
    assert "MASTER" == one.state()


@beside
def test_address_deleted_by_hand(lab: Lab) -> Measured:
    """An address that somebody deletes from the owner is back at once, and nobody else becomes master."""
    one, two = lab.pair()
    node = lab.node("n1")
    wait_until(lambda: holds(node), 2, "it holds the address", one)
    marks = one.count, two.count
    worst = 0.0
    for _ in range(3):
        run_ip(node, "address", "del", f"{VIP}/32", "dev", "eth0")
        worst = max(worst, wait_until(lambda: holds(node), 2, "it is back", one))
        idle(0.13)
    in_time(worst, 0.1)
    again = found(node)
    assert again is not None
    assert 112 == again.proto
    assert [[], []] == [d.events("state", since=m) for d, m in zip((one, two), marks, strict=True)]
    return {"back_after_s": worst}


@beside
def test_flushed_by_hand(lab: Lab) -> None:
    """A flush of every address of the owner, as a network restart does, ends with the address back."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    run_ip(node, "-4", "address", "flush", "dev", "eth0")
    idle(0.5)
    run_ip(node, "address", "add", "10.99.0.1/24", "dev", "eth0")
    wait_until(lambda: one.state() == "MASTER" and holds(node), 6, "it holds the address again", one)
