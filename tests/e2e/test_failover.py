"""Unplanned moves of whole nodes: a cut cable, a killed, stopped or stalled owner."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, first, holds, idle, in_time, vhost, wait_until

__all__ = ["labs"]


@beside
def test_node_cut(lab: Lab) -> Measured:
    """When the owner's network dies, the address is back within the dead time of 3.2 s plus the skew."""
    lab.pair()
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("cut")
        lab.lan.cut(lab.node("n1"))
        prober.wait_owner(lab.node("n2"), 6)
        result = prober.stop()
    outage = max(o.duration_ms for o in result.summary.outages)
    in_time(outage, 3200 + 20 / 0.256 + 30)
    return {"outage_ms": outage}


@beside
def test_cut_node_lets_go(lab: Lab) -> Measured:
    """A cut owner that comes back hears its successor and yields: with preempt Never the successor stays."""
    one, two = lab.pair()
    lab.lan.cut(lab.node("n1"))
    two.master(6)
    lab.lan.mend(lab.node("n1"))
    took = wait_until(lambda: [one.state(), two.state()].count("MASTER") == 1, 5, "one master", one, two)
    owner, other = ("n1", "n2") if one.state() == "MASTER" else ("n2", "n1")
    wait_until(lambda: holds(lab.node(owner)) and not holds(lab.node(other)), 2, "one holder", one, two)
    return {"two_masters_after_mend_s": took}


@pytest.mark.parametrize("seed", [1, 2])
@beside
def test_owner_killed(lab: Lab, seed: int) -> Measured:
    """After kill -9 of the owner, at any phase of its adverts, no moment has two owners by ARP."""
    phase = random.Random(seed)
    daemons = list(lab.pair())
    outages = []
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for number in range(4):
            owner, other = daemons[number % 2], daemons[1 - number % 2]
            idle(phase.uniform(0.0, 0.6))
            prober.mark(f"kill {number}")
            owner.kill()
            prober.wait_owner(other.node, 6)
            lab.heard(owner.start())
        result = prober.stop()
    outages = [round(o.duration_ms) for o in result.summary.outages]
    assert 0 == result.summary.two_owners.total_s, result.summary
    assert len(outages) == 4
    # The kernel takes the address away before a successor of ours claims it.
    in_time(max(outages), 3300)
    return {"two_owners_s": 0, "outages_ms": outages}


@beside
def test_owner_stopped(lab: Lab) -> Measured:
    """A master stopped for 8 s never owns the address beside its successor, and wakes up as a backup that
    sends nothing as master.
    """
    one, two = lab.pair()
    with lab.prober() as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        one.stop()
        prober.mark("stop")
        prober.wait_owner(lab.node("n2"), 6)
        idle(4.8)
        woken = prober.mark("cont").time_ns / 1e9
        before = one.count
        one.cont()
        one.wait_event("state", 5, since=before)
        idle(1.5)
        result = prober.stop()
        assert [] == sniffer.adverts("10.99.0.1", since=woken)
        assert [] == sniffer.gratuitous(lab.node("n1").mac, since=woken)
    assert "BACKUP" == one.state()
    assert "MASTER" == two.state()
    assert 0 == result.summary.two_owners.total_s
    assert not holds(lab.node("n1"))
    return {"two_owners_s": 0, "outage_ms": max(o.duration_ms for o in result.summary.outages)}


@beside
def test_backup_stopped(lab: Lab) -> None:
    """A backup stopped for longer than its dead time does not claim when it wakes up."""
    one, two = lab.pair()
    two.stop()
    idle(4.5)
    before = two.count
    with lab.prober() as prober:
        two.cont()
        idle(4.0)
        result = prober.stop()
    assert [] == two.events("state", since=before)
    assert ("MASTER", "BACKUP") == (one.state(), two.state())
    assert 0 == result.summary.lost
    assert 0 == result.summary.two_owners.total_s


@beside
def test_short_stops(lab: Lab) -> None:
    """Stops of a master below a second cost nothing: no answer lost, no state changed."""
    one, two = lab.pair()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for _ in range(4):
            began = time.monotonic()
            one.stop()
            idle(0.8)
            one.cont()
            in_time(time.monotonic() - began, 0.95)
            idle(0.3)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert ("MASTER", "BACKUP") == (one.state(), two.state())


@beside
def test_short_stops_of_a_backup(lab: Lab) -> Measured:
    """Held up again and again it takes over all the same: only the first stop can pass for a longer one."""
    one, two = lab.pair()
    one.kill()
    killed = time.monotonic()
    while two.state() != "MASTER" and time.monotonic() - killed < 8:
        idle(0.1)
        two.stop()
        idle(0.15)
        two.cont()
    took = time.monotonic() - killed
    in_time(took, 3.28 + 0.7 + 0.25 + 0.3)
    return {"kill_to_takeover_s": took}


@beside
def test_wall_clock_steps(lab: Lab) -> None:
    """Wall clocks that jump by hours and years change nothing, and after a failover neither."""
    one = lab.daemon("n1", first(), patch="jumping-wall-clock").start().master()
    two = lab.daemon("n2", vhost(advskew=20), patch="jumping-wall-clock").start().backup()
    three = lab.daemon("n3", vhost(advskew=40)).start().backup()
    lab.heard(three)
    marks = [one.count, two.count, three.count]
    with lab.prober() as prober:
        idle(5)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [[], [], []] == [d.events("state", since=m) for d, m in zip((one, two, three), marks, strict=True)]
    one.kill()
    two.master(5)
    one.start().backup()
    idle(1.5)
    assert ["BACKUP", "MASTER", "BACKUP"] == [each.state() for each in (one, two, three)]


@beside
def test_many_vhosts_move_together(lab: Lab) -> Measured:
    """Fifty vhosts of one process fail over together, and a handover of all loses none."""
    many: list[dict[str, Any]] = [
        {"name": f"v{i}", "vhid": i, "addresses": [f"10.99.0.{100 + i}"]} for i in range(1, 51)
    ]
    one = lab.daemon("n1", *[first(**each) for each in many]).start()
    wait_until(lambda: all(one.state(v["name"]) == "MASTER" for v in many), 8, "all are master", one)
    two = lab.daemon("n2", *[vhost(advskew=20, **each) for each in many]).start()
    wait_until(lambda: all(two.state(v["name"]) == "BACKUP" for v in many), 8, "all are backup", two)
    idle(1)
    with lab.prober("10.99.0.150") as prober:
        one.signal(signal.SIGTERM)
        assert 0 == one.running.wait(8)
        wait_until(lambda: all(two.state(v["name"]) == "MASTER" for v in many), 5, "all moved", two)
        handed_over = prober.stop()
    assert 0 == handed_over.summary.lost
    lab.configure("n1", *[vhost(**each) for each in many])
    one.start()
    wait_until(lambda: all(one.state(v["name"]) == "BACKUP" for v in many), 8, "all are backup", one)
    idle(1)
    lab.lan.cut(lab.node("n2"))
    took = wait_until(lambda: all(one.state(v["name"]) == "MASTER" for v in many), 6, "all failed over", one)
    in_time(took, 3.7)
    return {"lost_at_handover": 0, "all_failed_over_after_s": took}
