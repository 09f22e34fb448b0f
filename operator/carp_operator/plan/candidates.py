"""Which nodes may hold an address, and why the others may not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from carp_operator.plan.facts import EXCLUDED, place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carp.core.config import Vip
    from carp_operator.api.objects import Selector, VipSpec
    from carp_operator.plan.facts import Facts, Network, NodeFacts
    from carp_operator.plan.members import View


@dataclass(frozen=True, slots=True)
class Candidates:
    """The nodes that one kind of VirtualIP may live on: ``places`` name -> interface."""

    places: Mapping[str, str]
    segments: frozenset[str]
    why_not: str
    """What excludes the others, for a person."""
    unreported: int

    def without(self, taken: Collection[tuple[str, str]]) -> Candidates:
        """Return the same but for these nodes, where they would use these interfaces."""
        places = {node: link for node, link in self.places.items() if (node, link) not in taken}
        return replace(self, places=places)


class Finder:
    """Finds candidates; VirtualIPs that ask for the same share the answer."""

    def __init__(self, facts: Facts, before: Finder | None = None) -> None:
        """``before`` answered for an earlier state of the nodes: the same answer is the same object."""
        self._facts = facts
        self._known: dict[Any, Candidates] = {}
        self._before = {} if before is None else before.answers()

    def answers(self) -> dict[Any, Candidates]:
        """Return all answers so far."""
        return dict(self._known)

    def find(self, spec: VipSpec, addresses: Sequence[Vip], told: Sequence[View] = ()) -> Candidates:
        """Return who may hold these addresses; ``told``: who serves them now."""
        homes = self._facts.anchored(addresses, told)
        key = (spec.node_selector, spec.interface, homes, () if homes else tuple(addresses))
        known = self._known.get(key)
        if known is None:
            known, before = self._search(spec, homes, addresses), self._before.pop(key, None)
            # Why others are none matters only where there is nobody.
            same = before is not None and before.places == known.places != {}
            if before is not None and same and before.segments == known.segments:
                known = before
            self._known[key] = known
        return known

    def forget(self, most: int) -> None:
        """Let answers be found anew once they are more than so many: some are for specs that are gone."""
        if len(self._known) > most:
            self._before, self._known = self._known, {}

    def _search(self, spec: VipSpec, homes: Sequence[Network], addresses: Sequence[Vip]) -> Candidates:
        places: dict[str, str] = {}
        excluded: Counter[str] = Counter()
        unreported = 0
        for name, node in self._facts.nodes.items():
            problem = excluded_by(node, spec.node_selector)
            if problem:
                excluded[problem] += 1
                continue
            if not node.reported:
                unreported += 1
                excluded["has not reported its interfaces (no agent there?)"] += 1
                continue
            interface = place(node, spec.interface, homes)
            if interface:
                places[name] = interface
            else:
                excluded[_no_interface(spec, homes, addresses)] += 1
        segments = frozenset(self._facts.segments[item] for item in places.items())
        return Candidates(places, segments, _words(excluded), unreported)


def excluded_by(node: NodeFacts, selector: Selector | None) -> str:
    """Return why a node is no candidate whatever its interfaces are; empty when it is one."""
    if node.node.deleting:
        return "is being deleted"
    if selector is not None:
        return "" if selector.matches(node.node.labels) else f"does not match nodeSelector {selector}"
    return f"has the label {EXCLUDED}" if EXCLUDED in node.node.labels else ""


def _no_interface(spec: VipSpec, homes: Sequence[Network], addresses: Sequence[Vip]) -> str:
    if spec.interface is not None and (spec.interface.name or spec.interface.pattern):
        return f"has no interface {spec.interface.name or spec.interface.pattern}"
    if spec.interface is not None and spec.interface.subnet not in ("", "auto"):
        return f"has no interface in {spec.interface.subnet}"
    if not homes:
        return f"has no interface whose subnet contains {', '.join(str(a.ip) for a in addresses)}"
    if len(homes) == 1:
        return f"has no interface in {homes[0]}"
    return f"has no single interface in {' and '.join(map(str, homes))}"


def _words(excluded: Counter[str]) -> str:
    if not excluded:
        return "there are no nodes"
    return "; ".join(f"{n} node{'s'[: n != 1]}: {why}" for why, n in sorted(excluded.items()))
