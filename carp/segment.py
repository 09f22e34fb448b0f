"""One interface in use: its sockets, the vhosts on it by vhid, and each vhost's port to it."""

from __future__ import annotations

import logging
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carp import announce
from carp.core.config import TransportMode
from carp.core.wire import PROTOCOL, TTL
from carp.rawsock import Receiver, Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.auth import Address
    from carp.core.config import VhostConfig, Vip
    from carp.core.errors import DropReason
    from carp.fence import Fence
    from carp.links import Place
    from carp.runner import Member

log: Final = logging.getLogger("carp.segment")
_BROADCAST_MAC: Final = b"\xff" * 6
_IPV4: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV4_WORDS: Final = struct.Struct("!10H")
_DONT_FRAGMENT: Final = 0x4000
_ETHERTYPE_IPV4: Final = b"\x08\x00"


class Segment:
    """The sockets of one interface, opened as vhosts need them."""

    def __init__(self, place: Place) -> None:
        """Open nothing yet."""
        self.ifindex = place.ifindex
        self.name = place.name
        self.mac = place.mac
        self.members: dict[int, Member] = {}
        self.drops: Counter[DropReason] = Counter()
        self.receivers: dict[int, Receiver] = {}
        self.listener: announce.FrameSocket | None = None
        self._senders: dict[tuple[Address, Address], Sender] = {}
        self._frames: announce.FrameSocket | None = None

    def join(self, config: VhostConfig) -> list[Receiver]:
        """Listen for a vhost's adverts; return the receivers that are new. Raises OSError.

        Groups that no vhost needs any more are left where the kernel allows no more.
        """
        fresh = []
        try:
            for version in config.families:
                if version not in self.receivers:
                    self.receivers[version] = Receiver(version, self.name, self.ifindex)
                    fresh.append(self.receivers[version])
                self._join(self.receivers[version], config, version)
        except OSError:
            for receiver in fresh:  # nobody would read them
                receiver.close()
                del self.receivers[receiver.version]
            raise
        return fresh

    def _join(self, receiver: Receiver, config: VhostConfig, version: int) -> None:
        own, *listen = _groups(config, version)
        try:
            receiver.join([*listen, own])
        except OSError:
            receiver.leave_all_but({*self._wanted(version), *listen, own}, spare=0)
            receiver.join(listen)
            try:
                receiver.join([own])
            except OSError:
                # What comes to a member alone needs no group.
                if config.transport.mode is not TransportMode.UNICAST:
                    raise

    def _wanted(self, version: int) -> set[Address]:
        return {g for member in self.members.values() for g in _groups(member.vhost.config, version)}

    def tidy(self) -> None:
        """Close what the settings of no vhost need any more: sockets to old peers, too many old groups."""
        for version, receiver in self.receivers.items():
            receiver.leave_all_but(self._wanted(version))
        wanted = {
            (source, destination)
            for member in self.members.values()
            for source in member.vhost.sources
            for destination in destinations(member.vhost.config, source)
        }
        for key in self._senders.keys() - wanted:
            self._senders.pop(key).close()

    def sender(self, source: Address, destination: Address) -> Sender:
        """Return the socket that sends from a source to a group or peer. Raises OSError."""
        sender = self._senders.get((source, destination))
        if sender is None:
            sender = Sender(source, destination, self.name, self.ifindex)
            self._senders[source, destination] = sender
        return sender

    def frames(self) -> announce.FrameSocket:
        """Return the socket for whole frames. Raises OSError."""
        if self._frames is None:
            self._frames = announce.FrameSocket(self.ifindex)
        return self._frames

    def close(self) -> None:
        """Close every socket."""
        for item in (*self.receivers.values(), *self._senders.values(), self._frames, self.listener):
            if item is not None:
                item.close()
        self.receivers.clear()
        self._senders.clear()
        self._frames = self.listener = None


def _groups(config: VhostConfig, version: int) -> list[Address]:
    """Return the groups whose packets a vhost has to hear, its own first.

    In mode Unicast too: members that change to or from it do so one after another.
    """
    return [_group(config, version), *(g for g in config.transport.listen if g.version == version)]


def _group(config: VhostConfig, version: int) -> Address:
    transport = config.transport
    return transport.group4 if version == 4 else transport.group6


def destinations(config: VhostConfig, source: Address) -> list[Address]:
    """Return where a vhost's adverts from a source go: to the group, or to every peer of that family."""
    transport = config.transport
    if transport.mode is TransportMode.UNICAST:
        return [p for p in transport.peers if p.version == source.version and p != source]
    return [_group(config, source.version)]


def _forwards6(interface: str) -> bool:
    """Whether the kernel itself sets the router flag in its neighbour advertisements here."""
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text().strip() == "1"
    except OSError:
        return False


class LinkPort:
    """A vhost's way to its segment; before it has one, everything fails with a reason."""

    def __init__(
        self,
        config: VhostConfig,
        fence: Fence,
        *,
        script: Callable[[bool], None],
        listen: Callable[[Segment], None],
        remember: Callable[[], None],
    ) -> None:
        """Begin without a segment.

        ``script`` starts the up or down script, ``listen`` makes sure that answers to probes are heard,
        ``remember`` stores the floor of the seal.
        """
        self.config = config
        self.segment: Segment | None = None
        self._fence = fence
        self._script = script
        self._listen = listen
        self.remember = remember
        self._routes: list[tuple[Address, list[Sender]]] = []

    @property
    def ifindex(self) -> int:
        """The interface's index; -1, which no interface has, without one."""
        return -1 if self.segment is None else self.segment.ifindex

    def attach(self, segment: Segment | None) -> None:
        """Move to another interface, or to none."""
        self.segment = segment
        self._routes.clear()

    def reconfigure(self, config: VhostConfig) -> None:
        """Take over new settings."""
        self.config = config
        self._routes.clear()

    def send(self, packets: Sequence[tuple[Address, bytes]]) -> str | None:
        """Send each advert to the group or to every peer; see `Port.send`."""
        if self.segment is None:
            return "no interface"
        try:
            for source, payload in packets:
                if self.config.transport.mode is TransportMode.BROADCAST and source.version == 4:
                    self._broadcast(self.segment, source, payload)
                else:
                    self._send_one(self.segment, source, payload)
        except OSError as error:
            return f"cannot send on {self.segment.name}: {error.strerror or error}"
        return None

    def _send_one(self, segment: Segment, source: Address, payload: bytes) -> None:
        for sender in self._route(segment, source):
            sender.send(payload)

    def _route(self, segment: Segment, source: Address) -> list[Sender]:
        """Return the sockets for a source, found by identity: hashing an address costs more."""
        for known, senders in self._routes:
            if known is source:
                return senders
        senders = [segment.sender(source, each) for each in destinations(self.config, source)]
        # One source per family: an old one is not needed any more.
        self._routes = [r for r in self._routes if r[0].version != source.version] + [(source, senders)]
        return senders

    def _broadcast(self, segment: Segment, source: Address, payload: bytes) -> None:
        """Send as ucarp --nomcast does: an Ethernet broadcast around the group's IP address."""
        group = self.config.transport.group4.packed
        length = _IPV4.size + len(payload)
        header = _IPV4.pack(0x45, 0x10, length, 0, _DONT_FRAGMENT, TTL, PROTOCOL, 0, source.packed, group)
        total = sum(_IPV4_WORDS.unpack(header))
        total = (total & 0xFFFF) + (total >> 16)
        check = ~(total + (total >> 16)) & 0xFFFF
        header = header[:10] + check.to_bytes(2, "big") + header[12:]
        segment.frames().send(_BROADCAST_MAC + segment.mac + _ETHERTYPE_IPV4 + header + payload)

    def hold(self, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool = False) -> str | None:
        """Add or refresh addresses; see `Port.hold`."""
        if self.segment is None:
            return "no interface"
        return self._fence.hold(self.segment.ifindex, vips, lifetime, ceded=ceded)

    def release(self, vips: Sequence[Vip]) -> None:
        """Delete addresses; see `Port.release`."""
        if self.segment is not None:
            for problem in self._fence.release(self.segment.ifindex, vips):
                log.error("%s: cannot delete: %s", self.config.name, problem)

    def announce(self, vips: Sequence[Vip]) -> None:
        """Send gratuitous ARP in both forms, since hosts differ in which they heed, and unsolicited NA."""
        if self.segment is None:
            return
        mac = self.segment.mac
        # Read each time: it may change, and neighbours drop their route through who says that it is none.
        router = any(vip.version == 6 for vip in vips) and _forwards6(self.segment.name)
        frames = []
        for vip in vips:
            if vip.version == 4:
                frames.append(announce.gratuitous_arp(mac, vip.ip))
                frames.append(announce.gratuitous_arp(mac, vip.ip, reply=True))
            else:
                frames.append(announce.unsolicited_na(mac, vip.ip, router=router))
        self._send_frames(frames)

    def probe(self, vips: Sequence[Vip]) -> None:
        """Ask who uses the addresses, after making sure that answers are heard."""
        if self.segment is None:
            return
        self._listen(self.segment)
        mac = self.segment.mac
        self._send_frames(
            [
                announce.arp_probe(mac, vip.ip) if vip.version == 4 else announce.nd_probe(mac, vip.ip)
                for vip in vips
            ]
        )

    def _send_frames(self, frames: list[bytes]) -> None:
        if self.segment is None:
            return
        try:
            for frame in frames:
                self.segment.frames().send(frame)
        except OSError as error:
            what = error.strerror or error
            log.warning("%s: cannot announce on %s: %s", self.config.name, self.segment.name, what)

    def script(self, *, up: bool) -> None:
        """Start the up or down script; see `Port.script`."""
        self._script(up)
