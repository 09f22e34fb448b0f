"""A change of failoverTime: whoever may hold the addresses must never keep them longer than others wait.

The holder's addresses live in the kernel for its own dead time, and it advertises a fraction of that; the
others wait for theirs. So the others get a longer time first and a shorter one last, each when the step
before is confirmed. One that becomes master in the middle of it has the new time already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from carp.core.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carp_operator.plan.clock import Clock
    from carp_operator.plan.members import View


class Pace(NamedTuple):
    """How fast a member is; ``first``: its advskew where that is the interval, with its rank in it."""

    advbase: int
    ratio: int
    first: int = 0

    def dead_time(self) -> float:
        """Return the s after which others of this pace take over."""
        return Timing(self.advbase, self.first, self.ratio).dead_time()


@dataclass(frozen=True, slots=True)
class Kept:
    """Who keeps the pace that it was told, and whom the change waits for."""

    nodes: frozenset[str] = frozenset()
    waiting: tuple[str, ...] = ()


def keep(
    clock: Clock,
    told: Sequence[View],
    holder: str,
    unsettled: Collection[str],
    ghosts: Collection[str],
) -> Kept:
    """Return which of those that were told something keep their pace for now.

    ``holder``: who is master, as far as known; ``unsettled`` have not confirmed what they were told;
    ``ghosts`` may run it in a way that nobody knows.
    """
    target = Pace(clock.advbase, clock.ratio, clock.first if clock.advbase == 0 else 0)
    paces = {v.node: pace_of(v.told) for v in told if v.told is not None}
    moved = {n for n, pace in paces.items() if _same(pace, target, clock.step * len(paces))}
    if holder not in paces or len(moved) == len(paces):
        return Kept()
    goal, waiting = target.dead_time(), tuple(sorted({*unsettled, *ghosts}))
    # Whoever is on the way to another time still may be far enough for this one.
    others_ready = not waiting and all(
        node in moved or pace.dead_time() >= goal for node, pace in paces.items() if node != holder
    )
    holder_ready = holder not in unsettled and (holder in moved or paces[holder].dead_time() <= goal)
    kept = {
        node
        for node, pace in paces.items()
        if node not in moved
        and not (
            (goal <= pace.dead_time() or others_ready)
            if node == holder
            else (goal >= pace.dead_time() or holder_ready)
        )
    }
    return Kept(frozenset(kept), waiting if kept else ())


def pace_of(entry: Mapping[str, Any]) -> Pace:
    """Return the pace that an entry of a CarpNode tells a node."""
    advbase = entry.get("advbase", 1)
    return Pace(advbase, entry.get("deadRatio", 3), 0 if advbase else entry.get("advskew", 0))


def _same(one: Pace, other: Pace, ranks: int) -> bool:
    """Whether two paces are the same but for ``ranks``; who had the lowest may have gone."""
    return one[:2] == other[:2] and abs(one.first - other.first) <= ranks
