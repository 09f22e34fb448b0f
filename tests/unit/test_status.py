"""What carpd shows of a vhost and of interfaces (carp.daemon.status)."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from carp.core import events as ev
from carp.core.seal import from_wall
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.daemon.status import link_status, memory_problems, segment_status, some, vhost_status
from carp.hostlinks import HostLink
from carp.links import Place
from carp.segment import Segment
from fakecarpd import seen
from fakecarpd import vhost as shown
from pair import WALL, address, config, plain, sealed

US, US6, OTHER = address("10.1.1.1"), address("fe80::1"), address("10.1.1.2")


def _slot(**fields: Any) -> Any:
    """Return a backup that nothing has reached."""
    settings = config(**fields)
    vhost = Vhost(settings, chance=lambda: 0.0, now=100.0)
    vhost.handle(ev.LinkUp(tuple(US if family == 4 else US6 for family in settings.families)), 100.0)
    member = SimpleNamespace(vhost=vhost, problem="", sent_at=100.0)
    return SimpleNamespace(member=member, config=settings, port=SimpleNamespace(segment=None))


def _status(slot: Any, now: float = 101.0) -> dict[str, Any]:
    return vhost_status(slot, "file", now)


def test_the_fields_are_those_of_the_fake() -> None:
    """The fake that the commands are tested with has the same, in the same order."""
    slot = _slot()
    slot.member.vhost.handle(ev.Heard(plain(slot.config), OTHER), 100.5)
    status = _status(slot)
    assert list(shown()) == list(status)
    assert list(seen()) == list(status["master"])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {"mode": "Multicast", "sources": ["10.1.1.1"], "group4": "224.0.0.18"}),
        (
            {"addresses": ["10.1.1.252", "fd00::252"], "transport": {"group6": "ff02::99"}},
            {
                "mode": "Multicast", "sources": ["10.1.1.1", "fe80::1"],
                "group4": "224.0.0.18", "group6": "ff02::99",
            },
        ),
        (
            {"transport": {"mode": "Broadcast"}},
            {"mode": "Broadcast", "sources": ["10.1.1.1"], "group4": "224.0.0.18"},
        ),
        (
            {"transport": {"mode": "Unicast", "peers": ["10.1.1.2", "10.1.1.3"]}},
            {"mode": "Unicast", "sources": ["10.1.1.1"], "peers": ["10.1.1.2", "10.1.1.3"]},
        ),
    ],
)  # fmt: skip
def test_transport(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    """Where adverts go, by family in use, and where they come from."""
    assert expected == _status(_slot(**fields))["transport"]


@pytest.mark.parametrize(
    ("ahead", "skew"), [(0, None), (659, None), (-59, None), (661, 661), (3900, 3900), (-61, -61)]
)
def test_a_far_clock_is_told(monkeypatch: pytest.MonkeyPatch, ahead: float, skew: int | None) -> None:
    """By the time in the seal of the last advert; as of when it was heard."""
    monkeypatch.setattr(time, "time", lambda: WALL + 10.0)
    slot = _slot()
    slot.member.vhost.handle(ev.Heard(sealed(slot.config, str(OTHER), from_wall(WALL + ahead)), OTHER), 101.0)
    assert skew == _status(slot, 111.0)["clockSkew"]


def test_an_unsealed_counter_is_no_clock() -> None:
    """A ucarp's begins at random."""
    slot = _slot()
    slot.member.vhost.handle(ev.Heard(plain(slot.config, counter=1 << 60), OTHER), 101.0)
    assert None is _status(slot)["clockSkew"]


def test_an_error_is_one_line() -> None:
    """Why it takes no part, or what does not leave, or who has the address; empty where all is well."""
    slot = _slot()
    assert "" == _status(slot)["error"]
    _claim(slot)
    slot.member.sent_at, slot.member.problem = None, "cannot send on eth0: no buffer"
    assert "cannot send on eth0: no buffer" == _status(slot)["error"]
    slot.member.vhost.handle(ev.LinkDown("interface eth0 does not exist"), 102.0)
    assert "interface eth0 does not exist" == _status(slot)["error"]


def _claim(slot: Any) -> None:
    """Let a backup that hears nobody become master."""
    vhost = slot.member.vhost
    while vhost.state is not State.MASTER:
        vhost.tick(vhost.deadline())


def test_what_did_not_leave_is_over_with_the_mastership() -> None:
    """A backup sends nothing, so what was in the way of its last advert says nothing of now."""
    slot = _slot()
    _claim(slot)
    slot.member.sent_at, slot.member.problem = None, "cannot send on eth0: no buffer"
    told = _status(slot)
    assert ("MASTER", "cannot send on eth0: no buffer") == (told["state"], told["sendProblem"])
    slot.member.vhost.handle(ev.LeaseLapsed(), 200.0)
    told = _status(slot)
    assert ("BACKUP", "", "") == (told["state"], told["sendProblem"], told["error"])


def test_a_conflict_is_an_error() -> None:
    """It names address and MAC."""
    slot = _slot()
    slot.member.vhost.backup.listening.conflict = address("10.1.1.252"), b"\2\0\0\0\0\7"
    assert _status(slot)["error"].startswith("address 10.1.1.252 is in use by 02:00:00:00:00:07")


def test_interfaces_and_links() -> None:
    """An interface in use has what was heard there; any has what it takes to place a vhost."""
    link = HostLink("eth0", b"\2\0\0\0\0\1", 1500, carrier=True, addresses=("10.1.1.1/24",))
    facts = {"mac": "02:00:00:00:00:01", "mtu": 1500, "carrier": True, "addresses": ["10.1.1.1/24"]}
    assert {"name": "eth0", **facts} == link_status(link)
    segment = Segment(Place(2, "eth0", b"\2\0\0\0\0\1", (US,)))
    expected = {"interface": "eth0", **facts, "vhids": [], "drops": {}, "foreign": [{"id": 7}]}
    assert expected == segment_status(segment, link, [{"id": 7}])
    unknown = segment_status(segment, None, [])
    assert (None, None, []) == (unknown["mtu"], unknown["carrier"], unknown["addresses"])


def test_what_a_restart_could_not_resume() -> None:
    """A vhost without runtime state, and one whose disk refuses it; not one whose state is stored."""
    slots = []
    for name, memory, unwritten in (("well", True, ""), ("none", None, ""), ("full", True, "no space")):
        slots.append(_slot(name=name))
        slots[-1].memory, slots[-1].unwritten = memory, unwritten
    assert [
        "none: no runtime state: a restart will not resume",
        "full: cannot store the runtime state: no space",
    ] == memory_problems(slots)


@pytest.mark.parametrize(
    ("most", "count", "expected"),
    [(3, None, "a b c"), (2, None, "a: and 2 more"), (3, 3, "a b c"), (3, 9, "a b: and 7 more")],
)
def test_some_of_many_lines(most: int, count: int | None, expected: str) -> None:
    """The last line says how many are missing; what fits is told whole."""
    assert expected == " ".join(some(["a", "b", "c"], most, count, where=": ")).replace(" : ", ": ")
