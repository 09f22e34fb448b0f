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
from carp.rtnl import FOR_EVER, Addr, DelLink, Link
from carp.slots import RETRY_AFTER, REWRITE_AFTER, Places, Slot
from pair import address, config

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.events import Event

MAC, OTHER_MAC = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"
NUMBERS = {"eth0": 2, "lan0": 2, "eth1": 3, "ab0": 4}
OWN = Addr(2, address("10.1.1.1"), 24, 0, 0, FOR_EVER)
HELD = Addr(2, address("10.1.1.252"), 32, 0, PROTO_HELD, 2)


class Port:
    """Another vhost's way to its interface."""

    def __init__(self, kernel: Kernel) -> None:
        self.segment: Any = None
        self.release = kernel.release

    def attach(self, segment: Any) -> None:
        self.segment = segment


class Kernel:
    """One interface eth0 with an address of its own; also clock, runner, port and memory."""

    def __init__(self) -> None:
        self.time = 100.0
        self.found = [OWN]
        self.names = ["eth0"]
        self.mac = MAC
        self.refuses: type[Event] | None = None
        self.ran: list[ev.Effect] = []
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
        self.slots = [self.slot]
        self.places = Places(self, self, self, lambda _segment, _receiver: None)  # type: ignore[arg-type]

    def links(self) -> list[Link]:
        return [Link(NUMBERS[name], name, self.mac, 0x41, 1500, 6, "") for name in self.names]

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
        if self.refuses is not None and isinstance(event, self.refuses):
            raise OSError(105, "No buffer space available")

    def run(self, _member: Any, effects: Any) -> None:
        self.ran += effects

    def another(self, **fields: Any) -> Slot:
        """Add a vhost of which no run is remembered."""
        vhost = Vhost(config(**{"name": "other", "vhid": 43} | fields), chance=lambda: 0.0, now=self.time)
        slot = Slot(SimpleNamespace(vhost=vhost), Port(self), None, self)  # type: ignore[arg-type]
        self.slots.append(slot)
        return slot

    def configure(self, **fields: Any) -> None:
        """Give the first vhost, which has not begun, other settings."""
        self.slot.member.vhost = Vhost(config(**fields), chance=lambda: 0.0, now=self.time)
        self.slot.mine = self.left(self.slot.config)

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
        self.places.settle(self.slots, lambda _segment: None)
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


def _master(kernel: Kernel) -> Vhost:
    """Settle a vhost that resumes its lease, and another one that becomes master on its interface."""
    kernel.another(addresses=["10.1.1.251"])
    kernel.found.append(HELD)
    kernel.settle()
    kernel.events.clear()
    return kernel.slot.member.vhost


def test_a_new_mac_is_announced(kernel: Kernel) -> None:
    """A bridge takes that of a new port: the master stays what it is, and says where it is reached now."""
    _master(kernel)
    segment = kernel.segment
    kernel.mac = OTHER_MAC
    kernel.settle()
    assert (State.MASTER, State.BACKUP) == tuple(slot.member.vhost.state for slot in kernel.slots)
    assert ([], []) == (kernel.events, kernel.released)
    assert (segment, OTHER_MAC) == (kernel.segment, segment.mac)
    assert [ev.Announce()] == kernel.ran
    kernel.settle()
    assert [ev.Announce()] == kernel.ran


@pytest.mark.parametrize("why", ["handing over", "lapsed"])
def test_a_new_mac_is_not_announced_for_what_may_be_another_s(kernel: Kernel, why: str) -> None:
    """While it hands over the successor may have announced; a lease that has run out is nobody's."""
    vhost = _master(kernel)
    kernel.mac = OTHER_MAC
    if why == "lapsed":
        kernel.time += 1.0
    else:
        vhost.handle(ev.StepDown(), kernel.time)
    kernel.settle()
    assert (OTHER_MAC, []) == (kernel.segment.mac, kernel.ran)
    assert vhost.master is not None
    assert (why != "lapsed") == vhost.master._hold_later


def test_another_interface_of_the_same_number(kernel: Kernel) -> None:
    """Groups and sockets went with the first one: all vhosts leave it, then they begin on the second."""
    other = kernel.another(addresses=["10.1.1.251"])
    kernel.settle()
    old, kernel.mac, kernel.events = kernel.segment, OTHER_MAC, []
    kernel.places.links.update(DelLink(kernel.links()[0]))
    kernel.settle()
    down, up = ev.LinkDown("interface eth0 changed"), ev.LinkUp((address("10.1.1.1"),))
    assert [down, down, up, up] == kernel.events
    assert old is not kernel.segment
    assert kernel.segment is other.port.segment
    kernel.settle()
    assert [down, down, up, up] == kernel.events


def test_a_number_that_nobody_is_on_is_not_kept(kernel: Kernel) -> None:
    """The ends of pods' cables come and go for months."""
    kernel.settle()
    for number in (2, 7, 8):
        kernel.places.links.update(DelLink(replace(kernel.links()[0], ifindex=number)))
    kernel.places.look()
    assert {2} == kernel.places.links.gone


def test_two_on_an_interface_that_is_renamed(kernel: Kernel) -> None:
    """None of them finds what was opened by the old name."""
    kernel.configure(interface={"pattern": "*"})
    kernel.another(addresses=["10.1.1.251"], interface={"pattern": "*"})
    kernel.settle()
    kernel.names = ["lan0"]
    kernel.settle()
    assert "lan0" == kernel.segment.name
    kernel.events.clear()
    kernel.settle()
    assert [] == kernel.events


@pytest.mark.parametrize(
    "selector", [{"subnet": "auto"}, {"subnet": "10.1.0.0/16"}, {"pattern": "*"}, {"pattern": "*0"}]
)
def test_a_working_interface_is_kept(kernel: Kernel, selector: dict[str, str]) -> None:
    """Another one of that subnet, first by its name, is no reason to let go; nor while the cable is out."""
    kernel.configure(interface=selector)
    kernel.settle()
    kernel.names.append("ab0")
    kernel.found.append(Addr(4, address("10.1.1.9"), 24, 0, 0, FOR_EVER))
    kernel.events.clear()
    kernel.settle()
    assert ([], "eth0") == (kernel.events, kernel.segment.name)
    kernel.has_carrier = False
    assert "interface eth0 has no carrier" == kernel.settle().reason
    kernel.has_carrier = True
    kernel.settle()
    assert "eth0" == kernel.segment.name
    successor = kernel.another(interface=selector)
    successor.inherit(kernel.slot)
    assert 2 == successor.kept
    kernel.found.remove(OWN)
    kernel.settle()
    assert "ab0" == kernel.segment.name


def test_a_link_local_address_is_another_on_each_interface(kernel: Kernel) -> None:
    """That of the one vhost does not hold up the other, which begins later; one of IPv4 does."""
    links = [Addr(number, address(f"fe80::{number}"), 64, 0, 0, FOR_EVER) for number in (2, 3)]
    kernel.names, kernel.found = ["eth0", "eth1"], [*kernel.found, *links]
    kernel.configure(addresses=["fe80::252"])
    kernel.found.append(Addr(2, address("fe80::252"), 128, 0, PROTO_HELD, 2))
    assert State.MASTER is kernel.settle().state
    there = kernel.another(addresses=["fe80::252"], interface="eth1")
    here = kernel.another(addresses=["fe80::252"])
    kernel.settle()
    assert (State.BACKUP, State.INIT) == (there.member.vhost.state, here.member.vhost.state)
    kernel.found += [
        Addr(2, address("169.254.0.9"), 32, 0, PROTO_HELD, 2),
        Addr(3, address("10.1.1.3"), 24, 0, 0, FOR_EVER),
    ]
    v4 = kernel.another(addresses=["169.254.0.9"], interface="eth1", vhid=44)
    kernel.settle()
    assert v4.member.vhost.reason.startswith("address 169.254.0.9 is held by another vhost")


@pytest.mark.parametrize("event", [ev.LinkDown, ev.LinkUp])
def test_it_begins_after_an_error(kernel: Kernel, event: type[Event]) -> None:
    """The kernel takes no message when it lets go, or begins: the next look finds it with its interface."""
    if event is ev.LinkDown:
        kernel.settle()
        kernel.has_carrier = False
    kernel.refuses = event
    with pytest.raises(OSError, match="buffer"):
        kernel.settle()
    vhost, kernel.refuses, kernel.has_carrier, kernel.events = kernel.slot.member.vhost, None, True, []
    vhost.state, vhost.backup = State.INIT, None  # of a LinkUp that has not arrived
    assert kernel.segment is not None
    left = Addr(2, HELD.address, 32, 0, PROTO_HELD, 0)
    kernel.found.append(left)
    assert State.BACKUP is kernel.settle().state
    assert ["10.1.1.252"] == kernel.released
    kernel.found.remove(left)
    kernel.settle()
    assert [ev.LinkUp((address("10.1.1.1"),))] == kernel.events


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
