"""Simulate clusters by the hour: `make sim ARGS="--minutes 10"`, or one seed again: `--seed 7 --runs 1`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from simulation_runs import Outcome, run_once  # noqa: E402 (the path stands above)
from simulation_scenarios import SCENARIOS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE = 120
"""Lines of the trace shown before a failure."""


def main() -> int:
    """Run until the time is over or something fails; 1 after a failure."""
    options = _options()
    names = [options.scenario] if options.scenario else [name for name in SCENARIOS if name != "quiet"]
    limit = options.hours * 3600 + options.minutes * 60 if options.hours or options.minutes else 60.0
    if options.fuzz:
        return _fuzz(options.fuzz, options.seed)
    began = time.monotonic()
    jobs = _jobs(names, options.seed, options.runs)
    hours = runs = failures = 0.0
    with ProcessPoolExecutor(options.jobs) as pool:
        pending: set[Future[Outcome]] = set()
        for scenario, seed in jobs:
            pending.add(pool.submit(run_once, scenario, seed))
            if len(pending) < 2 * options.jobs:
                continue
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                outcome = future.result()
                hours, runs = hours + outcome.hours, runs + 1
                failures += _report(outcome, options.keep_going)
            if time.monotonic() - began > limit or (failures and not options.keep_going):
                break
        for future in pending:
            outcome = future.result()
            hours, runs = hours + outcome.hours, runs + 1
            failures += _report(outcome, options.keep_going)
    spent = time.monotonic() - began
    print(
        f"{runs:.0f} runs, {hours:.2f} simulated cluster-hours in {spent:.1f} s: "
        f"{hours / spent:.3f} cluster-hours per second; {failures:.0f} failures"
    )
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--runs", type=int, default=0, help="how many seeds (default: until the time is over)"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="how long; one minute unless told otherwise"
    )
    parser.add_argument("--hours", type=float, default=0.0, help="how long")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    parser.add_argument(
        "--scenario", choices=sorted(SCENARIOS), help="only this one (default: all but quiet in turn)"
    )
    parser.add_argument("--keep-going", action="store_true", help="print failures in one line and go on")
    parser.add_argument(
        "--fuzz", type=int, default=0, metavar="N", help="instead: N random and mutated packets"
    )
    return parser.parse_args()


def _jobs(names: list[str], seed: int, runs: int) -> Iterator[tuple[str, int]]:
    last = seed + runs if runs else sys.maxsize
    while seed < last:
        yield names[seed % len(names)], seed
        seed += 1


def _report(outcome: Outcome, brief: bool) -> int:
    if not outcome.failure:
        return 0
    print(
        f"FAILED --scenario {outcome.scenario} --seed {outcome.seed} --runs 1: {outcome.failure}", flush=True
    )
    if not brief:
        print("\n".join(outcome.trace[-TRACE:]), flush=True)
    return 1


def _fuzz(count: int, seed: int) -> int:
    from simulation_fuzz import fuzz

    began = time.monotonic()
    reasons = fuzz(count, seed)
    for reason, number in sorted(reasons.items()):
        print(f"{number:9d}  {reason}")
    print(f"{sum(reasons.values())} packets in {time.monotonic() - began:.1f} s, no exception")
    return 0


if __name__ == "__main__":
    sys.exit(main())
