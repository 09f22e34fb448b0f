"""Faults at the worst moment: in the middle of a handover, of a takeover, of a lease's end."""

from __future__ import annotations

import random
import signal

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, first, idle, in_time, vhost, wait_until

__all__ = ["labs"]


@pytest.mark.parametrize("seed", [1, 2])
@beside
def test_killed_while_handing_over(lab: Lab, seed: int) -> Measured:
    """An owner killed at any moment of a bow-out overlaps with its successor for at most 2.15 s."""
    phase = random.Random(seed)
    one, two = lab.pair()
    overlaps = []
    with lab.prober() as prober:
        for number in range(3):
            owner, other = (one, two) if number % 2 == 0 else (two, one)
            prober.wait_owner(owner.node, 5)
            prober.mark("term and kill")
            owner.signal(signal.SIGTERM)
            idle(phase.uniform(0.0, 0.12))
            owner.kill()
            prober.wait_owner(other.node, 6)
            lab.heard(owner.start())
        result = prober.stop()
    for _, summary in result.per_mark():
        overlaps.append(summary.two_owners.total_s)
    in_time(max(overlaps), 2.15)
    return {"two_owners_s": overlaps}


@pytest.mark.parametrize("pause", [1.0, 1.5, 1.9, 2.3, 2.7, 3.0])
@beside
def test_late_restart(lab: Lab, pause: float) -> Measured:
    """An owner killed and started again at any time up to its successor's claim never makes two owners, and
    soon there is one.
    """
    one, two = lab.pair()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("kill")
        one.kill()
        idle(pause)
        one.start()
        wait_until(lambda: one.state() != "INIT", 5, "it starts", one)
        prober.wait_settled(6)
        idle(3)
        result = prober.stop()
    assert ["BACKUP", "MASTER"] == sorted((one.state(), two.state()))
    assert 0 == result.summary.two_owners.total_s
    return {"owner": "n1" if one.state() == "MASTER" else "n2", "lost": result.summary.lost}


@pytest.mark.parametrize("length", [1.0, 1.9, 2.1, 2.6, 3.0, 3.1, 3.2, 3.3, 3.4])
@beside
def test_stopped_for_any_time(lab: Lab, length: float) -> Measured:
    """An owner stopped for any time around the end of its lease and its successor's claim never makes two."""
    one, two = lab.pair()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        one.stop()
        idle(length)
        one.cont()
        idle(4)
        prober.wait_settled(6)
        result = prober.stop()
    assert ["BACKUP", "MASTER"] == sorted((one.state(), two.state()))
    assert 0 == result.summary.two_owners.total_s
    return {"owner": "n1" if one.state() == "MASTER" else "n2", "lost": result.summary.lost}


@beside
def test_rolling_restart(lab: Lab) -> Measured:
    """Three members restarted one after the other, as an upgrade does it, lose nothing."""
    daemons = [lab.daemon("n1", first()).start().master()]
    daemons += [lab.daemon(f"n{i}", vhost(advskew=10 * i)).start() for i in (2, 3)]
    lab.heard(daemons[1])
    lab.heard(daemons[2])
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for each in daemons:
            assert 0 == each.term()
            lab.heard(each.start())
            idle(0.5)
        result = prober.stop()
    assert ["BACKUP", "BACKUP", "MASTER"] == sorted(each.state() for each in daemons)
    assert 0 == result.summary.lost
    return {"lost": 0, "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_lossy_cable(lab: Lab) -> None:
    """A fifth of the owner's frames lost at random moves nothing, nor do delays that reorder them."""
    one, two = lab.pair()
    marks = one.count, two.count
    lab.lan.loss(lab.node("n1"), 20)
    idle(5)
    lab.lan.delay(lab.node("n1"), 100, jitter=90)
    idle(4)
    assert [[], []] == [d.events("state", since=m) for d, m in zip((one, two), marks, strict=True)]


@beside
def test_stopped_before_its_first_claim(lab: Lab) -> None:
    """SIGTERM before the first claim ends at once and leaves nothing behind."""
    one = lab.daemon("n1", vhost()).start().backup()
    assert 0 == one.term(timeout=1)
    assert [] == [line for line in one.events("state") if line["new"] == "MASTER"]


@beside
def test_all_stopped_together(lab: Lab) -> None:
    """When every member is stopped at once nobody hangs, and the address goes with the last lease."""
    one, two = lab.pair()
    one.signal(signal.SIGTERM)
    two.signal(signal.SIGTERM)
    assert (0, 0) == (one.running.wait(8), two.running.wait(8))
    with lab.prober() as prober:
        idle(3.0)
        wait_until(lambda: not prober.status.owners, 1.5, "nobody answers")


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
@beside
def test_signal_right_after_the_start(lab: Lab, number: signal.Signals) -> None:
    """A signal that comes as soon as the first vhost has begun is obeyed: no default action kills it."""
    many = [first(f"v{i}", vhid=i, addresses=[f"10.99.0.{100 + i}"]) for i in range(1, 31)]
    one = lab.daemon("n1", *many).start()
    wait_until(lambda: one.text.endswith("\n") and one.events("state"), 8, "the first vhost begins", one)
    one.signal(number)
    if number is signal.SIGUSR1:
        one.wait_event("status", 5)
        assert one.running.poll() is None
    else:
        assert 0 == one.running.wait(8)
