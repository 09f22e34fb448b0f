"""The chart on three real kubelets, and everything that can happen to a node, a pod, a process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from clusterfix import API, LONGEST_MS, manifest
from kubecluster import layer_sizes
from kuberelease import Release, kill
from nodefix import idle
from staticpod import StaticPods

if TYPE_CHECKING:
    from kubecluster import KubeCluster

pytestmark = [pytest.mark.root, pytest.mark.slow]
ADDRESS, STATIC, SCRATCH = "10.99.0.252", "10.99.0.250", "10.99.0.251"
OUTAGE = 60.0  # seconds without an API server

IDENTITY = "import os; print(os.getuid(), os.access('/opt/carp', os.W_OK))"
LOADED = """import asyncio, os, sys, carp.daemon.main
foreign = {"aiohttp", "kopf", "kubernetes", "pyroute2", "scapy"} & set(sys.modules)
print(sorted(foreign), os.path.exists(asyncio.__cached__))"""


@pytest.fixture(scope="module")
def installed(kube: KubeCluster) -> Release:
    """Install the chart once for all tests."""
    release = Release(kube)
    release.first_ready = release.install("--set", f"test.address={SCRATCH}")
    release.serve("web", ADDRESS)
    return release


@pytest.fixture
def release(installed: Release) -> Release:
    """Return the installation with every pod Ready and the address served by one node."""
    installed.settle(ADDRESS)
    installed.wait_served("web")
    return installed


@pytest.fixture(scope="module")
def static(installed: Release) -> StaticPods:
    """Return static pods beside the DaemonSet, with an address of their own."""
    pods = StaticPods(installed.kube)
    pods.install(manifest("apiserver", STATIC, vhid=250))
    nodes = installed.kube.nodes
    installed.kube.wait(lambda: all(_is_member(pods, n) for n in nodes), 60, "static pods take part")
    installed.kube.wait(lambda: len(installed.kube.owners(STATIC)) == 1, 10, f"{STATIC} has one owner")
    return pods


def _is_member(static: StaticPods, node: str) -> bool:
    return static.states(node)["apiserver"] in {"BACKUP", "MASTER"}


def test_installed_and_small(release: Release) -> None:
    """All pods are Ready within 30 s of `helm install`, and a node's pod uses at most 100 MiB."""
    used = {node: release.memory(node) for node in release.kube.nodes}
    print(f"Ready after {release.first_ready:.1f} s; PSS of the pods {used}")
    assert 30 >= release.first_ready
    assert 100 >= max(used.values())


def test_the_image_is_whole(release: Release) -> None:
    """Every command starts as the plain user on a read-only root, without compiling; carpd
    loads nothing of the operator's; what we add to the base is at most 250 MB.
    """
    commands = (["carp", "--version"], ["carp-agent", "--version"], ["carp-controller", "--version"])
    helpful = (["carp-uninstall", "--help"], ["carp-selftest", "--help"], ["kubectl-carp", "--help"])
    for command in (*commands, *helpful):
        assert release.run("n1", *command)
    assert "65532 False\n" == release.run("n1", "python", "-c", IDENTITY)
    assert "[] True\n" == release.run("n1", "python", "-c", LOADED)
    added = layer_sizes(release.kube.images / "carp-operator.tar")[1:]
    print(f"the image adds {sum(added) / 1e6:.0f} MB to its base")
    assert 250e6 >= sum(added)


def test_helm_test(release: Release) -> None:
    """`helm test` makes a VirtualIP of its own, sees it answer, says so, and leaves nothing."""
    kube = release.kube
    said = kube.helm("test", release.name, "-n", release.namespace, "--timeout", "90s", "--logs").stdout
    assert "Succeeded" in said
    assert f"{SCRATCH} is held by" in said
    assert "from this pod it answers" in said
    kube.wait(lambda: not kube.owners(SCRATCH), 10, "its address is gone")
    assert not kube.plane.admin.exists(f"{API}/virtualips/carp-test")


def test_carpd_crashes(release: Release) -> None:
    """Carpd's process is killed: another is there at once, in the same container, and no answer is lost."""
    node = release.owner(ADDRESS)
    before = release.restarts(node)
    with release.unnoticed(ADDRESS):
        starter, at_work = release.carpd(node)
        kill(at_work)
        release.kube.wait(lambda: len(release.carpd(node)) == 2, 10, "carpd is back")
        idle(2)
    assert starter in release.carpd(node)
    assert at_work not in release.carpd(node)
    assert before == release.restarts(node)


def test_container_killed_twice(release: Release) -> None:
    """The whole container is killed twice: never two owners, an outage of at most the dead time each."""
    with release.watched(ADDRESS) as prober:
        for again in range(2):
            node = release.owner(ADDRESS)
            before = release.restarts(node)
            prober.mark(f"kill {again}")
            kill(release.carpd(node)[0])
            release.wait_restarted(node, before)
            release.settle(ADDRESS)
        summary = prober.stop().summary
    assert 0 == summary.two_owners.total_s
    assert LONGEST_MS > summary.outage_ms


def test_pod_deleted(release: Release) -> None:
    """A pod that is deleted hands over first: no answer is lost."""
    node = release.owner(ADDRESS)
    name = release.pods()[node]["metadata"]["name"]
    with release.unnoticed(ADDRESS, moves=None):
        release.kube.plane.kubectl("-n", release.namespace, "delete", "pod", name)
        release.settle(ADDRESS)


def test_kubelet_killed(release: Release) -> None:
    """Without its kubelet a node goes on serving, and with it again nothing moves either."""
    node = release.owner(ADDRESS)
    with release.unnoticed(ADDRESS):
        release.kube.nodes[node].kill_kubelet()
        release.kube.wait(lambda: node not in release.kube.ready_nodes(), 30, f"{node} is not Ready")
        idle(1)
        release.kube.nodes[node].start_kubelet()
        release.settle(ADDRESS)
    assert node == release.owner(ADDRESS)


def test_node_cut(release: Release) -> None:
    """A node that the network loses is succeeded within the dead time. It cannot know and keeps its address;
    when the two meet again one of them yields at the other's first advert.
    """
    kube, node = release.kube, release.owner(ADDRESS)
    cut = kube.nodes[node].node
    with release.watched(ADDRESS) as prober:
        prober.mark("cut")
        kube.lan.cut(cut)
        try:
            prober.wait_settled(10, unlike=cut.mac)
            mended = prober.mark("mend")
        finally:
            kube.lan.mend(cut)
        kube.wait(lambda: len(kube.owners(ADDRESS)) == 1, 5, "one of the two yields")
        idle(2)
        result = prober.stop()
    figures = dict(result.per_mark())
    assert LONGEST_MS > result.summary.outage_ms
    assert 1.3 > figures[mended].two_owners.total_s


def test_power_cut(release: Release) -> None:
    """A node without power is succeeded within the dead time; switched on again it is a member."""
    kube, node = release.kube, release.owner(ADDRESS)
    with release.watched(ADDRESS) as prober:
        prober.mark("power off")
        kube.nodes[node].power_off()
        prober.wait_settled(10, unlike=kube.nodes[node].node.mac)
        release.wait_succeeded("web", node)
        kube.nodes[node].power_on()
        kube.wait(lambda: len(release.carpd(node)) == 2, 30, f"carpd runs on {node}")
        kube.wait(lambda: release.answers(node, "/readyz"), 30, f"{node} is a member again")
        summary = prober.stop().summary
    assert LONGEST_MS > summary.outage_ms
    assert 0 == summary.two_owners.total_s


def test_reboot_without_api(release: Release, static: StaticPods) -> None:
    """The API server is away for a minute and a node is rebooted meanwhile. Its kubelet starts the static pod
    at once and no pod of a DaemonSet; whoever serves goes on. When the API is back and the kubelet has found
    that out (it asks at growing intervals), the node is a whole member again within 30 s.
    """
    kube, owner = release.kube, release.owner(ADDRESS)
    rebooted = next(node for node in sorted(kube.nodes) if node != owner)
    with release.unnoticed(ADDRESS):
        kube.plane.stop_api()
        away = time.monotonic()
        kube.nodes[rebooted].power_off()
        kube.nodes[rebooted].power_on()
        back = kube.wait(lambda: _is_member(static, rebooted), 30, f"the static pod of {rebooted} takes part")
        idle(max(0.0, away + OUTAGE - time.monotonic()))
        assert [] == release.carpd(rebooted)
        kube.plane.start_api()
        seen = kube.wait(
            kube.nodes[rebooted].sees_api, 120, f"the kubelet of {rebooted} reaches the API server"
        )
        took = kube.wait(lambda: len(release.carpd(rebooted)) == 2, 30, f"carpd runs on {rebooted}")
        took += kube.wait(lambda: release.answers(rebooted, "/readyz"), 30, f"{rebooted} is a member again")
        idle(1)
    print(f"the static pod took part {back:.1f} s after its node's boot; the kubelet found the API server")
    print(f"{seen:.1f} s after it was ready, and {took:.1f} s later the DaemonSet's carpd was a member again")
    assert 30 >= took


def test_drain(release: Release) -> None:
    """A drained node hands over without a lost answer, stays a member, and keeps its pod."""
    kube, node = release.kube, release.owner(ADDRESS)
    with release.unnoticed(ADDRESS, moves=1):
        kube.plane.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
        release.wait_succeeded("web", node)
        idle(1)
    assert node in release.pods()
    kube.plane.kubectl("uncordon", node)
