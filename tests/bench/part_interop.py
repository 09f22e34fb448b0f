"""Ours is killed and a real ucarp succeeds, which claims 0.2 s sooner than a member of ours would."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from arena import marked, pause, side_by_side, some, team
from contenders import ALL, Load
from figures import Figure

if TYPE_CHECKING:
    from contenders import Seat

OVERLAP = 0.15
"""s; ucarp claims 3.003 s after the last advert, the kernel removes our address up to 3.15 s after it."""


class Mixed:
    """Ours at the first seat, ucarp at the others."""

    name = "carp and ucarp"

    def start(self, seat: Seat) -> None:
        """Start the daemon of this seat."""
        ALL["ucarp" if seat.rank else "carp"].start(seat)


def overlaps(kills: int) -> list[float]:
    """Kill ours so many times; return the seconds with two owners of each."""
    with team(Mixed(), Load()) as group, group.prober(interval_ms=10.0, arp_ms=3.0) as prober:
        ours, theirs = group.seats
        group.begin(prober)
        for _ in range(kills):
            pause(0.5 + some(1.0))
            prober.mark("kill")
            group.kill(ours)
            group.wait_owner(prober, theirs)
            pause(0.5)
            prober.mark("return")
            group.start(ours)
            pause(1.5)
            group.signal(theirs, signal.SIGTERM)
            group.reap(theirs)
            group.wait_owner(prober, ours)
            group.start(theirs)
            group.settle(prober)
        return [summary.two_owners.total_s for summary in marked(prober, "kill")]


def run(*, quick: bool) -> list[Figure]:
    """Measure on several LANs at once."""
    lanes, kills = (2, 1) if quick else (4, 5)
    found = side_by_side({str(lane): partial(overlaps, kills) for lane in range(lanes)})
    runs = [value for values in found.values() for value in values]
    what = f"kill -9 of ours, ucarp succeeds, two owners, longest of {len(runs)}"
    return [Figure("interop", what, "s", max(runs), OVERLAP, runs={"carp": runs})]
