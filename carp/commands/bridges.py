"""What the kernel says about the bridge behind an interface: whether it snoops on multicast, who asks.

By rtnetlink and not by /sys, which shows the network namespace that it was mounted in. Layouts and numbers
are those of linux/if_link.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp import rtnl

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER: Final = struct.Struct("=IHHIIBxHiII")  # a netlink header and a link message
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO = 3, 5, 10, 18
_INFO_KIND, _INFO_DATA = 1, 2
_BR_MCAST_SNOOPING, _BR_MCAST_QUERIER, _BR_MCAST_QUERIER_STATE = 23, 25, 47
_IP_OTHER, _IPV6_OTHER = 3, 7
"""Timers of another querier, in the nested state; there while one is heard."""
_DEPTH: Final = 4
"""Interfaces below each other that are followed: a macvlan on a VLAN on a bridge has two."""
_READ: Final = 64 * 1024
_TIMEOUT: Final = 2.0


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge: its name, whether it keeps multicast to the ports that want it, and whether anybody asks."""

    name: str
    snooping: bool
    querier: bool


def bridge_of(interface: str) -> Bridge | None:
    """Return the bridge that an interface is, is a port of, or stands on; None without one, or no answer."""
    known = {each.index: each for each in _links()}
    here = next((each for each in known.values() if each.name == interface), None)
    for _ in range(_DEPTH):
        if here is None or here.bridge is not None:
            break
        here = known.get(here.master or here.lower)
    return None if here is None else here.bridge


@dataclass(frozen=True, slots=True)
class _Link:
    index: int
    name: str
    master: int
    lower: int
    bridge: Bridge | None


def _links() -> Iterator[_Link]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT)
        try:
            sock.sendto(rtnl.dump_links(1), (0, 0))
            while True:
                data = sock.recv(_READ)
                while len(data) >= 16:
                    length, kind = struct.unpack_from("=IH", data)
                    if kind != rtnl.RTM_NEWLINK or length < _HEADER.size:
                        return
                    yield _parse(data[:length])
                    data = data[(length + 3) & ~3 :]
        except OSError:
            return


def _parse(message: bytes) -> _Link:
    index = _HEADER.unpack_from(message)[7]
    found = _attributes(message[_HEADER.size :])
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
    info = _attributes(found.get(_IFLA_LINKINFO, b""))
    bridge = None
    if info.get(_INFO_KIND, b"").rstrip(b"\0") == b"bridge":
        data = _attributes(info.get(_INFO_DATA, b""))
        others = _attributes(data.get(_BR_MCAST_QUERIER_STATE, b""))
        asks = bool(data.get(_BR_MCAST_QUERIER, b"\0")[0]) or _IP_OTHER in others or _IPV6_OTHER in others
        bridge = Bridge(name, bool(data.get(_BR_MCAST_SNOOPING, b"\0")[0]), asks)
    return _Link(index, name, _number(found.get(_IFLA_MASTER)), _number(found.get(_IFLA_LINK)), bridge)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
    return found


def _number(data: bytes | None) -> int:
    return int.from_bytes(data[:4], sys.byteorder) if data else 0
