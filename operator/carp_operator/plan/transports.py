"""A change of transport: all listen to the new group, then all send to it, then all forget the old.

Members that send to different groups do not hear each other unless they listen to both. Whatever is sent to
a member alone (mode Unicast) it hears in any mode. As with passwords the step is derived from what stands in
the CarpNodes, and nobody sends elsewhere before every member that may be alive has confirmed that it listens.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from carp.core.config import Transport, TransportMode
from carp.core.schema import MAX_LISTEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.plan.members import View

_UNICAST: Final = TransportMode.UNICAST.value


class Way(NamedTuple):
    """Where a member's adverts go: to these groups, or to each peer alone."""

    mode: str = TransportMode.MULTICAST.value
    group4: str = str(Transport().group4)
    group6: str = str(Transport().group6)

    @classmethod
    def of(cls, mode: str, group4: str, group6: str) -> Way:
        """Return the way that settings mean; empty groups are the usual ones."""
        if mode == _UNICAST:
            return cls(mode, "", "")
        return cls(mode, _address(group4) or cls().group4, _address(group6) or cls().group6)

    @property
    def groups(self) -> set[str]:
        """What has to be listened to."""
        return {self.group4, self.group6} - {""}


@dataclass(frozen=True, slots=True)
class Told:
    """What one member was told: ``way`` None for a member that is new.

    ``settled``: it has stored exactly that, and refused nothing.
    """

    node: str
    way: Way | None
    listen: tuple[str, ...] = ()
    settled: bool = True

    @property
    def hears(self) -> set[str]:
        """The groups that it was told to listen to."""
        return set(self.listen) | (self.way.groups if self.way is not None else set())


@dataclass(frozen=True, slots=True)
class Stage:
    """What to tell each node: where to send, and what to listen to beside; whom that waits for."""

    ways: Mapping[str, tuple[Way, tuple[str, ...]]]
    waiting: tuple[str, ...] = ()


def told(view: View, *, settled: bool) -> Told:
    """Return what a node was told."""
    given: Mapping[str, Any] = (view.told or {}).get("transport", {})
    way = Way.of(given.get("mode", Way().mode), given.get("group", ""), given.get("group6", ""))
    return Told(view.node, way, tuple(given.get("listen", ())), settled)


def advance(target: Way, members: Sequence[Told], ghosts: Sequence[str] = ()) -> Stage:
    """Return the next step towards all sending by ``target``.

    ``ghosts`` are nodes of which nobody knows what they run: nothing goes on without them.
    """
    old = [m for m in members if m.way is not None]
    ways = [m.way for m in old if m.way is not None]
    waiting = tuple(sorted([m.node for m in old if not m.settled] + list(ghosts)))
    known = target.groups.union(*(m.hears for m in old))
    if all(way == target for way in ways):
        rest = _rest(known, target) if waiting else ()
        return Stage({m.node: (target, rest) for m in members}, waiting if rest else ())
    if any(len(_rest(known, way)) > MAX_LISTEN for way in (*ways, target)):
        known = target.groups.union(*(way.groups for way in ways))
    heard = all(target.groups <= m.hears for m in old)
    # Whom nobody knows as a peer only a group reaches.
    if (heard and not waiting) or not (target.groups or ghosts):
        return Stage({m.node: (target, _rest(known, target)) for m in members})
    # A newcomer sends as most do: that is heard everywhere.
    common = max(Counter(ways).items(), key=lambda item: (item[1], item[0]))[0]
    return Stage({m.node: (way := m.way or common, _rest(known, way)) for m in members}, waiting)


def _rest(groups: set[str], way: Way) -> tuple[str, ...]:
    return tuple(sorted(groups - way.groups))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
