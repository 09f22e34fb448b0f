"""The owner is cut off: its carrier stays, its frames are lost. How long is the address away?"""

from __future__ import annotations

from functools import partial
from statistics import mean
from typing import TYPE_CHECKING

from arena import marked, pause, side_by_side, some, team
from contenders import ALL, SKEW_STEP, Load
from figures import PEERS, Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contenders import Contender

SLACK_MS = 30.0
DEAD_TIME_MS = (3 * 1 + 0.2 + SKEW_STEP / 256) * 1000
"""Dead ratio 3, advbase 1 s, guard 0.2 s, the successor's skew."""
MEAN_MS = 3050.0
FAST_MS = 340.0


def outages(contender: Contender, load: Load, runs: int) -> list[float]:
    """Cut the owner off so many times and return each outage in ms."""
    with team(contender, load) as group, group.prober() as prober:
        group.begin(prober)
        for _ in range(runs):
            pause(0.2 + some(1.0))
            owner = group.owner(prober)
            prober.mark("cut")
            group.lan.cut(owner.node)
            group.wait_owner(prober, group.other(owner))
            pause(0.2)
            prober.mark("mend")
            group.reunite(owner, prober)
        return [summary.outage_ms for summary in marked(prober, "cut")]


def _all(load: Load, runs: int, lanes: int, peers: Sequence[str]) -> dict[str, list[float]]:
    """Measure every contender at once; ours on several LANs."""
    jobs = {name: partial(outages, ALL[name], load, runs) for name in peers}
    for lane in range(lanes):
        jobs[f"carp {lane}"] = partial(outages, ALL["carp"], load, -(-runs // lanes))
    found = side_by_side(jobs)
    ours = [value for name, values in found.items() if name.startswith("carp ") for value in values]
    return {"carp": ours, **{name: found[name] for name in peers}}


def run(*, quick: bool) -> list[Figure]:
    """Measure at the defaults."""
    found = _all(Load(), 4 if quick else 20, 2, PEERS)
    return [
        Figure(
            "cut", f"node cut, {word} of {len(found['carp'])} outages", "ms", summarise(found["carp"]), bound,
            {name: summarise(found[name]) for name in PEERS}, found if word == "longest" else {},
        )
        for word, summarise, bound in (("longest", max, DEAD_TIME_MS + SLACK_MS), ("mean", mean, MEAN_MS))
    ]  # fmt: skip


def run_fast(*, quick: bool) -> list[Figure]:
    """Measure at an interval of 100 ms; ucarp has none below 1 s."""
    found = _all(Load(fast=True), 5 if quick else 20, 1, ["keepalived"])
    return [
        Figure(
            "fast", f"node cut at 100 ms, longest of {len(found['carp'])} outages", "ms", max(found["carp"]),
            FAST_MS, {"keepalived": max(found["keepalived"])}, found,
        )
    ]  # fmt: skip
