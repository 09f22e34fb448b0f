"""failoverTime and ranks -> advbase, advskew and dead ratio, and the bound that really results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp.core.timing import MAX_DEMOTED_SKEW, Timing

if TYPE_CHECKING:
    from carp_operator.api.objects import VipSpec

DEFAULT_FAILOVER: Final = 3.0
"""s"""
_STEP: Final = 20
"""1/256 s between ranks: at a timeout 78 ms apart, at a bow-out 20 ms (design.md rule 4)."""
_RATIO: Final = 3


@dataclass(frozen=True, slots=True)
class Clock:
    """The timing of one VirtualIP: rank r advertises with advskew ``first`` + r x ``step``."""

    advbase: int
    first: int
    step: int
    ratio: int

    def skew(self, rank: int) -> int:
        """Return the advskew of a rank, counted from 0."""
        return min(self.first + rank * self.step, MAX_DEMOTED_SKEW)

    def bound(self) -> float:
        """Return how long (s) the address can be away when the master dies: the second rank's dead time."""
        return Timing(self.advbase, self.skew(1), self.ratio).dead_time()

    def adverts(self) -> float:
        """Return how many adverts a second a master sends."""
        return 1 / Timing(self.advbase, self.first, self.ratio).advert_period()


def derive(spec: VipSpec) -> Clock:
    """Return the timing that a spec asks for.

    From 3 s on the dead ratio is 3 and advbase the third part; between 1 and 3 s the interval stays 1 s and
    the ratio shrinks (a master of ours advertises four times in a lifetime, so one lost advert is none too
    many); below 1 s it is advbase 0, where the second rank's dead time is the time asked for.
    """
    if spec.advertisement is not None:
        given = spec.advertisement
        step = given.skew_step
        first = 1 if given.advbase == 0 else 0
        return Clock(
            given.advbase, first, _step(spec, given.advbase) if step is None else step, given.dead_ratio
        )
    wanted = DEFAULT_FAILOVER if spec.failover_time is None else spec.failover_time
    if wanted < 1:
        return Clock(0, max(1, int(wanted * 256 / _RATIO + 1e-9) - 1), 1, _RATIO)
    if wanted < _RATIO:
        return Clock(1, 0, _step(spec, 1), int(wanted))
    return Clock(int(wanted // _RATIO), 0, _step(spec, 1), _RATIO)


def _step(spec: VipSpec, advbase: int) -> int:
    return 1 if advbase == 0 else min(_STEP, MAX_DEMOTED_SKEW // max(1, spec.max_nodes - 1))
