"""Planned moves: how many answers does a client lose that asks every millisecond?"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

from arena import marked, pause, side_by_side, some, team
from contenders import ALL, Load
from figures import Figure

if TYPE_CHECKING:
    from contenders import Contender


def moves(contender: Contender, number: signal.Signals, runs: int) -> list[tuple[int, float]]:
    """Tell the owner to go so many times; return answers lost and the outage in ms of each."""
    with team(contender, Load()) as group, group.prober() as prober:
        group.begin(prober)
        for _ in range(runs):
            pause(1.0 + some(1.0))
            owner = group.owner(prober)
            prober.mark("move")
            group.signal(owner, number)
            group.wait_owner(prober, group.other(owner))
            pause(0.5)
            prober.mark("return")
            if number == signal.SIGTERM:
                group.reap(owner)
                group.start(owner)
            # A member that was told to step down stays backup for a dead time.
            group.settle(prober, 3.5)
        return [(summary.lost, summary.outage_ms) for summary in marked(prober, "move")]


def run(*, quick: bool) -> list[Figure]:
    """Measure ours first and alone, then the others side by side."""
    runs = 2 if quick else 5
    ours = side_by_side(
        {n.name: partial(moves, ALL["carp"], n, runs) for n in (signal.SIGTERM, signal.SIGUSR2)}
    )
    wanted = {
        "ucarp SIGTERM": partial(moves, ALL["ucarp"], signal.SIGTERM, 2),
        "keepalived SIGTERM": partial(moves, ALL["keepalived"], signal.SIGTERM, 2),
        "ucarp SIGUSR2": partial(moves, ALL["ucarp"], signal.SIGUSR2, 2),
    }
    theirs = side_by_side(wanted)
    figures = []
    for name, found in ours.items():
        others = {
            contender: theirs[f"{contender} {name}"]
            for contender in ("ucarp", "keepalived")
            if f"{contender} {name}" in theirs
        }
        outages = ", ".join(f"{c} {max(ms for _, ms in runs) / 1000:.1f} s" for c, runs in others.items())
        figures.append(
            Figure(
                "stop", f"{name} of the owner, most answers lost in {len(found)} moves", "answers",
                max(lost for lost, _ in found), 0, {c: max(lost for lost, _ in v) for c, v in others.items()},
                {"carp": [lost for lost, _ in found]}, note=f"one probe per ms; their outages: {outages}",
            )
        )  # fmt: skip
    return figures
