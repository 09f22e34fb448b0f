"""`kubectl carp` moves the addresses of a real cluster, and a client loses no answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from apifix import make_control_plane, pytest_runtest_makereport
from clusterfix import cluster, unnoticed
from tree import ROOT

if TYPE_CHECKING:
    from clusterfix import Cluster

__all__ = ["cluster", "make_control_plane", "pytest_runtest_makereport"]

pytestmark = [pytest.mark.root, pytest.mark.slow]
ADDRESS = "10.99.0.252"


@pytest.fixture(autouse=True)
def served(cluster: Cluster) -> None:
    """Let the cluster serve one VirtualIP."""
    cluster.apply("web", ADDRESS)
    cluster.wait_ready("web")


def carp(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the plugin where the API server is."""
    plane = cluster.plane
    paths = os.pathsep.join([str(ROOT), str(ROOT / "operator")])
    command = [sys.executable, "-m", "carp_operator.kubectl.main", *words]
    process = plane.node.popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "KUBECONFIG": str(plane.kubeconfig())},
    )
    out, err = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def test_handover_and_maintenance(cluster: Cluster) -> None:
    """Handover to a node and away from it, maintenance on and off: each says what it did when it is done, and
    no answer is lost; where nobody else is left, maintenance says why the address stays.
    """
    with unnoticed(cluster, ADDRESS, moves=3):
        before = cluster.master("web")
        to = next(name for name in sorted(cluster.members) if name != before)
        began = time.monotonic()
        done = carp(cluster, "handover", "web", "--to", to)
        assert (0, f"virtualip.carp.vip/web handed over: {to} is master\n") == (done.returncode, done.stdout)
        assert 15 > time.monotonic() - began
        assert to == cluster.owner(ADDRESS)
        done = carp(cluster, "handover", "web")
        assert (0, "") == (done.returncode, done.stderr)
        holder = cluster.owner(ADDRESS)
        assert holder not in (to, "")
        done = carp(cluster, "maintenance", holder, "on")
        assert (0, "") == (done.returncode, done.stderr)
        assert done.stdout.endswith(f"{holder} is master of nothing\n")
        second = cluster.owner(ADDRESS)
        assert second not in (holder, "")
        done = carp(cluster, "maintenance", holder, "off")
        assert (0, "") == (done.returncode, done.stderr)
        assert second == cluster.owner(ADDRESS)
        cluster.wait_ready("web")
        done = carp(cluster, "explain", "web")
        assert (0, True) == (done.returncode, done.stdout.startswith(f"{second} is master of web"))
        for name in sorted(set(cluster.members) - {second}):
            assert 0 == carp(cluster, "maintenance", name, "on").returncode
        done = carp(cluster, "maintenance", second, "on", "--timeout", "8s")
        assert 1 == done.returncode
        assert f"{second} is still master of web: nobody else can take over (" in done.stderr
        assert "is in maintenance" in done.stderr
        assert second == cluster.owner(ADDRESS)
