"""Measure carp beside Debian's ucarp and keepalived, in one run, against the bounds that it promises.

Prints a table, each row with its bound and the command that repeats its part. Exit codes: 0 every bound is
kept, 1 one is missed, 2 it cannot run here, 130 interrupted. Nothing is left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import part_cluster
import part_controller
import part_cut
import part_daemon
import part_footprint
import part_interop
import part_kill
import part_micro
import part_plan
import part_resume
import part_stop
from arena import AbortedError
from figures import svg, table

from carp.lab.errors import LabError
from carp.lab.privilege import missing_capabilities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from figures import Figure


def _fast(*, quick: bool) -> list[Figure]:
    return [*part_cut.run_fast(quick=quick), *part_footprint.run_fast(quick=quick)]


PARTS = {
    "cut": (part_cut.run, "a node cut off from the others: outage"),
    "stop": (part_stop.run, "SIGTERM and SIGUSR2 of the owner: answers lost"),
    "kill": (part_kill.run, "kill -9 and SIGSTOP of the owner: time with two owners"),
    "interop": (part_interop.run, "kill -9 of ours with a real ucarp as successor: time with two owners"),
    "resume": (part_resume.run, "end and start of a lone member: answers lost; time to the first advert"),
    "footprint": (part_footprint.run, "memory, CPU and wake-ups of a master of 1 and of 200 addresses"),
    "fast": (_fast, "an interval of 100 ms: outage, and 200 addresses at once"),
    "micro": (part_micro.run, "microseconds per step of one advert"),
    "daemon": (part_daemon.run, "carpd: time and cost of operations on the control socket"),
    "plan": (part_plan.run, "the planner: 1,000 nodes and 1,000 VirtualIPs; time and memory"),
    "cluster": (part_cluster.run, "Kubernetes: apply to first answer; API server, controller, agents killed"),
    "controller": (part_controller.run, "the controller at 1,000 VirtualIPs on 100 nodes: memory, writes"),
}


def _parser() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {name:10} {what}" for name, (_, what) in PARTS.items())
    result = argparse.ArgumentParser(
        prog="tests/bench/run.py", description=(__doc__ or "").strip().splitlines()[0],
        epilog=f"parts:\n{lines}", formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    result.add_argument(
        "--only", metavar="PART[,PART]", default=",".join(PARTS), help="leave out the other parts"
    )
    result.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    result.add_argument("--json", metavar="FILE", type=Path, help="write the figures as JSON")
    result.add_argument("--plot", metavar="FILE", type=Path, help="write a picture (SVG)")
    return result


def _problem(names: Sequence[str]) -> str | None:
    """Return why the benchmark cannot run."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        return f"--only {unknown[0]!r}: no such part; parts are {', '.join(PARTS)}"
    missing = missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    if missing:
        return f"no privilege: {', '.join(missing)} missing; run as root"
    absent = [name for name in ("ucarp", "keepalived", "ip") if shutil.which(name) is None]
    return f"{', '.join(absent)}: not installed" if absent else None


def _measure(names: Sequence[str], *, quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    for name in names:
        begun = time.monotonic()
        sys.stderr.write(f"{name}: {PARTS[name][1]} …")
        sys.stderr.flush()
        figures += PARTS[name][0](quick=quick)
        sys.stderr.write(f" {time.monotonic() - begun:.0f} s\n")
    return figures


def _write(figures: Sequence[Figure], options: argparse.Namespace) -> None:
    machine = {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 1),  # of 15 minutes: what else ran here makes every wake-up dearer
    }
    note = ", ".join(f"{key} {value}" for key, value in machine.items())
    sys.stdout.write("\n".join([*table(figures, quick=options.quick), "", f"machine: {note}", ""]))
    if options.json:
        found = [figure.to_json(quick=options.quick) for figure in figures]
        document = {"machine": machine, "figures": found}
        options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        options.plot.write_text(svg(figures), encoding="utf-8")


def _end(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen parts and return the exit code."""
    options = _parser().parse_args(argv)
    names = options.only.split(",")
    problem = _problem(names)
    if problem:
        sys.stderr.write(f"bench: {problem}\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    try:
        figures = _measure(names, quick=options.quick)
    except (KeyboardInterrupt, AbortedError):
        sys.stderr.write("\nbench: interrupted\n")
        return 130
    except LabError as error:
        sys.stderr.write(f"\nbench: {error}\n")
        return 2
    _write(figures, options)
    return 0 if all(figure.ok for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
