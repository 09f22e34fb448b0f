"""A vhost and the interface it lives on, with a kernel that answers as told (carp.slots)."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp.core import events as ev
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.fence import RESUME_GRACE
from carp.netlink import PROTO_HELD
from carp.rtnl import FOR_EVER, Addr, Link
from carp.slots import RETRY_AFTER, REWRITE_AFTER, Places, Slot
from pair import address, config

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.events import Event

MAC = b"\2\0\0\0\0\1"
OWN = Addr(2, address("10.1.1.1"), 24, 0, 0, FOR_EVER)
HELD = Addr(2, address("10.1.1.252"), 32, 0, PROTO_HELD, 2)


class Kernel:
    """One interface eth0 with an address of its own; also clock, runner, port and memory."""

    def __init__(self) -> None:
        self.time = 100.0
        self.found = [OWN]
        self.names = ["eth0"]
        self.has_carrier = True
        self.while_reading: Callable[[], None] = lambda: None
        self.events: list[Event] = []
        self.released: list[str] = []
        self.proven, self.full = True, False
        self.segment: Any = None
        settings = config()
        vhost = Vhost(settings, chance=lambda: 0.0, now=self.time)
        self.remembered: list[set[str]] = []
        self.slot = Slot(SimpleNamespace(vhost=vhost), self, self, self)  # type: ignore[arg-type]
        self.places = Places(self, self, self, lambda _segment, _receiver: None)  # type: ignore[arg-type]

    def links(self) -> list[Link]:
        return [Link(2, name, MAC, 0x41, 1500, 6, "") for name in self.names]

    def addresses(self) -> list[Addr]:
        self.while_reading()
        return self.found

    def carrier(self, _name: str) -> bool:
        return self.has_carrier

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def handle(self, member: Any, event: Event) -> None:
        self.events.append(event)
        member.vhost.handle(event, self.time)

    def attach(self, segment: Any) -> None:
        self.segment = segment

    def release(self, vips: Any) -> None:
        self.released += [str(vip.ip) for vip in vips]

    def proves(self, _config: Any) -> bool:
        return self.proven

    def content(self, _config: Any, _seal: Any, addresses: Any) -> set[str]:
        return {str(ip) for ip in addresses}

    def left(self, settings: Any) -> Any:
        return {vip.ip for vip in settings.addresses}

    def put(self, _memory: Any, content: set[str], done: Callable[[OSError | None], None]) -> None:
        if not self.full:
            self.remembered.append(content)
        done(OSError(28, "No space left on device") if self.full else None)

    def settle(self) -> Vhost:
        self.places.settle([self.slot], lambda _segment: None)
        return self.slot.member.vhost


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel on which sockets open without one."""
    receiver = SimpleNamespace(join=lambda _: None, leave_all_but=lambda _: None, close=lambda: None)
    monkeypatch.setattr("carp.segment.Receiver", lambda *_: receiver)
    monkeypatch.setattr("carp.slots.supports_proto", lambda _: True)
    return Kernel()


def test_it_begins_as_backup(kernel: Kernel) -> None:
    """The interface is there, and nothing was left behind."""
    assert State.BACKUP is kernel.settle().state
    assert [ev.LinkUp((address("10.1.1.1"),))] == kernel.events
    assert [] == kernel.released


def test_a_lease_that_is_still_held_is_resumed(kernel: Kernel) -> None:
    """It counts from when the kernel was asked, for half a second."""
    kernel.found.append(HELD)
    assert State.MASTER is kernel.settle().state
    assert [ev.Resume((address("10.1.1.1"),), 100.0 + RESUME_GRACE)] == kernel.events


def test_a_stop_between_reading_and_resuming_proves_nothing_longer(kernel: Kernel) -> None:
    """The process stands still for 3 s right after the kernel's answer: the lease has lapsed long since.

    It would otherwise be master for half a second of an address that another node may have by then.
    """

    def stop() -> None:
        kernel.time = 103.0

    kernel.found.append(HELD)
    kernel.while_reading = stop
    vhost = kernel.settle()
    assert [ev.Resume((address("10.1.1.1"),), 100.0 + RESUME_GRACE)] == kernel.events
    assert 100.0 + RESUME_GRACE == vhost.lapses_at
    assert not [e for e in vhost.handle(ev.Stalled(), kernel.time) if isinstance(e, ev.Send)]
    assert State.BACKUP is vhost.state


@pytest.mark.parametrize("why", ["not proven", "overdue"])
def test_what_is_not_ours_for_certain_is_cleaned_up(kernel: Kernel, why: str) -> None:
    """Another password in the last run, or no lifetime left: deleted, and the vhost begins as backup."""
    kernel.proven = why != "not proven"
    kernel.found.append(HELD if why == "not proven" else Addr(2, HELD.address, 32, 0, PROTO_HELD, 0))
    assert State.BACKUP is kernel.settle().state
    assert ["10.1.1.252"] == kernel.released


@pytest.mark.parametrize("valid", [2, 600, FOR_EVER])
def test_what_another_process_holds_is_left_alone(kernel: Kernel, valid: int) -> None:
    """Nothing tells that the last run had it: the vhost waits and says for what, and begins when it is gone.

    A VirtualIP with the address of a static pod beside it would else delete the API server's address.
    """
    kernel.slot.mine = set()
    held = replace(HELD, valid=valid)
    kernel.found.append(held)
    vhost = kernel.settle()
    why = "address 10.1.1.252 is held by another vhost or carp process on this host"
    assert (State.INIT, why) == (vhost.state, vhost.reason)
    assert ([], [], None) == (kernel.released, kernel.remembered, kernel.segment)
    kernel.found.remove(held)
    assert State.BACKUP is kernel.settle().state
    assert [{"10.1.1.252"}] == kernel.remembered


def test_it_remembers_what_it_may_leave_behind(kernel: Kernel) -> None:
    """Before it begins, so that a run after a crash knows; without a script of its own there is nothing."""
    kernel.slot.mine = set()
    kernel.settle()
    assert [{"10.1.1.252"}] == kernel.remembered


def test_it_waits_and_says_for_what(kernel: Kernel) -> None:
    """No interface, no carrier by the driver's word; it joins when both are there."""
    kernel.names = []
    assert (State.INIT, "interface eth0 does not exist") == (
        kernel.settle().state,
        kernel.slot.member.vhost.reason,
    )
    kernel.names, kernel.has_carrier = ["eth0"], False
    assert "interface eth0 has no carrier" == kernel.settle().reason
    kernel.has_carrier = True
    assert State.BACKUP is kernel.settle().state


def test_a_lost_interface_is_let_go(kernel: Kernel) -> None:
    """Its sockets are closed with the last vhost on it; the other links are known all the same."""
    kernel.settle()
    assert [2] == list(kernel.places.segments)
    kernel.names = ["eth1"]
    assert State.INIT is kernel.settle().state
    assert {} == kernel.places.segments
    assert None is kernel.segment
    assert ["eth1"] == [link.name for link in kernel.places.links.shown()]


def test_a_stopped_vhost_stays_where_it_is(kernel: Kernel) -> None:
    """Nothing begins in the middle of the end."""
    kernel.slot.member.vhost.stopped = True
    assert State.INIT is kernel.settle().state
    assert [] == kernel.events


def test_a_withdrawn_vhost_keeps_its_interface_for_its_checks(kernel: Kernel) -> None:
    """It is put onto one that was made anew, or a check of a gateway could never be well again; not more."""
    kernel.settle()
    kernel.slot.withdrawn = "all health checks fail"
    kernel.slot.member.vhost.handle(ev.Stop(), kernel.time)
    kernel.names = []
    assert "interface eth0 does not exist" == kernel.settle().reason
    assert {} == kernel.places.segments
    kernel.names, kernel.found, kernel.events = ["eth0"], [*kernel.found, HELD], []
    vhost = kernel.settle()
    assert (State.INIT, "all health checks fail") == (vhost.state, vhost.reason)
    assert [2] == list(kernel.places.segments)
    assert ([], []) == (kernel.events, kernel.released)


def test_a_disk_that_refuses_costs_only_the_memory(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once for each reason, and tried again soon; with room again it is written as ever."""
    kernel.full = True
    with caplog.at_level(logging.WARNING):
        kernel.slot.remember(kernel)
        kernel.slot.remember(kernel)
    assert 1 == caplog.text.count("cannot store the runtime state")
    assert 100.0 + RETRY_AFTER == kernel.slot.rewrite_at
    kernel.full = False
    kernel.slot.remember(kernel)
    assert (100.0 + REWRITE_AFTER, "") == (kernel.slot.rewrite_at, kernel.slot.unwritten)
