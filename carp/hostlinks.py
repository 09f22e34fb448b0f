"""The host's interfaces as they are now: read whole, then kept current by the kernel's events.

Who places vhosts has to know also the interfaces on which there is none yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from carp.fence import is_ours
from carp.rtnl import Addr, DelAddr, DelLink, NewAddr, NewLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carp.core.auth import Address
    from carp.netlink import Change
    from carp.rtnl import Link

KUBE_PROXY: Final = "kube-ipvs0"
"""Where kube-proxy in its IPVS mode puts the address of every Service: no network of the host's."""


class HostLink(NamedTuple):
    """What is shown of one interface; ``addresses`` with prefix length, those of vhosts left out."""

    name: str
    mac: bytes
    mtu: int
    carrier: bool
    addresses: tuple[str, ...]


def _ignore() -> None:
    return None


class HostLinks:
    """All interfaces but loopback, and but the ends of pods' cables: a veth with nothing but fe80:: on it."""

    def __init__(self, *, has_proto: bool) -> None:
        """Begin with none; ``has_proto``: whether the kernel marks the addresses of vhosts."""
        self.on_change: Callable[[], None] = _ignore
        """Called when anything shown has changed, within a turn of the engine."""
        self._has_proto = has_proto
        self._links: dict[int, Link] = {}
        self._addresses: dict[int, dict[Address, Addr]] = {}

    def replace(self, links: Iterable[Link], addresses: Iterable[Addr]) -> None:
        """Take over what was read."""
        before = self.shown()
        self._links = {link.ifindex: link for link in links}
        self._addresses = {}
        for address in addresses:
            self._addresses.setdefault(address.ifindex, {})[address.address] = address
        if before != self.shown():
            self.on_change()

    def update(self, change: Change) -> None:
        """Take over one event; of lost ones the engine knows to read again."""
        match change:
            case NewLink(link) | DelLink(link):
                index = link.ifindex
            case NewAddr(addr) | DelAddr(addr):
                index = addr.ifindex
            case _:
                return
        before = self.link(index)
        match change:
            case NewLink(link):
                self._links[index] = link
            case DelLink():
                self._links.pop(index, None)
                self._addresses.pop(index, None)
            case NewAddr(addr):
                self._addresses.setdefault(index, {})[addr.address] = addr
            case DelAddr(addr):
                self._addresses.get(index, {}).pop(addr.address, None)
        if before != self.link(index):
            self.on_change()

    def link(self, ifindex: int) -> HostLink | None:
        """Return what is shown of one interface; None where it is not shown, or does not exist."""
        link = self._links.get(ifindex)
        if link is None or link.loopback or link.name == KUBE_PROXY:
            return None
        own = [a for a in self._addresses.get(ifindex, {}).values() if self._is_own(a)]
        if link.kind == "veth" and all(a.address.is_link_local for a in own):
            return None
        shown = sorted(own, key=lambda a: (a.address.version, a.address.packed))
        texts = tuple(f"{a.address}/{a.prefixlen}" for a in shown)
        return HostLink(link.name, link.mac, link.mtu, link.running, texts)

    def _is_own(self, address: Addr) -> bool:
        return not is_ours(address, has_proto=self._has_proto)

    def shown(self) -> list[HostLink]:
        """Return all, by name."""
        return sorted(found for index in self._links if (found := self.link(index)) is not None)
