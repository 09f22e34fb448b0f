from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from carp.commands.checks_wire import check_wire
from carp.commands.finding import Finding, Target
from carp.commands.hearing import Heard, Speaker
from carp.commands.host import Host
from carp.rtnl import FOR_EVER, Addr, Link
from fakecarpd import backup, seen, vhost

VIP = ip_address("10.1.1.252")
MASTER_MAC = "02:00:00:00:00:02"
_LINK = Link(2, "eth0", b"\2\0\0\0\0\1", 0x41, 1500, 6, "veth")


def _host(*, holds: bool = False) -> Host:
    held = [Addr(2, VIP, 32, 0, 112, 2)] if holds else []
    return Host({"eth0": _LINK}, [Addr(2, ip_address("10.1.1.1"), 24, 0, 0, FOR_EVER), *held])


def _target(status: dict[str, Any] | None) -> Target:
    return Target("web", 42, "eth0", (ip_interface("10.1.1.252/32"),), status)


def _speaker(source: str = "10.1.1.2", mac: str = MASTER_MAC, **changes: Any) -> Speaker:
    speaker = Speaker("eth0", "carp", 42, ip_address(source), mac, False, 0.0, 3.0, 7)
    return replace(speaker, **changes)


def _heard(*speakers: Speaker, answers: set[str] | None = None, **changes: Any) -> Heard:
    by_key = {(each.interface, each.protocol, each.vhid, each.source): each for each in speakers}
    return Heard(4.0, by_key, {("eth0", VIP): answers or set()}, **changes)


def _judge(target: Target, heard: Heard | str, *, holds: bool = False) -> dict[str, Finding]:
    found = {each.check: each for each in check_wire(target, _host(holds=holds), heard)}
    assert ["adverts", "speakers", "owner", "clock"] == list(found)
    return found


OWN = _speaker("10.1.1.1", "02:00:00:00:00:01", ours=True)


def test_a_healthy_master() -> None:
    """It holds the address alone; whether others hear it is said to be unknown."""
    found = _judge(_target(vhost()), _heard(OWN), holds=True)
    assert ["skipped", "ok", "ok", "ok"] == [each.verdict.value for each in found.values()]
    assert "cannot be known from here" in found["adverts"].text
    assert "carp watch -i eth0 --vhid 42" in found["adverts"].advice


def test_a_healthy_backup() -> None:
    """The master is heard, alone, answers for the address, and its clock is right."""
    found = _judge(_target(backup()), _heard(_speaker(), answers={MASTER_MAC}))
    assert {"ok"} == {each.verdict.value for each in found.values()}


@pytest.mark.parametrize(
    ("status", "speakers", "text"),
    [
        (vhost(sendProblem="no buffer"), [], "do not leave: no buffer"),
        (vhost(), [], "master, but no advert left eth0"),
        (vhost(state="INIT", reason="no carrier"), [], "takes no part: no carrier"),
        (backup(master=None), [], "no master was heard for 4.0s"),
        (backup(master=seen(lastHeard=9.0)), [], "no master was heard"),
        (backup(master=None, drops={"hmac": 5}), [_speaker()], "does not believe it: 5 had a wrong HMAC"),
    ],
)
def test_adverts_that_do_not_get_through(status: dict[str, Any], speakers: list[Speaker], text: str) -> None:
    """Each way to be deaf or dumb is a failure with its reason."""
    found = _judge(_target(status), _heard(*speakers))["adverts"]
    assert "fail" == found.verdict.value
    assert text in found.text
    assert found.advice


@pytest.mark.parametrize(
    ("status", "seconds", "verdict", "text"),
    [
        (vhost(advbase=10, advskew=128), 4.0, "skipped", "every 10s: 4.0s of listening are too short"),
        (vhost(advbase=10, advskew=128), 11.6, "fail", "master, but no advert left eth0 in 12s"),
        (vhost(), 1.5, "skipped", "an advert leaves every 1.0s"),
        (vhost(), 2.0, "fail", "master, but no advert left"),
    ],
)
def test_a_slow_master(status: dict[str, Any], seconds: float, verdict: str, text: str) -> None:
    """Its silence means nothing before its next advert is due; the advice listens for long enough."""
    found = _judge(_target(status), replace(_heard(), seconds=seconds), holds=True)["adverts"]
    assert (verdict, True) == (found.verdict.value, text in found.text)
    if status["advbase"] == 10 and verdict == "skipped":
        assert "carp doctor web --listen 12s" == found.advice


@pytest.mark.parametrize(("seconds", "verdict"), [(4.0, "skipped"), (21.0, "fail")])
def test_the_owner_beside_a_slow_master(seconds: float, verdict: str) -> None:
    """Who answers may be a master whose next advert is not due yet."""
    slow = _target(backup(deadTime=60.0, master=seen(advbase=20, lastHeard=15.0)))
    found = _judge(slow, replace(_heard(answers={MASTER_MAC}), seconds=seconds))["owner"]
    assert verdict == found.verdict.value
    if verdict == "skipped":
        assert "the master advertises every 20s, and was not heard in 4.0s" in found.text


@pytest.mark.parametrize(
    ("status", "speakers", "verdict", "text"),
    [
        (vhost(), [OWN, _speaker()], "fail", "several masters advertise vhid 42 at once"),
        (backup(), [_speaker(), _speaker("10.1.1.3", "02:00:00:00:00:03")], "fail", "several masters"),
        # One after the other is a handover; two families of one machine are one master.
        (backup(), [_speaker(last=1.0), _speaker("10.1.1.3", "02::3", first=1.1)], "ok", "a member"),
        (backup(), [_speaker(), _speaker("fe80::2")], "ok", "a member"),
        (backup(master=None), [_speaker()], "fail", "which carpd does not believe"),
        (None, [_speaker()], "warn", "vhid 42 is in use by 10.1.1.2"),
        (vhost(), [OWN, _speaker(last=0.2)], "warn", "not at the same time: a handover?"),
        (None, [], "ok", "nobody else uses vhid 42"),
        (backup(), [_speaker(), _speaker("10.1.1.9", "02::9", protocol="vrrp")], "warn", "speaks VRRP"),
    ],
)
def test_other_speakers(
    status: dict[str, Any] | None, speakers: list[Speaker], verdict: str, text: str
) -> None:
    """Strangers with the same id are told apart from members and from handovers."""
    found = _judge(_target(status), _heard(*speakers))["speakers"]
    assert (verdict, True) == (found.verdict.value, text in found.text)


@pytest.mark.parametrize(
    ("status", "holds", "answers", "verdict", "text"),
    [
        (vhost(), True, {"02::9"}, "fail", "held here, and 02::9 answers for it too"),
        (vhost(), False, set(), "fail", "is not on eth0, though this node is master"),
        (backup(), False, {MASTER_MAC, "02::9"}, "fail", "answered by several"),
        (backup(), False, {"02::9"}, "fail", "answered by 02::9, but the adverts come from 10.1.1.2"),
        (backup(), False, {"00:00:5e:00:01:2a"}, "ok", "answered by the master"),
        (backup(), False, set(), "fail", "nobody answers for 10.1.1.252, though 10.1.1.2"),
    ],
)
def test_owners(status: dict[str, Any], holds: bool, answers: set[str], verdict: str, text: str) -> None:
    """The owner is who answers, and should be who advertises."""
    found = _judge(_target(status), _heard(_speaker(), answers=answers), holds=holds)["owner"]
    assert (verdict, True) == (found.verdict.value, text in found.text)


def test_owners_without_any_advert() -> None:
    """An address that is answered and not advertised is somebody else's; a silent one is free."""
    used = _judge(_target(None), _heard(answers={"02::9"}))["owner"]
    assert ("fail", True) == (used.verdict.value, "which advertises nothing" in used.text)
    free = _judge(_target(None), _heard())["owner"]
    assert ("ok", True) == (free.verdict.value, "nobody answers" in free.text)


@pytest.mark.parametrize(
    ("drift", "verdict", "text"),
    [(0.3, "ok", "within 0.3s"), (-7200.0, "warn", "2h00m behind"), (5400.0, "warn", "1h30m ahead of")],
)
def test_clocks(drift: float, verdict: str, text: str) -> None:
    """The time in a member's counter is compared with this host's clock."""
    found = _judge(_target(backup()), _heard(_speaker(drift=drift), answers={MASTER_MAC}))["clock"]
    assert (verdict, True) == (found.verdict.value, text in found.text)


def test_clocks_of_strangers_mean_nothing() -> None:
    """A ucarp's counter is random, so nothing is compared."""
    stranger = _target(backup(master=seen(sealed=False)))
    assert "skipped" == _judge(stranger, _heard(_speaker(drift=1e6)))["clock"].verdict.value


def test_without_listening_the_reason_is_told() -> None:
    """What could not be done is skipped with the reason; why a vhost takes no part is known all the same."""
    assert {"no ears"} == {each.text for each in _judge(_target(backup()), "no ears").values()}
    trouble = _judge(_target(backup()), _heard(problems={"eth0": "Network is down"}))
    assert {"Network is down"} == {each.text for each in trouble.values()}
    init = _judge(_target(vhost(state="INIT", reason="no carrier")), "no ears")
    assert "the vhost takes no part: no carrier" == init["adverts"].text
