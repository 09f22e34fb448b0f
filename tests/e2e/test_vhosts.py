"""Several vhosts, several families, several ways to send."""

from __future__ import annotations

import ipaddress
import signal
from itertools import pairwise
from typing import Any

import pytest

from beside import Measured, beside, labs
from carp.core.config import Credentials
from nodefix import PASSWORD, VIP, VIP6, Daemon, Lab, first, holds, idle, in_time, run, vhost, wait_until

__all__ = ["labs"]


@beside
def test_failing_vhost(lab: Lab) -> None:
    """A vhost that raises over and over starts over and over; the other of the same process never notices."""
    bad: dict[str, Any] = {"name": "bad", "vhid": 43, "addresses": ["10.99.0.253"]}
    one = lab.daemon("n1", first(), first(**bad), patch="failing-vhost").start()
    two = lab.daemon("n2", vhost(advskew=20)).start()
    one.wait_state("MASTER", vhost="web")
    lab.heard(two)
    before, marks = one.count, two.count
    with lab.prober() as prober, lab.sniffer() as sniffer:
        failed = _failures(one)
        wait_until(lambda: _failures(one) >= failed + 3, 15, "it fails", one)
        adverts = [f.at for f in sniffer.adverts("10.99.0.1") if f.advert.vhid == 42]
        result = prober.stop()
    assert [] == one.events("state", since=before, vhost="web")
    assert [] == two.events("state", since=marks)
    assert 0 == result.summary.lost
    in_time(max(b - a for a, b in pairwise(adverts)), 0.7)
    one.signal(signal.SIGTERM)
    assert 0 == one.running.wait(10)


def _failures(one: Daemon) -> int:
    return one.text.count("internal error; the vhost starts over")


@beside
def test_dual_stack(lab: Lab) -> Measured:
    """A vhost with both families advertises in both, and both addresses move together."""
    one, two = lab.pair(addresses=[VIP, VIP6])
    with lab.sniffer() as sniffer:
        wait_until(lambda: {f.is_v6 for f in sniffer.adverts()} == {False, True}, 3, "adverts of both", one)
        context = Credentials(
            tuple(ipaddress.ip_interface(a) for a in (VIP, VIP6)), PASSWORD.encode()
        ).context(42)
        for frame in sniffer.adverts():
            advert = frame.advert
            assert 0 == context.verify(advert.counter.to_bytes(8, "big"), advert.digest)
            assert ("ff02::12", "33:33:00:00:00:12") == (
                frame.destination,
                frame.destination_mac,
            ) or not frame.is_v6
            assert 255 == (frame.packet[7] if frame.is_v6 else frame.packet[8])
    with lab.prober(VIP6) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("term")
        assert 0 == one.term()
        prober.wait_owner(lab.node("n2"), 3)
        lab.heard(one.start())
        prober.mark("kill")
        two.kill()
        prober.wait_owner(lab.node("n1"), 6)
        result = prober.stop()
    handed_over, killed = (summary for _, summary in result.per_mark())
    assert 0 == handed_over.lost
    assert 0 == killed.two_owners.total_s
    wait_until(lambda: holds(lab.node("n1")) and holds(lab.node("n1"), VIP6), 2, "both addresses", one)
    return {"lost": 0, "two_owners_s": 0, "outage_v6_ms": max(o.duration_ms for o in killed.outages)}


@beside
def test_one_family_lost(lab: Lab) -> None:
    """When adverts of one family do not arrive, the other family's keep the backup from claiming."""
    _, two = lab.pair(addresses=[VIP, VIP6])
    before = two.count
    node = lab.node("n2")
    run(node, "nft", "add table ip6 t")
    run(node, "nft", "add chain ip6 t c { type filter hook prerouting priority 0; policy accept; }")
    run(node, "nft", "add rule ip6 t c ip6 nexthdr 112 drop")
    idle(4.5)
    assert [] == two.events("state", since=before)


@beside
def test_ipv6_alone(lab: Lab) -> Measured:
    """A vhost with IPv6 addresses alone needs no IPv4: failover and handover work."""
    one, two = lab.pair(addresses=[VIP6])
    with lab.prober(VIP6, interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("term")
        assert 0 == one.term()
        prober.wait_owner(lab.node("n2"), 3)
        lab.heard(one.start())
        prober.mark("cut")
        lab.lan.cut(lab.node("n2"))
        prober.wait_owner(lab.node("n1"), 6)
        result = prober.stop()
    handed_over, cut = (summary for _, summary in result.per_mark())
    assert 0 == handed_over.lost
    outage = max(o.duration_ms for o in cut.outages)
    in_time(outage, 3200 + 20 / 0.256 + 30)
    assert "MASTER" == one.state()
    assert two.running.poll() is None
    return {"lost": 0, "outage_ms": outage}


@beside
def test_unicast_of_three(lab: Lab) -> Measured:
    """Three nodes with unicast peers elect one master, without multicast, and the next when it is cut off."""
    peers = [f"10.99.0.{i}" for i in (1, 2, 3)]
    transport = {"mode": "Unicast", "peers": peers}
    lab.daemon("n1", first(transport=transport)).start().master()
    two, three = (
        lab.daemon(f"n{i}", vhost(transport=transport, advskew=20 * i)).start().backup() for i in (2, 3)
    )
    lab.heard(two)
    lab.heard(three)
    with lab.sniffer() as sniffer, lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        idle(1)
        # The client's port sees what is flooded: multicast would be.
        assert [] == [f for f in sniffer.adverts() if f.destination == "224.0.0.18"]
        prober.mark("cut")
        lab.lan.cut(lab.node("n1"))
        prober.wait_owner(lab.node("n2"), 6)
        prober.wait_answering(2)
        prober.mark("stop")
        assert 0 == two.term()
        prober.wait_owner(lab.node("n3"), 3)
        result = prober.stop()
    cut, stopped = (summary for _, summary in result.per_mark())
    assert 0 == stopped.lost
    # A peer that is away is no reason to think that nothing can be sent.
    assert "cannot send" not in two.text
    outage = max(o.duration_ms for o in cut.outages)
    in_time(outage, 3200 + 40 / 0.256 + 30)
    return {"outage_ms": outage, "lost_at_stop": 0}


@beside
def test_unicast_peers_gone(lab: Lab) -> None:
    """A unicast master whose peers are all off stays master: their absence is no failure of ours."""
    transport = {"mode": "Unicast", "peers": ["10.99.0.2", "10.99.0.3"]}
    one = lab.daemon("n1", first(transport=transport)).start().master()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        idle(6)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert "MASTER" == one.state()
    assert [] == one.events("send-failed")


@pytest.mark.parametrize("fault", ["cut", "term"])
@beside
def test_tenth_of_a_second(lab: Lab, fault: str) -> Measured:
    """With advbase 0 and advskew 26 a cut node is replaced after some 0.3 s, and a stop loses nothing."""
    changes: dict[str, Any] = {"advbase": 0, "advskew": 26}
    one, two = lab.pair(**changes)
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        idle(1)
        prober.mark(fault)
        if fault == "cut":
            lab.lan.cut(lab.node("n1"))
        else:
            assert 0 == one.term()
        prober.wait_owner(lab.node("n2"), 3)
        result = prober.stop()
    two.master(2)
    if fault == "term":
        assert 0 == result.summary.lost
        return {"lost": 0}
    outage = max(o.duration_ms for o in result.summary.outages)
    in_time(outage, 340)
    return {"outage_ms": outage}


@beside
def test_other_group(lab: Lab) -> None:
    """Members of another multicast group find each other there and hear nothing of the usual one."""
    transport = {"mode": "Multicast", "group": "239.1.2.3"}
    one, _ = lab.pair(transport=transport)
    stranger = lab.daemon("n3", vhost("usual", advskew=50, addresses=["10.99.0.252"])).start()
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "adverts", one)
        frame = sniffer.adverts("10.99.0.1")[0]
    assert ("239.1.2.3", "01:00:5e:01:02:03") == (frame.destination, frame.destination_mac)
    stranger.backup()
    assert "last heard" not in lab.status(stranger)


@beside
def test_sealed_members(lab: Lab) -> None:
    """In Sealed mode members of ours elect one master, and a member with another password is not believed."""
    sealed: dict[str, Any] = {"authentication": {"mode": "Sealed"}}
    one, two = lab.pair(**sealed)
    wrong = lab.daemon("n3", vhost(advskew=1, password="other", preempt={"mode": "Always"})).start().backup()
    idle(1)
    assert ("MASTER", "BACKUP", "BACKUP") == (one.state(), two.state(), wrong.state())
    assert "wrong HMAC" in wrong.text


@beside
def test_preempt_after_a_while(lab: Lab) -> Measured:
    """With preempt After a better placed member takes over once it has heard a worse master for that long."""
    preempt = {"mode": "After", "after": "2s"}
    two = lab.daemon("n2", first(advskew=50)).start().master()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n2"), 5)
        one = lab.daemon("n1", vhost(preempt=preempt)).start().backup()
        took = wait_until(lambda: one.state() == "MASTER", 8, "it preempts", one)
        idle(0.5)
        result = prober.stop()
    assert "BACKUP" == two.state()
    # The worse one lets go when it hears the better one's advert, which then adds the address.
    in_time(result.summary.lost, 6)
    in_time(1.9, took)  # late in seeing it begin, we measure too little
    in_time(took, 3.2)
    return {
        "preempted_after_s": took,
        "lost": result.summary.lost,
        "two_owners_s": result.summary.two_owners.total_s,
    }
