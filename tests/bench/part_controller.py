"""The controller alone at 1,000 VirtualIPs on 100 nodes, whose agents are played."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arena import pause, until
from figures import Figure

sys.path.append(str(Path(__file__).parents[1] / "support"))

from apiclient import ApiError
from controllerfix import Controller, Setup
from controlplane import ControlPlane, lonely_node
from tree import ROOT

PART = "controller"
SEGMENTS = 5


def _apply(setup: Setup, count: int) -> None:
    """Apply so many VirtualIPs, spread over the segments: one holds 255 vhids."""
    for index in range(count):
        address = f"10.{1 + index % SEGMENTS}.100.{index // SEGMENTS + 1}"
        until(lambda i=index, a=address: _applied(setup, f"vip{i}", a), 20.0, "a VirtualIP that is taken")


def _applied(setup: Setup, name: str, address: str) -> bool:
    """Apply one; for a moment after its CRD was made the server answers 429."""
    try:
        setup.apply(name, address)
    except ApiError as error:
        if "initializing" not in str(error):
            raise
        return False
    return True


def _settle(setup: Setup, controller: Controller, count: int) -> float:
    """Let the agents answer until all is ready and quiet for 5 s; return the highest RSS in MiB.

    For a moment after the CRDs were made the server answers 429.
    """
    peak, written, quiet_since = 0.0, -1.0, 0.0

    def settled() -> bool:
        nonlocal peak, written, quiet_since
        try:
            setup.agents.answer()
        except ApiError as error:
            if "initializing" not in str(error):
                raise
            return False
        peak = max(peak, controller.rss())
        ready = controller.metric("carp_controller_virtualips", condition="Ready", status="True")
        writes = controller.metric("carp_controller_writes_total")
        if writes != written or ready < count:
            written, quiet_since = writes, time.monotonic()
        return time.monotonic() - quiet_since > 5

    until(settled, 240.0, "every VirtualIP ready")
    return peak


def run(*, quick: bool) -> list[Figure]:
    """Measure on a control plane of its own."""
    vips, nodes = (200, 20) if quick else (1000, 100)
    found = subprocess.run([str(ROOT / "tools" / "assets")], stdout=subprocess.PIPE, text=True, check=True)
    with (
        tempfile.TemporaryDirectory(prefix="carp-bench-") as folder,
        lonely_node() as node,
        ControlPlane(node, Path(found.stdout.strip()), Path(folder)) as plane,
    ):
        setup = Setup(plane, Path(folder))
        setup.agents.links = SEGMENTS
        setup.nodes(nodes)
        _apply(setup, vips)
        with setup.controller("--writes-per-second", "300", "--write-burst", "3000") as controller:
            peak = _settle(setup, controller, vips)
            before = controller.metric("carp_controller_writes_total")
            pause(10 if quick else 60)
            writes = controller.metric("carp_controller_writes_total") - before
            began = time.monotonic()
            setup.apply("late", "10.1.99.99")
            until(lambda: bool(setup.entries("late")), 20.0, "nodes that are told")
            told = (time.monotonic() - began) * 1000
    what = f"{vips} VirtualIPs on {nodes} nodes"
    return [
        Figure(PART, f"{what}: highest RSS", "MiB", peak, 120),
        Figure(PART, f"{what}: writes while nothing changes", "", writes, 0),
        Figure(PART, f"{what}: one more, until its nodes are told", "ms", told),
    ]
