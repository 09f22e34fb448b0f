"""Debian's ucarp and ours on one segment, each as master and as backup, with every option of the wire."""

from __future__ import annotations

import time

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, Program, holds, idle, in_time, wait_until

__all__ = ["labs"]

OPTIONS = {
    "defaults": ((), "love"),
    "advbase": (("-b", "2"), "love"),
    "advskew": (("-k", "100"), "love"),
    "deadratio-2": (("-r", "2"), "love"),
    "deadratio-5": (("-r", "5"), "love"),
    "preempt": (("-P",), "love"),
    "nomcast": (("-M",), "love"),
    "group": (("--mcastip=239.7.7.7",), "love"),
    "password-1": ((), "x"),
    "password-19": ((), "0123456789abcdefghi"),
    "password-utf8": ((), "pässwörd ✓"),
    "neutral": (("-n",), "love"),
    "ignoreifstate": (("-S",), "love"),
    "all": (("-b", "1", "-k", "30", "-r", "4", "-M", "-n", "-S"), "a b c"),
}


def one_master(lab: Lab, master: Program, backup: Program) -> None:
    """Assert that one is master with the address and the other backup without it."""
    assert ("MASTER", "BACKUP") == (master.state(), backup.state())  # type: ignore[attr-defined]
    wait_until(lambda: holds(master.node), 2, "the master holds the address", master)
    assert not holds(backup.node)


@pytest.mark.parametrize("case", OPTIONS)
@beside
def test_options_on_the_wire(lab: Lab, case: str) -> Measured:
    """With equal options ours as master keeps ucarp a backup; killed, it is replaced by ucarp; back again it
    stays a backup; and when ucarp is killed, it is replaced by ours.
    """
    options, password = OPTIONS[case]
    base, ratio = (float(_value(options, o, d)) for o, d in (("-b", "1"), ("-r", "3")))
    skew = int(_value(options, "-k", "0"))
    # One interval each is allowed to differ: equal ones are a tie, which has tests of its own.
    ours = lab.carp("n1", *options, password=password)
    theirs = lab.ucarp("n2", *options, "-k", str(skew + 60), password=password)
    dead = ratio * base + (skew + 60) / 256
    ours.start().master(base + 6)
    theirs.start().backup(3)
    idle(dead + 1.2)
    one_master(lab, ours, theirs)
    ours.kill()
    wait_until(lambda: theirs.state() == "MASTER", dead + 2 * base + 3, "ucarp takes over", theirs)
    wait_until(lambda: holds(lab.node("n2")), 1, "ucarp's script adds the address", theirs)
    ours.start().backup()
    if case == "preempt":
        ours.master(4)
        theirs.backup(4)
        wait_until(lambda: not holds(lab.node("n2")), 1, "ucarp's script deletes the address", theirs)
        return {}
    lab.heard(ours)
    idle(1)
    one_master(lab, theirs, ours)
    theirs.kill()  # and its address stays on n2, as ucarp's does
    begin = time.monotonic()
    ours.master(ratio * base + skew / 256 + 0.2 + 1)
    return {"ours_after_kill_of_ucarp_s": time.monotonic() - begin}


@beside
def test_ucarp_takes_over_at_a_bow_out(lab: Lab) -> Measured:
    """SIGTERM of ours with ucarp as backup: it hears the bow-out and takes over at once."""
    ours = lab.carp("n1").start().master()
    theirs = lab.ucarp("n2", "-k", "50").start().backup()
    idle(2.5)
    with lab.prober(interval_ms=1.0) as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        begin = time.monotonic()
        assert 0 == ours.term()
        exited = time.monotonic() - begin
        theirs.master(3)
        wait_until(lambda: sniffer.adverts("10.99.0.2"), 3, "ucarp's advert", theirs)
        took = sniffer.adverts("10.99.0.2")[0].at - begin
        prober.wait_owner(lab.node("n2"), 3)
        result = prober.stop()
    # libpcap's buffer holds an advert back for up to a second (carp-protocol.md section 4).
    in_time(took, 1.5)
    assert not holds(lab.node("n1"))
    return {
        "ucarp_master_after_s": took,
        "exit_s": exited,
        "lost": result.summary.lost,
        "two_owners_s": result.summary.two_owners.total_s,
    }


@beside
def test_ours_takes_over_from_a_stopped_ucarp(lab: Lab) -> Measured:
    """Ucarp does not bow out: ours takes over one dead time after its SIGTERM."""
    theirs = lab.ucarp("n1").start().master()
    ours = lab.carp("n2", "-k", "50").start()
    lab.heard(ours)
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        theirs.term()
        prober.wait_owner(lab.node("n2"), 6)
        result = prober.stop()
    outage = max(o.duration_ms for o in result.summary.outages)
    in_time(outage, 3200 + 50 / 0.256 + 100)
    return {"outage_ms": outage}


@pytest.mark.parametrize("better", ["ours", "ucarp"])
@beside
def test_preemption(lab: Lab, better: str) -> None:
    """With -P the better placed takes over from the other, ours from ucarp and ucarp from ours, and nobody
    without it.
    """
    worse_first: Program
    if better == "ours":
        worse_first = lab.ucarp("n1", "-k", "100").start().master()
        newcomer: Program = lab.carp("n2", "-P").start().master(5)
    else:
        worse_first = lab.carp("n1", "-k", "100").start().master()
        newcomer = lab.ucarp("n2", "-P").start().master(8)
    wait_until(lambda: worse_first.state() == "BACKUP", 4, "the worse one yields", worse_first)
    idle(2)
    one_master(lab, newcomer, worse_first)


TIES = [
    ("10.98.3.1", "10.98.0.2"),
    ("10.98.0.2", "10.98.3.1"),
    ("10.98.0.1", "10.98.0.2"),
    ("10.98.0.2", "10.98.0.1"),
]


@pytest.mark.parametrize(("ours_at", "theirs_at"), TIES)
@pytest.mark.parametrize("start", ["together", "after-a-partition"])
@beside
def test_ties(lab: Lab, ours_at: str, theirs_at: str, start: str) -> Measured:
    """Two masters of equal interval, also of addresses that differ in the third octet: one master, for good,
    within 10 s.
    """
    vip = "10.98.9.9"
    lab.node("n1", [f"{ours_at}/16"])
    lab.node("n2", [f"{theirs_at}/16"])
    ours, theirs = lab.carp("n1", address=vip), lab.ucarp("n2", address=vip)
    if start == "after-a-partition":
        lab.lan.partition(["n2"], ["n1"])
        ours.start().master()
        theirs.start().master()
        lab.lan.heal()
    else:
        ours.start()
        theirs.start()
        wait_until(lambda: "MASTER" in (ours.state(), theirs.state()), 8, "a master", ours, theirs)
    begin = time.monotonic()
    settled = 0.0
    while time.monotonic() - begin < 13:
        if sorted((ours.state(), theirs.state())) != ["BACKUP", "MASTER"]:
            settled = time.monotonic() - begin
        idle(0.02)
    assert settled < 10, (ours.text[-2000:], theirs.text[-2000:])
    assert 1 == holds(lab.node("n1"), vip) + holds(lab.node("n2"), vip)
    return {"one_master_after_s": settled, "master": "ours" if ours.state() == "MASTER" else "ucarp"}


def _value(options: tuple[str, ...], name: str, default: str) -> str:
    return options[options.index(name) + 1] if name in options else default
