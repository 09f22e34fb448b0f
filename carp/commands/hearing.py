"""Listen to a segment for a while, and ask who has the addresses: what the wire tells `carp doctor`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp import announce
from carp.core.errors import CarpError
from carp.core.seal import MODULUS, UNITS, from_wall
from carp.inspect.tap import Tap
from carp.inspect.verdict import Keys, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.commands.finding import Target
    from carp.commands.host import Host
    from carp.core.auth import Address
    from carp.core.wire import Advert
    from carp.inspect.frames import Packet

_TURN: Final = 0.02
"""s that one interface is listened to before the next."""
_HANDOVER: Final = 0.4
"""s for which both may advertise: the old master goes on for 0.1 s after its successor's first advert."""
_ASK_EVERY: Final = 1.0
"""s between two probes of an address; RFC 5227 spaces them by 1 to 2."""


@dataclass(slots=True)
class Speaker:
    """One source of one id on one interface. Times are monotonic seconds."""

    interface: str
    protocol: str
    vhid: int
    source: Address
    mac: str
    ours: bool
    """Whether this host sent it."""
    first: float
    last: float
    count: int = 0
    advert: Advert | None = None
    drift: float = 0.0
    """s by which the time in its counter is ahead of our clock; means nothing unless it is sealed."""

    def overlaps(self, other: Speaker) -> bool:
        """Whether each went on after the other had begun, and for longer than a handover takes."""
        return min(self.last - other.first, other.last - self.first) > _HANDOVER


@dataclass(slots=True)
class Heard:
    """What came in, who answered for an address on an interface, and where listening was not possible."""

    seconds: float = 0.0
    speakers: dict[tuple[str, str, int, Address], Speaker] = field(default_factory=dict)
    answers: dict[tuple[str, Address], set[str]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def of(self, target: Target, protocol: str = "carp") -> list[Speaker]:
        """Return who used a target's id on its interface."""
        key = (target.interface, protocol, target.vhid)
        return [each for each in self.speakers.values() if (each.interface, each.protocol, each.vhid) == key]

    def note(self, interface: str, packet: Packet, host: Host, now: float, wall: float) -> None:
        """Take in one packet of protocol 112."""
        verdict = judge(packet, Keys())
        if verdict.vhid is None or packet.source is None:
            return
        link = host.links.get(interface)
        ours = packet.source in {a.address for a in host.on(interface)} or (
            link is not None and packet.mac == link.mac
        )
        key = (interface, verdict.protocol, verdict.vhid, packet.source)
        found = self.speakers.get(key)
        if found is None:
            mac = packet.mac.hex(":")
            found = Speaker(interface, verdict.protocol, verdict.vhid, packet.source, mac, ours, now, now)
            self.speakers[key] = found
        found.last, found.count, found.advert = now, found.count + 1, verdict.advert
        if verdict.advert is not None:
            behind = (from_wall(wall) - (verdict.advert.counter >> 32)) % MODULUS
            found.drift = ((MODULUS - behind) if behind > MODULUS // 2 else -behind) / UNITS


def listen(targets: Sequence[Target], host: Host, seconds: float) -> Heard:
    """Listen on the targets' interfaces and probe their addresses. Needs CAP_NET_RAW."""
    heard = Heard(seconds)
    ears: list[_Ear] = []
    try:
        for name in sorted({target.interface for target in targets} & host.links.keys()):
            wanted = sorted({ip for t in targets if t.interface == name for ip in t.ips}, key=str)
            try:
                ears.append(_Ear(name, wanted, host))
            except (CarpError, OSError) as error:
                heard.problems[name] = str(error)
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and ears:
            for ear in ears:
                ear.turn(heard, now)
    finally:
        for ear in ears:
            ear.close()
    return heard


class _Ear:
    """The sockets of one interface."""

    def __init__(self, name: str, addresses: Sequence[Address], host: Host) -> None:
        """Open them. Raises CarpError and OSError."""
        self._name = name
        self._host = host
        self._link = host.links[name]
        self._addresses = addresses if len(self._link.mac) == 6 else ()
        self._ask_at = 0.0
        self._tap = Tap(name)
        try:
            self._frames = announce.FrameSocket(self._link.ifindex, listen=True)
        except OSError:
            self._tap.__exit__(None, None, None)
            raise

    def turn(self, heard: Heard, now: float) -> None:
        """Ask when it is time, and take in what is there."""
        if now >= self._ask_at:
            self._ask_at = now + _ASK_EVERY
            for address in self._addresses:
                self._ask(address, heard)
        packet = self._tap.receive(_TURN)
        if packet is not None:
            heard.note(self._name, packet, self._host, time.monotonic(), time.time())
        for frame in self._frames.receive():
            answer = announce.answer_of(frame)
            if answer is None or answer[0] not in self._addresses or answer[1] == self._link.mac:
                continue
            # An announcement by ARP is sent to all; a kernel's answer to us alone. By ND both go to all.
            if answer[0].version == 6 or frame[:6] == self._link.mac:
                heard.answers.setdefault((self._name, answer[0]), set()).add(answer[1].hex(":"))

    def _ask(self, address: Address, heard: Heard) -> None:
        mac = self._link.mac
        probe = announce.arp_probe(mac, address) if address.version == 4 else announce.nd_probe(mac, address)
        try:
            self._frames.send(probe)
        except OSError as error:
            heard.problems[self._name] = error.strerror or str(error)

    def close(self) -> None:
        """Close the sockets."""
        self._tap.__exit__(None, None, None)
        self._frames.close()
