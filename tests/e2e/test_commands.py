"""The commands for people, against running daemons: what they tell is what is the case."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import fakecarpd
from beside import Measured, beside, labs
from carp.lab.node import module_environment
from nodefix import VIP, Lab, Program, add, first, in_time, run, run_ip, vhost, wait_until
from nsfix import sysctl

if TYPE_CHECKING:
    from nodefix import Daemon

__all__ = ["labs"]

START_UP = 0.150
"""s that `carp status` may take in all."""


def _argv(lab: Lab, name: str, words: tuple[str, ...]) -> list[str]:
    socket = str(lab.folder / f"{name}.state" / "carpd.sock")
    return [sys.executable, "-m", "carp", words[0], "--socket", socket, *words[1:]]


def _carp(lab: Lab, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on a node to its end."""
    argv = _argv(lab, name, words)
    return lab.node(name).run_in(
        lambda: subprocess.run(
            argv, capture_output=True, text=True, env=module_environment(), check=False, timeout=60
        )
    )


def _status(lab: Lab, name: str) -> dict[str, Any]:
    """Return the status of a node's only vhost."""
    (found,) = json.loads(_carp(lab, name, "status", "-o", "json").stdout)["vhosts"]
    return dict(found)


def _examined(lab: Lab, name: str, *words: str, listen: str = "1.6s") -> dict[str, tuple[str, str]]:
    """Return verdict and text of the doctor's findings by check; the worst of each."""
    done = _carp(lab, name, "doctor", "--listen", listen, "-o", "json", *words)
    told = json.loads(done.stdout)
    assert (1 if told["fail"] else 0) == done.returncode
    rank = ["ok", "skipped", "warn", "fail"]
    found = sorted(told["findings"], key=lambda each: rank.index(each["verdict"]))
    return {each["check"]: (each["verdict"], each["text"]) for each in found}


def _failed(found: dict[str, tuple[str, str]]) -> set[str]:
    return {check for check, (verdict, _) in found.items() if verdict == "fail"}


@beside
def test_status_and_explain(lab: Lab) -> None:
    """Both nodes tell who is master; the data has the fields that the commands' own tests assume."""
    lab.pair()
    lines = _carp(lab, "n1", "status").stdout.splitlines()
    assert ["web", VIP, "42", "eth0", "MASTER"] == lines[1].split()[:5]
    two = _status(lab, "n2")
    assert ("BACKUP", "10.99.0.1") == (two["state"], two["master"]["source"])
    assert set(fakecarpd.vhost()) == set(two)
    assert set(fakecarpd.seen()) == set(two["master"])
    assert "This node is master of web" in _carp(lab, "n1", "explain", "web").stdout
    assert "10.99.0.1 is master of web" in _carp(lab, "n2", "explain", "web").stdout


@beside
def test_status_is_quick(lab: Lab) -> Measured:
    """From the start of the interpreter to the table: the best of five, since others use this machine."""
    lab.pair()
    times = []
    for _ in range(5):
        start = time.monotonic()
        assert 0 == _carp(lab, "n1", "status").returncode
        times.append(time.monotonic() - start)
    in_time(min(times), START_UP)
    return {"status_s": round(min(times), 3)}


@beside
def test_handover(lab: Lab) -> None:
    """A handover names its successor and the time; the backup has nothing to hand over."""
    one, two = lab.pair()
    refused = _carp(lab, "n2", "handover", "web")
    assert (2, "carp: name: 'web' is BACKUP here; only a master hands over\n") == (
        refused.returncode,
        refused.stderr,
    )
    done = _carp(lab, "n1", "handover", "web")
    assert (0, "") == (done.returncode, done.stderr)
    told, taken = done.stdout.split(" s after")[0].rsplit(" ", 1)
    assert "web: 10.99.0.2 is master," == told
    in_time(float(taken), 1.0)
    assert ("BACKUP", "MASTER") == (one.backup().state(), two.master().state())


@beside
def test_orders_to_a_lone_master(lab: Lab) -> None:
    """With nobody to take over the address stays, and both orders say so by exit code and words."""
    one = lab.daemon("n1", first()).start().master()
    handover = _carp(lab, "n1", "handover", "web", "--wait", "2s")
    assert (1, True) == (handover.returncode, "nobody took over within 2." in handover.stderr)
    maintenance = _carp(lab, "n1", "maintenance", "on", "--wait", "2s")
    assert (1, True) == (maintenance.returncode, "still master of web" in maintenance.stderr)
    assert "MASTER" == one.state()


@beside
def test_maintenance(lab: Lab) -> None:
    """On hands everything over and is seen in the status; off ends it."""
    _, two = lab.pair()
    assert 0 == _carp(lab, "n1", "maintenance", "on").returncode
    assert "MASTER" == two.master().state()
    status = _carp(lab, "n1", "status").stdout
    assert "240 (maintenance)" in status
    assert "! maintenance mode is ON" in status
    assert 1 == _carp(lab, "n1", "maintenance", "status").returncode
    assert 0 == _carp(lab, "n1", "maintenance", "off").returncode
    assert 0 == _status(lab, "n1")["demotion"]


@beside
def test_demotion(lab: Lab) -> None:
    """A demoted master hands over; the demotion is shown by its reason until it is taken back."""
    _, two = lab.pair()
    done = _carp(lab, "n1", "demote", "web", "upgrade", "40")
    assert "web: demotion 40 (upgrade), advskew 40\n" == done.stdout
    two.master()
    assert "web: demotion 0, advskew 0\n" == _carp(lab, "n1", "undemote", "web", "upgrade").stdout
    reserved = _carp(lab, "n1", "demote", "web", "maintenance", "40")
    assert (2, True) == (reserved.returncode, "'maintenance' is empty or reserved" in reserved.stderr)


@beside
def test_trouble_is_exit_code_1(lab: Lab) -> None:
    """A vhost that takes no part is shown with its reason, and the exit code says so."""
    one, _ = lab.pair()
    run_ip(lab.node("n1"), "link", "set", "eth0", "down")
    one.wait_state("INIT")
    # It may have seen that the carrier is lost first.
    wait_until(lambda: "interface eth0 is down" in lab.status(one), 2, "it says why", one)
    done = _carp(lab, "n1", "status")
    assert (1, True) == (done.returncode, "! web: takes no part: interface eth0 is down" in done.stdout)
    assert {"interface", "adverts"} <= _failed(_examined(lab, "n1"))


@beside
def test_a_failing_health_check_is_told(lab: Lab) -> None:
    """Its name, target and result stand in the status, in words and in the doctor's findings."""
    timing = {"period": "200ms", "timeout": "150ms", "fall": 1}
    check = {"name": "app", "exec": {"command": ["/usr/bin/false"]}, "demotion": 9, **timing}
    one = lab.daemon("n1", first(healthChecks=[check])).start().master()
    wait_until(lambda: _status(lab, "n1")["demotion"], 5.0, "it is demoted", one)
    assert set(fakecarpd.check()) == set(_status(lab, "n1")["health"][0])
    assert "! web: health check app (" in _carp(lab, "n1", "status").stdout
    assert "Health check app (" in _carp(lab, "n1", "explain", "web").stdout
    assert "warn" == _examined(lab, "n1")["health"][0]


def _follow(lab: Lab, name: str, *words: str) -> Program:
    return Program(lab.node(name), lab.folder / "follow.log", _argv(lab, name, ("status", "--watch", *words)))


@beside
def test_watch_prints_a_line_for_each_change(lab: Lab) -> None:
    """State, demotion and a restart of carpd are told as they come; Ctrl-C is the ordinary end."""
    _, two = lab.pair()
    follow = _follow(lab, "n2").start()
    follow.wait_text("web: BACKUP, demotion 0, master seen 10.99.0.1")
    _carp(lab, "n2", "demote", "web", "disk", "7")
    follow.wait_text("web: demotion 0 -> 7 (disk)")
    _carp(lab, "n2", "undemote", "web", "disk")
    follow.wait_text("web: demotion 7 (disk) -> 0")
    _carp(lab, "n1", "handover", "web")
    follow.wait_text("web: BACKUP -> MASTER (the master before bowed out")
    two.kill()
    follow.wait_text("did it stop?")
    two.start()
    follow.wait_text("web: MASTER -> ", 15.0)
    two.term()
    follow.wait_text("carpd stops")
    two.start()
    follow.wait_text("web: MASTER -> BACKUP (", 15.0)
    follow.signal(signal.SIGINT)
    assert 0 == follow.running.wait(10)
    lines = follow.text.splitlines()
    assert len(set(lines)) == len(lines)


@beside
def test_watch_as_json(lab: Lab) -> None:
    """Each line is an object with the whole status of a vhost; nothing is repeated while nothing happens."""
    lab.pair()
    follow = _follow(lab, "n2", "-o", "json").start()
    follow.wait_text('"state":"BACKUP"')
    _carp(lab, "n2", "demote", "web", "disk", "7")
    follow.wait_text('"demotion":7')
    follow.signal(signal.SIGINT)
    follow.running.wait(10)
    told = [json.loads(line) for line in follow.text.splitlines()]
    assert [0, 7] == [each["demotion"] for each in told]
    assert all(each["name"] == "web" and each["time"] > 0 for each in told)


@beside
def test_watch_on_a_terminal(lab: Lab) -> None:
    """The table is drawn, and drawn again over itself; when carpd goes, that stands in its first line."""
    one, _ = lab.pair()
    ours, theirs = pty.openpty()
    argv = _argv(lab, "n1", ("status", "--watch"))
    process = lab.node("n1").popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=module_environment())
    os.close(theirs)
    try:
        assert "Ctrl-C ends" in _shown(ours, "web ")
        assert "\x1b[3F" in _shown(ours, "\x1b[3F")
        one.kill()
        assert "no carpd answers" in _shown(ours, "no carpd answers")
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(10)
    finally:
        os.close(ours)


def _shown(terminal: int, text: str, seconds: float = 10.0) -> str:
    shown = ""
    end = time.monotonic() + seconds
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


@beside
def test_doctor_finds_nothing_on_a_healthy_pair(lab: Lab) -> None:
    """No failure and no warning, on the master and on the backup, in both families."""
    lab.pair(addresses=[VIP, "fd99::252"])
    for name in ("n1", "n2"):
        found = _examined(lab, name)
        assert set() == {check for check, (verdict, _) in found.items() if verdict in ("fail", "warn")}, found
        assert {"adverts", "owner", "clock", "group", "ipv6-privacy", "kube-proxy"} <= set(found)


@beside
def test_doctor_finds_a_second_owner(lab: Lab) -> None:
    """An address that somebody configured by hand is found from the master and from the backup."""
    lab.pair()
    stranger = lab.node("n3")
    add(stranger, VIP)
    for name in ("n1", "n2"):
        verdict, text = _examined(lab, name)["owner"]
        assert ("fail", True) == (verdict, stranger.mac in text), text


@beside
def test_doctor_finds_a_stranger_with_our_vhid(lab: Lab) -> None:
    """Two clusters on one vhid are told by whoever looks."""
    lab.pair()
    lab.ucarp("n3", password="other").start().master()
    found = _examined(lab, "n1", listen="3s")
    assert ("fail", True) == (found["speakers"][0], "10.99.0.3" in found["speakers"][1])
    assert "owner" in _failed(found)


@beside
def test_doctor_finds_a_filter_before_our_adverts(lab: Lab) -> None:
    """A backup that is deaf says so: a member whose password differs counts as nobody."""
    lab.daemon("n1", first()).start().master()
    two = lab.daemon("n2", vhost(password="other")).start().backup()
    wait_until(lambda: _status(lab, "n2")["drops"], 5.0, "an advert is dropped", two)
    verdict, text = _examined(lab, "n2")["adverts"]
    assert ("fail", True) == (verdict, "wrong HMAC" in text), text


@beside
def test_doctor_finds_a_master_that_answers_nobody(lab: Lab) -> None:
    """arp_ignore 8 leaves the shared address unanswered: named on its node, noticed on the other."""
    lab.pair()
    sysctl(lab.node("n1").namespace.name, "ipv4/conf/eth0/arp_ignore", "8")
    assert "arp_ignore is 8" in _examined(lab, "n1")["arp_ignore"][1]
    verdict, text = _examined(lab, "n2")["owner"]
    assert ("fail", True) == (verdict, "nobody answers" in text), text


@beside
def test_doctor_knows_kube_proxy(lab: Lab) -> None:
    """An address on another interface is answered although its vhost is backup; with strictARP it is not."""
    lab.pair()
    node = lab.node("n2")
    run(node, "ip", "address", "add", f"{VIP}/32", "dev", "lo")
    found = _examined(lab, "n2")
    assert "fail" == found["kube-proxy"][0]
    verdict, text = _examined(lab, "n1")["owner"]
    assert ("fail", True) == (verdict, node.mac in text), text
    sysctl(node.namespace.name, "ipv4/conf/eth0/arp_ignore", "1")
    assert "ok" == _examined(lab, "n2")["kube-proxy"][0]
    assert "ok" == _examined(lab, "n1")["owner"][0]


@beside
def test_doctor_before_there_is_a_carpd(lab: Lab) -> None:
    """A third host sees who has the vhid and the address, and that another vhid is free."""
    lab.pair()
    lab.node("n3")
    taken = _examined(lab, "n3", "-i", "eth0", "-v", "42", "-a", VIP)
    assert ("warn", "ok") == (taken["speakers"][0], taken["owner"][0])
    free = _examined(lab, "n3", "-i", "eth0", "-v", "7", "-a", "10.99.0.77")
    assert ("ok", "ok") == (free["speakers"][0], free["owner"][0])
    assert set() == _failed(free)


@beside
def test_without_carpd(lab: Lab) -> None:
    """A carpd that is gone is one line, exit code 2."""
    one: Daemon = lab.daemon("n1", first()).start().master()
    one.kill()
    done = _carp(lab, "n1", "status")
    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "is `carp daemon` running? (--socket PATH)" in done.stderr
