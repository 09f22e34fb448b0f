"""Each vhost of the engine and the interface it lives on: found, lost, changed, resumed.

Level-triggered: whatever the kernel reports, the links and addresses are read again and each vhost is put
where they say.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.config import Transport
from carp.core.leaving import Purpose
from carp.core.transitions import State
from carp.fence import RESUME_GRACE, lease_left
from carp.hostlinks import HostLinks
from carp.links import Inventory, Place, resolve
from carp.netlink import supports_proto
from carp.segment import LinkPort, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.netlink import Netlink
    from carp.ports import Clock
    from carp.rawsock import Receiver
    from carp.runner import Member, Runner
    from carp.scribe import Scribe
    from carp.state import Memory

log: Final = logging.getLogger("carp.slots")
LOOK_AFTER: Final = 5.0
"""s between two looks at the host without a cause: the kernel does not tell us of leases that are renewed."""
REWRITE_AFTER: Final = 240.0
"""s between two writes of a vhost's floors: less than half of what `Seal.reserve` writes ahead. Floors heard
since are lost by a crash; the next advert of a living master, half a second later, sets them again."""
RETRY_AFTER: Final = 1.0
"""s until floors that the disk refused are written again: after a crash the old ones would be sent twice."""
_TOO_MANY_GROUPS: Final = "more multicast groups than net.ipv4.igmp_max_memberships allows"


@dataclass(slots=True, eq=False)
class Slot:
    """One vhost with everything that belongs to it."""

    member: Member
    port: LinkPort
    memory: Memory | None
    scribe: Scribe
    mine: set[Address] = field(default_factory=set)
    """Addresses that this vhost has put onto the host, or its last run may have left there."""
    kept: int = 0
    """The index of the interface that it was put onto last, which it keeps while its selector fits it."""
    inherits: bool = False
    """It comes in the place of one with the same addresses, whose lease it may resume."""
    rewrite_at: float = 0.0
    """When its floors are due to be written again."""
    unwritten: str = ""
    """Why the disk refused them the last time."""
    withdrawn: str = ""
    """Why it must not take part, whatever the link says."""
    failed_at: float | None = field(default=None)
    """When an error of our own made it start over."""

    def __post_init__(self) -> None:
        """Take over what the last run may have left."""
        if self.memory is not None:
            self.mine = self.memory.left(self.config)

    def inherit(self, old: Slot) -> None:
        """Come in the place of a vhost of the same addresses that has stopped: what it left is ours."""
        self.inherits, self.kept = True, old.kept
        self.mine |= {vip.ip for vip in old.config.addresses}

    def remember(self, clock: Clock, *, at_end: bool = False) -> None:
        """Store a floor for the seal, exact at the end, soon. A disk that refuses costs only the memory."""
        if self.memory is None:
            return
        seal = self.member.vhost.signer.seal
        if at_end:
            seal.close()
        else:
            seal.reserve(clock.wall())
        self.rewrite_at = clock.now() + REWRITE_AFTER
        content = self.memory.content(self.config, seal, self.mine)
        self.scribe.put(self.memory, content, lambda problem: self._remembered(clock, problem))

    def _remembered(self, clock: Clock, problem: OSError | None) -> None:
        text = "" if problem is None else str(problem)
        if problem is not None:
            self.rewrite_at = clock.now() + RETRY_AFTER
            if text != self.unwritten:
                log.warning("%s: cannot store the runtime state: %s", self.config.name, text)
        self.unwritten = text

    @property
    def is_going(self) -> bool:
        """Whether it was told to stop, or has."""
        vhost = self.member.vhost
        leaving = None if vhost.master is None else vhost.master.leaving
        return vhost.stopped or (leaving is not None and leaving.purpose is Purpose.STOP)

    @property
    def config(self) -> VhostConfig:
        """The settings in force."""
        return self.member.vhost.config


class Places:
    """Puts vhosts onto interfaces."""

    def __init__(
        self, netlink: Netlink, runner: Runner, clock: Clock, opened: Callable[[Segment, Receiver], None]
    ) -> None:
        """Begin without interfaces; ``opened`` is told of each new receiver."""
        self.segments: dict[int, Segment] = {}
        self._netlink = netlink
        self._runner = runner
        self._clock = clock
        self._opened = opened
        self._has_proto = supports_proto(netlink)
        self.links = HostLinks(has_proto=self._has_proto, now=clock.now)
        self._looked_at = 0.0

    def inventory(self) -> Inventory:
        """Read the links and addresses. Raises OSError; then nothing is known and nothing may change."""
        links, addresses = self._netlink.links(), self._netlink.addresses()
        self.links.replace(links, addresses)
        return Inventory(links, addresses, self._has_proto)

    def look(self) -> None:
        """Read the host again from time to time, for who wants to know of other processes' addresses."""
        self.links.gone.intersection_update(self.segments)
        now = self._clock.now()
        if self.links.wanted and now - self._looked_at > LOOK_AFTER:
            self._looked_at = now
            with contextlib.suppress(OSError):  # unknown is not empty
                self.inventory()

    def settle(self, slots: Iterable[Slot], closing: Callable[[Segment], None]) -> None:
        """Put every slot where the kernel's present state says.

        All leave an interface that has changed before any begins on it, or its old sockets would stay.
        """
        # A proof is as old as what it was read from: a stop after the reading must not make it younger.
        read_at = self._clock.now()
        inventory = self.inventory()
        staying: list[tuple[Slot, Place]] = []
        for slot in slots:
            if slot.member.vhost.stopped and not slot.withdrawn:
                continue
            place = self._place(slot, inventory)
            if isinstance(place, str):
                self.detach(slot, place, closing)
                continue
            old = slot.port.segment
            if old is not None and not self._is_on(old, place):
                self.detach(slot, f"interface {old.name} changed", closing)
            staying.append((slot, place))
        self.links.gone.clear()
        for segment in _take_over_macs(staying):
            self._announce_anew(segment)
        for slot, place in staying:
            self._attach(slot, place, inventory, read_at, closing)

    def _place(self, slot: Slot, inventory: Inventory) -> Place | str:
        place = resolve(slot.config, inventory, slot.kept)
        if isinstance(place, str):
            return place
        if not self._has_carrier(slot.config, place.name):
            return f"interface {place.name} has no carrier"
        begins = slot.port.segment is None and not slot.member.vhost.stopped
        if begins and slot.config.manage:
            return _held_by_another(slot, place, inventory) or place
        return place

    def _is_on(self, segment: Segment, place: Place) -> bool:
        """Whether it is still that interface, not another of the same number."""
        same = (segment.ifindex, segment.name) == (place.ifindex, place.name)
        return same and segment.ifindex not in self.links.gone

    def _announce_anew(self, segment: Segment) -> None:
        """Have the masters on an interface with a new MAC say so: neighbours have the old one."""
        for member in list(segment.members.values()):
            vhost, now = member.vhost, self._clock.now()
            if vhost.master is None or now > vhost.lapses_at:
                continue
            if vhost.master.leaving is None:
                self._runner.run(member, vhost.master.announce(now))
            elif vhost.config.manage:
                vhost.master.hold(now)  # announced if it stays: its successor may have done so by now

    def _has_carrier(self, config: VhostConfig, name: str) -> bool:
        """Ask the driver: flags can be a second old."""
        return config.ignore_link_state or self._netlink.carrier(name) is not False

    def check_carriers(
        self, due: Iterable[Slot], slots: Iterable[Slot], closing: Callable[[Segment], None]
    ) -> None:
        """Ask the drivers: a master that is due and has no carrier lets go before it would send (rule 3)."""
        asked: set[Segment | None] = {None}
        for slot in due:
            segment = slot.port.segment
            if segment in asked or slot.member.vhost.master is None or slot.config.ignore_link_state:
                continue
            asked.add(segment)
            if segment is not None and self._netlink.carrier(segment.name) is False:
                self._cut(segment, slots, closing)

    def _cut(self, segment: Segment, slots: Iterable[Slot], closing: Callable[[Segment], None]) -> None:
        for slot in slots:
            if slot.port.segment is segment and not slot.config.ignore_link_state:
                self.detach(slot, f"interface {segment.name} has no carrier", closing)

    def holders(self, ifindex: int, address: Address) -> list[Member]:
        """Return the vhosts on an interface that hold an address."""
        segment = self.segments.get(ifindex)
        members = () if segment is None else segment.members.values()
        found = [m for m in members if m.vhost.holds]
        return [m for m in found if address in (vip.ip for vip in m.vhost.config.addresses)]

    def detach(self, slot: Slot, reason: str, closing: Callable[[Segment], None]) -> None:
        """Take a vhost off its interface; a master lets go of its addresses first."""
        self._runner.handle(slot.member, ev.LinkDown(reason))
        segment = slot.port.segment
        if segment is None:
            return
        slot.port.attach(None)
        segment.members.pop(slot.config.vhid, None)
        if slot.config.transport != Transport():  # the ordinary group's sockets are everybody's
            segment.tidy()
        if not segment.members:
            closing(segment)
            segment.close()
            del self.segments[segment.ifindex]

    def _attach(
        self,
        slot: Slot,
        place: Place,
        inventory: Inventory,
        read_at: float,
        closing: Callable[[Segment], None],
    ) -> None:
        vhost = slot.member.vhost
        if slot.port.segment is not None:
            if vhost.state is State.INIT and not vhost.stopped:
                # An error kept it from beginning, or from letting go: so it may have its addresses still.
                self._start(slot, place, inventory, read_at)
            elif vhost.sources != place.sources:
                self._runner.handle(slot.member, ev.LinkUp(place.sources))
            return
        problem = self._open(slot, place)
        if problem:
            self.detach(slot, problem, closing)
        elif vhost.stopped:
            # Withdrawn: only its checks need the interface, or they would never find that all is well again.
            vhost.reason = slot.withdrawn
        else:
            self._start(slot, place, inventory, read_at)

    def _open(self, slot: Slot, place: Place) -> str:
        """Give a slot its segment and sockets; return what went wrong."""
        segment = self.segments.get(place.ifindex)
        if segment is None:
            segment = self.segments[place.ifindex] = Segment(place)
        holder = segment.members.get(slot.config.vhid)
        if holder is not None:
            other = holder.vhost.config.name
            return f"vhid {slot.config.vhid} is used on interface {place.name} by {other}"
        segment.members[slot.config.vhid] = slot.member
        slot.port.attach(segment)
        slot.kept = place.ifindex
        return self._join(segment, slot.config)

    def _join(self, segment: Segment, config: VhostConfig) -> str:
        try:
            for receiver in segment.join(config):
                self._opened(segment, receiver)
        except OSError as error:
            why = _TOO_MANY_GROUPS if error.errno == errno.ENOBUFS else error.strerror or error
            return f"cannot listen on {segment.name}: {why}"
        return ""

    def listen(self, slot: Slot, config: VhostConfig) -> str:
        """Listen already for what new settings need: another family, another group; return why that fails."""
        return "" if slot.port.segment is None else self._join(slot.port.segment, config)

    def tidy(self, slot: Slot, old: VhostConfig) -> None:
        """Give back what a vhost needed with its old settings."""
        # It looks at every vhost, and hundreds may change at once.
        if slot.port.segment is not None and slot.config.transport != old.transport:
            slot.port.segment.tidy()

    def _start(self, slot: Slot, place: Place, inventory: Inventory, read_at: float) -> None:
        """Resume a proven lease, else clean up what an earlier run left and begin as backup."""
        config = slot.config
        vips = {vip.ip: vip for vip in config.addresses}
        proven = slot.inherits or (slot.memory is not None and slot.memory.proves(config))
        slot.mine = set(vips) if config.manage else set()
        # Before anything is sent: the floors are reserved with it.
        slot.remember(self._clock)
        if not config.manage:
            self._runner.handle(slot.member, ev.LinkUp(place.sources))
            return
        left = inventory.left_behind(place.ifindex, config)
        if config.fenced and self._has_proto and proven and lease_left(config.addresses, left):
            log.info("%s: the kernel still holds our lease: resuming as master", config.name)
            self._runner.handle(slot.member, ev.Resume(place.sources, read_at + RESUME_GRACE))
            return
        if left:
            log.info("%s: deleting addresses that an earlier run left behind", config.name)
            slot.port.release([vips[a.address] for a in left])
        self._runner.handle(slot.member, ev.LinkUp(place.sources))


def _take_over_macs(staying: Iterable[tuple[Slot, Place]]) -> list[Segment]:
    """Give each interface in use the MAC that it has now, and return those where it was another."""
    moved = []
    for slot, place in staying:
        segment = slot.port.segment
        if segment is not None and segment.mac != place.mac:
            segment.mac = place.mac
            log.info("interface %s has another MAC now: %s", segment.name, place.mac.hex(":"))
            moved.append(segment)
    return moved


def _held_by_another(slot: Slot, place: Place, inventory: Inventory) -> str | None:
    """Return why an address is not ours to touch: who put it there is alive, or its lease still runs.

    A second carpd on this host, such as a static pod beside the DaemonSet's, has its own addresses; to delete
    one of those would be an outage.
    """
    for vip in slot.config.addresses:
        if vip.ip not in slot.mine and inventory.marked(vip.ip, place.ifindex):
            return f"address {vip.ip} is held by another vhost or carp process on this host"
    return None
