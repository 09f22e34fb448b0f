"""Which interface a vhost lives on, and why it cannot where it cannot."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from carp.core.config import TransportMode
from carp.fence import is_ours

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.rtnl import Addr, Link

KUBE_PROXY: Final = "kube-ipvs0"
"""Where kube-proxy in its IPVS mode puts the address of every Service: no network of the host's."""


@dataclass(frozen=True, slots=True)
class Place:
    """A usable interface, and the address per family that adverts leave from."""

    ifindex: int
    name: str
    mac: bytes
    sources: tuple[Address, ...]


def _network(address: Addr) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network((address.address, address.prefixlen), strict=False)


class Inventory:
    """The links and addresses of this network namespace at one moment."""

    def __init__(self, links: Sequence[Link], addresses: Sequence[Addr], has_proto: bool) -> None:  # noqa: FBT001
        """Sort the addresses once: hundreds of vhosts ask for them."""
        self.links = links
        self._has_proto = has_proto
        self._kube_proxy = {link.ifindex for link in links if link.name == KUBE_PROXY}
        self._by_link: dict[int, list[Addr]] = {}
        self._by_address: dict[Address, list[Addr]] = {}
        for address in addresses:
            self._by_link.setdefault(address.ifindex, []).append(address)
            self._by_address.setdefault(address.address, []).append(address)

    def own(self, ifindex: int, config: VhostConfig) -> list[Addr]:
        """Return the addresses of a link that are neither another vhost's nor this one's.

        Without IFA_PROTO another vhost's cannot be told from a host address by DHCP: they stay in.
        """
        vips = {vip.ip for vip in config.addresses}
        return [
            a
            for a in self._by_link.get(ifindex, ())
            if a.address not in vips and not (self._has_proto and is_ours(a, has_proto=True))
        ]

    def left_behind(self, ifindex: int, config: VhostConfig) -> list[Addr]:
        """Return the vhost's addresses on a link that an engine of ours put there."""
        vips = {vip.ip for vip in config.addresses}
        return [
            a
            for a in self._by_link.get(ifindex, ())
            if a.address in vips and is_ours(a, has_proto=self._has_proto)
        ]

    def marked(self, address: Address, ifindex: int) -> bool:
        """Whether an engine of ours, of this process or another, has an address that a link is to carry."""
        return any(is_ours(a, has_proto=self._has_proto) for a in self._same(address, ifindex))

    def holder(self, address: Address, ifindex: int) -> Addr | None:
        """Return an address that a link is to carry as somebody else configured it, None if nobody did.

        kube-proxy's do not count: they are on every node, and with arp_ignore nobody hears of them.
        """
        found = self._same(address, ifindex)
        theirs = (a for a in found if not is_ours(a, has_proto=self._has_proto))
        return next((a for a in theirs if a.ifindex not in self._kube_proxy), None)

    def _same(self, address: Address, ifindex: int) -> Iterator[Addr]:
        """Yield where the host has an address; a link-local one of IPv6 is another on each link.

        One of IPv4 is not: the kernel answers ARP for it on every link.
        """
        alone = address.version == 6 and address.is_link_local
        return (a for a in self._by_address.get(address, ()) if not alone or a.ifindex == ifindex)


def find_link(config: VhostConfig, inventory: Inventory, kept: int = 0) -> Link | str:
    """Return the link that a vhost's selector means, or why there is none.

    ``kept`` is the index of the link that it was on: of several that fit, it stays there.
    """
    wanted = config.interface
    if wanted.name:
        found = next((link for link in inventory.links if link.name == wanted.name), None)
        return found or f"interface {wanted.name} does not exist"
    links = [link for link in inventory.links if not (link.loopback or link.name == KUBE_PROXY)]
    links.sort(key=lambda link: (link.ifindex != kept, link.name))
    if wanted.pattern:
        links = [link for link in links if fnmatchcase(link.name, wanted.pattern)]
        if len(links) == 1:
            return links[0]
    inside = None if wanted.subnet in ("", "auto") else ipaddress.ip_network(wanted.subnet)
    for link in links:
        for own in inventory.own(link.ifindex, config):
            network = _network(own)
            if network == inside or (inside is not None and own.address in inside):
                return link
            if inside is None and any(vip.ip in network for vip in config.addresses):
                return link
    if wanted.pattern and links and links[0].ifindex == kept:
        return links[0]
    vips = ", ".join(str(vip.ip) for vip in config.addresses)
    return f"no interface matches {wanted}" + ("" if inside else f" with a subnet that contains {vips}")


def resolve(config: VhostConfig, inventory: Inventory, kept: int = 0) -> Place | str:
    """Return where a vhost can take part, or the reason why it cannot; ``kept`` as in `find_link`."""
    link = find_link(config, inventory, kept)
    if isinstance(link, str):
        return link
    if config.manage:
        clash = _clash(config, link, inventory)
        if clash:
            return clash
    if not link.up:
        return f"interface {link.name} is down"
    if not link.running and not config.ignore_link_state:
        return f"interface {link.name} has no carrier"
    sources = []
    for version in config.families:
        source = _source(version, config, inventory.own(link.ifindex, config))
        if isinstance(source, str):
            return f"interface {link.name} {source}"
        sources.append(source)
    return Place(link.ifindex, link.name, link.mac, tuple(sources))


def _clash(config: VhostConfig, link: Link, inventory: Inventory) -> str | None:
    """Return why an address cannot be ours: somebody configured it on the host for good."""
    for vip in config.addresses:
        address = inventory.holder(vip.ip, link.ifindex)
        if address is not None:
            where = "the interface's own" if address.ifindex == link.ifindex else "another interface's"
            return f"address {vip.ip} is already {where} address on this host"
    return None


def _source(version: int, config: VhostConfig, own: Iterable[Addr]) -> Address | str:
    """Return the source of one family: as configured, else in the address's subnet, else the first."""
    wanted: Address | None = config.source if version == 4 else config.source6
    candidates = [a for a in own if a.address.version == version and not (a.tentative or a.dadfailed)]
    if wanted is not None:
        if config.transport.mode is TransportMode.BROADCAST or any(a.address == wanted for a in candidates):
            return wanted
        return f"does not have the source address {wanted}"
    vips = [vip.ip for vip in config.addresses if vip.version == version]
    for candidate in candidates:
        if any(vip in _network(candidate) for vip in vips):
            return candidate.address
    if candidates:
        return candidates[0].address
    return f"has no IPv{version} address to send from"
