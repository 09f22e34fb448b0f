"""Under Kubernetes: from `apply` to the first answer, and what the control plane's death costs."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from arena import pause, until
from figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.lab.client import Prober

sys.path.append(str(Path(__file__).parents[1] / "support"))

from clusterfix import API, Cluster, manifest, reported
from controlplane import ControlPlane
from lanfix import ping
from nodefix import Lab
from tree import ROOT

PART = "cluster"
VIP = "10.99.0.252"


@contextlib.contextmanager
def _running() -> Iterator[Cluster]:
    """Yield three nodes that have reported, and the controller."""
    found = subprocess.run([str(ROOT / "tools" / "assets")], stdout=subprocess.PIPE, text=True, check=True)
    assets = Path(found.stdout.strip())
    with (
        tempfile.TemporaryDirectory(prefix="carp-bench-") as folder,
        Lab() as lab,
        ControlPlane(lab.node("n100"), assets, Path(folder)) as plane,
    ):
        cluster = Cluster(lab, plane)
        cluster.install()
        cluster.add("n1", "n2", "n3")
        cluster.start_controller()
        until(lambda: all(reported(cluster, n) for n in cluster.members), 60.0, "agents that have reported")
        yield cluster


def _apply_to_answer(cluster: Cluster, count: int) -> Figure:
    """Apply one VirtualIP after another and ping it until it answers."""
    took = []
    for index in range(count):
        address = f"10.99.0.{150 + index}"
        body = manifest(f"v{index}", address)
        began = time.monotonic()
        cluster.plane.admin.create(f"{API}/virtualips", body)
        until(lambda a=address: ping(cluster.lab.client, a, timeout=0.02), 20.0, f"an answer of {address}")
        took.append((time.monotonic() - began) * 1000)
    *_, p95 = quantiles(took, n=20)
    half = quantiles(took, n=2)[0]
    note = f"p50 {half:.0f} ms (bound 1000)"
    if half > 1000:
        p95 = float("inf")
    return Figure(PART, f"apply to first answer, p95 of {count}", "ms", p95, 2000, {}, {"carp": took}, note)


def _ready(cluster: Cluster, *names: str) -> None:
    for name in names:
        until(lambda n=name: cluster.condition(n)[1] == "Ready", 60.0, f"{name} ready")


def _lost(prober: Prober, since: int) -> int:
    return sum(mark_summary.lost for mark, mark_summary in prober.stop().per_mark() if mark.time_ns >= since)


def _api_away(cluster: Cluster, seconds: float) -> list[Figure]:
    """Kill the API server for so long, then apply another VirtualIP."""
    before = cluster.vip("web")["status"]["transitions"]
    with cluster.prober(VIP) as prober:
        prober.wait_settled(10)
        mark = prober.mark("killed")
        cluster.plane.stop_api()
        pause(seconds)
        cluster.plane.start_api()
        began = time.monotonic()
        cluster.plane.admin.create(f"{API}/virtualips", manifest("after", "10.99.0.149"))
        until(lambda: ping(cluster.lab.client, "10.99.0.149", timeout=0.02), 60.0, "an answer")
        took = (time.monotonic() - began) * 1000
        lost = _lost(prober, mark.time_ns)
    moved = cluster.vip("web")["status"]["transitions"] - before
    return [
        Figure(PART, f"API server killed for {seconds:.0f} s: answers lost", "", lost, 0),
        Figure(PART, "API server killed: changes of master", "", moved, 0),
        Figure(PART, "VirtualIP applied after the API server's return: first answer", "ms", took, 5000),
    ]


def _parts_away(cluster: Cluster) -> list[Figure]:
    """Kill the controller, then the agents."""
    figures = []
    victims: list[tuple[str, list[Any]]] = [
        ("controller", [cluster.controller]),
        ("agents", [m.agent for m in cluster.members.values()]),
    ]
    for what, parts in victims:
        with cluster.prober(VIP) as prober:
            prober.wait_settled(10)
            mark = prober.mark(what)
            for part in parts:
                part.kill()
            pause(5)
            for part in parts:
                part.start()
            pause(3)
            figures.append(Figure(PART, f"{what} killed: answers lost", "", _lost(prober, mark.time_ns), 0))
    return figures


def _cut_without_api(cluster: Cluster) -> Figure:
    """Cut the master's cable while the API server is dead."""
    with cluster.prober(VIP) as prober:
        prober.wait_settled(10)
        master = cluster.master("web")
        cluster.plane.stop_api()
        pause(1)
        mark = prober.mark("cut")
        cluster.members[master].power_off()
        prober.wait_settled(10, unlike=cluster.members[master].node.mac)
        pause(0.5)
        outage = max(s.outage_ms for m, s in prober.stop().per_mark() if m.time_ns >= mark.time_ns)
    cluster.plane.start_api()
    cluster.members[master].power_on()
    note = "without Kubernetes: part cut"
    return Figure(PART, "node cut with the API server dead: outage", "ms", outage, 3350, note=note)


def _idle(cluster: Cluster, seconds: float) -> list[Figure]:
    """Let everything stand: who writes, what it costs."""

    def versions() -> list[str]:
        items = [
            i for k in ("virtualips", "carpnodes") for i in cluster.plane.admin.get(f"{API}/{k}")["items"]
        ]
        return sorted(item["metadata"]["resourceVersion"] for item in items)

    agent = next(iter(cluster.members.values())).agent.running.pid
    before, ran = versions(), _ran(agent)
    pause(seconds)
    after = versions()
    writes = len(set(after) - set(before))
    share = (_ran(agent) - ran) / seconds / 10
    controller = cluster.controller.running.pid if cluster.controller else 0
    return [
        Figure(PART, f"steady for {seconds:.0f} s: objects written", "", writes, 0),
        Figure(PART, "agent, idle: CPU", "%", share, 0.2),
        Figure(PART, "agent: RSS", "MiB", _rss(agent), 60),
        Figure(PART, f"controller at {len(before)} objects: RSS", "MiB", _rss(controller), 120),
    ]


def _ran(pid: int) -> float:
    """Return the ms that all threads of a process have been on a core."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1e6


def _rss(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def run(*, quick: bool) -> list[Figure]:
    """Measure on a cluster of three nodes."""
    with _running() as cluster:
        figures = [_apply_to_answer(cluster, 10 if quick else 50)]
        cluster.apply("web", VIP)
        _ready(cluster, "web")
        figures += _api_away(cluster, 10 if quick else 60)
        _ready(cluster, "web", "after")
        figures += _parts_away(cluster)
        pause(5)
        figures += _idle(cluster, 30 if quick else 600)
        figures.append(_cut_without_api(cluster))
    return figures
