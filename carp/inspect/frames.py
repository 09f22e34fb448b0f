"""From captured bytes to the IP payload of protocol 112, for every link type that carries CARP.

Nothing here raises on bad bytes: what is not understood is a `Miss`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from carp.core.wire import HEADER_LENGTH, PROTOCOL

if TYPE_CHECKING:
    from carp.core.auth import Address

ETHERNET: Final = 1
RAW_IP: Final = 101
LINUX_COOKED: Final = 113
RAW_IPV4: Final = 228
RAW_IPV6: Final = 229
LINUX_COOKED_2: Final = 276
LINK_TYPES: Final = frozenset({ETHERNET, RAW_IP, LINUX_COOKED, RAW_IPV4, RAW_IPV6, LINUX_COOKED_2})
"""Numbers from the registry of link types for captures."""

_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8, 0x9100})
_IP_TYPES: Final = {0x0800: 4, 0x86DD: 6}

_V4: Final = struct.Struct("!BxHxxHBBxx4s4s")
_V6: Final = struct.Struct("!4xHBB16s16s")

_HOP_BY_HOP: Final = 0
_ROUTING: Final = 43
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51
_DESTINATION: Final = 60
EXTENSIONS: Final = (_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION)
"""IPv6 next headers that may stand before CARP (RFC 8200 section 4)."""


class Miss(enum.Enum):
    """Why no packet of protocol 112 was found."""

    OTHER = "another protocol"
    CUT = "the bytes end before the protocol is known"


@dataclass(frozen=True, slots=True)
class Packet:
    """A payload of protocol 112 and what carried it.

    ``source``, ``destination`` and ``ttl`` (also the hop limit) are None for a CARP header alone,
    ``mac`` is the sender's where the link has one. ``length`` is what the IP header promises.
    """

    payload: bytes
    length: int
    source: Address | None = None
    destination: Address | None = None
    ttl: int | None = None
    mac: bytes = b""
    fragment: bool = False

    @property
    def cut(self) -> bool:
        """Whether the capture holds less than what was on the wire."""
        return len(self.payload) < self.length


def dissect(linktype: int, data: bytes) -> Packet | Miss:
    """Return the packet in one captured record; unknown link types are `Miss.OTHER`."""
    if linktype == ETHERNET:
        return _tagged(data, 12, data[6:12])
    if linktype == LINUX_COOKED:
        return _tagged(data, 14, data[6 : 6 + min(8, int.from_bytes(data[4:6], "big"))])
    if linktype == LINUX_COOKED_2:
        if len(data) < 20:
            return Miss.CUT
        return _typed(data[:2], data[20:], data[12 : 12 + min(8, data[11])])
    if linktype in LINK_TYPES:
        return dissect_ip(data)
    return Miss.OTHER


def _tagged(data: bytes, offset: int, mac: bytes) -> Packet | Miss:
    """Dissect what follows a link header whose protocol type stands at ``offset``."""
    return _typed(data[offset : offset + 2], data[offset + 2 :], mac)


def _typed(ethertype: bytes, data: bytes, mac: bytes) -> Packet | Miss:
    """Step over VLAN tags, however many; then dissect IP."""
    position = 0
    while int.from_bytes(ethertype, "big") in _VLAN_TYPES:
        ethertype = data[position + 2 : position + 4]
        position += 4
    if len(ethertype) < 2:
        return Miss.CUT
    version = _IP_TYPES.get(int.from_bytes(ethertype, "big"))
    if version is None:
        return Miss.OTHER
    rest = data[position:]
    if not rest:
        return Miss.CUT
    return dissect_ip(rest, mac) if rest[0] >> 4 == version else Miss.OTHER


def dissect_ip(data: bytes, mac: bytes = b"") -> Packet | Miss:
    """Return the payload of protocol 112 in an IPv4 or IPv6 packet; padding after it is dropped."""
    if not data:
        return Miss.CUT
    version = data[0] >> 4
    if version == 4:
        return _dissect_v4(data, mac)
    return _dissect_v6(data, mac) if version == 6 else Miss.OTHER


def _dissect_v4(data: bytes, mac: bytes) -> Packet | Miss:
    if len(data) < _V4.size:
        return Miss.CUT
    first, total, fragment, ttl, protocol, source, destination = _V4.unpack_from(data)
    header = (first & 0x0F) * 4
    total = total or len(data)
    if protocol != PROTOCOL or header < _V4.size or total < header:
        return Miss.OTHER
    return Packet(
        payload=data[header:total],
        length=total - header,
        source=IPv4Address(source),
        destination=IPv4Address(destination),
        ttl=ttl,
        mac=mac,
        fragment=bool(fragment & 0x3FFF),
    )


def _dissect_v6(data: bytes, mac: bytes) -> Packet | Miss:
    if len(data) < _V6.size:
        return Miss.CUT
    length, following, ttl, source, destination = _V6.unpack_from(data)
    end = _V6.size + length if length else len(data)
    start, fragment = _V6.size, False
    while following in EXTENSIONS:
        if start >= end:
            return Miss.OTHER
        extension = data[start : start + 8]
        if len(extension) < 8:
            return Miss.CUT
        if following == _FRAGMENT:
            offset = int.from_bytes(extension[2:4], "big")
            fragment = fragment or bool(offset & 0xFFF9)
        start += _extension_length(following, extension[1])
        following = extension[0]
        if fragment and offset >> 3:
            break
    if following != PROTOCOL or start > end:
        return Miss.OTHER
    return Packet(
        payload=data[start:end],
        length=end - start,
        source=IPv6Address(source),
        destination=IPv6Address(destination),
        ttl=ttl,
        mac=mac,
        fragment=fragment,
    )


def _extension_length(kind: int, field: int) -> int:
    """Return the bytes of an extension header (RFC 8200 section 4, RFC 4302 section 2.2)."""
    if kind == _FRAGMENT:
        return 8
    return (field + 2) * 4 if kind == _AUTHENTICATION else (field + 1) * 8


def dissect_bytes(data: bytes) -> Packet | Miss:
    """Return the packet in bytes of unknown kind: a whole Ethernet frame, an IP packet or a header alone.

    An IP packet of exactly its stated length goes first, because a MAC address may begin like one.
    """
    as_ip = dissect_ip(data)
    if isinstance(as_ip, Packet) and _exact(data):
        return as_ip
    as_frame = dissect(ETHERNET, data)
    if isinstance(as_frame, Packet):
        return as_frame
    if isinstance(as_ip, Packet):
        return as_ip
    if data and data[0] >> 4 in {2, 3} and len(data) <= 2 * HEADER_LENGTH:
        return Packet(payload=data, length=len(data))
    return Miss.CUT if Miss.CUT in {as_ip, as_frame} else Miss.OTHER


def _exact(data: bytes) -> bool:
    """Whether bytes that begin like IP are as long as the IP header says."""
    stated = int.from_bytes(data[2:4], "big")
    if data[0] >> 4 == 6:
        stated = _V6.size + int.from_bytes(data[4:6], "big")
    return stated == len(data)
