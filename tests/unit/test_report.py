"""What is logged, how often, and the line for SIGUSR1."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from carp.core import events as ev
from carp.core.errors import DropReason
from carp.core.transitions import Cause, State
from carp.rawsock import Packet
from carp.report import Reporter, describe, restored, verdict, withdrawn
from pair import address, backup, config, plain

PACKET = Packet(address("10.1.1.2"), 255, bytes(36))


@pytest.fixture(autouse=True)
def _log_level(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("carp").propagate = True
    caplog.set_level(logging.DEBUG, logger="carp")


def _fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    fields: dict[str, Any] = caplog.records[-1].__dict__["fields"]
    return fields


def test_a_change_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """States, cause and peer, for people and as fields."""
    _, station = backup(config())
    effect = ev.Changed(State.BACKUP, State.MASTER, Cause.BOW_OUT, "10.1.1.2")
    Reporter().saw(station.vhost, effect)
    assert ["BACKUP -> MASTER (bow-out, 10.1.1.2)"] == caplog.messages
    assert logging.INFO == caplog.records[0].levelno
    expected = {
        "vhost": "ingress", "event": "state", "old": "BACKUP", "new": "MASTER",
        "cause": "bow-out", "peer": "10.1.1.2",
    }  # fmt: skip
    assert expected == _fields(caplog)


def test_a_change_tells_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    """Why a vhost waits stands behind."""
    line, station = backup(config())
    (changed,) = line.give(station, ev.LinkDown("interface eth0 is down"))
    Reporter().saw(station.vhost, changed)
    assert ["BACKUP -> INIT (link-down) interface eth0 is down"] == caplog.messages


@pytest.mark.parametrize(("warning", "level"), [(True, logging.WARNING), (False, logging.INFO)])
def test_a_notice(caplog: pytest.LogCaptureFixture, warning: bool, level: int) -> None:
    """Its code is the event's name."""
    Reporter().saw(backup(config())[1].vhost, ev.Notice("conflict", "some text", warning))
    assert [("carp", level, "some text")] == caplog.record_tuples
    assert {"vhost": "ingress", "event": "conflict"} == _fields(caplog)


def test_a_verdict_of_a_health_check_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """What it costs and what was seen; a demotion is a warning, its end is not."""
    verdict("ingress", "health:app", 40, "refused")
    expected = {"vhost": "ingress", "event": "health", "check": "app", "demotion": 40, "detail": "refused"}
    assert expected == _fields(caplog)
    verdict("ingress", "health:app", 0, "answers")
    assert [
        ("carp", logging.WARNING, "health check app demotes by 40: refused"),
        ("carp", logging.INFO, "health check app does not demote: answers"),
    ] == caplog.record_tuples


def test_a_withdrawal_and_its_end_tell_their_cause(caplog: pytest.LogCaptureFixture) -> None:
    """One line each, with the cause as a field."""
    withdrawn("ingress", "all health checks fail")
    assert {"vhost": "ingress", "event": "withdrawn", "cause": "all health checks fail"} == _fields(caplog)
    restored("ingress", "a health check is up again")
    assert {"vhost": "ingress", "event": "restored", "cause": "a health check is up again"} == _fields(caplog)
    assert [
        ("carp", logging.WARNING, "withdrawn: all health checks fail"),
        ("carp", logging.INFO, "restored: a health check is up again"),
    ] == caplog.record_tuples


def test_the_end_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """Stopped is told; effects that are work are not."""
    reporter, vhost = Reporter(), backup(config())[1].vhost
    for effect in (ev.Send(), ev.Stopped(), ev.Dropped(DropReason.HMAC)):
        reporter.saw(vhost, effect)
    assert ["stopped"] == caplog.messages


@pytest.mark.parametrize("reason", list(DropReason))
def test_each_drop_reason_is_told(caplog: pytest.LogCaptureFixture, reason: DropReason) -> None:
    """With source and interface; what a healthy segment shows is for debugging only."""
    Reporter().dropped("eth0", 42, PACKET, reason)
    (record,) = caplog.records
    assert record.getMessage().startswith("advert of vhid 42 from 10.1.1.2 on eth0 not believed: ")
    ordinary = {DropReason.VRRP, DropReason.VHID, DropReason.LOOP, DropReason.INACTIVE}
    assert (logging.DEBUG if reason in ordinary else logging.WARNING) == record.levelno
    assert (reason.value, "10.1.1.2", 42) == tuple(_fields(caplog)[k] for k in ("reason", "source", "vhid"))


def test_a_packet_without_vhid(caplog: pytest.LogCaptureFixture) -> None:
    """What is no advert is a packet."""
    Reporter().dropped("eth0", None, PACKET, DropReason.CHECKSUM)
    assert ["packet from 10.1.1.2 on eth0 not believed: wrong checksum"] == caplog.messages


def test_what_is_not_shown_is_not_counted(caplog: pytest.LogCaptureFixture) -> None:
    """Below the log's level a drop costs nothing."""
    reporter = Reporter()
    caplog.set_level(logging.INFO, logger="carp")
    reporter.dropped("eth0", 42, PACKET, DropReason.VRRP)
    caplog.set_level(logging.DEBUG, logger="carp")
    reporter.dropped("eth0", 42, PACKET, DropReason.VRRP)
    assert 1 == len(caplog.messages)


def test_at_most_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Per reason and source; what was kept back is counted."""
    now = [1000.0]
    monkeypatch.setattr("carp.report.time.monotonic", lambda: now[0])
    reporter, vhost = Reporter(), backup(config())[1].vhost
    for _ in range(5):
        reporter.dropped("eth0", 42, PACKET, DropReason.HMAC)
        reporter.send_failed(vhost, "cannot send on eth0: Network is down")
    assert 2 == len(caplog.messages)
    reporter.dropped("eth0", 42, PACKET._replace(source=address("10.1.1.3")), DropReason.HMAC)
    assert 3 == len(caplog.messages)
    now[0] += 61.0
    reporter.send_failed(vhost, "cannot send on eth0: Network is down")
    assert "cannot send on eth0: Network is down (4 more in the last minute)" == caplog.messages[-1]


def test_the_line_for_sigusr1() -> None:
    """State, interface, vhid in ucarp's order, then since when, why, demotions, who was heard."""
    line, station = backup(config(advskew=3))
    assert "BACKUP on eth0 id 42, for 2.5 s" == describe(station.vhost.snapshot(), "eth0", line.now + 2.5)
    line.hear(station, plain(config(), 1, 9), "10.1.1.2")
    line.give(station, ev.Demote("health", 7))
    expected = "BACKUP on eth0 id 42, for 0.0 s, demoted: health 7, last heard 10.1.1.2 (1/9) 0.0 s ago"
    assert expected == describe(station.vhost.snapshot(), "eth0", line.now)
    line.give(station, ev.LinkDown("interface eth0 does not exist"))
    shown = describe(station.vhost.snapshot(), "", line.now)
    assert shown.startswith("INIT on no interface id 42, for 0.0 s, interface eth0 does not exist")


def test_the_line_names_a_conflict() -> None:
    """Who answers for our address stands at the end."""
    line, station = backup(config())
    for _ in range(200):
        line.run(0.05)
        line.give(station, ev.Answered(address("10.1.1.252"), b"\2\0\0\0\0\7"))
    shown = describe(station.vhost.snapshot(), "eth0", line.now)
    assert shown.endswith(", address in use by 02:00:00:00:00:07")
