"""A real Kubernetes cluster on the lab: a control plane, nodes with kubelet and containerd, and a client."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import kubeseed
from carp.lab.client import Prober
from carp.lab.network import Lan
from controlplane import ControlPlane
from kubefiles import CGROUPS
from kubenode import KubeNode, route

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

IMAGE: Final = "carp-operator"
PAUSE: Final = "docker.io/library/carp-pause:1"
_PROGRAMS: Final = ("containerd", "ctr", "runc", "nsenter", "unshare", "setpriv")
_GRACE: Final = 8.0  # seconds without a heartbeat until a Node is NotReady


def obstacle() -> str:
    """Say why this machine cannot run a node; empty when it can."""
    if os.geteuid():
        return "needs root"
    lacking = [name for name in _PROGRAMS if shutil.which(name) is None]
    if lacking or not Path("/usr/lib/cni/ptp").exists():
        return (
            f"missing programs: {', '.join(lacking) or 'containernetworking-plugins'}; run tools/setup nodes"
        )
    hierarchy = Path(CGROUPS)
    hierarchy = hierarchy if (hierarchy / "cgroup.procs").exists() else hierarchy / "memory"
    try:
        probe = hierarchy / f"carp-t-{secrets.token_hex(2)}"
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"no cgroups: {error.strerror} at {hierarchy}"
    return (
        "" if "overlay" in Path("/proc/filesystems").read_text(encoding="ascii") else "no overlay filesystem"
    )


class KubeCluster:
    """A cluster that exists as long as the `with` block.

    Args:
        assets: folder with the control plane's programs, kubelet and helm (`tools/assets`).
        images: folder with the archives of the image (`tools/image`).
        folder: for disks, keys and logs.
        nodes: names of the nodes; the control plane has a machine of its own.
    """

    def __init__(
        self, assets: Path, images: Path, folder: Path, nodes: Sequence[str] = ("n1", "n2", "n3")
    ) -> None:
        self.lan = Lan()
        self.nodes: dict[str, KubeNode] = {}
        self.folder, self.images = folder, images
        self._assets, self._names = assets, nodes
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything and remove disks; keys and logs of the control plane stay."""
        self._stack.close()
        for node in self.nodes.values():
            node.discard()

    def _start(self) -> None:
        lan = self._stack.enter_context(self.lan)
        for number, name in enumerate(self._names, 1):
            place = lan.add_node(name)
            disk = self.folder / name
            self.nodes[name] = KubeNode(lan, place, number, disk, self._assets, PAUSE)
        machine = lan.add_node("api")
        lan.add_client()
        subnets = [(node.subnet, node.node.address) for node in self.nodes.values()]
        for subnet, address in subnets:
            route(machine, subnet, address)
        control = self.folder / "control-plane"
        control.mkdir()
        with ThreadPoolExecutor() as pool:
            booted = [pool.submit(self._boot, node, subnets) for node in self.nodes.values()]
            self.plane = self._stack.enter_context(
                ControlPlane(machine, self._assets, control, node_grace=_GRACE, scheduler=True)
            )
            for each in booted:
                each.result()
        for node in self.nodes.values():
            node.join(self.plane)
        self.wait(lambda: self.ready_nodes() == set(self.nodes), 60, "all Nodes Ready")

    def _boot(self, node: KubeNode, subnets: Sequence[tuple[str, str]]) -> None:
        kubeseed.plant(self.images, node.file("/var/lib/containerd"))
        node.boot([each for each in subnets if each[0] != node.subnet])

    # --- what people do -----------------------------------------------------------------------------------

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects with kubectl."""
        everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(everything))

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the real helm as admin, from the control plane's machine.

        Raises:
            AssertionError: it fails and ``check`` is left on; the message is what it wrote.
        """
        home = self.folder / "helm"
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.plane.kubeconfig()),
            **{f"HELM_{part}_HOME": str(home / part.lower()) for part in ("CACHE", "CONFIG", "DATA")},
        }
        command = [str(self._assets / "helm"), *arguments]
        process = self.plane.node.popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        out, err = process.communicate()
        if check and process.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {err.strip()}\n{out.strip()}\n{self.logs()}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def prober(self, address: str, interval_ms: float = 1.0) -> Prober:
        """Return the measuring client."""
        return Prober(self.lan.client, address, interval_ms=interval_ms)

    # --- what one asks --------------------------------------------------------------------------------------

    def ready_nodes(self) -> set[str]:
        """Return the names of the Nodes whose condition Ready is True."""
        found = self.plane.admin.get("/api/v1/nodes")["items"]
        return {node["metadata"]["name"] for node in found if condition(node, "Ready") == "True"}

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """Return pods, sorted by node and name."""
        query = f"?labelSelector={selector}" if selector else ""
        found = self.plane.admin.get(f"/api/v1/namespaces/{namespace}/pods{query}")["items"]
        return sorted(found, key=lambda pod: (pod["spec"].get("nodeName", ""), pod["metadata"]["name"]))

    def owners(self, address: str) -> set[str]:
        """Return the nodes whose kernels hold an address now."""
        powered = [each for each in self.nodes.values() if each.powered]
        return {each.name for each in powered if address in each.node.held()}

    def wait(self, ready: Callable[[], object], seconds: float, what: str) -> float:
        """Wait until something holds and return how long it took.

        Raises:
            AssertionError: it does not within this time; the message ends with pods and logs.
        """
        start = time.monotonic()
        while True:
            with contextlib.suppress(OSError):
                if ready():
                    return time.monotonic() - start
            if time.monotonic() - start > seconds:
                msg = f"not within {seconds} s: {what}\n{self.logs()}"
                raise AssertionError(msg)
            time.sleep(0.05)

    def logs(self) -> str:
        """Return what a person would look at: pods, what befell them, ends of logs."""
        asked = (["get", "pods", "-A", "-o", "wide"], ["get", "events", "-A", "--sort-by=.lastTimestamp"])
        told = [self.plane.kubectl(*words, check=False).stdout[-6000:] for words in asked]
        return "\n".join([*told, *(node.logs() for node in self.nodes.values())])


def condition(thing: dict[str, Any], kind: str) -> str:
    """Return the status of an object's condition: True, False or Unknown."""
    for each in thing.get("status", {}).get("conditions", ()):
        if each["type"] == kind:
            return str(each["status"])
    return "Unknown"


def layer_sizes(archive: Path) -> list[int]:
    """Return the unpacked bytes of an image's layers, the base's first."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        return [tar.getmember(name).size for name in json.load(manifest)[0]["Layers"]]
