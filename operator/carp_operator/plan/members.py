"""Which candidates are members of a VirtualIP, and in which order: sticky, bounded, spread."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from carp_operator.plan.candidates import excluded_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carp_operator.api.objects import VhostState, VirtualIP
    from carp_operator.plan.candidates import Candidates
    from carp_operator.plan.facts import Facts

_MASK: Final = (1 << 64) - 1
_MIX: Final = 0x9E3779B97F4A7C15
MOST_ADVERTS: Final = 5000.0
"""A second, on one node: 200 vhosts at 100 ms, half of that, cost 5 % of a core (measured)."""
MOST_VHOSTS: Final = 510
"""On one node: more would make each write of its status over half a megabyte (kubernetes.md section 4)."""


@dataclass(frozen=True, slots=True)
class View:
    """One node's part in one VirtualIP, as its CarpNode shows it."""

    node: str
    told: Mapping[str, Any] | None
    """Its entry of spec.vhosts; None: the node only reports it."""
    confirmed: bool
    """Whether the node has stored its spec as it stands."""
    state: VhostState | None

    @property
    def interface(self) -> str:
        """Where it was told to take part, or says that it does."""
        if self.told is not None:
            return str(self.told.get("interface", {}).get("name", ""))
        return self.state.interface if self.state is not None else ""

    @property
    def takes_part(self) -> bool:
        """Whether it could hold the address now."""
        return self.confirmed and self.state is not None and self.state.state in ("BACKUP", "MASTER")

    @property
    def up_to_date(self) -> bool:
        """Whether it runs what it was told, as far as its report tells: a CarpNode has other vhosts, too."""
        if self.confirmed or self.told is None or self.state is None:
            return True
        told, state = self.told, self.state
        if self.interface != state.interface or state.vhid not in (0, told.get("vhid")):
            return False
        if state.advbase not in (0, told.get("advbase", 1)):
            return False
        return bool(state.demotions) or state.advskew == told.get("advskew", 0)


@dataclass(frozen=True, slots=True)
class Membership:
    """``members`` by rank. ``kept``: nodes that should go but cannot yet, with the reason."""

    members: tuple[str, ...]
    kept: tuple[tuple[str, str], ...] = ()
    full: bool = False
    """Nodes were left out because they have their most vhosts or adverts."""
    fresh: bool = False
    """Somebody was newly picked: that depended on what other VirtualIPs have."""

    @property
    def all(self) -> tuple[str, ...]:
        """Everybody that is told to run the vhost."""
        return (*self.members, *(node for node, _ in self.kept))


def number(name: str) -> int:
    """Return 64 bits that depend on a name alone."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")


class Placement:
    """Places VirtualIPs one after another, and counts what each node has got."""

    def __init__(self, facts: Facts, blank: Collection[str] = ()) -> None:
        """Nobody has anything yet. ``blank``: nodes whose CarpNode is new, so it tells nothing."""
        self._facts = facts
        self._blank = blank
        self._numbers = {name: number(name) for name in facts.nodes}
        self.firsts: dict[str, int] = dict.fromkeys(facts.nodes, 0)
        """Node -> VirtualIPs that it is the preferred master of."""
        self.vhosts: dict[str, int] = dict.fromkeys(facts.nodes, 0)
        self._full: set[str] = set()
        self._out = {n for n, f in facts.nodes.items() if f.out}
        self._available = {n for n, f in facts.nodes.items() if f.node.ready and not f.away}
        self._adverts: dict[str, float] = dict.fromkeys(facts.nodes, 0.0)
        self._busiest = 0.0

    def count(self, membership: Membership, rate: float) -> None:
        """Take note of a decision; ``rate`` adverts a second."""
        for rank, name in enumerate(membership.all):
            if name in self.vhosts:
                self.vhosts[name] += 1
                if self.vhosts[name] >= MOST_VHOSTS:
                    self._full.add(name)
                self._adverts[name] += rate
                self._busiest = max(self._busiest, self._adverts[name])
                self.firsts[name] += rank == 0

    def choose(
        self, vip: VirtualIP, views: Sequence[View], candidates: Candidates, rate: float
    ) -> Membership:
        """Return the members of one VirtualIP whose master sends ``rate`` adverts a second."""
        nodes, most = self._facts.nodes, vip.spec.max_nodes if vip.spec else 0
        present = self._order(vip, views)
        staying = [n for n in present if n in nodes and self._stays(vip, n, candidates, views)]
        serving = [n for n in staying if not nodes[n].away]
        weight = self._weights(vip, serving)
        ranked = sorted(serving, key=lambda n: -weight[n])
        members = ranked[:most]
        fresh: list[str] = []
        full = False
        if len(members) < most:
            open_to = [n for n in candidates.places if n in self._available and n not in present]
            roomy = self._roomy(open_to, rate)
            full = len(roomy) < len(open_to)
            weight |= self._weights(vip, roomy)
            fresh = self._pick(vip, roomy, weight, most - len(members), first=not members)
            members = sorted(members + fresh, key=lambda n: -weight[n])
        if not members:
            return Membership((), full=full)
        return Membership(tuple(members), self._kept(present, members, views), full, bool(fresh))

    def _roomy(self, names: list[str], rate: float) -> list[str]:
        """Return those that can take one more vhost."""
        if not self._full and self._busiest + rate <= MOST_ADVERTS:
            return names
        return [n for n in names if n not in self._full and self._adverts[n] + rate <= MOST_ADVERTS]

    def _order(self, vip: VirtualIP, views: Sequence[View]) -> list[str]:
        """Return who is told to take part, by the rank that it was given; who was away comes last.

        Where a CarpNode was lost or edited the status tells, and what the node itself says that it runs.
        """
        ranks = {v.node: v.told.get("advskew", 0) for v in views if v.told is not None}
        known = {n.get("name", ""): place for place, n in enumerate(vip.status.get("nodes", ()))}
        running = {v.node: v.state.advskew for v in views if v.state is not None and v.node in self._blank}
        ranks = running | known | ranks
        return sorted(ranks, key=lambda n: (known.get(n, len(known)), ranks[n], n))

    def _stays(self, vip: VirtualIP, name: str, candidates: Candidates, views: Sequence[View]) -> bool:
        """Whether a member is one still. A lost interface is trouble of the node's, not a reason to go."""
        if name in candidates.places:
            return True
        node = self._facts.nodes[name]
        if excluded_by(node, vip.spec.node_selector if vip.spec else None):
            return False
        if name in self._blank and not node.reported:
            return True
        interface = next((v.interface for v in views if v.node == name), "")
        return bool(interface) and all(link.name != interface for link in node.links)

    def _weights(self, vip: VirtualIP, names: Collection[str]) -> dict[str, int]:
        preferences = vip.spec.node_preferences if vip.spec else ()
        if not preferences:
            return dict.fromkeys(names, 0)
        nodes = self._facts.nodes
        return {
            n: sum(
                p.weight for p in preferences if all(nodes[n].node.labels.get(k) == v for k, v in p.labels)
            )
            for n in names
        }

    def _pick(
        self, vip: VirtualIP, names: Sequence[str], weight: Mapping[str, int], count: int, *, first: bool
    ) -> list[str]:
        """Return the best by weight, then by rendezvous hash; a preferred master also by how many it has."""
        if not names:
            return []
        seed, numbers = number(vip.name), self._numbers
        ranked = [(weight[n], ((numbers[n] ^ seed) * _MIX & _MASK) ^ seed, n) for n in names]
        chosen: list[str] = []
        if first:
            best = max(weight.values())
            top = [r for r in ranked if r[0] == best]
            free = [r for r in top if r[2] not in self._out] or top
            busy = [self.firsts[r[2]] for r in free]
            least = min(busy)
            chosen = [max(r for r, firsts in zip(free, busy, strict=True) if firsts == least)[2]]
        others = heapq.nlargest(count, ranked)
        return (chosen + [n for _, _, n in others if n not in chosen])[:count]

    def _kept(
        self, present: Sequence[str], members: Collection[str], views: Sequence[View]
    ) -> tuple[tuple[str, str], ...]:
        """Return who no longer is a member but stays told: it may not have heard, or nobody else is ready."""
        nodes, by_node = self._facts.nodes, {v.node: v for v in views}
        ready = any((v := by_node.get(n)) is not None and v.takes_part for n in members)
        kept = []
        for name in present:
            if name in members or name not in nodes:
                continue
            view = by_node.get(name)
            if view is None or view.told is None:
                continue
            if nodes[name].away:
                kept.append((name, "is away: it is told to go when it is back"))
            elif not view.confirmed:
                kept.append((name, "has not confirmed its settings yet"))
            elif not ready:
                kept.append((name, "goes when another member is ready"))
        return tuple(kept)
