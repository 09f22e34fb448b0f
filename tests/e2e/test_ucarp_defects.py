"""ucarp's defects in elections (carp-protocol.md section 9, B1 to B12): what ours does instead."""

from __future__ import annotations

import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, first, holds, idle, in_time, run_ip, vhost, wait_until

if TYPE_CHECKING:
    from sniffer import Sniffer

__all__ = ["labs"]

DEAD = 3.2
"""s; our dead time at the defaults."""


def longest_gap(sniffer: Sniffer, source: str) -> float:
    """Return the longest time between two adverts of a source."""
    return max(b.at - a.at for a, b in pairwise(sniffer.adverts(source)))


@pytest.mark.parametrize("sets_the_address", [False, True])
@beside
def test_b01_slow_upscript_delays_no_advert(lab: Lab, sets_the_address: bool) -> Measured:
    """An up script of 8 s delays no advert and the backup stays one, whoever sets the address."""
    up = lab.script("up", "sleep 8")
    lab.node("n1")
    with lab.sniffer() as sniffer:
        if sets_the_address:
            one = lab.carp("n1", "-u", up).start().master()
        else:
            one = lab.daemon("n1", first(scripts={"up": up})).start().master()
        two = lab.daemon("n2", vhost(advskew=20)).start()
        lab.heard(two)
        idle(7)
        gap = longest_gap(sniffer, "10.99.0.1")
    # Without an address of ours there is no lease to renew, so it advertises once per interval.
    in_time(gap, 1.2 if sets_the_address else 0.7)
    assert ("MASTER", "BACKUP") == (one.state(), two.state())
    return {"longest_gap_s": gap}


@beside
def test_b02_slow_downscript_keeps_no_address(lab: Lab) -> Measured:
    """A down script of 6 s runs after the address is gone: two owners no longer than a handover's 0.1 s."""
    one, two = lab.pair(scripts={"down": lab.script("down", "sleep 6"), "neutral": True})
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        one.signal(signal.SIGUSR2)
        two.master(3)
        idle(2)
        result = prober.stop()
    in_time(result.summary.two_owners.total_s, 0.3)
    assert 0 == result.summary.lost
    return {"two_owners_s": result.summary.two_owners.total_s}


@beside
def test_b03_stalled_master_wakes_as_backup(lab: Lab) -> Measured:
    """A master that stood still for 6 s neither announces nor owns anything when it wakes up."""
    one, two = lab.pair()
    with lab.prober() as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        one.stop()
        two.master(6)
        idle(2.5)
        woken = time.monotonic()
        one.cont()
        one.backup(3)
        idle(1)
        assert [] == sniffer.adverts("10.99.0.1", since=woken)
        assert [] == sniffer.gratuitous(lab.node("n1").mac, since=woken)
        result = prober.stop()
    assert 0 == result.summary.two_owners.total_s
    return {"two_owners_s": 0}


@beside
def test_b04_stops_without_a_carrier(lab: Lab) -> Measured:
    """SIGTERM is obeyed at once without a carrier."""
    one = lab.daemon("n1", first()).start().master()
    lab.lan.unplug(lab.node("n1"))
    one.wait_state("INIT")
    begin = time.monotonic()
    assert 0 == one.term()
    took = time.monotonic() - begin
    in_time(took, 0.5)
    return {"exit_s": took}


@beside
def test_b05_survives_its_interface(lab: Lab) -> None:
    """An interface set down and then deleted ends no process: it waits, with the reason in its status."""
    one = lab.carp("n1", "-z").start().master()
    run_ip(lab.node("n1"), "link", "set", "eth0", "down")
    one.wait_state("INIT")
    lab.lan.switch.unwire("n1")
    idle(1)
    assert one.running.poll() is None
    assert "interface eth0 does not exist" in lab.status(one)
    lab.lan.switch.wire(lab.node("n1"))
    one.master(8)


@beside
def test_b06_short_flap_costs_little(lab: Lab) -> Measured:
    """A carrier lost for 1.2 s costs a lone master that and its listening time, not 13 s."""
    one = lab.daemon("n1", vhost()).start().master()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        lab.lan.unplug(lab.node("n1"))
        idle(1.2)
        lab.lan.plug(lab.node("n1"))
        idle(0.3)
        prober.wait_owner(lab.node("n1"), 8)
        idle(0.5)
        result = prober.stop()
    outage = max(o.duration_ms for o in result.summary.outages)
    in_time(outage, 1200 + 2300)
    assert "MASTER" == one.state()
    return {"outage_ms": outage}


@pytest.mark.parametrize("own", [("10.98.3.1", "10.98.0.2"), ("10.98.0.2", "10.98.3.1")])
@beside
def test_b07_lower_address_wins_a_tie(lab: Lab, own: tuple[str, str]) -> Measured:
    """Of two masters of ours with equal intervals the numerically lower address stays, also across octets."""
    vip = "10.98.9.9"
    for name, address in zip(("n1", "n2"), own, strict=True):
        lab.node(name, [f"{address}/16"])
    daemons = [lab.daemon(name, first(addresses=[vip])) for name in ("n1", "n2")]
    lab.lan.partition(["n2"], ["n1"])
    for each in daemons:
        each.start().master()
    lab.lan.heal()
    took = wait_until(lambda: "BACKUP" in [e.state() for e in daemons], 3, "one yields", *daemons)
    idle(4)
    lower = own.index("10.98.0.2")
    assert ("MASTER", "BACKUP") == (daemons[lower].state(), daemons[1 - lower].state())
    assert not holds(daemons[1 - lower].node, vip)
    return {"one_master_after_s": took}


@beside
def test_b08_wall_clock_steps_change_nothing(lab: Lab) -> None:
    """A master whose wall clock jumps back and forth goes on advertising every half second."""
    one = lab.daemon("n1", first(), patch="jumping-wall-clock").start().master()
    with lab.sniffer() as sniffer:
        idle(4)
        times = [frame.at for frame in sniffer.adverts("10.99.0.1")]
    assert len(times) >= 7, one.text
    in_time(max(b - a for a, b in pairwise(times)), 0.7)
    assert "MASTER" == one.state()


@pytest.mark.parametrize("run", [1, 2, 3])
@beside
def test_b09_simultaneous_start_makes_one_master(lab: Lab, run: int) -> Measured:
    """Of two equal members started at the same moment one becomes master. Should both claim within a packet's
    delay, one of them yields before anybody notices.
    """
    daemons = [lab.daemon(name, vhost()) for name in ("n1", "n2")]
    with lab.prober() as prober:
        for each in daemons:
            each.start()
        wait_until(lambda: "MASTER" in [e.state() for e in daemons], 6, "a master", *daemons)
        idle(2)
        result = prober.stop()
    assert ["BACKUP", "MASTER"] == sorted(each.state() for each in daemons)
    in_time(result.summary.two_owners.total_s, 0.15)
    claims = [line for e in daemons for line in e.events("state") if line["new"] == "MASTER"]
    return {"claims": len(claims), "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_b10_takeover_is_punctual(lab: Lab) -> Measured:
    """From the last advert of a dead master to the first of its successor it takes the dead time, no more."""
    one, _ = lab.pair()
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "adverts", one)
        one.kill()
        wait_until(lambda: sniffer.adverts("10.99.0.2"), 6, "the successor's advert")
        took = sniffer.adverts("10.99.0.2")[0].at - sniffer.adverts("10.99.0.1")[-1].at
    nominal = DEAD + 20 / 256
    assert took > nominal - 0.001
    in_time(took, nominal + 0.03)
    return {"late_ms": (took - nominal) * 1000}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
@beside
def test_b11_bows_out(lab: Lab, number: signal.Signals) -> None:
    """SIGTERM and SIGUSR2 send a bow-out: advbase and advskew 255, byte 4 255 only at a stop."""
    one, two = lab.pair()
    with lab.sniffer() as sniffer:
        one.signal(number)
        two.master(3)
        wait_until(lambda: [f for f in sniffer.adverts("10.99.0.1") if f.advert.is_bow_out], 2, "it bows out")
        bow_out = next(f.advert for f in sniffer.adverts("10.99.0.1") if f.advert.is_bow_out)
    assert (255, 255) == (bow_out.advbase, bow_out.advskew)
    assert bow_out.demotion == (255 if number is signal.SIGTERM else 0)


@beside
def test_b12_killed_process_leaves_no_address(lab: Lab) -> Measured:
    """Without -z, too: SIGTERM hands the address over, and after a SIGKILL the kernel removes it."""
    one = lab.carp("n1").start().master()
    wait_until(lambda: holds(lab.node("n1")), 2, "it holds the address", one)
    one.kill()
    took = wait_until(lambda: not holds(lab.node("n1")), 5, "the kernel removes it", one)
    in_time(took, 2 + 1.15 + 0.1)
    return {"gone_after_s": took}
