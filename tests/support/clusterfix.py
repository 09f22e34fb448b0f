"""A whole cluster on the lab: a real control plane, and nodes with carpd, agent and, on one, the controller.

Agents and the controller run with their own accounts and roles, never as admin; agents without a capability.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import pytest

from apiclient import ApiError
from carp.lab.node import module_environment
from carp_operator.api import crd
from nodefix import Lab, Program, idle, wait_until
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carp.lab.client import Prober
    from carp.lab.node import Node
    from controlplane import ControlPlane

NAMESPACE: Final = "carp-system"
API: Final = "/apis/carp.vip/v1alpha1"
CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONTROL_NODE: Final = "n9"
# s with two owners: at a handover the old one goes on answering for 100 ms (design rule 4).
HANDOVER: Final = 0.25
# An outage by death in ms: what the status promises by default, and the client's own times.
LONGEST_MS: Final = 3280 + 300
_AGENT: Final = "carp_operator.agent.main"
_CONTROLLER: Final = "carp_operator.controller.main"


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "operator"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**module_environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), *paths])}


def serves(plane: ControlPlane, plural: str) -> bool:
    """Whether a resource of ours can be used: for a moment after its CRD was made it answers 429."""
    try:
        return plane.admin.exists(f"{API}/{plural}")
    except ApiError as error:
        return "initializing" not in str(error)


class Part(Program):
    """A program of ours with the tree's packages on its path."""

    def __init__(self, node: Node, log: Any, argv: Sequence[str]) -> None:
        """``argv`` without the interpreter."""
        env = [f"{key}={value}" for key, value in _environment().items() if key == "PYTHONPATH"]
        super().__init__(node, log, ["env", *env, *argv])


class Member:
    """One Kubernetes node: its carpd, its agent."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Register the Node and prepare the programs."""
        self.name, self._cluster = name, cluster
        lab, plane = cluster.lab, cluster.plane
        self.node = lab.node(name)
        self.socket = lab.folder / f"{name}.sock"
        self.account = lab.folder / f"{name}.account"
        plane.add_node(name, self.node.address, {"kubernetes.io/hostname": name})
        self.enrol()
        state = lab.folder / f"{name}.state"
        words = ["daemon", "--respawn", "--state-dir", str(state), "--socket", str(self.socket), "--json"]
        self.carpd = Part(self.node, lab.folder / f"{name}.carpd.log", [sys.executable, "-m", "carp", *words])
        words = ["--node", name, "--namespace", NAMESPACE, "--socket", str(self.socket)]
        words += ["--service-account", str(self.account), "--api-server", plane.url, "--stay", "5s"]
        bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
        command = [*bare, sys.executable, "-m", _AGENT, *words]
        self.agent = Part(self.node, lab.folder / f"{name}.agent.log", command)

    def enrol(self) -> None:
        """Give the agent a token that is bound to a pod on its node."""
        plane = self._cluster.plane
        pod = f"carp-{self.name}"
        if not plane.admin.exists(f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}"):
            plane.place_pod(NAMESPACE, pod, "carp-agent", self.name)
        self.account.mkdir(exist_ok=True)
        (self.account / "token").write_text(plane.token(NAMESPACE, "carp-agent", pod))
        (self.account / "ca.crt").write_bytes(plane.ca.read_bytes())
        (self.account / "namespace").write_text(NAMESPACE)

    def start(self) -> Member:
        """Start carpd and agent."""
        self.carpd.start()
        self.agent.start()
        return self

    def states(self) -> list[str]:
        """Return what its carpd said of states and settings, a line each with node and time."""
        events = [json.loads(line) for line in self.carpd.text.splitlines() if line.startswith("{")]
        return [f"{self.name} {e['time'][11:23]} {e.get('vhost')} {e['message']}" for e in events]

    def power_off(self) -> None:
        """Kill everything and take the machine off the network."""
        self._cluster.lab.lan.power_off(self.node)

    def power_on(self) -> None:
        """Boot: the state folder is still there, the processes start anew."""
        self._cluster.lab.lan.power_on(self.node)
        self.start()


class Cluster:
    """Nodes, client, control plane."""

    def __init__(self, lab: Lab, plane: ControlPlane) -> None:
        """``plane`` runs on a node of ``lab``."""
        self.lab, self.plane = lab, plane
        self.members: dict[str, Member] = {}
        self.controller: Part | None = None

    def install(self) -> None:
        """Apply CRDs, namespace and roles as they are installed."""
        admin = self.plane.admin
        admin.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        self.install_crds()
        for path in sorted((ROOT / "deploy" / "rbac").glob("*.yaml")):
            self.plane.kubectl("apply", "-f", "-", stdin=path.read_text())

    def install_crds(self) -> None:
        """Apply those of the CRDs that are not there, and wait until they are served."""
        for kind in crd.KINDS:
            definition = crd.definition(kind)
            if not self.plane.admin.exists(f"{CRDS}/{definition['metadata']['name']}"):
                self.plane.admin.create(CRDS, definition)
        for plural in ("virtualips", "virtualippools", "carpnodes"):
            wait_until(lambda p=plural: serves(self.plane, p), 20, f"{plural} are served")

    def add(self, *names: str) -> None:
        """Register nodes and start carpd and agent on each."""
        for name in names:
            self.members[name] = Member(self, name).start()

    def start_controller(self, *options: str) -> Part:
        """Start the controller on a machine of its own."""
        node, folder = self.lab.node(CONTROL_NODE), self.lab.folder / "controller.account"
        config = self.lab.folder / "controller.conf"
        config.write_bytes(self.plane.kubeconfig(token=self._controller_token()).read_bytes())
        words = ["--namespace", NAMESPACE, "--kubeconfig", str(config), *options]
        log = self.lab.folder / f"{folder.stem}.log"
        self.controller = Part(node, log, [sys.executable, "-m", _CONTROLLER, *words])
        self.controller.start()
        return self.controller

    def _controller_token(self) -> str:
        return self.plane.token(NAMESPACE, "carp-controller")

    # --- what people do ------------------------------------------------------------------------------

    def apply(self, name: str, *addresses: str, **spec: Any) -> None:
        """Apply a VirtualIP with kubectl."""
        self.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest(name, *addresses, **spec)))

    def patch(self, name: str, spec: dict[str, Any]) -> None:
        """Change fields of a VirtualIP's spec."""
        self.plane.admin.patch(f"{API}/virtualips/{name}", {"spec": spec})

    # --- what one asks -------------------------------------------------------------------------------

    def vip(self, name: str) -> dict[str, Any]:
        """Return a VirtualIP."""
        found: dict[str, Any] = self.plane.admin.get(f"{API}/virtualips/{name}")
        return found

    def condition(self, name: str, kind: str = "Ready") -> tuple[str, str, str]:
        """Return a condition of a VirtualIP: status, reason, message."""
        for each in self.vip(name).get("status", {}).get("conditions", ()):
            if each["type"] == kind:
                return each["status"], each["reason"], each["message"]
        return "Unknown", "", ""

    def wait_ready(self, *names: str, reason: str = "Ready", seconds: float = 30) -> None:
        """Wait until VirtualIPs say that they are ready, for this reason."""
        for name in names:
            self.wait(
                lambda n=name: self.condition(n)[:2] == ("True", reason), f"{name} is {reason}", seconds
            )

    def wait(self, condition: Callable[[], object], what: str, seconds: float = 30) -> float:
        """Wait for something; on failure tell the ends of all logs."""
        parts = [p for m in self.members.values() for p in (m.carpd, m.agent)]
        parts += [self.controller] if self.controller is not None else []
        return wait_until(condition, seconds, what, *parts)

    def master(self, name: str) -> str:
        """Return the node that the status calls master."""
        return str(self.vip(name).get("status", {}).get("master", {}).get("node", ""))

    def prober(self, address: str, interval_ms: float = 1.0) -> Prober:
        """Return the measuring client."""
        return self.lab.prober(address, interval_ms=interval_ms)

    def owner(self, address: str) -> str:
        """Return the node whose kernel holds an address; empty: none, and an error for two."""
        holders = [n for n, m in self.members.items() if address in m.node.held()]
        assert len(holders) <= 1, holders
        return holders[0] if holders else ""


def manifest(name: str, *addresses: str, **spec: Any) -> dict[str, Any]:
    """Return a VirtualIP."""
    given = {"addresses": list(addresses)} if addresses else {}
    meta = {"name": name}
    return {
        "apiVersion": "carp.vip/v1alpha1",
        "kind": "VirtualIP",
        "metadata": meta,
        "spec": {**given, **spec},
    }


@pytest.fixture
def cluster(make_control_plane: Callable[..., ControlPlane]) -> Iterator[Cluster]:
    """Yield three nodes with carpd and agent each, the controller, and a client beside them."""
    with Lab() as lab:
        plane = make_control_plane(lab.node("n100"))
        made = Cluster(lab, plane)
        made.install()
        made.add("n1", "n2", "n3")
        made.start_controller()
        made.wait(lambda: all(reported(made, n) for n in made.members), "the agents have reported", 30)
        yield made


def reported(cluster: Cluster, node: str) -> bool:
    """Whether a node's agent has said what carpd knows."""
    path = f"{API}/carpnodes/{node}"
    admin = cluster.plane.admin
    return admin.exists(path) and bool(admin.get(path).get("status", {}).get("interfaces"))


@contextlib.contextmanager
def unnoticed(cluster: Cluster, address: str, *, moves: int = 0) -> Iterator[Prober]:
    """Check that a client loses no answer and sees one owner at a time; it moves that often."""
    with cluster.prober(address) as prober:
        prober.wait_answering(10)
        prober.wait_settled(10)
        prober.mark("begin")
        yield prober
        idle(0.5)
        summary = prober.stop().summary
    story = "\n".join(line for m in cluster.members.values() for line in m.states())
    assert (0, []) == (summary.lost, [o for o in summary.outages if o.lost]), story
    assert (0 if not moves else HANDOVER) >= summary.two_owners.longest_s, story
    owners = [change.owners for change in summary.owners if len(change.owners) == 1]
    assert moves == len(list(groupby(owners))) - 1, story
