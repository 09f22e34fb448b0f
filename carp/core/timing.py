"""Intervals, dead times and lifetimes, and who is preferred over whom.

Sources: carp-protocol.md sections 4 to 6 for the wire, design.md sections 4 and 5 for our choices.
All results in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from carp.core.wire import Advert

GUARD: Final = 0.2
"""Added to our own dead time, never to the wire: a killed owner's address is gone before we claim."""
KERNEL_LAG: Final = 1.15
"""s; the kernel removes an address at most this long after its lifetime (measured, design.md rule 3)."""
LEASE_MARGIN: Final = KERNEL_LAG + 0.05
"""s; L + this must fit into the successor's dead time: a renewal may follow its advert by 0.05 s."""
MAX_DEMOTED_SKEW: Final = 240
"""FreeBSD clamps a demoted skew here (section 6)."""
MAX_DEMOTION: Final = 254
"""Byte 4 of a bow-out is 255 when its sender stops."""


def skew_seconds(advskew: int) -> float:
    """Return advskew/256 s, in whole microseconds as every implementation computes it."""
    return (advskew * 1_000_000 // 256) / 1_000_000


def interval(advbase: int, advskew: int) -> float:
    """Return the time between two adverts."""
    return advbase + skew_seconds(advskew)


def demoted_skew(advskew: int, demotion: int) -> int:
    """Return the skew that goes on the wire: demotion added, clamped at 240 as FreeBSD does."""
    if demotion <= 0:
        return advskew
    return max(advskew, min(advskew + demotion, MAX_DEMOTED_SKEW))


@dataclass(frozen=True, slots=True)
class Timing:
    """The local clockwork of one vhost. Ranges: advbase 0-255 s, advskew 0-255, ratio 1-255."""

    advbase: int
    advskew: int
    ratio: int

    def dead_time(self, demotion: int = 0) -> float:
        """Return how long without a valid advert until the master counts as gone.

        ratio x base + skew/256 as in ucarp and FreeBSD, plus our guard. With base 0 that would be one
        interval, so OpenBSD's rule holds there: ratio x skew/256 (section 4). A demoted member waits as
        its demoted skew says, so that healthy ones come first; at base 0 only 1 ms per unit, as at a
        bow-out, or the address would stay away for seconds.
        """
        skew = demoted_skew(self.advskew, demotion)
        if self.advbase == 0:
            return self.ratio * skew_seconds(self.advskew) + (skew - self.advskew) / 1000
        return self.ratio * self.advbase + skew_seconds(skew) + GUARD

    def lifetime(self) -> int:
        """Return L, the whole seconds of kernel lifetime of an address, at least 1.

        The largest with L + 1.2 <= the dead time of a successor with skew 0. Where none fits (dead
        times below 2.2 s) it is 1 and `overlap_bound` says what that costs.
        """
        return max(1, int(self._fastest_successor() - LEASE_MARGIN + 1e-9))

    def _fastest_successor(self) -> float:
        if self.advbase == 0:
            return self.ratio * skew_seconds(self.advskew)
        return self.ratio * self.advbase + GUARD

    def overlap_bound(self) -> float:
        """Return the longest time with two owners after a kill or stall, among our own members."""
        return max(0.0, self.lifetime() + LEASE_MARGIN - self._fastest_successor())

    def advert_period(self, demotion: int = 0, *, fenced: bool = True) -> float:
        """Return how often a master advertises and renews: its interval, but at least every L/4.

        At base 0 a demoted master keeps its undemoted cadence (design.md section 5).
        """
        skew = self.advskew if self.advbase == 0 else demoted_skew(self.advskew, demotion)
        period = interval(self.advbase, skew)
        return min(period, self.lifetime() / 4) if fenced else period

    def times_out(self, theirs: Advert) -> bool:
        """Whether their interval is so long that we are certain to time out (section 5.3, line 3)."""
        if self.advbase == 0:
            return theirs.is_bow_out
        own = self.ratio * self.advbase + skew_seconds(self.advskew)
        return own < interval(theirs.advbase, theirs.advskew)


def grid(now: float, period: float) -> float:
    """Return when to wake next: at most ``period`` from now, at most a tenth of it early, never late.

    Equal periods meet on common multiples after a few rounds, so that hundreds of vhosts cost one
    wake-up.
    """
    due = now + period
    # The millionth keeps rounding from choosing the slot before a multiple on which we already are.
    slot = (due / period + 1e-6) // 1 * period
    return max(min(slot, due), due - period / 10)
