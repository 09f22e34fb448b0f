"""What `carp-uninstall` asks for, waits for and says, with an API server that plays along."""

from __future__ import annotations

from typing import Any

import pytest

from carp_operator.controller import uninstall
from carp_operator.controller.uninstall import Uninstall
from carp_operator.kube.errors import Forbidden
from fakeapi import Asked, FakeApi, Reply

NODES = "/apis/carp.vip/v1alpha1/carpnodes"
VIPS = "/apis/carp.vip/v1alpha1/virtualips"
READY = {"conditions": [{"type": "Ready", "status": "True"}]}


class Server:
    """Two Nodes that are Ready, their CarpNodes, one Secret of ours, no controller."""

    def __init__(self) -> None:
        self.nodes = {name: {"agentVersion": "1"} for name in ("n1", "n2")}
        self.confirming = {"n1", "n2"}
        self.failures: dict[str, list[int]] = {}
        self.pods = 1
        self.told: dict[str, Any] = {}
        self.deleted: list[str] = []
        self.vips: list[dict[str, Any]] = []
        self.marked: dict[str, Any] = {}

    def __call__(self, asked: Asked) -> Reply:
        failing = self.failures.get(f"{asked.method} {asked.path}")
        if failing:
            return Reply(failing.pop(0), {"message": "no"})
        return getattr(self, f"do_{asked.method.lower()}")(asked)

    def do_get(self, asked: Asked) -> Reply:
        if asked.path == NODES:
            return Reply(body={"items": [self.node(name) for name in self.nodes]})
        if asked.path == "/api/v1/nodes":
            return Reply(body={"items": [{"metadata": {"name": n}, "status": READY} for n in ("n1", "n2")]})
        if asked.path.endswith("/kube-system"):
            return Reply(body={"metadata": {"uid": "cluster"}})
        if asked.path.endswith("/pods"):
            self.pods -= 1
            return Reply(body={"items": [{}] * (self.pods + 1)})
        if asked.path == VIPS:
            return Reply(body={"items": self.vips})
        found = [{"metadata": {"name": "carp-keys"}}] if asked.path.endswith("/secrets") else []
        return Reply(body={"items": found})

    def do_patch(self, asked: Asked) -> Reply:
        if asked.path.startswith(NODES):
            name = asked.path.rpartition("/")[2]
            self.told[name] = asked.body["spec"]
            if name in self.confirming:
                self.nodes[name] |= {"observedUID": name, "observedGeneration": 7}
            return Reply(body={"metadata": {"name": name, "uid": name, "generation": 7}})
        if asked.path.startswith(VIPS):
            self.marked[asked.path.removeprefix(f"{VIPS}/")] = asked.body["status"]
        return Reply(body={})

    def do_delete(self, asked: Asked) -> Reply:
        name = asked.path.rpartition("/")[2]
        self.deleted.append(name)
        missing = name in ("carp-controller", "carp-test")
        return Reply(404, {"message": "none"}) if missing else Reply(body={})

    def node(self, name: str) -> dict[str, Any]:
        spec = {"cluster": "c", "vhosts": [{"name": "web"}]} if name == "n1" else {}
        return {"metadata": {"name": name}, "spec": spec, "status": self.nodes[name]}


def run(server: Server, timeout: float = 5.0) -> tuple[list[str], float]:
    """Run it on a clock that sleeping moves; return what it said and how long it took."""
    said: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with FakeApi(server) as api:
        names = ("ns", "carp-controller", "carp-test")
        Uninstall(api.client(), *names, timeout, said.append, lambda: now[0], sleep).run()
    return said, now[0]


def test_everybody_confirms() -> None:
    """Every node gets an empty set of its cluster; what is ours is deleted after that."""
    server = Server()
    said, took = run(server)
    assert {"cluster": "c", "vhosts": [], "uninstall": True} == server.told["n1"]
    assert "cluster" == server.told["n2"]["cluster"]
    assert ["n1", "n2", "carp-keys", "carp-controller", "carp-test"] == server.deleted
    assert "deleted 2 CarpNodes, 1 Secrets and 0 Events; VirtualIPs and resource definitions stay" == said[-1]
    assert 1.0 == took


def test_one_is_silent() -> None:
    """The time is waited for once; then it is named, and the rest goes on."""
    server = Server()
    server.confirming = {"n1"}
    said, took = run(server)
    assert "n2 has not confirmed within 5 s: look at its pod's log" in said
    assert {"n1", "n2"} <= set(server.deleted)
    assert took <= 7.0


def test_virtual_ips_say_so() -> None:
    """One that was served is so no more, and names whoever did not confirm; a new one is left alone."""
    server = Server()
    server.confirming = {"n1"}
    old, older = "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
    conditions = [
        {"type": "Accepted", "status": "True", "reason": "Planned", "lastTransitionTime": old},
        {"type": "Ready", "status": "False", "reason": "Degraded", "lastTransitionTime": older},
        {"type": "Advertised", "status": "True", "reason": "Mastered", "lastTransitionTime": old},
    ]
    status = {
        "vhid": 1,
        "master": {"node": "n1"},
        "nodes": [{"name": "n1"}, {"name": "n2"}],
        "conditions": conditions,
    }
    server.vips = [{"metadata": {"name": "web"}, "status": status}, {"metadata": {"name": "new"}}]
    run(server)
    assert ["web/status"] == list(server.marked)
    marked = server.marked["web/status"]
    assert (1, [{"name": "n2"}]) == (marked["vhid"], marked["nodes"])
    assert "master" not in marked
    accepted, ready, advertised = marked["conditions"]
    assert conditions[0] == accepted
    assert ("False", "Uninstalled", older) == (ready["status"], ready["reason"], ready["lastTransitionTime"])
    assert "Uninstalled" == advertised["reason"]
    assert old != advertised["lastTransitionTime"]


def test_controller_that_stays() -> None:
    """A pod on a dead node never goes; after 30 s that is said, and the rest is done."""
    server = Server()
    server.pods = 10_000
    said, took = run(server)
    assert "the controller's pod is still there after 30 s; going on" in said
    assert took >= uninstall.CONTROLLER_TIME
    assert "n1" in server.deleted


def test_no_definitions() -> None:
    """Where there is nothing, there is nothing to do."""
    server = Server()
    scale = "/apis/apps/v1/namespaces/ns/deployments/carp-controller/scale"
    server.failures = {f"GET {NODES}": [404] * 9, f"PATCH {scale}": [404]}
    said, _ = run(server)
    assert "there is no Deployment ns/carp-controller" in said
    assert "0 nodes were told to give their addresses up" in said


def test_server_that_stumbles() -> None:
    """What may succeed later is asked for again, and said."""
    server = Server()
    server.failures = {"GET /api/v1/nodes": [503, 429], f"PATCH {NODES}/n1": [409]}
    said, _ = run(server)
    assert 3 == len([line for line in said if line.endswith("trying again")])
    assert "n1" in server.deleted


def test_forbidden() -> None:
    """What is not allowed will not be later: it is raised at once."""
    server = Server()
    server.failures = {f"PATCH {NODES}/n1": [403]}
    with pytest.raises(Forbidden):
        run(server)
    assert [] == server.deleted


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--timeout", "5x"], "--timeout: '5x' is no duration such as 30s or 2m"),
        ([], "--kubeconfig: is required outside a pod"),
    ],
)
def test_wrong_use(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is wrong."""
    assert 2 == uninstall.main(words)
    assert f"carp-uninstall: {problem}" in capsys.readouterr().err
