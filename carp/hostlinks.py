"""The host's interfaces as they are now: read whole, then kept current by the kernel's events.

Who places vhosts has to know also the interfaces on which there is none yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from carp.fence import is_ours
from carp.links import KUBE_PROXY, Inventory
from carp.rtnl import FOR_EVER, Addr, DelAddr, DelLink, NewAddr, NewLink

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from carp.core.auth import Address
    from carp.netlink import Change
    from carp.rtnl import Link

LINGER: Final = 60.0
"""s for which an address of another carp process on this host is shown after it was last seen: when it moves
to another host, nobody shall take it for free meanwhile."""


class HostLink(NamedTuple):
    """What is shown of one interface; ``addresses`` with prefix length, those of our vhosts left out."""

    name: str
    mac: bytes
    mtu: int
    carrier: bool
    addresses: tuple[str, ...]


def _ignore() -> None:
    return None


class HostLinks:
    """All interfaces but loopback, and but the ends of pods' cables: a veth with nothing but fe80:: on it."""

    def __init__(self, *, has_proto: bool, now: Callable[[], float]) -> None:
        """Begin with none; ``has_proto``: whether the kernel marks the addresses of vhosts."""
        self.on_change: Callable[[], None] = _ignore
        """Called when anything shown has changed, within a turn of the engine."""
        self.own: Container[Address] = ()
        """The addresses of this process's vhosts."""
        self.gone: set[int] = set()
        """Interfaces that went since this was emptied: what has their number now is another."""
        self._has_proto = has_proto
        self._now = now
        self._seen: dict[tuple[int, Address], tuple[int, float]] = {}
        """Marked addresses that are not ours: the lifetime when it was first read or renewed, and when."""
        self._others: dict[tuple[int, Address], tuple[Addr, float]] = {}
        """Those of them that somebody else renews, and until when they are shown."""
        self._links: dict[int, Link] = {}
        self._addresses: dict[int, dict[Address, Addr]] = {}

    def replace(self, links: Iterable[Link], addresses: Iterable[Addr]) -> None:
        """Take over what was read."""
        before = self.shown()
        self._links = {link.ifindex: link for link in links}
        self._addresses = {}
        for address in addresses:
            self._addresses.setdefault(address.ifindex, {})[address.address] = address
        self._look_for_others()
        if before != self.shown():
            self.on_change()

    def inventory(self) -> Inventory:
        """Return all links and addresses as they are known."""
        addresses = [address for each in self._addresses.values() for address in each.values()]
        return Inventory(list(self._links.values()), addresses, self._has_proto)

    @property
    def wanted(self) -> bool:
        """Whether anybody wants to know."""
        return self.on_change is not _ignore

    def elsewhere(self, address: Address) -> bool:
        """Whether another carp process on this host has an address, or had it just now."""
        return any(ip == address for _, ip in self._others)

    def _look_for_others(self) -> None:
        """Tell addresses that another process keeps alive from what a dead one has left, which runs out."""
        now = self._now()
        held = [a for each in self._addresses.values() for a in each.values() if not self._is_host(a)]
        marked = {(a.ifindex, a.address): a for a in held if a.address not in self.own}
        self._seen = {key: seen for key, seen in self._seen.items() if key in marked}
        for key, address in marked.items():
            valid, at = self._seen.setdefault(key, (address.valid, now))
            if address.valid > valid - (now - at) + 1.0 or (address.valid == FOR_EVER and now > at):
                self._seen[key] = address.valid, now
                self._others[key] = address, now + LINGER
        self._others = {
            key: (address, until)
            for key, (address, until) in self._others.items()
            if until > now and key[1] not in self.own
        }

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
                self.gone.add(index)
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
        own = [a for a in self._addresses.get(ifindex, {}).values() if self._is_host(a)]
        own += [address for (index, _), (address, _) in self._others.items() if index == ifindex]
        if link.kind == "veth" and all(a.address.is_link_local for a in own):
            return None
        shown = sorted(own, key=lambda a: (a.address.version, a.address.packed))
        texts = tuple(f"{a.address}/{a.prefixlen}" for a in shown)
        return HostLink(link.name, link.mac, link.mtu, link.running, texts)

    def _is_host(self, address: Addr) -> bool:
        if not is_ours(address, has_proto=self._has_proto):
            return True
        # Without marks: one by DHCP is finite, too, and no host address.
        single = address.prefixlen == address.address.max_prefixlen
        return not (self._has_proto or single or address.address in self.own)

    def shown(self) -> list[HostLink]:
        """Return all, by name."""
        return sorted(found for index in self._links if (found := self.link(index)) is not None)
