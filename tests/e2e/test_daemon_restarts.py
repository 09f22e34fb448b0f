"""carpd ends and begins: upgrades, crashes under --respawn, a start from what it was told before."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from beside import Measured, beside, labs
from carp.commands.client import NoAnswerError, RefusedError
from carpd import call, children, client, fileless, shown
from nodefix import VIP, Lab, at, first, found, holds, idle, in_time, resumes, vhost, wait_until

__all__ = ["labs"]

CRASHES = 20


@beside
def test_upgrade_of_two(lab: Lab) -> Measured:
    """Stopping the old carpd and starting the new one, on one node and then on the other, loses nothing."""
    one, two = lab.pair(options=["--respawn"])
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for old, other in ((one, two), (two, one)):
            assert 0 == old.term()
            idle(0.8)
            lab.heard(old.start())
            assert "MASTER" == other.state()
        result = prober.stop()
    assert 0 == result.summary.lost
    return {"lost": 0, "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_upgrade_of_one_alone(lab: Lab) -> Measured:
    """With nobody else the new carpd goes on with the address that the kernel still holds: nothing lost."""
    one = lab.daemon("n1", first(), options=["--respawn"]).start().master()
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for pause in (0.0, 0.4, 0.7):
            assert 0 == one.term()
            ended = at(one.lines()[-1])  # we may see the end late; the lease began before it
            idle(pause)
            resumes(one, ended, 1.5)
        result = prober.stop()
    assert 0 == result.summary.lost
    return {"lost": 0}


@beside
def test_twenty_crashes_in_a_row(lab: Lab) -> Measured:
    """SIGKILL of carpd under --respawn, twenty times: nothing lost, and the master is the same all along."""
    one, two = lab.pair(options=["--respawn"])
    before, theirs = one.count, two.count
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for number in range(1, CRASHES + 1):
            (child,) = children(one.running.pid)
            os.kill(child, signal.SIGKILL)
            wait_until(lambda: len(one.events("state", since=before)) >= number, 5, "it is back", one)  # noqa: B023
            idle(0.05)
        idle(1.0)
        result = prober.stop()
    for line in one.events("state", since=before):
        assert ("MASTER", "lease-resumed") == (line["new"], line["cause"])
    assert CRASHES == sum("starting it again" in line["message"] for line in one.lines(before))
    assert [] == two.events("state", since=theirs)
    assert 0 == result.summary.lost
    assert [(lab.node("n1").mac,)] == [change.owners for change in result.summary.owners]
    assert 0 == one.term()
    return {"lost": 0}


@beside
def test_a_crash_after_a_reload(lab: Lab) -> Measured:
    """What the file said last comes back, not what it said when the parent was started; where it is bad by
    then, the last good settings do.
    """
    one, two = lab.pair(options=["--respawn"])
    before = one.count
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        lab.configure("n1", first(advskew=7))
        one.wait_event("changed", since=before)
        assert 7 == shown(lab, "n1")["advskew"]  # answered after what a crash brings back was kept
        for bad in (False, True):
            if bad:
                (lab.folder / "n1.yaml").write_text("vhosts: [{")
            before = one.count
            (child,) = children(one.running.pid)
            os.kill(child, signal.SIGKILL)
            one.wait_event("state", since=before)
            assert 7 == shown(lab, "n1")["advskew"]
        before = one.count
        lab.configure("n1", first(advskew=9))
        one.wait_event("changed", since=before)
        assert 9 == shown(lab, "n1")["advskew"]
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [(lab.node("n1").mac,)] == [change.owners for change in result.summary.owners]
    assert 0 == one.term()
    two.term()
    return {"lost": 0}


@beside
def test_a_crash_before_a_change_was_noticed(lab: Lab) -> Measured:
    """A file that changed right before a crash is read after it, also where that is the first reload."""
    one = lab.daemon("n1", first(), options=["--respawn"]).start().master()
    before = one.count
    lab.configure("n1", first(advskew=7))
    (child,) = children(one.running.pid)
    os.kill(child, signal.SIGKILL)
    ended = time.monotonic()
    one.wait_event("state", since=before)
    one.wait_event("changed", 5, since=before)
    took = time.monotonic() - ended
    in_time(took, 2.5)
    assert 7 == shown(lab, "n1")["advskew"]
    assert ["lease-resumed"] == [line["cause"] for line in one.events("state", since=before)]
    return {"noticed_s": took}


@beside
def test_a_password_file_that_hangs(lab: Lab) -> Measured:
    """Whoever reads it waits; orders, the election and the end of carpd do not."""
    secret = lab.write("n1.pass", "a password\n")
    settings = first(passwordFile=str(secret))
    del settings["password"]
    one = lab.daemon("n1", settings).start().master()
    secret.unlink()
    os.mkfifo(secret, 0o600)
    one.signal(signal.SIGHUP)
    wait_until(lambda: call(lab, "n1", "hello")["problems"] != [], 8, "it is a problem", one)
    (problem,) = call(lab, "n1", "hello")["problems"]
    assert f"{lab.folder}/n1.yaml: being read since 20" in problem
    assert call(lab, "n1", "maintenance", on=True)["persisted"]
    assert 240 == shown(lab, "n1")["demotion"]
    began = time.monotonic()
    assert 0 == one.term(timeout=8)
    return {"exit_s": time.monotonic() - began}


@beside
def test_a_state_folder_that_hangs(lab: Lab) -> Measured:
    """What was told is in force and not confirmed, which is said; the end does not wait for the disk."""
    one = fileless(lab, "n1").start()
    told = {"uid": "u-1", "cluster": "c-1"}
    call(lab, "n1", "apply", generation=1, vhosts=[first()], **told)
    one.master()
    os.mkfifo(lab.folder / "n1.state" / "_settings.new", 0o600)
    with pytest.raises(NoAnswerError):
        call(lab, "n1", "apply", generation=2, vhosts=[first(advskew=7)], **told)
    assert 7 == shown(lab, "n1")["advskew"]
    about = call(lab, "n1", "hello")
    assert not about["persisted"]
    assert about["problems"][0].startswith("settings: being written since 20")
    began = time.monotonic()
    assert 0 == one.term(timeout=8)
    return {"exit_s": time.monotonic() - began}


@beside
def test_the_end_of_the_parent_is_a_handover(lab: Lab) -> Measured:
    """SIGKILL of the parent: carpd hands over and ends, nothing is lost."""
    one, two = lab.pair(options=["--respawn"])
    (child,) = children(one.running.pid)
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        one.kill()
        two.master(5)
        wait_until(lambda: child not in lab.node("n1").namespace.pids(), 5, "the child ends", one)
        idle(0.2)
        result = prober.stop()
    assert 0 == result.summary.lost
    return {"lost": 0}


@beside
def test_settings_of_the_socket_survive_everything(lab: Lab) -> Measured:
    """A node that was killed and whose kernel has forgotten the address comes back as a full member from
    what it was told over the socket before, with nobody to ask.
    """
    one = fileless(lab, "n1").start()
    answer = call(lab, "n1", "apply", uid="u-1", generation=5, cluster="c-1", vhosts=[first()])
    assert ([{"name": "web", "result": "added", "problem": ""}], []) == (answer["outcomes"], answer["errors"])
    assert (5, True) == (answer["generation"], answer["persisted"])
    one.master()
    stored = lab.folder / "n1.state" / "_settings.json"
    assert 0o600 == stored.stat().st_mode & 0o777
    one.kill()
    wait_until(lambda: not holds(lab.node("n1")), 5, "the lease ends", one)
    ran = time.monotonic()
    one.start()
    one.wait_state("BACKUP", 5)
    began = time.monotonic() - ran
    one.master(6)
    about = call(lab, "n1", "hello")
    assert ("u-1", 5, "c-1", True) == tuple(
        about[key] for key in ("uid", "generation", "cluster", "persisted")
    )
    assert "socket" == shown(lab, "n1")["source"]
    return {"start_to_state_s": began}


@pytest.mark.parametrize("damage", ["truncated", "garbage", "folder"])
@beside
def test_damaged_settings(lab: Lab, damage: str) -> None:
    """What cannot be read costs the memory and is said; carpd runs, takes settings, and has them again."""
    one = fileless(lab, "n1").start()
    call(lab, "n1", "apply", uid="u-1", generation=5, cluster="c-1", vhosts=[first()])
    one.master()
    one.kill()
    stored = lab.folder / "n1.state" / "_settings.json"
    if damage == "truncated":
        stored.write_bytes(stored.read_bytes()[:-40])
    elif damage == "garbage":
        stored.write_bytes(b"[" * 100_000)
    else:
        stored.unlink()
        stored.mkdir()
    one.start()
    assert str(stored) in call(lab, "n1", "hello")["problems"][0]
    answer = call(lab, "n1", "apply", uid="u-1", generation=6, cluster="c-1", vhosts=[first()])
    if damage == "folder":
        assert (False, None) == (answer["persisted"], answer["generation"])
        assert str(stored) in answer["problem"]
        assert 1 == len(call(lab, "n1", "hello")["problems"])
        stored.rmdir()
        answer = call(lab, "n1", "apply", uid="u-1", generation=6, cluster="c-1", vhosts=[first()])
    assert (True, 6, "") == (answer["persisted"], answer["generation"], answer["problem"])
    assert [] == call(lab, "n1", "hello")["problems"]
    assert 6 == json.loads(json.loads(stored.read_text())["payload"])["generation"]
    one.master(6)


@beside
def test_older_settings_and_other_clusters(lab: Lab) -> None:
    """Older settings of the same object are refused, a new object's are newer, and another cluster's vhosts
    are not kept beside the new ones.
    """
    fileless(lab, "n1").start()
    with client(lab, "n1") as carpd:
        carpd.call("apply", uid="u-1", generation=5, cluster="c-1", vhosts=[vhost()])
        with pytest.raises(RefusedError, match="generation: 4 is older than 5 of the same object"):
            carpd.call("apply", uid="u-1", generation=4, cluster="c-1", vhosts=[])
        broken = vhost(advskew=300)
        kept = carpd.call("apply", uid="u-2", generation=1, cluster="c-1", vhosts=[broken])
        assert ["vhosts[0].advskew: 300 is not between 0 and 254"] == kept["errors"]
        assert 0 == carpd.call("status")["vhosts"][0]["advskew"]
        other = vhost("other", vhid=43, addresses=["10.99.0.253"])
        carpd.call("apply", uid="u-2", generation=0, cluster="c-2", vhosts=[other])
        wait_until(
            lambda: ["other"] == [each["name"] for each in carpd.call("status")["vhosts"]], 5, "web is gone"
        )


@beside
def test_a_stop_in_the_middle_of_a_change(lab: Lab) -> Measured:
    """SIGTERM while one vhost is being replaced ends carpd; nothing is started any more."""
    also = first("also", vhid=43, addresses=["10.99.0.253"])
    one = lab.daemon("n1", first(), also).start()
    one.wait_state("MASTER", vhost="web")
    one.wait_state("MASTER", vhost="also")
    lab.configure("n1", first(), {**also, "vhid": 44})
    call(lab, "n1", "reload")
    idle(0.2)
    began = time.monotonic()
    assert 0 == one.term(timeout=8)
    left = found(lab.node("n1"), VIP)
    assert left is None or left.valid <= 2
    return {"exit_s": time.monotonic() - began}
