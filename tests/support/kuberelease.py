"""The chart as shipped, installed on a real cluster, and what is asked of its pods."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from clusterfix import API, HANDOVER, NAMESPACE, manifest
from kubecluster import IMAGE, KubeCluster, condition
from kubenode import memory
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.lab.client import Prober

CHART: Final = str(ROOT / "charts" / "carp-operator")
_NODES: Final = "app.kubernetes.io/component=node"
# Seconds until a controller on a node without power is replaced: NotReady, 30 s by its toleration, a start.
_REPLACED: Final = 75.0


class Release:
    """One installation by helm."""

    def __init__(self, kube: KubeCluster, name: str = "carp", namespace: str = NAMESPACE) -> None:
        """Nothing is installed yet; the image has to be on the nodes."""
        self.first_ready = 0.0
        self.kube, self.name, self.namespace = kube, name, namespace

    # --- what people do ---------------------------------------------------------------------------------

    def install(self, *options: str) -> float:
        """Install the chart, wait until every pod is Ready, and return how long that took in seconds."""
        return self._change("install", "--create-namespace", *options)

    def upgrade(self, *options: str, chart: str = CHART) -> float:
        """Upgrade with other values or another chart, wait for the last pod, and return the seconds."""
        return self._change("upgrade", *options, chart=chart)

    def uninstall(self) -> None:
        """Uninstall, hook included."""
        self.kube.helm("uninstall", self.name, "--namespace", self.namespace, "--wait", "--timeout", "90s")

    def serve(self, name: str, *addresses: str, **spec: Any) -> None:
        """Apply a VirtualIP and wait until it is Ready."""
        self.kube.apply(manifest(name, *addresses, **spec))
        self.wait_served(name)

    def wait_served(self, *names: str, seconds: float = 30) -> None:
        """Wait until VirtualIPs are Ready."""
        for name in names:
            self.kube.wait(partial(self._served, name), seconds, f"{name} is Ready")

    def wait_succeeded(self, name: str, node: str) -> None:
        """Wait until the status names another master than ``node``, on which the controller may have died."""
        self.kube.wait(lambda: self.master(name) not in {"", node}, _REPLACED, f"{node} has a successor")

    def settle(self, *addresses: str, seconds: float = 90) -> None:
        """Wait until all is as after an installation: Nodes and pods Ready, one owner of each address."""
        self.kube.wait(lambda: self.ready() and self.written(), seconds, "every pod is Ready")
        for address in addresses:
            self.kube.wait(partial(self._held_once, address), 30, f"{address} has one owner")

    # --- what one asks ----------------------------------------------------------------------------------

    def vip(self, name: str) -> dict[str, Any]:
        """Return a VirtualIP."""
        found: dict[str, Any] = self.kube.plane.admin.get(f"{API}/virtualips/{name}")
        return found

    def master(self, name: str) -> str:
        """Return the node that the status calls master."""
        return str(self.vip(name).get("status", {}).get("master", {}).get("node", ""))

    def owner(self, address: str) -> str:
        """Return the one node whose kernel holds an address; fails the test for none and for two."""
        found = self.kube.owners(address)
        assert len(found) == 1, (address, found)
        return next(iter(found))

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the DaemonSet's pod of each node; of two on one node the newer."""
        found = self.kube.pods(self.namespace, _NODES)
        newest_last = sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])
        return {pod["spec"].get("nodeName", ""): pod for pod in newest_last}

    def ready(self) -> bool:
        """Say whether all Nodes are Ready, each has its pod, and every pod is Ready and stays."""
        everywhere = self.kube.pods(
            self.namespace, "app.kubernetes.io/component in (node,controller)".replace(" ", "%20")
        )
        staying = [pod for pod in everywhere if "deletionTimestamp" not in pod["metadata"]]
        whole = staying == everywhere and all(condition(pod, "Ready") == "True" for pod in staying)
        return (
            whole
            and self.kube.ready_nodes() == set(self.pods())
            and len(staying) == len(self.kube.ready_nodes()) + 1
        )

    def written(self) -> bool:
        """Say whether every DaemonSet's pod is of the newest template, with its time of readiness over."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/daemonsets"
        found = self.kube.plane.admin.get(path)["items"]
        return all(_rolled(each) for each in found)

    def restarts(self, node: str, container: str = "carpd") -> int:
        """Return how often the kubelet has restarted a container of a node's pod."""
        statuses = self.pods()[node].get("status", {}).get("containerStatuses", ())
        return sum(each["restartCount"] for each in statuses if each["name"] == container)

    def wait_restarted(self, node: str, before: int) -> None:
        """Wait until the kubelet has restarted a node's carpd more often than that."""
        self.kube.wait(lambda: self.restarts(node) > before, 60, f"carpd of {node} was started again")

    def carpd(self, node: str) -> list[int]:
        """Return the DaemonSet's carpd on a node: the process that starts it again, and the one at work."""
        return self.kube.nodes[node].pids("carp", "daemon", "--socket=/run/carp/carpd.sock")

    def run(self, node: str, *command: str) -> str:
        """Run a command in a node's agent container and return what it printed; fails where it fails."""
        pod = self.pods()[node]["metadata"]["name"]
        words = ["-n", self.namespace, "exec", pod, "-c", "agent", "--", *command]
        return self.kube.plane.kubectl(*words).stdout

    def memory(self, node: str) -> float:
        """Return what the DaemonSet's pod of a node uses in MiB (PSS), pause process aside."""
        agent = self.kube.nodes[node].pids("carp-agent")
        return sum(memory(pid) for pid in [*self.carpd(node), *agent])

    def answers(self, node: str, path: str, port: int = 9106) -> bool:
        """Say whether a program on a node answers 200; by default the agent is asked."""

        def ask() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", path)
                return connection.getresponse().status == http.HTTPStatus.OK
            finally:
                connection.close()

        with contextlib.suppress(OSError):
            return self.kube.nodes[node].node.run_in(ask)
        return False

    # --- measuring --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watched(self, address: str) -> Iterator[Prober]:
        """Ask an address every millisecond; the caller stops the prober and judges."""
        with self.kube.prober(address) as prober:
            prober.wait_answering(10)
            prober.wait_settled(10)
            prober.mark("begin")
            yield prober

    @contextlib.contextmanager
    def unnoticed(self, address: str, *, moves: int | None = 0) -> Iterator[Prober]:
        """Check that a client loses no answer and sees one owner at a time; None: whoever owns it."""
        with self.watched(address) as prober:
            yield prober
            summary = prober.stop().per_mark()[0][1]
        changes = [change.owners for change in summary.owners if len(change.owners) == 1]
        story = (summary.lost, summary.outages, summary.two_owners, changes)
        assert summary.lost == 0, story
        assert summary.two_owners.longest_s <= (0 if moves == 0 else HANDOVER), story
        assert moves in {None, len(list(groupby(changes))) - 1}, story

    # --- below ------------------------------------------------------------------------------------------

    def _served(self, name: str) -> bool:
        return condition(self.vip(name), "Ready") == "True"

    def _held_once(self, address: str) -> bool:
        return len(self.kube.owners(address)) == 1

    def _change(self, verb: str, *options: str, chart: str = CHART) -> float:
        start = time.monotonic()
        url = f"apiServer.endpoints={json.dumps([self.kube.plane.url])}"
        # No kube-proxy runs on these nodes: the API server is named.
        self.kube.helm(verb, self.name, chart, "--namespace", self.namespace, "--set-json", url, *options)
        self.settle()
        return time.monotonic() - start


def kill(pid: int) -> None:
    """SIGKILL a process of a container."""
    os.kill(pid, signal.SIGKILL)


def tagged(tag: str) -> str:
    """Return the image's full name under another tag."""
    return f"docker.io/library/{IMAGE}:{tag}"


def _rolled(daemonset: dict[str, Any]) -> bool:
    status = daemonset.get("status", {})
    wanted = status.get("desiredNumberScheduled", 0)
    fresh = status.get("observedGeneration") == daemonset["metadata"]["generation"]
    counts = (status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0))
    return fresh and wanted > 0 and counts == (wanted, wanted)
