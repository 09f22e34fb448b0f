"""The real controller beside a real control plane, and agents that only write what real ones would."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apiclient import ApiError
from carp_operator.api import crd
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from apiclient import Object
    from controlplane import ControlPlane

NAMESPACE = "carp-system"
API = "/apis/carp.vip/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SETTLED = 1.0
"""s without a write that say that there is none to come: a change is planned and written in a tenth."""
_SINCE = "2026-01-01T00:00:00Z"


class Agents:
    """Answers for the agents of all nodes, which take what they are told at once.

    Each node has `links` interfaces: eth0 in 10.1.0.0/16, eth1 in 10.2.0.0/16 …
    """

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.links = 1
        self.deaf: set[str] = set()
        """Nodes that answer nothing."""
        self.masters: dict[str, str] = {}

    def address(self, node: str, link: int = 0) -> str:
        """Return a node's own address; nodes are named n1 …"""
        number = int(node[1:])
        return f"10.{link + 1}.{number // 250}.{number % 250 + 1}"

    def answer(self) -> None:
        """Report for each CarpNode whose settings have changed, or whose vhost has to take over."""
        items = {i["metadata"]["name"]: i for i in self.plane.admin.get(f"{API}/carpnodes")["items"]}
        told = {name: {v["name"] for v in item["spec"].get("vhosts", ())} for name, item in items.items()}
        for vip, master in list(self.masters.items()):
            if vip not in told.get(master, set()):
                del self.masters[vip]
        orphans = set().union(*told.values()) - self.masters.keys()
        for name, item in items.items():
            meta, status = item["metadata"], item.get("status", {})
            seen = status.get("observedUID"), status.get("observedGeneration")
            changed = seen != (meta["uid"], meta["generation"])
            if name not in self.deaf and (changed or told[name] & orphans):
                self.report(item)
                orphans -= told[name]

    def report(self, item: Object) -> None:
        """Write the status of one CarpNode as its agent would."""
        meta = item["metadata"]
        link = {"mac": "02:00:00:00:00:01", "mtu": 1500, "carrier": True}
        vhosts = [self._state(meta["name"], v) for v in item["spec"].get("vhosts", ())]
        status = {
            "observedUID": meta["uid"],
            "observedGeneration": meta["generation"],
            "agentVersion": "0",
            "carpdVersion": "0",
            "lastWrite": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "interfaces": [
                {"name": f"eth{index}", **link, "addresses": [f"{self.address(meta['name'], index)}/16"]}
                for index in range(self.links)
            ],
            "vhosts": vhosts,
            "foreign": [],
            "conditions": [],
        }
        self.plane.admin.patch(f"{API}/carpnodes/{meta['name']}/status", {"status": status})

    def _state(self, node: str, entry: Object) -> Object:
        master = self.masters.setdefault(entry["name"], node)
        return {
            "name": entry["name"],
            "state": "MASTER" if master == node else "BACKUP",
            "since": _SINCE,
            "transitions": 1,
            "interface": entry["interface"]["name"],
            "advbase": entry["advbase"],
            "advskew": entry["advskew"],
        }


class Setup:
    """What the tests of the controller stand on."""

    def __init__(self, plane: ControlPlane, folder: Path) -> None:
        """Install CRDs, the namespace and the roles."""
        self.plane, self.folder = plane, folder
        self.agents = Agents(plane)
        plane.kubectl("create", "namespace", NAMESPACE)
        self.install()
        plane.kubectl("apply", "-f", str(ROOT / "deploy" / "rbac" / "controller.yaml"))

    def install(self) -> None:
        """Apply the CRDs and wait until they are served."""
        for kind in crd.KINDS:
            definition = crd.definition(kind)
            self.plane.kubectl(
                "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(definition)
            )
        for kind in crd.KINDS:
            name = f"crd/{kind.plural}.{crd.GROUP}"
            self.plane.kubectl("wait", "--for=condition=Established", name, "--timeout=30s")

    def nodes(self, count: int) -> list[str]:
        """Register Nodes n1 … and return their names."""
        names = [f"n{index + 1}" for index in range(count)]
        for name in names:
            self.plane.add_node(name, self.agents.address(name))
        return names

    @contextmanager
    def controller(self, *options: str, port: int = 9107) -> Iterator[Controller]:
        """Run a controller with its own account's token."""
        config = self.plane.kubeconfig(token=self.plane.token(NAMESPACE, "carp-controller"))
        made = Controller(self.plane, self.folder / f"controller-{time.monotonic_ns()}.log", port)
        made.start(config, options)
        try:
            yield made
        finally:
            made.stop()

    def apply(self, name: str, *addresses: str, **spec: Any) -> Object:
        """Apply a VirtualIP."""
        body = {"apiVersion": f"{crd.GROUP}/{crd.VERSION}", "kind": "VirtualIP", "metadata": {"name": name}}
        given = {"addresses": list(addresses)} if addresses else {}
        return self.plane.admin.apply(
            f"{API}/virtualips/{name}", {**body, "spec": {**given, **spec}}, "test", force=True
        )

    def vip(self, name: str) -> Object:
        """Return a VirtualIP."""
        return self.plane.admin.get(f"{API}/virtualips/{name}")

    def condition(self, name: str, kind: str = "Ready") -> tuple[str, str, str]:
        """Return a condition: status, reason, message."""
        for each in self.vip(name).get("status", {}).get("conditions", ()):
            if each["type"] == kind:
                return each["status"], each["reason"], each["message"]
        return "", "", ""

    def carp_nodes(self) -> dict[str, Object]:
        """Return the CarpNodes by name."""
        return {i["metadata"]["name"]: i for i in self.plane.admin.get(f"{API}/carpnodes")["items"]}

    def entries(self, vip: str) -> dict[str, Object]:
        """Return what each node is told of a VirtualIP."""
        told = {name: item["spec"].get("vhosts", ()) for name, item in self.carp_nodes().items()}
        return {name: v for name, vhosts in told.items() for v in vhosts if v["name"] == vip}

    def secret(self, name: str) -> dict[str, str]:
        """Return the decoded values of a Secret of the release; empty where there is none."""
        if not self.plane.admin.exists(f"{SECRETS}/{name}"):
            return {}
        data = self.plane.admin.get(f"{SECRETS}/{name}").get("data", {})
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def put_secret(self, name: str, **values: str) -> None:
        """Make or replace a Secret of the release."""
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        self.plane.admin.apply(f"{SECRETS}/{name}", body, "test", force=True)

    def put_pod(self, node: str, *, ready: bool, since: float = 0.0) -> None:
        """Let a pod of the DaemonSet stand on a node that is Ready, or is not, since so many s."""
        name = f"carp-node-{node}"
        if not self.plane.admin.exists(f"{PODS}/{name}"):
            labels = {"app.kubernetes.io/name": "carp-operator", "app.kubernetes.io/component": "node"}
            spec = {"nodeName": node, "containers": [{"name": "carpd", "image": "none.invalid/none"}]}
            meta = {"name": name, "labels": labels}
            self.plane.admin.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - since))
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at}
        self.plane.admin.patch(f"{PODS}/{name}/status", {"status": {"conditions": [condition]}})

    def delete_pods(self) -> None:
        """Delete them all at once: nobody runs them, so nobody would confirm that they have ended."""
        self.plane.admin.delete(PODS, gracePeriodSeconds="0")

    def events(self, reason: str) -> list[Object]:
        """Return the Events with a reason."""
        found = self.plane.admin.get("/api/v1/namespaces/default/events")["items"]
        return [item for item in found if item["reason"] == reason]

    def until(self, condition: Callable[[], object], what: str, seconds: float = 15.0) -> float:
        """Let the agents answer until a condition holds; return how long that took."""
        began = time.monotonic()
        while True:
            # Servers that have just begun to serve a kind, and those that are away, refuse for a while.
            with contextlib.suppress(OSError, ApiError):
                self.agents.answer()
            with contextlib.suppress(OSError, ApiError):
                if condition():
                    return time.monotonic() - began
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
            time.sleep(0.02)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Let the agents answer while somebody else waits for them."""
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(0.05):
                with contextlib.suppress(OSError, ApiError):
                    self.agents.answer()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def marks(self) -> list[tuple[str, str]]:
        """Return uid and version of every object that the controller writes, but Events."""
        paths = (f"{API}/virtualips", f"{API}/carpnodes", SECRETS)
        items = [item["metadata"] for path in paths for item in self.plane.admin.get(path)["items"]]
        return [(meta["uid"], meta["resourceVersion"]) for meta in items]

    def quiet(self, controller: Controller) -> None:
        """Wait until nothing is left to do: no write waits, and for a second none is made."""
        self.until(lambda: controller.page("/readyz")[0] == 200, "ready")
        seen, since = self.marks(), time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            now = self.marks()
            if now != seen or "writes waiting: 0" not in controller.page("/readyz")[1]:
                seen, since = now, time.monotonic()
            return time.monotonic() - since >= SETTLED

        self.until(settled, "nothing waits", 30)


class Controller:
    """A process of the controller."""

    def __init__(self, plane: ControlPlane, log: Path, port: int) -> None:
        self.plane, self.log, self.port = plane, log, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, config: Path, options: Sequence[str]) -> None:
        """Start it in the control plane's namespace."""
        words = ["--namespace", NAMESPACE, "--kubeconfig", str(config)]
        words += ["--metrics", f"127.0.0.1:{self.port}", *options]
        paths = [str(ROOT), str(ROOT / "operator")]
        with self.log.open("ab") as log:
            self.process = self.plane.node.popen(
                # Whatever happens to the test run, its controller is not left behind.
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "carp_operator.controller", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of a page; 0 where it does not answer."""

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()
            except OSError as error:
                return 0, str(error)

        return self.plane.node.run_in(ask)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [
            li for li in self.page("/metrics")[1].splitlines() if li.startswith((f"{name}{{", f"{name} "))
        ]
        return sum(float(li.rpartition(" ")[2]) for li in lines if all(w in li for w in wanted))

    def rss(self) -> float:
        """Return the resident memory in MiB."""
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def stop(self) -> float:
        """Ask it to end; return how long that took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(10)
        return time.monotonic() - began

    def text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text(encoding="utf-8")
