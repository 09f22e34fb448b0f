"""Planned moves: SIGTERM and SIGUSR2, with and without anybody who takes over, and coming back."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from beside import Measured, beside, labs
from nodefix import (
    VIP,
    Lab,
    add,
    addresses,
    at,
    delete,
    first,
    found,
    gave_up,
    holds,
    idle,
    in_time,
    resumes,
    vhost,
    wait_until,
)

__all__ = ["labs"]


@beside
def test_sigterm_loses_nothing(lab: Lab) -> Measured:
    """SIGTERM of the owner hands over: not one answer of one per millisecond is lost."""
    one, two = lab.pair()
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        begin = time.monotonic()
        assert 0 == one.term()
        took = time.monotonic() - begin
        prober.wait_owner(lab.node("n2"), 5)
        result = prober.stop()
    two.master(2)
    assert 0 == result.summary.lost
    in_time(result.summary.two_owners.longest_s, 0.2)
    assert not holds(lab.node("n1"))
    return {"lost": 0, "exit_s": took, "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_sigusr2_loses_nothing(lab: Lab) -> Measured:
    """SIGUSR2 demotes the owner: nothing is lost, and it stays backup for at least its dead time, also with
    preempt Always.
    """
    one, two = lab.pair(preempt={"mode": "Always"})
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("demoted")
        begin = time.monotonic()
        one.signal(signal.SIGUSR2)
        two.master(5)
        one.backup(5)
        idle(2)
        prober.mark("preempts")
        one.wait_state("MASTER", 8)
        stayed = time.monotonic() - begin
        idle(0.3)
        result = prober.stop()
    demoted, preempts = (summary for _, summary in result.per_mark())
    assert stayed > 3.1
    assert 0 == demoted.lost
    in_time(preempts.lost, 11)  # of one per ms: there is no bow-out at a preemption
    return {
        "lost": 0,
        "stayed_backup_s": stayed,
        "two_owners_s": demoted.two_owners.total_s,
        "lost_when_preempted": preempts.lost,
    }


@beside
def test_sigusr2_without_anybody(lab: Lab) -> None:
    """SIGUSR2 with nobody to answer: it stays master, loses nothing and says so."""
    one = lab.daemon("n1", first()).start().master()
    with lab.prober() as prober:
        before = one.count
        one.signal(signal.SIGUSR2)
        one.wait_event("unanswered", 5, since=before)
        idle(1.5)
        result = prober.stop()
    assert "MASTER" == one.state()
    assert [] == one.events("state", since=before)
    assert 0 == result.summary.lost


@beside
def test_sigterm_alone_leaves_a_lease(lab: Lab) -> Measured:
    """SIGTERM with nobody to answer leaves the address with a finite lifetime to the kernel."""
    one = lab.daemon("n1", first()).start().master()
    assert 0 == one.term()
    ended = time.monotonic()
    left = found(lab.node("n1"))
    assert left is not None
    assert (112, True) == (left.proto, 0 < left.valid <= 2)
    wait_until(lambda: not holds(lab.node("n1")), 5, "the kernel removes it", one)
    gone = time.monotonic() - ended
    in_time(gone, 2 + 1.15 + 0.1)
    return {"gone_after_s": gone}


@beside
def test_sigterm_alone_with_release(lab: Lab) -> Measured:
    """With --release SIGTERM deletes the address even if nobody takes over."""
    one = lab.daemon("n1", first(), options=["--release"]).start().master()
    begin = time.monotonic()
    assert 0 == one.term()
    assert not holds(lab.node("n1"))
    return {"exit_s": time.monotonic() - begin}


@beside
def test_second_sigterm_is_impatient(lab: Lab) -> Measured:
    """A second SIGTERM ends at once and deletes the address."""
    one = lab.daemon("n1", first()).start().master()
    one.signal(signal.SIGTERM)
    idle(0.5)  # well over carp.run.ONE_REQUEST: the first may have been heeded late
    begin = time.monotonic()
    assert 0 == one.term()
    took = time.monotonic() - begin
    in_time(took, 0.5)
    assert not holds(lab.node("n1"))
    return {"exit_s": took}


@beside
def test_bow_out_staggers_backups(lab: Lab) -> Measured:
    """Of three backups that hear a bow-out the best placed takes over, at once, and the others do not."""
    one = lab.daemon("n1", first()).start().master()
    others = [lab.daemon(f"n{i}", vhost(advskew=skew)).start() for i, skew in ((2, 60), (3, 20), (4, 40))]
    for each in others:
        lab.heard(each.backup())
    marks = [each.count for each in others]
    with lab.prober(interval_ms=1.0) as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        assert 0 == one.term()
        prober.wait_owner(lab.node("n3"), 3)
        idle(0.5)
        result = prober.stop()
        bow_out = next(f for f in sniffer.adverts("10.99.0.1") if f.advert.is_bow_out)
        answer = next(f for f in sniffer.adverts("10.99.0.3"))
    in_time(answer.at - bow_out.at, 0.1)  # later than that the next one may be first
    assert [0, 1, 0] == [len(e.events("state", since=m)) for e, m in zip(others, marks, strict=True)]
    assert 0 == result.summary.lost
    assert answer.at - bow_out.at > 0.015
    return {"answer_after_ms": (answer.at - bow_out.at) * 1000}


@pytest.mark.parametrize("how", ["kill", "term"])
@beside
def test_restart_resumes(lab: Lab, how: str) -> Measured:
    """A lone owner killed and restarted within 1 s, or stopped and started within 1.5 s, loses nothing."""
    one = lab.daemon("n1", first()).start().master()
    resumed = []
    with lab.prober(interval_ms=1.0) as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        for pause in (0.0, 0.4) if how == "kill" else (0.2, 0.7):
            ended = time.time()
            if how == "kill":
                one.kill()
            else:
                assert 0 == one.term()
                ended = at(one.lines()[-1])  # we may see the end late; the lease began before it
            idle(pause)
            resumes(one, ended, 1.45)
            wait_until(lambda: sniffer.adverts(since=one.started_at), 5, "an advert", one)
            resumed.append(round(1000 * (sniffer.adverts(since=one.started_at)[0].at - one.started_at)))
            idle(0.8)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [(lab.node("n1").mac,)] == [change.owners for change in result.summary.owners]
    return {"lost": 0, "exec_to_first_advert_ms": resumed}


@beside
def test_restart_resumes_beside_a_backup(lab: Lab) -> None:
    """An owner killed and restarted within 1 s stays the owner: its backup never notices."""
    one, two = lab.pair()
    before = two.count
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        killed = time.monotonic()
        one.kill()
        idle(0.4)
        one.start().wait_state("MASTER")
        in_time(time.monotonic() - killed, 1.45)
        idle(4)
        result = prober.stop()
    assert "resuming as master" in one.text
    assert [] == two.events("state", since=before)
    assert 0 == result.summary.lost
    assert 0 == result.summary.two_owners.total_s


_CHANGES: dict[str, dict[str, Any]] = {
    "password": {"password": "another"},
    "addresses": {"addresses": [VIP, "10.99.0.253"]},
    "vhid": {"vhid": 43},
}


@pytest.mark.parametrize("change", [*_CHANGES, "state-file-gone", "address-gone", "too-late"])
@beside
def test_no_resume_without_proof(lab: Lab, change: str) -> None:
    """A killed owner does not resume with another password, vhid or list of addresses, without its state
    file, and when an address or the lease is gone: it cleans up and begins as backup.
    """
    settings: dict[str, Any] = {"addresses": [VIP, "10.99.0.251"]} if change == "address-gone" else {}
    one = lab.daemon("n1", first(**settings)).start().master()
    wait_until(lambda: holds(lab.node("n1")), 2, "it holds the address", one)
    wait_until((lab.folder / "n1.state" / "web.json").exists, 2, "what it may leave is written down", one)
    one.kill()
    if change in _CHANGES:
        lab.configure("n1", first(**_CHANGES[change]))
    elif change == "state-file-gone":
        (lab.folder / "n1.state" / "web.json").unlink()
    elif change == "address-gone":
        delete(lab.node("n1"), "10.99.0.251")
    else:
        wait_until(lambda: not holds(lab.node("n1")), 5, "the lease is over", one)
    before = one.count
    one.start()
    change_of_state = one.wait_event("state", 5, since=before)
    assert ("INIT", "BACKUP") == (change_of_state["old"], change_of_state["new"])
    assert gave_up(one, before)
    one.wait_state("MASTER", 5)
    assert "first-claim" == one.events("state", since=before)[-1]["cause"]


@beside
def test_no_resume_of_a_ceded_lease(lab: Lab) -> None:
    """An owner killed in the middle of a bow-out does not take back what it gave away."""
    one = lab.daemon("n1", first()).start().master()
    wait_until(lambda: holds(lab.node("n1")), 2, "it holds the address", one)
    one.signal(signal.SIGTERM)
    wait_until(lambda: (found(lab.node("n1")) or one).proto == 113, 2, "it cedes", one)  # type: ignore[union-attr]
    one.kill()
    before = one.count
    one.start()
    assert "BACKUP" == one.wait_event("state", 5, since=before)["new"]


@beside
def test_clean_up_of_its_own_only(lab: Lab) -> None:
    """A start removes what an earlier run of the same vhost left, and nothing else on the interface: with
    another password it may not resume.
    """
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    wait_until(lambda: holds(node), 2, "it holds the address", one)
    wait_until((lab.folder / "n1.state" / "web.json").exists, 2, "what it may leave is written down", one)
    one.kill()
    add(node, "10.99.0.253", lifetime=60, proto=112)
    add(node, "10.99.0.254")
    before = {str(a.address) for a in addresses(node)}
    lab.configure("n1", vhost(password="peace"))
    one.start().backup()
    assert before - {VIP} == {str(a.address) for a in addresses(node)}
    one.master(5)
    wait_until(lambda: before == {str(a.address) for a in addresses(node)}, 2, "all addresses", one)


@beside
def test_two_processes_share_an_interface(lab: Lab) -> None:
    """Two processes with vhosts of their own on one interface leave each other's addresses alone."""
    one = lab.carp("n1").start().master()
    other = lab.daemon("n1", first("other", vhid=43, addresses=["10.99.0.253"])).start().master()
    assert {VIP, "10.99.0.253"} <= lab.node("n1").held()
    one.kill()
    other.kill()
    other.start().master()
    one.start().master()
    idle(2.5)
    assert {VIP, "10.99.0.253"} <= lab.node("n1").held()
    assert ("MASTER", "MASTER") == (one.state(), other.state())
