"""What the CarpNodes show, sorted by VirtualIP; kept from plan to plan, since most of them stay the same."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carp_operator.api.codec import interface_of
from carp_operator.plan.members import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp.core.auth import Address
    from carp_operator.api.objects import CarpNode


@dataclass(frozen=True, slots=True)
class Told:
    """What one CarpNode shows: its part in VirtualIPs, the keys it names, the addresses it serves."""

    carp: CarpNode
    views: Sequence[tuple[str, View]]
    keys: frozenset[str]
    served: Sequence[tuple[Address, str]]

    @classmethod
    def of(cls, carp: CarpNode, before: Told | None) -> Told:
        """Read a CarpNode; ``before`` is what it showed until now."""
        states = {state.name: state for state in carp.states}
        told = {str(entry.get("name", "")): entry for entry in carp.vhosts}
        names = [name for name in dict.fromkeys([*told, *states]) if name]
        views = [(n, View(carp.name, told.get(n), carp.confirmed, states.get(n))) for n in names]
        if before is not None and before.carp.vhosts == carp.vhosts:
            return cls(carp, views, before.keys, before.served)
        parts = [(part, name) for name, e in told.items() for part in (e, *e.get("accept", ()))]
        found = ((interface_of(text), name) for part, name in parts for text in part.get("addresses", ()))
        served = [(address.ip, name) for address, name in found if address is not None]
        return cls(carp, views, key_names(carp.vhosts), served)


def key_names(vhosts: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Return the entries of `carp-keys` that a spec names."""
    parts = [part for entry in vhosts for part in (entry, *entry.get("accept", ()))]
    return frozenset(part.get("passwordRef", "") for part in parts)


class Book:
    """All CarpNodes. ``running``: an address -> the VirtualIPs that nodes were told to serve it for.

    ``alone``: a VirtualIP -> the addresses that nodes were told to serve for it and for no other.
    """

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.told: dict[str, Told] = {}
        self.running: Mapping[Address, set[str]] = {}
        self.alone: Mapping[str, Sequence[Address]] = {}

    def read(self, carpnodes: Mapping[str, CarpNode]) -> dict[str, list[View]]:
        """Bring it up to date and return each VirtualIP's part on every node, by node."""
        views: dict[str, list[View]] = defaultdict(list)
        moved = False
        for name in self.told.keys() - carpnodes.keys():
            moved = bool(self.told.pop(name).served) or moved
        for name in sorted(carpnodes):
            known = self.told.get(name)
            if known is None or known.carp is not carpnodes[name]:
                fresh = self.told[name] = Told.of(carpnodes[name], known)
                moved = moved or known is None or fresh.served is not known.served
                known = fresh
            for vip, view in known.views:
                views[vip].append(view)
        if moved:
            running: defaultdict[Address, set[str]] = defaultdict(set)
            for each in self.told.values():
                for ip, vip in each.served:
                    running[ip].add(vip)
            self.running = dict(running)
            self.alone = _alone(running)
        return views


def _alone(running: Mapping[Address, set[str]]) -> dict[str, list[Address]]:
    found: defaultdict[str, list[Address]] = defaultdict(list)
    for ip, vips in running.items():
        if len(vips) == 1:
            found[next(iter(vips))].append(ip)
    for ips in found.values():
        ips.sort(key=lambda ip: (ip.version, int(ip)))
    return dict(found)
