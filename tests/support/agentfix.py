"""Nodes with carpd and agent beside a real control plane, with the roles and the policy of deploy/rbac."""

from __future__ import annotations

import base64
import sys
import time
from typing import TYPE_CHECKING, Any

from apiclient import ApiError
from carp_operator.api import crd
from controlargs import PORT
from nodefix import PASSWORD, Program, wait_until
from tree import ROOT

if TYPE_CHECKING:
    from apiclient import Object
    from controlplane import ControlPlane
    from nodefix import Daemon, Lab

NAMESPACE = "carp-system"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NODES = "/apis/carp.vip/v1alpha1/carpnodes"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def vhost(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return a vhost as the controller writes it."""
    fields = {"name": name, "vhid": 42, "interface": {"name": "eth0"}, "addresses": ["10.99.0.252"]}
    return {**fields, "passwordRef": "web.1", "firstClaimant": True, **changes}


class World:
    """What the tests of the agent stand on."""

    def __init__(self, lab: Lab, plane: ControlPlane) -> None:
        """Install what a chart would."""
        self.lab = lab
        self.plane = plane
        self._pods: dict[str, str] = {}
        plane.kubectl("create", "namespace", NAMESPACE)
        for kind in crd.KINDS:
            plane.admin.create(CRDS, crd.definition(kind))
        for path in sorted((ROOT / "deploy" / "rbac").glob("agent*.yaml")):
            plane.kubectl("apply", "-f", str(path))
        for kind in crd.KINDS:
            name = f"crd/{kind.plural}.{crd.GROUP}"
            plane.kubectl("wait", "--for=condition=Established", name, "--timeout=30s")
        self.keys({"web.1": PASSWORD})
        self._await_policy()

    def _await_policy(self) -> None:
        """Wait until the policy is enforced, which is some time after it was made."""
        self.plane.add_node("n0", "10.99.0.99")
        self.spec("n0")
        token = self.token("n0", bound=False)

        def enforced() -> bool:
            try:
                self.plane.client(token=token).patch(f"{NODES}/n0/status", {"status": {}})
            except ApiError as error:
                return "not bound" in str(error)
            return False

        wait_until(enforced, 30.0, "the policy is enforced")

    def keys(self, values: dict[str, str]) -> None:
        """Put these passwords into the Secret of the agents, made if needed."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "carp-keys"}, "data": data}
        self.plane.admin.apply(f"{SECRETS}/carp-keys", body, "test", force=True)

    def spec(self, node: str, *vhosts: Object, cluster: str = "c1") -> Object:
        """Give a node these vhosts, as the controller does; the CarpNode is made if needed."""
        body = {"apiVersion": "carp.vip/v1alpha1", "kind": "CarpNode", "metadata": {"name": node}}
        spec = {"cluster": cluster, "vhosts": list(vhosts)}
        return self.plane.admin.apply(f"{NODES}/{node}", {**body, "spec": spec}, "test", force=True)

    def get(self, node: str) -> Object:
        """Return a CarpNode."""
        return self.plane.admin.get(f"{NODES}/{node}")

    def status(self, node: str) -> Object:
        """Return the status of a CarpNode, empty where none was written."""
        found: Object = self.get(node).get("status", {})
        return found

    def condition(self, node: str, kind: str) -> str:
        """Return the reason of a condition."""
        found = {each["type"]: each["reason"] for each in self.status(node).get("conditions", ())}
        return str(found.get(kind))

    def state(self, node: str, vhost: str = "web") -> str:
        """Return what a CarpNode says about the state of a vhost."""
        found = {each["name"]: each["state"] for each in self.status(node).get("vhosts", ())}
        return str(found.get(vhost))

    def token(self, node: str, *, bound: bool = True, seconds: int = 3600) -> str:
        """Return a token of the agents, bound to a pod on a node as a kubelet asks for it."""
        pod = f"agent-{node}"
        if bound and node not in self._pods:
            if not self.plane.admin.exists(f"/api/v1/nodes/{node}"):
                self.plane.add_node(node, self.lab.node(node).address)
            self.plane.place_pod(NAMESPACE, pod, "carp-agent", node)
            self._pods[node] = pod
        return self.plane.token(NAMESPACE, "carp-agent", pod if bound else None, seconds)

    def carpd(self, node: str) -> Daemon:
        """Return a node's carpd without a file, not started."""
        daemon = self.lab.daemon(node)
        at = daemon.argv.index("--config")
        del daemon.argv[at : at + 2]
        return daemon

    def agent(self, node: str, *options: str) -> Program:
        """Return a node's agent with a pod's credentials, not started."""
        folder = self.lab.folder / f"{node}.account"
        folder.mkdir(exist_ok=True)
        (folder / "ca.crt").write_bytes(self.plane.ca.read_bytes())
        (folder / "namespace").write_text(NAMESPACE)
        self.renew(node)
        words = ["--node", node, "--socket", str(self.lab.folder / f"{node}.state" / "carpd.sock")]
        words += [
            "--service-account",
            str(folder),
            "--api-server",
            f"https://{self.plane.node.address}:{PORT}",
        ]
        words += ["--metrics", "127.0.0.1:9106", "--log-format", "json", *options]
        argv = [sys.executable, "-m", "carp_operator.agent.main", *words]
        log = self.lab.folder / f"{node}.agent.{time.monotonic_ns()}.log"
        return Program(self.lab.node(node), log, argv)

    def renew(self, node: str, token: str = "") -> None:
        """Put a new token into the folder of a node's agent, as a kubelet does."""
        folder = self.lab.folder / f"{node}.account"
        (folder / "token.new").write_text(token or self.token(node))
        (folder / "token.new").replace(folder / "token")
