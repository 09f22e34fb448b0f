"""Encode and decode the few rtnetlink messages that the engine needs.

Pure functions on bytes: no socket. Layouts are those of linux/netlink.h, rtnetlink.h, if_addr.h and
if_link.h, in host byte order. The encoders are held byte-equal to pyroute2's by a test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_EVER = 0xFFFFFFFF
"""The lifetime, in seconds, of an address that never expires."""

AF_INET = 2
AF_INET6 = 10

NLMSG_ERROR = 2
NLMSG_DONE = 3
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22

IFA_PROTO = 11

_NLM_F_REQUEST = 0x01
_NLM_F_DUMP_INTR = 0x10
_NLM_F_REPLACE = 0x100
_NLM_F_DUMP = 0x300
_NLM_F_CREATE = 0x400
_NLA_TYPE_MASK = 0x3FFF

_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_LINKINFO = 1, 3, 4, 16, 18
_IFLA_INFO_KIND = 1

_IFA_F_SECONDARY = 0x01
_IFA_F_NODAD = 0x02
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IFA_F_NOPREFIXROUTE = 0x200

_IFF_UP = 0x1
_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_LINK = struct.Struct("=BxHiII")  # family, hardware type, index, flags, mask of changed flags
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_CACHEINFO = struct.Struct("=IIII")  # preferred, valid (seconds), created, updated (1/100 s since boot)
_ATTRIBUTE = struct.Struct("=HH")  # length with these four bytes, type
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")

Interface: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Link:
    """One network interface as the kernel lists it."""

    ifindex: int
    name: str
    mac: bytes
    """Link-layer address; empty where the interface has none."""
    flags: int
    """IFF_* bits."""
    mtu: int
    operstate: int
    """IF_OPER_* (RFC 2863): 6 is up, 2 is down, 0 is unknown."""
    kind: str
    """Driver kind such as "veth" or "macvlan"; empty for hardware."""

    @property
    def up(self) -> bool:
        """Tell whether an administrator has set the interface up."""
        return bool(self.flags & _IFF_UP)

    @property
    def loopback(self) -> bool:
        """Tell whether it leads nowhere but to this host."""
        return bool(self.flags & _IFF_LOOPBACK)

    @property
    def running(self) -> bool:
        """Tell whether the interface is operational (up, with carrier); can lag behind by up to 1 s."""
        return bool(self.flags & _IFF_RUNNING)


@dataclass(frozen=True, slots=True)
class Addr:
    """One address of one interface as the kernel lists it."""

    ifindex: int
    address: IPv4Address | IPv6Address
    prefixlen: int
    flags: int
    """IFA_F_* bits."""
    proto: int
    """Who added it (IFA_PROTO, Linux 5.18 and newer); 0 where that is not known."""
    valid: int
    """Seconds until the kernel removes it; 0 when overdue; FOR_EVER for an address without a lifetime."""

    @property
    def secondary(self) -> bool:
        """Tell whether an IPv4 address goes away with the first one of its subnet."""
        return isinstance(self.address, IPv4Address) and bool(self.flags & _IFA_F_SECONDARY)

    @property
    def tentative(self) -> bool:
        """Tell whether duplicate address detection still withholds an IPv6 address."""
        return bool(self.flags & _IFA_F_TENTATIVE)

    @property
    def dadfailed(self) -> bool:
        """Tell whether duplicate address detection found another owner of an IPv6 address."""
        return bool(self.flags & _IFA_F_DADFAILED)


@dataclass(frozen=True, slots=True)
class NewLink:
    """An interface exists, or something about it has changed."""

    link: Link


@dataclass(frozen=True, slots=True)
class DelLink:
    """An interface is gone."""

    link: Link


@dataclass(frozen=True, slots=True)
class NewAddr:
    """An address exists, or something about it has changed."""

    addr: Addr


@dataclass(frozen=True, slots=True)
class DelAddr:
    """An address is gone."""

    addr: Addr


@dataclass(frozen=True, slots=True)
class Failure:
    """The kernel refused the request with this sequence number."""

    seq: int
    errno: int
    """Positive, as in module errno."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The list changed while the kernel was dumping it: entries may be missing; ask again."""


@dataclass(frozen=True, slots=True)
class DumpDone:
    """A list is complete."""


Event: TypeAlias = NewLink | DelLink | NewAddr | DelAddr | Failure | Interrupted | DumpDone


def set_address(
    ifindex: int, interface: Interface, *, lifetime: int, proto: int, seq: int = 0, create: bool
) -> bytes:
    """Encode the request that adds an address or renews it, with a kernel lifetime of `lifetime` seconds.

    The kernel makes no route for it (noprefixroute) and an IPv6 address is usable at once (nodad). Without
    `create` Linux creates a missing address all the same: NLM_F_REPLACE alone is no protection.
    Where CPUs tick, Linux removes the address between 0.02 s before and 1.15 s after its lifetime's end; the
    check is deferrable work, so on an idle CPU it waits for the next tick (seen: 1.5 s after).
    Raises ValueError for a lifetime outside 1-4294967295 or a proto outside 0-255.
    """
    if not 1 <= lifetime <= FOR_EVER:
        raise ValueError(f"lifetime: {lifetime} is not within 1-{FOR_EVER} seconds")
    if not 0 <= proto <= 255:
        raise ValueError(f"proto: {proto} is not within 0-255")
    flags = _IFA_F_NOPREFIXROUTE | (_IFA_F_NODAD if interface.version == 6 else 0)
    attributes = (
        _attribute(_IFA_FLAGS, _U32.pack(flags))
        + _attribute(_IFA_CACHEINFO, _CACHEINFO.pack(lifetime, lifetime, 0, 0))
        + _attribute(IFA_PROTO, bytes((proto,)))
    )
    how = _NLM_F_REQUEST | _NLM_F_REPLACE | (_NLM_F_CREATE if create else 0)
    return _message(RTM_NEWADDR, how, seq, _address_body(ifindex, interface) + attributes)


def delete_address(ifindex: int, interface: Interface, *, seq: int = 0) -> bytes:
    """Encode the request that removes an address; the prefix length must be the one it was added with."""
    return _message(RTM_DELADDR, _NLM_F_REQUEST, seq, _address_body(ifindex, interface))


def dump_links(seq: int) -> bytes:
    """Encode the request for all interfaces."""
    return _message(RTM_GETLINK, _NLM_F_REQUEST | _NLM_F_DUMP, seq, _LINK.pack(0, 0, 0, 0, 0))


def dump_addresses(seq: int, family: int = 0) -> bytes:
    """Encode the request for all addresses of a family (AF_INET, AF_INET6; 0 for all) on all interfaces."""
    return _message(RTM_GETADDR, _NLM_F_REQUEST | _NLM_F_DUMP, seq, _ADDRESS.pack(family, 0, 0, 0, 0))


def get_link(name: str, seq: int) -> bytes:
    """Encode the request for one interface by name; the kernel answers ENODEV when there is none."""
    attribute = _attribute(_IFLA_IFNAME, name.encode("utf-8", "surrogateescape") + b"\0")
    return _message(RTM_GETLINK, _NLM_F_REQUEST, seq, _LINK.pack(0, 0, 0, 0, 0) + attribute)


def with_seq(template: bytes, seq: int) -> bytes:
    """Return the message with another sequence number (0-4294967295)."""
    return template[:8] + _U32.pack(seq) + template[12:]


def parse(data: bytes, seq: int | None = None) -> Iterator[Event]:
    """Decode what one read from a netlink socket returned; skip kinds of messages that we do not use.

    With `seq` only messages that answer that request count. Malformed data raises ValueError, nothing else.
    """
    view = memoryview(data)
    while view:
        if len(view) < _HEADER.size:
            raise ValueError(f"netlink: {len(view)} bytes left where a header needs {_HEADER.size}")
        length, kind, flags, number, _port = _HEADER.unpack_from(view)
        if not _HEADER.size <= length <= len(view):
            raise ValueError(f"netlink: message length {length} with {len(view)} bytes left")
        if seq is None or number == seq:
            if flags & _NLM_F_DUMP_INTR and kind != NLMSG_ERROR:
                yield Interrupted()
            event = _event(kind, number, view[_HEADER.size : length])
            if event is not None:
                yield event
        view = view[_aligned(length) :]


def _event(kind: int, seq: int, body: memoryview) -> Event | None:
    if kind in (NLMSG_ERROR, NLMSG_DONE):
        error = -_number(_I32, body) if len(body) or kind == NLMSG_ERROR else 0
        if error > 0:
            return Failure(seq, error)
        return DumpDone() if kind == NLMSG_DONE else None
    if kind in (RTM_NEWLINK, RTM_DELLINK):
        link = _link(body)
        if link is None:
            return None
        return NewLink(link) if kind == RTM_NEWLINK else DelLink(link)
    if kind in (RTM_NEWADDR, RTM_DELADDR):
        addr = _addr(body)
        if addr is None:
            return None
        return NewAddr(addr) if kind == RTM_NEWADDR else DelAddr(addr)
    return None


def _link(body: memoryview) -> Link | None:
    if len(body) < _LINK.size:
        raise ValueError(f"netlink: a link message of {len(body)} bytes")
    family, _type, ifindex, flags, _change = _LINK.unpack_from(body)
    if family:
        # AF_BRIDGE speaks of a bridge's port: its DELLINK says that the port left, not more.
        return None
    found = dict(_attributes(body[_LINK.size :]))
    info = dict(_attributes(found[_IFLA_LINKINFO])) if _IFLA_LINKINFO in found else {}
    return Link(
        ifindex=ifindex,
        name=_text(found.get(_IFLA_IFNAME)),
        mac=bytes(found.get(_IFLA_ADDRESS, b"")),
        flags=flags,
        mtu=_number(_U32, found[_IFLA_MTU]) if _IFLA_MTU in found else 0,
        operstate=_octet(found.get(_IFLA_OPERSTATE)),
        kind=_text(info.get(_IFLA_INFO_KIND)),
    )


def _addr(body: memoryview) -> Addr | None:
    if len(body) < _ADDRESS.size:
        raise ValueError(f"netlink: an address message of {len(body)} bytes")
    family, prefixlen, flags, _scope, ifindex = _ADDRESS.unpack_from(body)
    if family not in (AF_INET, AF_INET6):
        return None
    found = dict(_attributes(body[_ADDRESS.size :]))
    # On a point-to-point link IFA_ADDRESS is the peer's address and IFA_LOCAL ours.
    packed = bytes(found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b"")))
    if len(packed) != (4 if family == AF_INET else 16):
        raise ValueError(f"netlink: an address of {len(packed)} bytes in family {family}")
    cacheinfo = found.get(_IFA_CACHEINFO)
    if cacheinfo is not None and len(cacheinfo) < _CACHEINFO.size:
        raise ValueError(f"netlink: lifetimes of {len(cacheinfo)} bytes")
    return Addr(
        ifindex=ifindex,
        address=IPv4Address(packed) if family == AF_INET else IPv6Address(packed),
        prefixlen=prefixlen,
        flags=_number(_U32, found[_IFA_FLAGS]) if _IFA_FLAGS in found else flags,
        proto=_octet(found.get(IFA_PROTO)),
        valid=_CACHEINFO.unpack_from(cacheinfo)[1] if cacheinfo is not None else FOR_EVER,
    )


def _attributes(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    # Like the kernel, take fewer than four bytes at the end for padding.
    while len(view) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(view)
        if not _ATTRIBUTE.size <= length <= len(view):
            raise ValueError(f"netlink: attribute length {length} with {len(view)} bytes left")
        yield kind & _NLA_TYPE_MASK, view[_ATTRIBUTE.size : length]
        view = view[_aligned(length) :]


def _number(layout: struct.Struct, data: memoryview) -> int:
    if len(data) < layout.size:
        raise ValueError(f"netlink: {len(data)} bytes where a number needs {layout.size}")
    value: int = layout.unpack_from(data)[0]
    return value


def _octet(data: memoryview | None) -> int:
    return data[0] if data else 0


def _text(data: memoryview | None) -> str:
    return bytes(data or b"").partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _address_body(ifindex: int, interface: Interface) -> bytes:
    family = AF_INET if interface.version == 4 else AF_INET6
    packed = interface.ip.packed
    header = _ADDRESS.pack(family, interface.network.prefixlen, 0, 0, ifindex)
    # IPv4 is looked up by IFA_LOCAL; in IPv6 that attribute is for point-to-point links only.
    local = _attribute(_IFA_LOCAL, packed) if family == AF_INET else b""
    return header + _attribute(_IFA_ADDRESS, packed) + local


def _attribute(kind: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def _message(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, seq, 0) + body


def _aligned(length: int) -> int:
    return (length + 3) & ~3
