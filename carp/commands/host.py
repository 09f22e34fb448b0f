"""Facts about this host, read once: what the checks of `carp doctor` judge."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carp.commands.bridges import Bridge, bridge_of
from carp.netlink import PROTO_CEDED, PROTO_HELD, Netlink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carp.core.auth import Address
    from carp.rtnl import Addr, Link

CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
"""Bits of CapEff (linux/capability.h)."""
_NET: Final = Path("/proc/thread-self/net")


@dataclass(frozen=True, slots=True)
class Host:
    """Links by name, addresses, and what else there is to read without sending anything."""

    links: dict[str, Link]
    addresses: list[Addr]
    carriers: dict[str, bool | None] = field(default_factory=dict)
    groups: dict[str, frozenset[Address]] = field(default_factory=dict)
    bridges: dict[str, Bridge | None] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    """Capabilities that this process lacks."""
    setting: Callable[[str], int | None] = lambda _: None
    """A kernel parameter by its path under net, such as ipv4/conf/eth0/rp_filter; None where unreadable."""

    def on(self, interface: str) -> list[Addr]:
        """Return the addresses of an interface."""
        link = self.links.get(interface)
        return [] if link is None else [each for each in self.addresses if each.ifindex == link.ifindex]

    def own(self, interface: str, besides: Iterable[Address] = ()) -> list[Addr]:
        """Return the addresses of an interface that are neither carp's nor ``besides``."""
        ours = (PROTO_HELD, PROTO_CEDED)
        return [a for a in self.on(interface) if a.proto not in ours and a.address not in set(besides)]

    def holders(self, address: Address) -> list[str]:
        """Return the names of the interfaces that hold an address."""
        names = {link.ifindex: name for name, link in self.links.items()}
        return [names.get(a.ifindex, str(a.ifindex)) for a in self.addresses if a.address == address]

    def effective(self, interface: str, parameter: str) -> int | None:
        """Return an IPv4 parameter as the kernel applies it: the higher of the interface's and all's."""
        values = [self.setting(f"ipv4/conf/{scope}/{parameter}") for scope in ("all", interface)]
        known = [value for value in values if value is not None]
        return max(known) if known else None


def read_host(interfaces: Iterable[str]) -> Host:
    """Return the facts about this network namespace and these interfaces. Raises OSError."""
    wanted = sorted(set(interfaces))
    netlink = Netlink()
    try:
        links = {link.name: link for link in netlink.links()}
        addresses = netlink.addresses()
        carriers = {name: netlink.carrier(name) for name in wanted}
    finally:
        netlink.close()
    return Host(
        links=links,
        addresses=addresses,
        carriers=carriers,
        groups=_groups(),
        bridges={name: bridge_of(name) for name in wanted if name in links},
        missing=missing_capabilities(Path("/proc/thread-self/status").read_text(encoding="ascii")),
        setting=_setting,
    )


def missing_capabilities(status: str) -> tuple[str, ...]:
    """Return which of `CAPABILITIES` are absent from the text of a /proc/PID/status."""
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return tuple(name for bit, name in CAPABILITIES.items() if not int(effective, 16) >> bit & 1)


def parse_igmp(text: str) -> dict[str, frozenset[Address]]:
    """Return the IPv4 groups by interface from /proc/net/igmp: a line per interface, its groups below."""
    found: dict[str, set[Address]] = {}
    name = ""
    for line in text.splitlines()[1:]:
        words = line.split()
        if line[:1].isdigit():
            name = words[1].rstrip(":")
        elif words and name:
            # The kernel prints the number as the host stores it.
            found.setdefault(name, set()).add(IPv4Address(int(words[0], 16).to_bytes(4, sys.byteorder)))
    return {name: frozenset(groups) for name, groups in found.items()}


def parse_igmp6(text: str) -> dict[str, frozenset[Address]]:
    """Return the IPv6 groups by interface from /proc/net/igmp6: index, name, group, and more."""
    found: dict[str, set[Address]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 2:
            found.setdefault(words[1], set()).add(IPv6Address(bytes.fromhex(words[2])))
    return {name: frozenset(groups) for name, groups in found.items()}


def _groups() -> dict[str, frozenset[Address]]:
    both = dict(parse_igmp(_text(_NET / "igmp")))
    for name, groups in parse_igmp6(_text(_NET / "igmp6")).items():
        both[name] = both.get(name, frozenset()) | groups
    return both


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _setting(key: str) -> int | None:
    text = _text(Path("/proc/sys/net", key)).strip()
    return int(text) if text.lstrip("-").isdigit() else None
