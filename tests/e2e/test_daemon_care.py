"""carpd moves addresses on demand: maintenance, demotions, health checks, handover; and keeps its secrets."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from beside import Measured, beside, labs
from carp.commands.client import RefusedError
from carpd import call, client, shown
from nodefix import VIP, Daemon, Lab, first, holds, idle, vhost, wait_until

__all__ = ["labs"]

SECRET = "pl4nted-s3cret"
OTHER = "0ther-planted"


def _check(lab: Lab, name: str = "app", **fields: Any) -> dict[str, Any]:
    """Return a check that is up while a file of this name exists, and make the file."""
    flag = lab.write(f"{name}.up", "")
    timing = {"period": "300ms", "timeout": "290ms", "rise": 1, "fall": 2}
    return {"name": name, "exec": {"command": ["/usr/bin/test", "-e", str(flag)]}, **timing, **fields}


def _flag(lab: Lab, name: str = "app") -> Path:
    return lab.folder / f"{name}.up"


@beside
def test_maintenance(lab: Lab) -> Measured:
    """The other node takes over and nothing is lost; it lasts through kill -9 and ends when told to."""
    one, two = lab.pair()
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        answer = call(lab, "n1", "maintenance", on=True)
        assert (True, True) == (answer["maintenance"], answer["persisted"])
        two.master(5)
        one.backup(5)
        prober.wait_owner(lab.node("n2"), 5)
        idle(0.3)
        result = prober.stop()
    assert 0 == result.summary.lost
    one.kill()
    lab.heard(one.start())
    assert call(lab, "n1", "hello")["maintenance"]
    assert [{"reason": "maintenance", "amount": 240}] == shown(lab, "n1")["demotions"]
    call(lab, "n1", "maintenance", on=False)
    assert [] == shown(lab, "n1")["demotions"]
    assert "MASTER" == two.state()
    return {"lost": 0, "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_handover(lab: Lab) -> Measured:
    """`handover` moves the address, nothing is lost, and a watcher is told of it."""
    _, two = lab.pair()
    with client(lab, "n1") as watcher, lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        assert "MASTER" == watcher.call("watch")["vhosts"][0]["state"]
        assert "handing over" == call(lab, "n1", "handover", name="web")["state"]
        two.master(5)
        states: list[str] = []
        while "BACKUP" not in states:
            news = watcher.receive(5)
            assert news is not None
            states += [each["state"] for each in news["vhosts"]]
        with pytest.raises(RefusedError, match="'web' is BACKUP here; only a master hands over"):
            call(lab, "n1", "handover", name="web")
        result = prober.stop()
    assert 0 == result.summary.lost
    return {"lost": 0}


@beside
def test_demote_and_undemote(lab: Lab) -> Measured:
    """Demotions of different reasons add up and move the address by a handover; each ends by its name."""
    _, two = lab.pair()
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        call(lab, "n1", "demote", name="web", reason="backup-job", amount=10)
        assert 250 == call(lab, "n1", "demote", name="web", reason="disk", amount=240)["demotion"]
        two.master(8)
        idle(0.3)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert 10 == call(lab, "n1", "undemote", name="web", reason="disk")["demotion"]
    assert 0 == call(lab, "n1", "undemote", name="web", reason="backup-job")["demotion"]
    return {"lost": 0}


@beside
def test_a_failing_check_is_a_handover(lab: Lab) -> Measured:
    """When its check fails a master gives its address away and nothing is lost; later it is fit again."""
    check = _check(lab)
    one = lab.daemon("n1", first(healthChecks=[check])).start().master()
    two = lab.daemon("n2", vhost(advskew=20)).start()
    lab.heard(two)
    wait_until(lambda: "up" == shown(lab, "n1")["health"][0]["health"], 3, "the check is up", one)
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        _flag(lab).unlink()
        took = wait_until(lambda: two.state() == "MASTER", 8, "n2 takes over", one, two)
        prober.wait_owner(lab.node("n2"), 5)
        idle(0.3)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [{"reason": "health:app", "amount": 100}] == shown(lab, "n1")["demotions"]
    assert "down" == shown(lab, "n1")["health"][0]["health"]
    _flag(lab).touch()
    wait_until(lambda: not shown(lab, "n1")["demotions"], 3, "the demotion ends", one)
    return {"lost": 0, "fault_to_takeover_s": took}


@beside
def test_a_check_that_fails_outlives_a_replacement(lab: Lab) -> None:
    """A vhost that gets another vhid while its check fails is demoted under the new one too."""
    check = _check(lab)
    one = lab.daemon("n1", first(healthChecks=[check])).start().master()
    _flag(lab).unlink()
    wait_until(lambda: shown(lab, "n1")["demotions"], 3, "it is demoted", one)
    lab.configure("n1", first(vhid=43, healthChecks=[check]))
    call(lab, "n1", "reload")
    wait_until(lambda: shown(lab, "n1").get("vhid") == 43, 6, "the new vhid", one)
    assert [{"reason": "health:app", "amount": 100}] == shown(lab, "n1")["demotions"]


@beside
def test_release_when_all_fail(lab: Lab) -> Measured:
    """With whenAllFail Release nobody holds the address while every check fails, however many are left over;
    the first that is well again brings it back, and what still fails still demotes.
    """
    checks = [_check(lab, "app"), _check(lab, "db")]
    settings: dict[str, Any] = {"healthChecks": checks, "whenAllFail": "Release"}
    one = lab.daemon("n1", first(**settings)).start().master()
    _flag(lab, "app").unlink()
    wait_until(lambda: shown(lab, "n1")["demotions"], 3, "one fails", one)
    assert holds(lab.node("n1"))
    _flag(lab, "db").unlink()
    released = wait_until(lambda: not holds(lab.node("n1")), 6, "nobody holds it", one)
    wait_until(lambda: "all health checks fail" == shown(lab, "n1")["reason"], 3, "it says why", one)
    call(lab, "n1", "reload")
    idle(1.5)
    assert ("INIT", False) == (shown(lab, "n1")["state"], holds(lab.node("n1")))
    _flag(lab, "db").touch()
    one.master(6)
    assert [{"reason": "health:app", "amount": 100}] == shown(lab, "n1")["demotions"]
    assert holds(lab.node("n1"))
    return {"released_after_s": released}


@beside
def test_keep_ends_a_release(lab: Lab) -> Measured:
    """With Keep in the file a released address comes back at once, though every check fails still; with
    Release it goes again, and another vhid changes nothing about it. The log says why.
    """
    settings: dict[str, Any] = {"healthChecks": [_check(lab)], "whenAllFail": "Release"}
    one = lab.daemon("n1", first(**settings)).start().master()
    _flag(lab).unlink()
    wait_until(lambda: not holds(lab.node("n1")), 8, "nobody holds it", one)
    lab.configure("n1", first(**settings | {"whenAllFail": "Keep"}))
    call(lab, "n1", "reload")
    took = wait_until(lambda: holds(lab.node("n1")), 8, "Keep brings it back", one)
    lab.configure("n1", first(**settings))
    call(lab, "n1", "reload")
    wait_until(lambda: not holds(lab.node("n1")), 8, "Release takes it away", one)
    lab.configure("n1", first(vhid=43, **settings))
    call(lab, "n1", "reload")
    wait_until(lambda: shown(lab, "n1").get("vhid") == 43, 6, "the new vhid", one)
    idle(3.0)
    assert ("INIT", False) == (shown(lab, "n1")["state"], holds(lab.node("n1")))
    assert {"all health checks fail"} == {each["cause"] for each in one.events("withdrawn")}
    assert ["whenAllFail is Keep now"] == [each["cause"] for each in one.events("restored")]
    assert {"app"} == {each["check"] for each in one.events("health")}
    return {"back_after_s": took}


def _sockets(daemon: Daemon) -> list[int]:
    """Return how many sockets a node has for adverts and for whole frames."""
    net = Path(f"/proc/{daemon.running.pid}/net")
    return [len((net / kind).read_text().splitlines()) - 1 for kind in ("raw", "packet")]


@beside
def test_a_gateway_check_ends_a_release_on_a_new_interface(lab: Lab) -> None:
    """The gateway is away, then the interface, and both come back: so does the address, by itself. The status
    shows the interface once, and no socket of the old one stays.
    """
    timing = {"period": "300ms", "timeout": "250ms", "rise": 1, "fall": 2}
    check = {"name": "gw", "gateway": {"address": "10.99.0.9"}, **timing}
    node, gateway = lab.node("n1"), lab.node("n9")
    one = lab.daemon("n1", first(healthChecks=[check], whenAllFail="Release")).start().master()
    wait_until(lambda: "up" == shown(lab, "n1")["health"][0]["health"], 5, "the check is up", one)
    lab.lan.unplug(gateway)
    wait_until(lambda: not holds(node), 8, "nobody holds it", one)
    wait_until(lambda: "all health checks fail" == shown(lab, "n1")["reason"], 3, "it says why", one)
    lab.lan.switch.unwire("n1")
    wait_until(lambda: not call(lab, "n1", "status")["interfaces"], 3, "it has no interface", one)
    assert "interface eth0 does not exist" == shown(lab, "n1")["reason"]
    assert [0, 0] == _sockets(one)
    lab.lan.switch.wire(node)
    wait_until(lambda: "all health checks fail" == shown(lab, "n1")["reason"], 5, "it has it again", one)
    idle(1.0)
    assert ("INIT", False) == (shown(lab, "n1")["state"], holds(node))
    lab.lan.plug(gateway)
    wait_until(lambda: holds(node), 8, "it holds the address", one)
    one.master(1)
    interfaces = call(lab, "n1", "status")["interfaces"]
    assert [("eth0", [42])] == [(each["interface"], each["vhids"]) for each in interfaces]
    wait_until(lambda: [2, 2] == _sockets(one), 3, "a receiver, a sender; announcements, answers", one)


@beside
def test_keep_when_all_fail(lab: Lab) -> None:
    """By default a lone member with failing checks keeps its address: a bad answer beats none."""
    one = lab.daemon("n1", first(healthChecks=[_check(lab)])).start().master()
    _flag(lab).unlink()
    wait_until(lambda: shown(lab, "n1")["demotions"], 3, "it is demoted", one)
    idle(3.0)
    assert "MASTER" == one.state()
    assert holds(lab.node("n1"))


@beside
def test_no_answer_and_no_log_line_has_a_password(lab: Lab) -> None:
    """Passwords of the file and of the socket, right and wrong ones, appear nowhere outside the files."""
    secret: dict[str, Any] = {"password": SECRET, "accept": [{"addresses": [VIP], "password": OTHER}]}
    one = lab.daemon("n1", first(**secret), options=["--debug"]).start().master()
    own: dict[str, Any] = {"name": "own", "vhid": 43, "interface": "eth0", "addresses": ["10.99.0.9"]}
    wrong: list[dict[str, Any]] = [
        {"password": SECRET * 3},
        {"password": [SECRET]},
        {"password": SECRET, "passwordFile": "/x"},
        {"password": SECRET, "accept": [{"addresses": ["10.99.0.9"], "password": SECRET * 3}]},
        {"password": SECRET, "advskew": 300},
        {"password": SECRET, "accept": [OTHER], "authentication": OTHER},
        {"password": SECRET, "accept": OTHER, "healthChecks": [{"name": "x", "http": OTHER}]},
        {"password": SECRET},
    ]
    said = []
    with client(lab, "n1") as carpd:
        for generation, fields in enumerate(wrong):
            given = {"uid": "u", "cluster": "c", "generation": generation, "vhosts": [own | fields]}
            said.append(carpd.call("apply", **given))
        said += [carpd.call(op) for op in ("hello", "status", "drops", "metrics", "reload", "watch")]
        for op in ("handover", "demote", "apply"):
            with contextlib.suppress(RefusedError):
                said.append(carpd.call(op, name="own", reason="", vhosts=SECRET))
    lab.write("n1.yaml", f"vhosts: [{{name: web, password: {SECRET * 3}, vhid: 0}}]")
    with contextlib.suppress(RefusedError):
        call(lab, "n1", "reload")
    said.append(call(lab, "n1", "status"))
    assert SECRET in (lab.folder / "n1.state" / "_settings.json").read_text()
    for text in (json.dumps(said), one.text):
        assert "own" in text
        assert SECRET not in text
        assert OTHER not in text
