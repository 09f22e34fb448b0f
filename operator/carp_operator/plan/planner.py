"""The one entry point: a snapshot of the cluster in, what should be out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carp_operator.plan.book import Book, key_names
from carp_operator.plan.candidates import Candidates, Finder
from carp_operator.plan.claims import Addresses, by_age
from carp_operator.plan.decide import Case, Result, decide
from carp_operator.plan.facts import Facts, gather
from carp_operator.plan.ids import Ids
from carp_operator.plan.members import Placement
from carp_operator.plan.model import NodePlan, Plan
from carp_operator.plan.pools import pool_status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip
    from carp_operator.api.objects import CarpNode, VirtualIP
    from carp_operator.plan.claims import Claim
    from carp_operator.plan.members import View
    from carp_operator.plan.model import Snapshot


@dataclass(slots=True)
class Cache:
    """What one plan leaves for the next, to spare work; the result is the same without it."""

    facts: Facts | None = None
    finder: Finder | None = None
    book: Book = field(default_factory=Book)
    ips: dict[str, tuple[tuple[Vip, ...], tuple[Address, ...]]] = field(default_factory=dict)
    equal: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = field(default_factory=dict)
    results: dict[str, _Known] = field(default_factory=dict)
    specs: dict[str, _Spec] = field(default_factory=dict)

    def forget(self, snapshot: Snapshot, addresses: Sequence[Sequence[Vip]]) -> None:
        """Drop what is about objects that are gone; ``addresses`` are those of this plan."""
        by_vip: tuple[dict[str, Any], ...] = (self.ips, self.equal, self.results)
        for known, there in (*((each, snapshot.vips) for each in by_vip), (self.specs, snapshot.nodes)):
            for name in known.keys() - there.keys():
                del known[name]
        if self.facts is not None and self.finder is not None:
            self.facts.forget(addresses)
            self.finder.forget(len(addresses))


def plan(snapshot: Snapshot, cache: Cache | None = None) -> Plan:
    """Return what every node should be told and every status should say.

    The same snapshot gives the same plan, and the plan of the planned world is empty. ``cache`` is the one
    of the plan before.
    """
    cache = Cache() if cache is None else cache
    facts, wake = gather(snapshot, cache.facts)
    if facts is not cache.facts or cache.finder is None:
        cache.facts, cache.finder = facts, Finder(facts, cache.finder)
    return _Run(snapshot, cache, facts, cache.finder, wake).plan()


class _Run:
    """One run of the planner."""

    def __init__(
        self, snapshot: Snapshot, cache: Cache, facts: Facts, finder: Finder, wake_at: float | None
    ) -> None:
        self._snapshot, self._cache, self._facts, self._finder = snapshot, cache, facts, finder
        self._wakes = [] if wake_at is None else [wake_at]
        found = ((name, snapshot.carpnodes.get(name)) for name in facts.nodes)
        self._blank = frozenset(n for n, carp in found if carp is None or carp.observed_uid != carp.uid)
        self._placement = Placement(facts, self._blank)
        self._views = cache.book.read(snapshot.carpnodes)

    def plan(self) -> Plan:
        vips = by_age(self._snapshot.vips.values())
        book = self._cache.book
        unsure = [vip for vip in vips if self._unsure(vip)]
        addresses = Addresses(vips, self._snapshot.pools, self._facts, book, self._cache.ips, unsure)
        claims = Ids(self._snapshot.vips, self._views, self._facts, self._finder).claim(vips, addresses)
        results = self._place(vips, claims)
        nodes, writes = self._assemble(results)
        self._cache.forget(self._snapshot, [claim.addresses for claim, _ in claims.values()])
        statuses = {
            name: result.status for name, result in sorted(results.items()) if self._differs(name, result)
        }
        pools = {
            name: status
            for name, pool in sorted(self._snapshot.pools.items())
            if (status := pool_status(pool, addresses.taken, self._snapshot.now)) != pool.status
        }
        return Plan(
            nodes=nodes,
            writes=writes,
            vip_statuses=statuses,
            pool_statuses=pools,
            keys_in_use=self._keys(),
            settled=self._settled(),
            notices=tuple(n for name in statuses for n in results[name].notices),
            wake_at=min(self._wakes, default=None),
        )

    def _settled(self) -> bool:
        """Whether nobody runs anything but what its CarpNode says; a lost one says nothing."""
        carpnodes = self._snapshot.carpnodes
        lost = self._facts.nodes.keys() - carpnodes.keys()
        return bool(carpnodes) and not lost and all(c.confirmed for c in carpnodes.values())

    def _differs(self, name: str, result: Result) -> bool:
        """Whether a status is to be written; of what was found equal the very objects are remembered."""
        status, known = self._snapshot.vips[name].status, self._cache.equal.get(name)
        if known is not None and known[0] is result.status and known[1] is status:
            return False
        if result.status != status:
            return True
        self._cache.equal[name] = result.status, status
        return False

    def _place(
        self, vips: Sequence[VirtualIP], claims: Mapping[str, tuple[Claim, Candidates | None]]
    ) -> dict[str, Result]:
        """Decide about every VirtualIP; those that have members first, so that new ones see who is busy."""
        results = {}
        order = [v for v in vips if self._views.get(v.name)] + [
            v for v in vips if not self._views.get(v.name)
        ]
        for vip in order:
            result = self._one(vip, *claims[vip.name])
            self._placement.count(result.membership, result.rate)
            if result.wake_at is not None:
                self._wakes.append(result.wake_at)
            results[vip.name] = result
        return results

    def _one(self, vip: VirtualIP, claim: Claim, candidates: Candidates | None) -> Result:
        """Return the decision, from the cache where nothing that it depends on has changed."""
        views = self._views.get(vip.name, [])
        key, foreign = self._snapshot.keys.get(vip.name), self._foreign(claim, views)
        lost = self._lost(vip)
        named = (n.get("name", "") for n in vip.status.get("nodes", ()))
        nodes = tuple(self._facts.nodes.get(name) for name in (*(v.node for v in views), *named))
        case = Case(vip, claim, candidates, key, tuple(views), foreign, nodes, lost)
        known = self._cache.results.get(vip.name)
        if known is not None and self._still_right(known, case):
            known.case = case
            return known.result
        result = decide(case, self._placement, self._facts, self._written(views), self._snapshot.now)
        if not result.membership.fresh:
            short = vip.spec is None or len(result.membership.members) < vip.spec.max_nodes
            self._cache.results[vip.name] = _Known(case, result, self._facts if short else None)
        return result

    def _still_right(self, known: _Known, case: Case) -> bool:
        due = known.result.wake_at
        if not _same(known.case, case) or (due is not None and self._snapshot.now >= due):
            return False
        if known.facts is not None and known.facts is not self._facts:
            return False
        before, now = known.case.candidates, case.candidates
        if before is now:
            return True
        if before is None or now is None:
            return False
        membership = known.result.membership
        chosen = self._placement.choose(case.vip, case.views, now, known.result.rate)
        return chosen == membership and all(before.places.get(n) == now.places.get(n) for n in membership.all)

    def _lost(self, vip: VirtualIP) -> frozenset[str]:
        """Return members whose CarpNode is new: what they run is unknown."""
        told = {v.node for v in self._views.get(vip.name, ()) if v.told is not None}
        members = {n.get("name", "") for n in vip.status.get("nodes", ())}
        return frozenset(members & self._blank - told)

    def _unsure(self, vip: VirtualIP) -> bool:
        """Whether a node may run it in a way that no CarpNode tells: a lost one, or one told to forget it."""
        if any(v.told is None and v.state is not None for v in self._views.get(vip.name, ())):
            return True
        return bool(self._blank) and bool(self._lost(vip))

    def _foreign(self, claim: Claim, views: Sequence[View]) -> str:
        """Return who else speaks a vhid, as its members hear it: they believe whoever shares our password."""
        for view in views:
            node = self._facts.nodes.get(view.node)
            for speaker in node.speakers if node is not None and view.told is not None else ():
                place = (speaker.interface, speaker.id) == (view.interface, claim.vhid)
                if place and not self._facts.is_own(speaker.source):
                    return f"{speaker.source} ({speaker.protocol}{', ' + speaker.mac if speaker.mac else ''})"
        return ""

    def _written(self, views: Sequence[View]) -> dict[str, str]:
        carpnodes = self._snapshot.carpnodes
        return {v.node: carpnodes[v.node].written for v in views}

    def _assemble(self, results: Mapping[str, Result]) -> tuple[dict[str, NodePlan], tuple[NodePlan, ...]]:
        """Return every node's spec, and those to write, the ones that bring a first claimant first."""
        parts: dict[str, list[Mapping[str, Any]]] = {name: [] for name in self._facts.nodes}
        for name in sorted(results):
            for node, entry in results[name].entries.items():
                parts[node].append(entry)
        plans, writes = {}, []
        for name, vhosts in parts.items():
            carp, owner = self._snapshot.carpnodes.get(name), self._facts.nodes[name].node.uid
            silent = self._silent(carp, vhosts, results)
            known = self._cache.specs.get(name)
            if known is None or not known.fits(carp, owner, self._snapshot.cluster, vhosts, silent=silent):
                known = _Spec.of(name, carp, owner, self._snapshot.cluster, vhosts, silent=silent)
                self._cache.specs[name] = known
            plans[name] = known.plan
            if known.differs:
                writes.append(known.plan)
        return plans, tuple(sorted(writes, key=lambda p: (not p.urgent, p.name)))

    def _silent(
        self, carp: CarpNode | None, vhosts: Sequence[Mapping[str, Any]], results: Mapping[str, Result]
    ) -> bool:
        """Return whether to tell a node no list at all, because an empty or short one might drop an address.

        That is so while its CarpNode is new and it has not said what it runs, or runs what nothing can be
        said about now.
        """
        if carp is None or (carp.observed_uid != carp.uid and not carp.listed and not carp.reported):
            return True
        if carp.observed_uid == carp.uid or carp.listed:
            return False
        running = {state.name for state in carp.states} - {entry["name"] for entry in vhosts}
        return any(name in results and results[name].stays for name in running)

    def _keys(self) -> frozenset[str]:
        wanted = {key.current for key in self._snapshot.keys.values()}
        told = (each.keys for each in self._cache.book.told.values())
        planned = (self._cache.specs[name].keys for name in self._facts.nodes)
        return frozenset(wanted.union(*told, *planned) - {""})


@dataclass(slots=True)
class _Known:
    """A decision, and what it was made of. ``facts``: where any node might have changed it."""

    case: Case
    result: Result
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class _Spec:
    """A node's planned spec, and what it was made of."""

    plan: NodePlan
    differs: bool
    carp: CarpNode | None
    vhosts: Sequence[Mapping[str, Any]]
    keys: frozenset[str]

    @classmethod
    def of(
        cls,
        name: str,
        carp: CarpNode | None,
        owner: str,
        cluster: str,
        vhosts: list[Mapping[str, Any]],
        *,
        silent: bool,
    ) -> _Spec:
        there = {} if carp is None else {entry.get("name"): entry for entry in carp.vhosts}
        urgent = any(e.get("firstClaimant") and there.get(e["name"]) != e for e in vhosts)
        made = NodePlan(name, owner, {"cluster": cluster} | ({} if silent else {"vhosts": vhosts}), urgent)
        same = carp is not None and (carp.owner, carp.cluster, carp.listed) == (owner, cluster, not silent)
        same = same and carp is not None and (silent or list(carp.vhosts) == vhosts)
        return cls(made, not same, carp, vhosts, key_names(vhosts))

    def fits(
        self,
        carp: CarpNode | None,
        owner: str,
        cluster: str,
        vhosts: Sequence[Mapping[str, Any]],
        *,
        silent: bool,
    ) -> bool:
        """Whether it still is right for these."""
        return (
            self.carp is carp
            and silent == ("vhosts" not in self.plan.spec)
            and (self.plan.owner, self.plan.spec["cluster"]) == (owner, cluster)
            and len(self.vhosts) == len(vhosts)
            and all(a is b for a, b in zip(self.vhosts, vhosts, strict=True))
        )


def _same(a: Case, b: Case) -> bool:
    """Whether two cases are alike but for the candidates; by identity where that is enough."""
    return (
        a.vip is b.vip
        and len(a.views) == len(b.views)
        and all(x is y for x, y in zip(a.views, b.views, strict=True))
        and len(a.nodes) == len(b.nodes)
        and all(x is y for x, y in zip(a.nodes, b.nodes, strict=True))
        and (a.claim, a.key, a.foreign, a.lost) == (b.claim, b.key, b.foreign, b.lost)
    )
