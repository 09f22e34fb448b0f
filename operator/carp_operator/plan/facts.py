"""What is known of nodes: which interface has which subnet, and which interfaces share a segment."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

from carp_operator.api.codec import interface_of
from carp_operator.plan.paces import pace_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from carp.core.auth import Address
    from carp.core.config import Interface, Vip
    from carp_operator.api.objects import CarpNode, Link, Node, Speaker
    from carp_operator.plan.members import View
    from carp_operator.plan.model import Snapshot

Network: TypeAlias = IPv4Network | IPv6Network
Source: TypeAlias = "tuple[Node, CarpNode | None, str]"
"""What the facts of a node are read from."""
INTERFACES: Final = "carp.vip/interfaces"
"""Annotation of a CarpNode: names or patterns, with commas, that narrow its interfaces."""
MAINTENANCE: Final = "carp.vip/maintenance"
"""Annotation of a CarpNode: `true` demotes everything on the node."""
PATIENCE: Final = 60.0
"""s without a Ready pod until that is trouble: an upgrade takes less."""
START: Final = 30.0
"""s that a pod may take to start; it is Ready when each vhost has listened for a dead time besides."""
EXCLUDED: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
"""Label of a Node that is no candidate unless a nodeSelector is given."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """One node. ``away``: NotReady for so long that another takes its place."""

    node: Node
    away: bool
    reported: bool
    maintained: bool
    """An operator has taken it out of service."""
    links: tuple[Link, ...]
    """Those that may carry addresses."""
    networks: Mapping[Network, str]
    """Subnet -> interface."""
    speakers: tuple[Speaker, ...]
    own: frozenset[Address] = frozenset()
    """Every address of the node, also on interfaces that carry no address of ours."""
    silent: bool = False
    """No pod of ours has been Ready there for a while, although the Node is: its agent tells nothing new."""

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def out(self) -> bool:
        """Whether it should not hold an address while another can."""
        return self.node.unschedulable or self.maintained


@dataclass(frozen=True, slots=True)
class Facts:
    """All nodes, and the segments that their interfaces form."""

    nodes: Mapping[str, NodeFacts]
    networks: Mapping[Network, tuple[str, int]]
    """Every subnet -> its segment, and how many nodes are in it."""
    by_length: Mapping[int, Mapping[int, Mapping[int, Network]]]
    """Version -> prefix length -> prefix as a number -> subnet."""
    segments: Mapping[tuple[str, str], str]
    """(node, interface) -> segment, named by its first subnet."""
    heard: Mapping[str, frozenset[int]]
    """Segment -> ids of CARP and VRRP that nodes hear and do not speak themselves."""
    own: Mapping[Address, str]
    """Address -> the node that has it as its own."""

    known: dict[int, tuple[Sequence[Vip], tuple[Network, ...]]]
    """Answers of `homes`, by the identity of what was asked."""
    homes_of: dict[tuple[Network, ...], tuple[Network, ...]] = field(default_factory=dict)
    """Every answer of `homes` once."""
    sources: dict[str, Source] = field(default_factory=dict)
    """What each node's facts were read from: reading a thousand again costs more than planning."""
    here: dict[tuple[int, str, str], bool] = field(default_factory=dict)
    """Answers to whether an answer of `homes` is the subnet of a node's interface."""

    def is_own(self, source: str) -> bool:
        """Whether an address is a node's own."""
        found = interface_of(source)
        return found is not None and found.ip in self.own

    def homes(self, vips: Sequence[Vip]) -> tuple[Network, ...]:
        """Return the subnet of each address; empty where one has none.

        The smallest that is known; where others of its segment contain it, the one that most nodes are in:
        somebody's /24 on one node's interface does not make the /16 beside it another network.
        """
        known = self.known.get(id(vips))
        if known is None or known[0] is not vips:
            found = self._homes(vips)
            known = self.known[id(vips)] = vips, self.homes_of.setdefault(found, found)
        return known[1]

    def forget(self, used: Collection[Sequence[Vip]]) -> None:
        """Forget the answers of `homes` about anything but these, once there are more."""
        if len(self.known) > len(used):
            for key in self.known.keys() - set(map(id, used)):
                del self.known[key]

    def _homes(self, vips: Sequence[Vip]) -> tuple[Network, ...]:
        found = []
        for vip in vips:
            ip = vip.ip
            fitting = self._around(ip)
            if not fitting:
                return ()
            found.append(self._usual(fitting))
        return tuple(dict.fromkeys(found))

    def anchored(self, vips: Sequence[Vip], told: Sequence[View]) -> tuple[Network, ...]:
        """Return the subnets of addresses that nodes were told to serve: one of theirs where it fits.

        A smaller subnet that turns up somewhere else must not take away what runs.
        """
        homes = self.homes(vips)
        for view in told:
            key = (id(homes), view.node, view.interface)
            if key not in self.here:
                networks = self.nodes[view.node].networks if view.node in self.nodes else {}
                self.here[key] = all(networks.get(home) == view.interface for home in homes)
            if self.here[key]:
                return homes
        if not homes:
            return homes
        places = [(self.nodes[v.node].networks, v.interface) for v in told if v.node in self.nodes]
        found = []
        for vip in vips:
            fitting = self._around(vip.ip)
            served = [n for n in fitting if any(known.get(n) == interface for known, interface in places)]
            found.append(self._usual(served or fitting))
        return tuple(dict.fromkeys(found))

    def _around(self, ip: Address) -> list[Network]:
        """Return the subnets that contain an address; a cluster may have thousands, of few lengths."""
        value, length = int(ip), ip.max_prefixlen
        found = (
            prefixes.get(value >> (length - bits)) for bits, prefixes in self.by_length[ip.version].items()
        )
        return [network for network in found if network is not None]

    def _usual(self, fitting: Sequence[Network]) -> Network:
        segment, _ = self.networks[max(fitting, key=lambda n: n.prefixlen)]
        same = [n for n in fitting if self.networks[n][0] == segment]
        return max(same, key=lambda n: (self.networks[n][1], n.prefixlen))


def gather(snapshot: Snapshot, before: Facts | None) -> tuple[Facts, float | None]:
    """Return what is known of the nodes (``before`` if nothing is new), and when time changes it."""
    cache, sources = ({}, {}) if before is None else (before.nodes, before.sources)
    wake: float | None = None
    fresh: dict[str, NodeFacts] = {}
    for name in sorted(snapshot.nodes):
        node, carp = snapshot.nodes[name], snapshot.carpnodes.get(name)
        away = False
        if not node.ready and node.ready_since:
            due = node.ready_since + snapshot.replace_after
            away = snapshot.now >= due
            if not away:
                wake = due if wake is None else min(wake, due)
        silent, since = False, 0.0 if snapshot.agents is None else snapshot.agents.get(name, 0.0)
        if since and node.ready:
            silent = snapshot.now >= (due := since + max(PATIENCE, START + _longest(carp)))
            if not silent:
                wake = due if wake is None else min(wake, due)
        known, source = cache.get(name), (node, carp, snapshot.interfaces)
        if (
            known is None
            or not _same(sources.get(name), source)
            or (known.away, known.silent) != (away, silent)
        ):
            facts = _facts(node, carp, snapshot.interfaces, away=away, silent=silent)
            known = known if known is not None and known == facts else facts
            sources[name] = source
        fresh[name] = known
    for name in sources.keys() - fresh.keys():
        del sources[name]
    same = len(fresh) == len(cache) and all(facts is cache.get(name) for name, facts in fresh.items())
    return (before if same and before is not None else _joined(fresh, before, sources)), wake


def _longest(carp: CarpNode | None) -> float:
    """Return the longest dead time (s) of what a node was told."""
    told = () if carp is None else carp.vhosts
    return max((pace_of(entry).dead_time() for entry in told), default=0.0)


def _same(one: Source | None, other: Source) -> bool:
    """Whether facts come from the very same objects."""
    return one is not None and one[0] is other[0] and one[1] is other[1] and one[2] == other[2]


def _facts(node: Node, carp: CarpNode | None, interfaces: str, *, away: bool, silent: bool) -> NodeFacts:
    links = () if carp is None else carp.links
    own = frozenset(address.ip for link in links for address in link.addresses)
    narrowed = interfaces if carp is None else carp.annotations.get(INTERFACES, interfaces)
    if narrowed:
        patterns = [part.strip() for part in narrowed.split(",")]
        links = tuple(link for link in links if any(fnmatchcase(link.name, p) for p in patterns))
    networks: dict[Network, str] = {}
    for link in links:
        for address in link.addresses:
            if _is_subnet(address.network):
                networks.setdefault(address.network, link.name)
    if carp is None:
        return NodeFacts(node, away, False, False, (), networks, ())
    maintained = carp.annotations.get(MAINTENANCE) == "true"
    return NodeFacts(node, away, carp.reported, maintained, links, networks, carp.speakers, own, silent)


def _is_subnet(network: Network) -> bool:
    """Whether neighbours can be expected in it: no host route, no link-local."""
    return network.prefixlen < network.max_prefixlen and not (network.version == 6 and network.is_link_local)


def _joined(
    nodes: Mapping[str, NodeFacts],
    before: Facts | None,
    sources: dict[str, tuple[Node, CarpNode | None, str]],
) -> Facts:
    """Put the nodes together; what only their interfaces decide is taken over where those are the same."""
    if before is None or _links(nodes) != _links(before.nodes):
        own = {ip: name for name, facts in nodes.items() for ip in facts.own}
        segments, networks = _segments(nodes.values())
        by_length = _by_length(networks)
        # How many nodes are in a subnet matters only where one can contain another.
        flat = all(len(prefixes) < 2 for prefixes in by_length.values())
        kept = before is not None and (
            before.networks == networks or (flat and before.networks.keys() == networks.keys())
        )
        known, homes = (before.known, before.homes_of) if before is not None and kept else ({}, {})
        before = Facts({}, networks, by_length, segments, {}, own, known, homes)
    heard: dict[str, set[int]] = defaultdict(set)
    for name, facts in nodes.items():
        for speaker in facts.speakers:
            segment = before.segments.get((name, speaker.interface))
            if segment is not None:
                heard[segment].add(speaker.id)
    ids = {segment: frozenset(found) for segment, found in heard.items()}
    return replace(before, nodes=nodes, heard=ids, sources=sources, here={})


def _links(nodes: Mapping[str, NodeFacts]) -> dict[str, tuple[tuple[Link, ...], frozenset[Address]]]:
    return {name: (facts.links, facts.own) for name, facts in nodes.items()}


def _by_length(networks: Iterable[Network]) -> dict[int, dict[int, dict[int, Network]]]:
    found: dict[int, dict[int, dict[int, Network]]] = {4: {}, 6: {}}
    for network in networks:
        bits = network.prefixlen
        prefix = int(network.network_address) >> (network.max_prefixlen - bits)
        found[network.version].setdefault(bits, {})[prefix] = network
    return found


def _segments(
    nodes: Iterable[NodeFacts],
) -> tuple[dict[tuple[str, str], str], dict[Network, tuple[str, int]]]:
    """Join subnets that meet on an interface, through as many steps as it takes; name interfaces by them.

    Return the segment of each interface, and of each subnet with the number of nodes that are in it.
    """
    numbers: dict[Network, int] = {}  # numbers, since to compare networks costs more than all the rest
    parent: list[int] = []
    count: list[int] = []

    def root(number: int) -> int:
        while (up := parent[number]) != number:
            number = up
        return number

    first: dict[tuple[str, str], int | None] = {}
    for facts in nodes:
        for link in facts.links:
            first[facts.name, link.name] = None
        for network, interface in facts.networks.items():
            one = numbers.setdefault(network, len(parent))
            if one == len(parent):
                parent.append(one)
                count.append(0)
            count[one] += 1
            other = first[facts.name, interface]
            if other is None:
                first[facts.name, interface] = one
            else:
                parent[root(one)] = root(other)
    names: dict[int, str] = {}
    for network, number in numbers.items():
        key = root(number)
        names[key] = min(names.get(key, str(network)), str(network))
    segments = {
        (node, link): names[root(number)] if number is not None else f"{node}/{link}"
        for (node, link), number in first.items()
    }
    return segments, {n: (names[root(number)], count[number]) for n, number in numbers.items()}


def place(facts: NodeFacts, interface: Interface | None, homes: Sequence[Network]) -> str:
    """Return the interface of a node for addresses with these subnets; empty where there is none."""
    if interface is not None and interface.name:
        return interface.name if any(link.name == interface.name for link in facts.links) else ""
    allowed = [link.name for link in facts.links]
    if interface is not None and interface.pattern:
        allowed = [name for name in allowed if fnmatchcase(name, interface.pattern)]
        if not homes:
            return allowed[0] if allowed else ""
    elif interface is not None and interface.subnet not in ("", "auto"):
        return _inside(facts, interface.subnet)
    if not homes:
        return ""
    found = {facts.networks.get(network, "") for network in homes}
    name = found.pop()
    return name if not found and name in allowed else ""


def _inside(facts: NodeFacts, subnet: str) -> str:
    """Return the interface that has an address in a subnet, as `carp.links.find_link` finds it."""
    wanted = _network(subnet)
    for link in sorted(facts.links, key=lambda link: link.name):
        if wanted is not None and any(a.version == wanted.version and a.ip in wanted for a in link.addresses):
            return link.name
    return ""


@lru_cache(1024)
def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
