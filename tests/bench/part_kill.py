"""The owner's process is killed or stopped, its kernel lives on: how long do two nodes own the address?"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from arena import pause, side_by_side, some, team
from contenders import ALL, Load
from figures import PEERS, Figure

if TYPE_CHECKING:
    from arena import Team
    from contenders import Contender

    from carp.lab.client import Prober

LANES = 5
STOPPED = 8.0
"""s that a stopped owner stands still."""
WATCHED = 10.0
"""s after a takeover that somebody is given to mend two owners, for the peers, who never do."""

Overlaps = dict[str, list[float]]


def overlaps(contender: Contender, kills: int, stops: int, linger: float) -> Overlaps:
    """Return the seconds with two owners of each kill and each stop, on all phases of the interval.

    ``idle`` is the number of takeovers that no fault explains (in the logs of ours).
    """
    with team(contender, Load()) as group, group.prober(interval_ms=10.0, arp_ms=3.0) as prober:
        group.begin(prober)
        for _ in range(stops):
            _stop(group, prober)
        for left in reversed(range(kills)):
            _kill(group, prober, linger, restart=left > 0)
        found: Overlaps = {"kill": [], "stop": [], "idle": [group.takeovers() - 1.0 - kills - stops]}
        for mark, summary in prober.stop().per_mark():
            if mark.label in ("kill", "stop"):
                found[mark.label].append(summary.two_owners.total_s)
        return found


def _kill(group: Team, prober: Prober, linger: float, *, restart: bool) -> None:
    pause(0.5 + some(1.0))
    owner = group.owner(prober)
    prober.mark("kill")
    group.kill(owner)
    group.wait_owner(prober, group.other(owner))
    pause(linger)
    prober.mark("watched")
    if restart:
        group.start(owner)
        group.settle(prober, 1.0)


def _stop(group: Team, prober: Prober) -> None:
    pause(0.5 + some(1.0))
    owner = group.owner(prober)
    prober.mark("stop")
    group.signal_all(owner, signal.SIGSTOP)
    pause(STOPPED)
    group.signal_all(owner, signal.SIGCONT)
    pause(1.0)
    prober.mark("over")
    group.settle(prober)


def run(*, quick: bool) -> list[Figure]:
    """Kill ours on several LANs at once, then each peer once."""
    lanes = 2 if quick else LANES
    kills, stops = (3, 1) if quick else (20, 2)
    ours = side_by_side({f"{n}": partial(overlaps, ALL["carp"], kills, stops, 0.4) for n in range(lanes)})
    # The owner that was killed comes back only at the end, so its kernel shows for how long it would answer.
    theirs = side_by_side({name: partial(overlaps, ALL[name], 1, 1, WATCHED) for name in PEERS})
    figures = []
    for key, what in (("kill", "kill -9 of the owner"), ("stop", f"SIGSTOP {STOPPED:g} s of the owner")):
        runs = [value for found in ours.values() for value in found[key]]
        note = f"theirs watched for {WATCHED:g} s: it ends when somebody acts" if key == "kill" else ""
        figures.append(
            Figure(
                "kill", f"{what}, two owners, longest of {len(runs)}", "s", max(runs), 0.0,
                {name: max(theirs[name][key]) for name in PEERS}, {"carp": runs}, note,
            )
        )  # fmt: skip
    idle = [value for found in ours.values() for value in found["idle"]]
    figures.append(Figure("kill", "takeovers beside those", "times", sum(map(abs, idle)), 0.0))
    return figures
