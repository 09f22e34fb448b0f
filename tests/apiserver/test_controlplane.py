"""The control plane of the tests is a real one, and can be broken like one."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from apiclient import ApiError
from controlargs import PORT
from controlplane import ControlPlaneError
from lanfix import lan
from nsfix import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from apiclient import ApiClient, Object
    from carp.lab.network import Lan
    from controlplane import ControlPlane

__all__ = ["lan"]

pytestmark = pytest.mark.root

MAPS = "/api/v1/namespaces/default/configmaps"


def _map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ApiError) as caught:
        call()
    return caught.value.status, caught.value.reason


def _agent(plane: ControlPlane, name: str) -> str:
    """Make a node, an account and a pod of this name; return a token bound to the pod."""
    plane.add_node(name, "192.0.2.7")
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    plane.admin.create("/api/v1/namespaces/default/serviceaccounts", account)
    plane.place_pod("default", name, name, name)
    return plane.token("default", name, name)


def test_kubectl_and_server_are_the_pinned_version(control_plane: ControlPlane) -> None:
    """The real kubectl reaches the real server, and both are of one build."""
    versions = control_plane.kubectl_json("version")
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]
    assert versions["serverVersion"]["gitVersion"].startswith("v1.")


def test_admission_policies_are_served(control_plane: ControlPlane) -> None:
    """ValidatingAdmissionPolicy is on, as in every cluster since 1.30."""
    served = control_plane.admin.get("/apis/admissionregistration.k8s.io/v1")["resources"]
    assert "validatingadmissionpolicies" in {each["name"] for each in served}


def test_controllers_work(control_plane: ControlPlane) -> None:
    """A Deployment gets its ReplicaSet and its Pod, by controllers with accounts of their own."""
    control_plane.kubectl("create", "deployment", "web", "--image=none.invalid/none")
    pods = "/api/v1/namespaces/default/pods"
    wait_for(lambda: control_plane.admin.get(pods, labelSelector="app=web")["items"], 10)
    control_plane.kubectl("delete", "deployment", "web")


def test_token_bound_to_a_pod_names_its_node(control_plane: ControlPlane) -> None:
    """A token requested for a pod carries the node's name, which admission policies compare with."""
    token = _agent(control_plane, "bound")
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["kubernetes.io"]
    assert ("bound", "bound") == (claims["node"]["name"], claims["pod"]["name"])
    who = control_plane.kubectl_json("auth", "whoami", kubeconfig=control_plane.kubeconfig(token=token))
    extra: dict[str, Any] = who["status"]["userInfo"]["extra"]
    assert ["bound"] == extra["authentication.kubernetes.io/node-name"]


def test_roles_are_enforced(control_plane: ControlPlane) -> None:
    """Who has no role may nothing, and a node may write to its own Node object only."""
    client = control_plane.client(token=_agent(control_plane, "plain"))
    assert (403, "Forbidden") == _refused(lambda: client.get(MAPS))
    node = control_plane.client(pair=control_plane.pair("system:node:plain", ["system:nodes"]))
    control_plane.add_node("other", "192.0.2.8")
    label = {"metadata": {"labels": {"color": "blue"}}}
    assert node.patch("/api/v1/nodes/plain", label)["metadata"]["labels"]["color"] == "blue"
    assert (403, "Forbidden") == _refused(lambda: node.patch("/api/v1/nodes/other", label))


def test_client_applies_and_watches(control_plane: ControlPlane) -> None:
    """The tests' own client speaks server-side apply, with its conflicts, and watches."""
    admin: ApiClient = control_plane.admin
    first = admin.apply(f"{MAPS}/shared", _map("shared", key="one"), "a")
    assert 409 == _refused(lambda: admin.apply(f"{MAPS}/shared", _map("shared", key="two"), "b"))[0]
    admin.apply(f"{MAPS}/shared", _map("shared", key="two"), "b", force=True)
    version = first["metadata"]["resourceVersion"]
    events = admin.watch(
        MAPS, resourceVersion=version, fieldSelector="metadata.name=shared", timeoutSeconds="1"
    )
    assert ["two"] == [event["object"]["data"]["key"] for event in events]
    admin.delete(f"{MAPS}/shared")
    assert not admin.exists(f"{MAPS}/shared")


def test_killed_server_keeps_objects(control_plane: ControlPlane) -> None:
    """A killed API server refuses connections; started again it has what it had."""
    control_plane.admin.create(MAPS, _map("survivor"))
    control_plane.stop_api()
    with pytest.raises(ConnectionRefusedError):
        control_plane.admin.get(MAPS)
    control_plane.start_api()
    assert control_plane.admin.exists(f"{MAPS}/survivor")


def test_paused_server_answers_nobody(control_plane: ControlPlane) -> None:
    """A stopped process keeps its port: clients wait, which is another failure than a refusal."""
    impatient = control_plane.client(pair=control_plane.pair("impatient"))
    impatient.timeout = 0.2
    control_plane.pause_api()
    try:
        with pytest.raises(TimeoutError):
            impatient.text("/readyz")
    finally:
        control_plane.resume_api()
    wait_for(lambda: control_plane.admin.text("/readyz") == "ok")


def test_restored_snapshot_forgets(control_plane: ControlPlane) -> None:
    """After a restore what came later is gone, and resource versions are older than those handed out."""
    control_plane.admin.create(MAPS, _map("before"))
    snapshot = control_plane.snapshot()
    control_plane.admin.create(MAPS, _map("after"))
    for number in range(50):  # more than a start writes by itself
        control_plane.admin.patch(f"{MAPS}/after", {"data": {"number": str(number)}})
    handed_out = int(control_plane.admin.get(MAPS)["metadata"]["resourceVersion"])
    control_plane.restore(snapshot)
    assert control_plane.admin.exists(f"{MAPS}/before")
    assert not control_plane.admin.exists(f"{MAPS}/after")
    assert int(control_plane.admin.get(MAPS)["metadata"]["resourceVersion"]) < handed_out


def test_on_the_lab(lan: Lan, make_control_plane: Callable[..., ControlPlane]) -> None:
    """On a LAN node others reach it by the LAN only; a Node without heartbeats becomes unreachable."""
    place = lan.add_node("api")
    plane = make_control_plane(place, node_grace=2, scheduler=True)
    assert f"https://{place.address}:{PORT}" == plane.url
    client = plane.client(pair=plane.pair("far"), node=lan.nodes["n1"])
    assert "ok" == client.text("/readyz")
    client.timeout = 0.5
    lan.cut(place)
    with pytest.raises(OSError, match=r"timed out|unreachable"):
        client.text("/readyz")
    lan.mend(place)
    plane.add_node("silent", "10.99.0.1")

    def ready() -> str:
        conditions = plane.admin.get("/api/v1/nodes/silent")["status"]["conditions"]
        return next(str(each["status"]) for each in conditions if each["type"] == "Ready")

    wait_for(lambda: ready() == "Unknown", 15)
    assert {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} == plane.footprint().keys()


def test_a_part_that_ends_is_named_with_its_log(make_control_plane: Callable[..., ControlPlane]) -> None:
    """A start that fails says which part, how it ended and what it wrote."""
    with pytest.raises(ControlPlaneError, match=r"(?s)kube-apiserver: exit 1\n.*--no-such-flag"):
        make_control_plane(api_flags=["--no-such-flag"])
