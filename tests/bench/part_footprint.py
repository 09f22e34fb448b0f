"""What a master costs that does nothing but hold its addresses: memory, CPU, wake-ups."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arena import pause, side_by_side, team, until
from contenders import ALL, Load
from figures import PEERS, Figure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from arena import Team
    from contenders import Contender, Seat

MANY = 200
_CALM = 8.0
"""s after the takeover: announcements are repeated for 5 s."""


@dataclass(frozen=True)
class Cost:
    """PSS in MiB, CPU in percent of one core, sleeps per second; changes of state seen in the logs."""

    pss: float
    cpu: float
    wakeups: float
    changes: int = 0


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def _ran(pid: int) -> int:
    """Return ns on a core, in the kernel or not; utime and stime count in steps of 10 ms only."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


def _slept(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("voluntary_ctxt"))


def _changes(seats: Iterable[Seat]) -> int:
    return sum(seat.log.read_text(encoding="utf-8", errors="replace").count(" -> ") for seat in seats)


def cost(contender: Contender, load: Load, seconds: float) -> Cost:
    """Measure the master of two members for some time."""
    with team(contender, load) as group:
        master = group.seats[0]
        _claim(group)
        pause(_CALM)
        pids = master.node.namespace.pids()
        began, changes = time.monotonic(), _changes(group.seats)
        ran, slept = sum(map(_ran, pids)), sum(map(_slept, pids))
        pause(seconds)
        ran, slept = sum(map(_ran, pids)) - ran, sum(map(_slept, pids)) - slept
        elapsed = time.monotonic() - began
        return Cost(
            pss=sum(map(_pss, pids)) / 1024,
            cpu=ran / 1e7 / elapsed,
            wakeups=slept / elapsed,
            changes=_changes(group.seats) - changes,
        )


def _claim(group: Team) -> None:
    """Start the members and wait until the first holds every address."""
    wanted = set(group.load.addresses())
    first, second = group.seats
    group.start(first)
    until(lambda: wanted <= first.node.held(), 60.0, f"{group.contender.name}: {len(wanted)} addresses")
    group.start(second)


def _measure(load: Load, seconds: float, peers: Iterable[str]) -> dict[str, Cost]:
    return side_by_side({name: partial(cost, ALL[name], load, seconds) for name in ("carp", *peers)})


def _figures(part: str, what: str, found: dict[str, Cost], pss: float | None, cpu: float) -> list[Figure]:
    def figure(key: str, unit: str, bound: float | None) -> Figure:
        values = {name: float(getattr(each, key)) for name, each in found.items()}
        return Figure(part, f"{what}, {_WORDS[key]}", unit, values.pop("carp"), bound, values)

    return [figure("pss", "MiB", pss), figure("cpu", "% of a core", cpu), figure("wakeups", "per s", None)]


_WORDS = {"pss": "PSS", "cpu": "CPU", "wakeups": "wake-ups"}


def run(*, quick: bool) -> list[Figure]:
    """Measure a master of one address and one of many, at the defaults."""
    seconds, many = (15.0, 50) if quick else (60.0, MANY)
    figures = []
    for vhosts, pss, cpu in ((1, 32.0, 0.1), (many, 40.0, 1.0)):
        found = _measure(Load(vhosts), seconds, PEERS)
        figures += _figures("footprint", f"{vhosts} address{'es' * (vhosts > 1)}, master", found, pss, cpu)
    return figures


def run_fast(*, quick: bool) -> list[Figure]:
    """Measure many vhosts at 100 ms: nothing may happen."""
    seconds = 15.0 if quick else 60.0
    found = _measure(Load(MANY, fast=True), seconds, ["keepalived"])
    what = f"{MANY} addresses at 100 ms"
    changes = {name: float(each.changes) for name, each in found.items()}
    figures = _figures("fast", f"{what}, master", found, None, 5.0)
    changed = Figure("fast", f"{what}, state changes in {seconds:g} s", "changes", changes["carp"], 0.0)
    return [*figures, changed]
