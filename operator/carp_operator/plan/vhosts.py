"""One VirtualIP on one node: an entry of CarpNode.spec.vhosts (design.md section 8), defaults left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp.core.config import Fencing, PreemptMode, SealMode, WhenAllFail
from carp.core.errors import ConfigErrors
from carp.core.schema import MAX_PEERS, parse_vhost
from carp_operator.plan.contexts import Context, Told
from carp_operator.plan.handover import DEMOTION
from carp_operator.plan.paces import pace_of
from carp_operator.plan.transports import Way

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carp.core.config import Vip
    from carp_operator.api.objects import VipSpec
    from carp_operator.plan.clock import Clock
    from carp_operator.plan.facts import Facts
    from carp_operator.plan.members import View

CORDONED: Final = {"reason": "Cordoned", "amount": 100}
_SOURCES: Final = {4: "source", 6: "source6"}
OUT_OF_SERVICE: Final = {"reason": "OutOfService", "amount": 200}


@dataclass(frozen=True, slots=True)
class Before:
    """What nodes were told.

    ``peers``: entries whose peers stay beside the new ones, since somebody who may run it still would not
    hear the others any more. ``slow``: who keeps its pace for now.
    """

    entries: Mapping[str, Mapping[str, Any]]
    peers: Mapping[str, Mapping[str, Any]]
    slow: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Common:
    """What the entries of one VirtualIP share."""

    name: str
    spec: VipSpec
    addresses: tuple[Vip, ...]
    vhid: int
    clock: Clock
    first_claimant: bool
    """Nobody has ever held it: the first by rank may claim it at once."""

    def mode(self) -> SealMode:
        """Return whether foreign adverts count: not where all members are ours."""
        if self.spec.mode is not None:
            return self.spec.mode
        return SealMode.INTEROPERABLE if self.spec.transport.extra_peers else SealMode.SEALED

    def shared(self) -> dict[str, Any]:
        """Return the fields that are the same on every node."""
        spec, clock = self.spec, self.clock
        entry: dict[str, Any] = {
            "name": self.name,
            "vhid": self.vhid,
            "advbase": clock.advbase,
            "deadRatio": clock.ratio,
            "authentication": {"mode": self.mode().value},
        }
        if spec.preempt.mode is not PreemptMode.NEVER:
            entry["preempt"] = {"mode": spec.preempt.mode.value}
        if spec.preempt.mode is PreemptMode.AFTER:
            entry["preempt"]["after"] = f"{spec.preempt.after:g}s"
        if spec.announce:
            entry["announce"] = dict(spec.announce)
        if spec.fencing != Fencing.LIFETIME:
            entry["fencing"] = spec.fencing
        if spec.health_checks:
            entry["healthChecks"] = [dict(check) for check in spec.health_checks]
        if spec.when_all_fail != WhenAllFail.KEEP:
            entry["whenAllFail"] = spec.when_all_fail
        return entry

    def problem(self) -> str:
        """Return what the engine's own rules say against these settings; empty when nothing."""
        entry = {
            **self.shared(),
            "interface": {"name": "eth0"},
            "addresses": [str(a) for a in self.addresses],
            "advskew": self.clock.skew(0),
            "password": "x",
        }
        try:
            parse_vhost(entry)
        except ConfigErrors as errors:
            return "; ".join(str(error) for error in errors.errors)
        return ""

    def target(self, key: str) -> Context:
        """Return the context that all should sign with in the end."""
        return Context(key, addresses_text(self.addresses))

    def way(self, *, alone: bool) -> Way:
        """Return where all should send in the end; ``alone``: no member has a peer."""
        given = self.spec.transport
        if given.mode == "Unicast" and alone and not given.extra_peers:
            return Way()
        return Way.of(given.mode, given.group4, given.group6)


def addresses_text(addresses: Sequence[Vip]) -> tuple[str, ...]:
    """Return addresses as an entry has them: without a prefix length that is the default."""
    return tuple(str(a.ip) if a.network.prefixlen == a.network.max_prefixlen else str(a) for a in addresses)


def settled(view: View) -> bool:
    """Whether a node has stored what it was told, and refused nothing."""
    return view.confirmed and not (view.state is not None and view.state.refused)


def told(view: View) -> Told:
    """Return the contexts that a node was told."""
    entry = view.told or {}
    sign = Context(entry.get("passwordRef", ""), tuple(entry.get("addresses", ())))
    accept = tuple(
        Context(other.get("passwordRef", ""), tuple(other.get("addresses", ())))
        for other in entry.get("accept", ())
    )
    return Told(view.node, sign, accept, settled(view))


def entries(
    common: Common,
    places: Mapping[str, str],
    contexts: Mapping[str, tuple[Context, tuple[Context, ...]]],
    ranks: Sequence[str],
    ways: Mapping[str, tuple[Way, tuple[str, ...]]],
    facts: Facts,
    before: Before,
    moving: Collection[str] = (),
) -> dict[str, dict[str, Any]]:
    """Return the entry of each node in ``ranks``, which are in order of preference.

    ``contexts`` and ``ways``: what each signs with and accepts, where it sends to and what else it hears.
    ``moving``: who is to hand over now.
    """
    shared = common.shared()
    sources = {
        name: _sources(facts, name, places[name], common.addresses, before.entries.get(name, {}))
        for name in ranks
    }
    demoted = demotions(facts, ranks)
    result = {}
    for rank, name in enumerate(ranks):
        sign, accept = contexts[name]
        entry = {
            **shared,
            "interface": {"name": places[name]},
            "addresses": list(sign.addresses),
            "passwordRef": sign.key,
            "advskew": common.clock.skew(rank),
        }
        if name in before.slow:
            entry |= _pace(before.entries[name], common.clock)
        if accept:
            entry["accept"] = [{"addresses": list(c.addresses), "passwordRef": c.key} for c in accept]
        if rank == 0 and common.first_claimant:
            entry["firstClaimant"] = True
        for_now = demoted.get(name, []) + ([dict(DEMOTION)] if name in moving else [])
        if for_now:
            entry["demotions"] = for_now
        peers = _peers(common.spec, name, sources, peers_of(before.peers.get(name, {})))
        transport = _transport(*ways[name], peers)
        if transport:
            entry["transport"] = transport
            entry |= _named(sources[name]) if transport["mode"] == "Unicast" else {}
        result[name] = entry
    return result


def _pace(entry: Mapping[str, Any], clock: Clock) -> dict[str, Any]:
    """Return the fields of an entry that are its pace, and what goes with that alone."""
    told = pace_of(entry)
    pace = {"advbase": told.advbase, "deadRatio": told.ratio}
    if told.advbase and clock.advbase:
        return pace
    # Below a second the advskew is the interval, and foreign adverts never count.
    also = ("advskew", "authentication") if told.advbase or clock.advbase else ("advskew",)
    return pace | {key: entry[key] for key in also if key in entry}


def demotions(facts: Facts, names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return how nodes are demoted that should not hold an address; nobody is where that is all of them."""
    out = [facts.nodes[name] for name in names if facts.nodes[name].out]
    if len(out) == len(names):
        return {}
    return {
        node.name: [dict(CORDONED)] * node.node.unschedulable + [dict(OUT_OF_SERVICE)] * node.maintained
        for node in out
    }


def _sources(
    facts: Facts, name: str, interface: str, addresses: Sequence[Vip], before: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the addresses that a node's adverts come from: one per family, in the VIP's subnet if it can.

    As it was told ``before`` where its report lacks one: what it runs goes on with that.
    """
    link = next((each for each in facts.nodes[name].links if each.name == interface), None)
    found: list[str] = []
    for version in sorted({a.version for a in addresses}):
        mine = [a for a in (link.addresses if link else ()) if a.version == version]
        inside = [a for a in mine if any(v.version == version and v.ip in a.network for v in addresses)]
        known = before.get(_SOURCES[version])
        found += [str(a.ip) for a in (inside or mine)[:1]] or ([known] if known else [])
    return tuple(found)


def peers_of(entry: Mapping[str, Any]) -> Sequence[str]:
    """Return the peers in an entry."""
    return tuple(entry.get("transport", {}).get("peers", ()))


def _peers(
    spec: VipSpec, name: str, sources: Mapping[str, tuple[str, ...]], kept: Sequence[str]
) -> list[str]:
    """Return to whom a node sends alone; those that it only still sends to give way where they are many."""
    ours = [source for other in sorted(sources) if other != name for source in sources[other]]
    wanted = [*ours, *spec.transport.extra_peers]
    old = [peer for peer in kept if peer not in wanted and peer not in sources[name]]
    return wanted + old[: max(0, MAX_PEERS - len(wanted))]


def _transport(way: Way, listen: Sequence[str], peers: Sequence[str]) -> dict[str, Any]:
    also = {"listen": list(listen)} if listen else {}
    if way.mode == "Unicast":
        return {"mode": "Unicast", "peers": list(peers), **also} if peers else {}
    named = {"group": (way.group4, Way().group4), "group6": (way.group6, Way().group6)}
    groups = {key: group for key, (group, usual) in named.items() if group != usual}
    return {"mode": way.mode, **groups, **also} if (groups or also or way.mode != Way().mode) else {}


def _named(sources: Sequence[str]) -> dict[str, str]:
    """Return the fields that fix a node's sources: its peers know it by them."""
    return {_SOURCES[6 if ":" in source else 4]: source for source in sources}
