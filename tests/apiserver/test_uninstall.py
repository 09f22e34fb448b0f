"""`carp-uninstall` with its own role, against a real API server, real carpds and agents."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from agentfix import NAMESPACE, NODES, SECRETS, World, vhost
from apifix import _running
from carp.lab.node import module_environment
from carp_operator.controller.events import COMPONENT
from carp_operator.controller.passwords import LABELS
from lanfix import need_lan
from nodefix import Lab, holds, wait_until
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.root, pytest.mark.slow]
VIP = "10.99.0.252"
EVENTS = "/api/v1/namespaces/default/events"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a LAN with a control plane on n9, and what install.yaml and uninstall.yaml bring but the job."""
    need_lan()
    with Lab() as lab, _running(request.config, tmp_path_factory, lab.node("n9")) as plane:
        made = World(lab, plane)
        plane.kubectl("apply", "-f", str(ROOT / "deploy" / "install.yaml"))
        text = (ROOT / "deploy" / "uninstall" / "uninstall.yaml").read_text(encoding="utf-8")
        for each in yaml.safe_load_all(text):
            if each["kind"] != "Job":
                plane.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(each))
        yield made


def uninstall(world: World, *options: str) -> str:
    """Run it on n9 as its own account, and return what it says."""
    token = world.plane.token(NAMESPACE, "carp-uninstall")
    words = ["--namespace", NAMESPACE, "--kubeconfig", str(world.plane.kubeconfig(token=token)), *options]
    process = world.plane.node.popen(
        [sys.executable, "-m", "carp_operator.controller.uninstall", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**module_environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "operator")])},
    )
    out, _ = process.communicate()
    assert 0 == process.returncode, out
    return str(out)


def secret(world: World, name: str, labels: dict[str, str]) -> None:
    """Make a Secret, or label the one there is."""
    data = {"web.1": base64.b64encode(b"love").decode()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "data": data}
    world.plane.admin.apply(f"{SECRETS}/{name}", body, "test", force=True)


def event(component: str, name: str) -> dict[str, Any]:
    """Return an Event as the controller writes it."""
    return {
        "metadata": {"name": name},
        "involvedObject": {"apiVersion": "carp.vip/v1alpha1", "kind": "VirtualIP", "name": "kept"},
        "reason": "Mastered",
        "message": "n1",
        "source": {"component": component},
    }


def test_nothing_is_left(world: World) -> None:
    """No address, no file, no object but VirtualIPs and definitions; who cannot confirm is named."""
    plane = world.plane
    kept = {"apiVersion": "carp.vip/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "kept"}}
    plane.admin.create("/apis/carp.vip/v1alpha1/virtualips", {**kept, "spec": {"addresses": [VIP]}})
    since = "2026-01-01T00:00:00Z"
    conditions = [
        {"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": since}
        for kind in ("Accepted", "Advertised", "Ready")
    ]
    members = [{"name": name, "advskew": 20 * n, "state": "BACKUP"} for n, name in enumerate(("n1", "n4"))]
    status = {
        "vhid": 42,
        "master": {"node": "n1", "since": since},
        "nodes": members,
        "conditions": conditions,
    }
    path = "/apis/carp.vip/v1alpha1/virtualips/kept"
    whole = {**kept, "status": status}
    plane.admin.apply(f"{path}/status", whole, "carp-controller", force=True)
    secret(world, "carp-keys", LABELS)
    secret(world, "carp-web", LABELS)
    secret(world, "mine", {})
    plane.admin.create(EVENTS, event(COMPONENT, "ours"))
    plane.admin.create(EVENTS, event("somebody", "theirs"))
    parts = [world.carpd(name).start() for name in ("n1", "n2")]
    agents = [world.agent(name).start() for name in ("n1", "n2")]
    world.spec("n1", vhost())
    world.spec("n2", vhost(advskew=100, firstClaimant=False))
    plane.add_node("n3", "10.99.0.3")
    for name in ("n3", "n4"):
        world.spec(name, vhost())
    try:
        wait_until(lambda: world.state("n1") == "MASTER", 15.0, "n1 is master", *agents, *parts)
        wait_until(lambda: world.state("n2") == "BACKUP", 15.0, "n2 is backup", *agents, *parts)
        said = uninstall(world, "--timeout", "30s")
        print(said)
        for line in (
            "the controller has ended",
            "n1 holds nothing any more",
            "n2 holds nothing any more",
            "n3 is not waited for: no agent was ever there",
            "n4 is not waited for: the Node is not Ready",
            "2 Secrets and 1 Events",
        ):
            assert line in said, said
        assert [False, False] == [holds(world.lab.node(name), VIP) for name in ("n1", "n2")]
        for daemon in parts:
            assert 0 == daemon.term()
        for name in ("n1", "n2"):
            left = [path for path in (world.lab.folder / f"{name}.state").rglob("*") if path.is_file()]
            assert [] == left
    finally:
        for program in (*agents, *parts):
            if program.running.poll() is None:
                program.kill()
    assert [] == plane.admin.get(NODES)["items"]
    ours = {name for name in ("carp-keys", "carp-web", "mine") if plane.admin.exists(f"{SECRETS}/{name}")}
    assert {"mine"} == ours
    assert (False, True) == (plane.admin.exists(f"{EVENTS}/ours"), plane.admin.exists(f"{EVENTS}/theirs"))
    status = plane.admin.get(path)["status"]
    assert (42, ["n4"]) == (status["vhid"], [each["name"] for each in status["nodes"]])
    assert "master" not in status
    found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert {"Accepted": ("True", "R")} | dict.fromkeys(
        ("Advertised", "Ready"), ("False", "Uninstalled")
    ) == found
    # The next controller writes the whole status, and nothing of ours stands in its way.
    plane.admin.apply(f"{path}/status", {**whole, "status": {"vhid": 42}}, "carp-controller", force=True)
    assert "nodes" not in plane.admin.get(path)["status"]
    replicas = plane.kubectl_json("-n", NAMESPACE, "get", "deployment", "carp-controller")["spec"]["replicas"]
    assert 0 == replicas


def test_again(world: World) -> None:
    """Once more finds nothing to do, and says so."""
    assert "deleted 0 CarpNodes, 0 Secrets and 0 Events" in uninstall(world, "--timeout", "5s")


def test_pod_of_the_test(world: World) -> None:
    """What `helm test` has left goes, and no other pod."""
    names, admin = ("carp-test", "mine"), world.plane.admin
    for name in names:
        spec = {"containers": [{"name": "a", "image": "b"}]}
        admin.create(PODS, {"metadata": {"name": name}, "spec": spec})
    uninstall(world, "--timeout", "5s")
    assert [False, True] == [admin.exists(f"{PODS}/{name}") for name in names]


def test_who_does_not_answer(world: World) -> None:
    """A node that is Ready and had an agent, but none now, is waited for and named; the rest goes on."""
    plane = world.plane
    world.spec("n3", vhost())
    plane.admin.patch(f"{NODES}/n3/status", {"status": {"agentVersion": "1"}})
    said = uninstall(world, "--timeout", "2s")
    assert "n3 has not confirmed within 2 s" in said
    assert not plane.admin.exists(f"{NODES}/n3")
