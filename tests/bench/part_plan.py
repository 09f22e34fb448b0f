"""The planner at the size that it promises: 1,000 nodes, 1,000 VirtualIPs, 5 segments."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from figures import Figure

from carp.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.plan.model import Plan
    from planfix import World

_ROOT = Path(__file__).resolve().parents[2]
_SEGMENTS = 5
_TIMES = 3
"""Of each the best counts: what else runs on the machine is not the planner's."""
_COLD = 1000.0
"""ms"""
_CHANGE = 50.0
"""ms"""
_MEMORY = 500.0
"""MiB"""


def _world(count: int) -> World:
    from planfix import World, link

    world = World()
    for i in range(count):
        links = (link(f"eth{s}", f"10.{s}.{i // 250}.{i % 250 + 1}/16") for s in range(_SEGMENTS))
        world.node(f"n{i}", *links)
    for i in range(count):
        world.vip(f"v{i}", f"10.{i % _SEGMENTS}.100.{i // _SEGMENTS % 250 + 1}")
    return world


def _carry_out(world: World, made: Plan) -> None:
    """Write what was planned, and let every node confirm."""
    for each in made.writes:
        world.write(each)
    for name, status in made.vip_statuses.items():
        world.vips[name] = replace(world.vips[name], status=status)
    for name in world.carpnodes:
        world.take(name)
        world.confirm(name)


def _changes(world: World, i: int) -> dict[str, Callable[[], None]]:
    """Return one change of each kind; ``i`` makes it another one."""
    from planfix import link

    spec = world.vips[f"v{i}"].spec
    addresses = [str(a) for a in spec.addresses] if spec is not None else []
    return {
        "nothing changed": lambda: None,
        "a VirtualIP's address edited": lambda: world.vip(f"v{i + 10}", f"10.0.200.{i}"),
        "a VirtualIP applied": lambda: world.vip("new", f"10.1.200.{i}"),
        "a VirtualIP deleted": lambda: world.delete("new"),
        "a password rotated": lambda: world.vip(f"v{i}", *addresses, key="again"),
        "a node wrote its status": lambda: world.carp(f"n{i}", written="2026-01-01T00:00:00Z"),
        "a node cordoned": lambda: world.change_node(f"n{i + 10}", unschedulable=True),
        "a node's label changed": lambda: world.change_node(f"n{i + 20}", labels={"a": "b"}),
        "a node lost": lambda: world.change_node(f"n{i + 30}", ready=False, ready_since=world.now - 400),
        "a node added": lambda: world.node(f"new{i}", link("eth0", f"10.0.200.{i + 200}/16")),
    }


def _timed(world: World, cache: Any) -> tuple[float, Plan]:
    """Return ms and the plan."""
    from carp_operator.plan.planner import plan

    snapshot = world.snapshot()
    gc.collect()
    began = time.perf_counter()
    made = plan(snapshot, cache)
    return (time.perf_counter() - began) * 1000, made


def _rest(world: World, cache: Any) -> None:
    """Carry plans out until nothing is left to do."""
    for _ in range(10):
        _, made = _timed(world, cache)
        if not made.writes and not made.vip_statuses:
            return
        _carry_out(world, made)
    message = f"still {len(made.writes)} writes and {len(made.vip_statuses)} statuses"
    raise AssertionError(message)


def measure(count: int) -> dict[str, float]:
    """Return ms per kind of plan, and MiB, measured in this process."""
    from carp_operator.plan.planner import Cache

    world, cache = _world(count), Cache()
    found: dict[str, float] = {}
    found["first plan, nothing there yet"] = min(_timed(world, Cache())[0] for _ in range(_TIMES))
    _rest(world, cache)
    found["first plan, everything there"] = min(_timed(world, Cache())[0] for _ in range(_TIMES))
    for i in range(1, 1 + _TIMES):
        for what, change in _changes(world, i).items():
            change()
            spent, made = _timed(world, cache)
            found[what] = min(spent, found.get(what, spent))
            _carry_out(world, made)
            _rest(world, cache)
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def run(*, quick: bool) -> list[Figure]:
    """Measure in a process of its own: the peak of its memory is the planner's and the snapshot's."""
    count = 200 if quick else 1000
    command = [sys.executable, str(Path(__file__).resolve()), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        msg = f"part_plan.py failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        raise LabError(msg)
    size = f"{count} nodes x {count} VIPs"
    figures = []
    for what, value in json.loads(done.stdout).items():
        if what == "memory":
            figures.append(Figure("plan", f"plan of {size}: peak of memory", "MiB", value, _MEMORY))
        else:
            bound = _COLD if what.startswith("first") else _CHANGE
            figures.append(Figure("plan", f"plan of {size}: {what}", "ms", value, bound))
    return figures


if __name__ == "__main__":
    sys.path[:0] = [str(_ROOT), str(_ROOT / "operator"), str(_ROOT / "tests" / "support")]
    sys.stdout.write(json.dumps(measure(int(sys.argv[1]))))
