"""The chart and deploy/ on a real API server. No kubelet is there, so no pod runs."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import chart
from apifix import _running
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from controlplane import ControlPlane

pytestmark = pytest.mark.root
NAMESPACE = chart.NAMESPACE
KINDS = (
    "daemonset,deployment,serviceaccount,role,rolebinding,networkpolicy,clusterrole,clusterrolebinding,"
    "validatingadmissionpolicy,validatingadmissionpolicybinding"
)
OURS = ("-l", "app.kubernetes.io/part-of=carp-operator")
DEFINITIONS = ("carpnodes.carp.vip", "virtualippools.carp.vip", "virtualips.carp.vip")
EXAMPLES = [
    path.relative_to(ROOT)
    for path in sorted((ROOT / "deploy" / "examples").rglob("*.yaml"))
    if path.read_text(encoding="utf-8").partition("apiVersion: ")[1]
]
VIP = {"apiVersion": "carp.vip/v1alpha1", "kind": "VirtualIP", "metadata": {"name": "kept"}}


@pytest.fixture(scope="module")
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Yield a control plane that everything here is installed on, in the order of the file."""
    chart.helm()
    with _running(request.config, tmp_path_factory) as made:
        yield made


def helm(plane: ControlPlane, *arguments: str, good: bool = True) -> str:
    """Run helm on the control plane's node and return what it wrote."""
    folders = {name: str(plane.folder / "helm") for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME")}
    process = plane.node.popen(
        [chart.helm(), *arguments, "--namespace", NAMESPACE],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **folders, "KUBECONFIG": str(plane.kubeconfig())},
    )
    out, _ = process.communicate()
    assert good == (process.returncode == 0), out
    return out


def objects(plane: ControlPlane) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return our objects but the definitions, by kind, namespace and name."""
    found = plane.kubectl_json("get", KINDS, "--all-namespaces", *OURS)["items"]
    return {
        (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["metadata"]
        for each in found
    }


def definitions(plane: ControlPlane) -> list[str]:
    """Return the names of our definitions."""
    found = plane.kubectl_json("get", "crd")["items"]
    return sorted(each["metadata"]["name"] for each in found if each["spec"]["group"] == "carp.vip")


def test_install_yaml(plane: ControlPlane) -> None:
    """One `kubectl apply` installs everything, and the second changes nothing."""
    path = str(ROOT / "deploy" / "install.yaml")
    plane.kubectl("apply", "-f", path)
    assert list(DEFINITIONS) == definitions(plane)
    for name in DEFINITIONS:
        plane.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=30s")
    again = plane.kubectl("apply", "-f", path).stdout.splitlines()
    assert [] == [line for line in again if not line.endswith(" unchanged")]
    labels = plane.admin.get(f"/api/v1/namespaces/{NAMESPACE}")["metadata"]["labels"]
    assert "privileged" == labels["pod-security.kubernetes.io/enforce"]


def test_kustomization(plane: ControlPlane) -> None:
    """`kubectl apply -k deploy` is the same."""
    built = plane.kubectl("kustomize", str(ROOT / "deploy")).stdout
    assert [] == [
        line
        for line in plane.kubectl("apply", "-f", "-", stdin=built).stdout.splitlines()
        if not line.endswith(" unchanged")
    ]


def test_uninstall_yaml(plane: ControlPlane) -> None:
    """The server takes it beside install.yaml."""
    plane.kubectl("apply", "--server-side", "--dry-run=server", "-f", str(ROOT / "deploy" / "uninstall.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples(plane: ControlPlane, path: Path) -> None:
    """The server takes every example as it stands, with no unknown field."""
    words = ("apply", "--dry-run=server", "--validate=strict", "-f", str(ROOT / path))
    said = plane.kubectl(*words).stdout
    assert said.count("(server dry run)") == len(list(yaml.safe_load_all((ROOT / path).read_text())))


@pytest.fixture(scope="module")
def empty(plane: ControlPlane) -> str:
    """Return a namespace where nothing of ours is: what is applied is not merged with what there is."""
    body = {"metadata": {"name": "empty", "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}
    plane.admin.create("/api/v1/namespaces", body)
    # A dry run makes no account, and pods are refused where theirs does not exist.
    for name in ("carp-test", "vip-test"):
        plane.kubectl("-n", "empty", "create", "serviceaccount", name)
    return "empty"


@pytest.mark.parametrize("name", chart.MATRIX)
def test_matrix(plane: ControlPlane, empty: str, name: str) -> None:
    """The server takes what any set of values renders to, hooks included, with no unknown field."""
    rendered = chart.template(chart.MATRIX[name], "--namespace", empty)
    served = [each for each in rendered if "monitoring.coreos.com" not in each["apiVersion"]]
    plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-",
        stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": served}),
    )  # fmt: skip


def test_helm_takes_over(plane: ControlPlane) -> None:
    """What `kubectl apply` has installed, helm refuses to touch until it is told to take it over."""
    words = ("install", "carp", str(chart.CHART))
    assert "invalid ownership metadata" in helm(plane, *words, good=False)
    helm(plane, *words, "--take-ownership")
    helm(plane, "uninstall", "carp", "--no-hooks")
    assert {} == objects(plane)
    assert list(DEFINITIONS) == definitions(plane)


def test_installation(plane: ControlPlane) -> None:
    """Helm installs beside kept definitions, an upgrade without changes touches nothing."""
    notes = helm(plane, "install", "carp", str(chart.CHART))
    assert "kubectl wait --for=condition=Ready" in notes
    before = objects(plane)
    assert {
        ("DaemonSet", NAMESPACE, "carp-node"),
        ("Deployment", NAMESPACE, "carp-controller"),
        ("Role", "default", "carp-controller"),
        ("ValidatingAdmissionPolicy", "", "carp-agent-own-node"),
    } <= before.keys()
    helm(plane, "upgrade", "carp", str(chart.CHART))

    def steady(found: dict[tuple[str, str, str], dict[str, Any]]) -> dict[tuple[str, str, str], Any]:
        # Controllers write the status of workloads: their generation is what the specification has.
        return {
            key: (meta["uid"], meta.get("generation", meta["resourceVersion"])) for key, meta in found.items()
        }

    assert steady(before) == steady(objects(plane))


def test_definitions_are_upgraded(plane: ControlPlane) -> None:
    """A field that is missing on the server is there after `helm upgrade`, and objects stay."""
    plane.admin.create("/apis/carp.vip/v1alpha1/virtualips", VIP | {"spec": {"addresses": ["192.0.2.10"]}})
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/uninstall"
    removed = json.dumps([{"op": "remove", "path": path}])
    plane.kubectl("patch", "crd", "carpnodes.carp.vip", "--type=json", "-p", removed)
    helm(plane, "upgrade", "carp", str(chart.CHART), "--set", "logFormat=json")
    plane.kubectl("get", "vip", "kept")
    versions = plane.kubectl_json("get", "crd", "carpnodes.carp.vip")["spec"]["versions"]
    spec = versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert "uninstall" in spec["properties"]


def test_leaving_and_coming_back(plane: ControlPlane) -> None:
    """Definitions and VirtualIPs outlive the release; another one of any name takes them over."""
    helm(plane, "uninstall", "carp", "--no-hooks")
    assert {} == objects(plane)
    plane.kubectl("get", "vip", "kept")
    words = ("install", "other", str(chart.CHART))
    assert "invalid ownership metadata" in helm(plane, *words, good=False)
    helm(plane, *words, "--take-ownership")
    plane.kubectl("get", "vip", "kept")
    helm(plane, "uninstall", "other", "--no-hooks")
    helm(plane, "install", "other", str(chart.CHART))
    helm(plane, "uninstall", "other", "--no-hooks")
