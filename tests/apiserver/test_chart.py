"""The chart and deploy/ on a real API server. No kubelet is there, so no pod runs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import chart
from apifix import _running
from controlplane import LONELY_ADDRESS
from nodefix import wait_until
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


def test_rights_of_people(plane: ControlPlane) -> None:
    """Who has the role view or edit in the whole cluster reads; with rbac.aggregateToEdit editors write
    VirtualIPs and pools, but no CarpNodes. In one namespace the roles say nothing about them.
    """
    plane.kubectl("create", "clusterrolebinding", "eve", "--clusterrole=edit", "--user=eve")
    plane.kubectl("create", "clusterrolebinding", "vic", "--clusterrole=view", "--user=vic")
    plane.kubectl("-n", NAMESPACE, "create", "rolebinding", "rob", "--clusterrole=admin", "--user=rob")

    def may(user: str, verb: str, kind: str) -> bool:
        words = ("auth", "can-i", verb, f"{kind}.carp.vip", f"--as={user}", "--all-namespaces")
        return plane.kubectl(*words, check=False).stdout.startswith("yes")

    wait_until(lambda: may("eve", "list", "virtualips"), 15.0, "the roles are put together")
    wait_until(lambda: may("vic", "list", "carpnodes"), 15.0, "the roles are put together")
    assert not may("eve", "create", "virtualips")
    roles = chart.template({"rbac": {"aggregateToEdit": True}})
    (writing,) = (each for each in roles if each["metadata"]["name"] == "carp-edit")
    plane.kubectl("apply", "-f", "-", stdin=json.dumps(writing))
    wait_until(lambda: may("eve", "create", "virtualips"), 15.0, "the roles are put together")
    assert [True, True, True] == [may("eve", verb, "virtualippools") for verb in ("get", "patch", "delete")]
    assert [True, False] == [may("eve", verb, "carpnodes") for verb in ("watch", "patch")]
    assert [True, False] == [may("vic", verb, "virtualips") for verb in ("get", "create")]
    refused = plane.kubectl("get", "virtualips", "--as=rob", "-n", NAMESPACE, check=False).stderr
    assert "at the cluster scope" in refused
    plane.kubectl("delete", "clusterrole", "carp-edit")


def commands(head: str) -> list[list[str]]:
    """Return the arguments of each kubectl command line in the comment at the head of a manifest."""
    found = re.findall(r"^#    kubectl (.+)$", head.replace("\\\n#", " "), flags=re.MULTILINE)
    return [shlex.split(line) for line in found]


def test_leaving_with_manifests(plane: ControlPlane, tmp_path: Path) -> None:
    """The steps at the head of uninstall.yaml: with an image of one's own, once more with another, then all
    of ours is gone but the definitions, and what is the user's is there.
    """
    folder = tmp_path / "uninstall"
    shutil.copytree(ROOT / "deploy" / "uninstall", folder)
    kustomization = folder / "kustomization.yaml"
    text = kustomization.read_text(encoding="utf-8")
    kustomization.write_text(
        text.replace("newName: carp-operator", "newName: wrong.example.org/carp-operator")
    )
    plane.kubectl("apply", "-k", str(folder))
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/carp-uninstall"
    (container,) = plane.admin.get(path)["spec"]["template"]["spec"]["containers"]
    assert "wrong.example.org/carp-operator:0.1.0" == container["image"]
    kustomization.write_text(text)
    assert "field is immutable" in plane.kubectl("apply", "-k", str(folder), check=False).stderr
    steps = commands((folder / "uninstall.yaml").read_text(encoding="utf-8").partition("\n---\n")[0])
    (again,) = [step for step in steps if step[-2:] == ["job", "carp-uninstall"]]
    plane.kubectl(*again)
    plane.kubectl("apply", "-k", str(folder))
    plane.kubectl("-n", NAMESPACE, "create", "secret", "generic", "mine", "--from-literal=password=love")
    last = [step for step in steps if "-l" in step and "delete" in step]
    assert 3 == len(last)
    for step in last:
        plane.kubectl(*step)
    assert {} == objects(plane)
    assert [] == plane.kubectl_json("get", "jobs", "--all-namespaces", *OURS)["items"]
    assert list(DEFINITIONS) == definitions(plane)
    assert plane.admin.exists(f"/api/v1/namespaces/{NAMESPACE}/secrets/mine")
    assert ["delete", "namespace", NAMESPACE] == steps[-1]
    plane.kubectl("apply", "-f", str(ROOT / "deploy" / "install.yaml"))


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


def test_edges(plane: ControlPlane, empty: str) -> None:
    """What the chart just takes the server takes: each form of a quantity, tolerations, shares."""
    forms = ("1", "1.", ".5", "1.5", "100m", "3n", "128Mi", "1E", "1e9", "2e-3")
    for number, form in enumerate(forms):
        node = {
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": ("100%", 5)[number % 2]}},
            "tolerations": [{"key": "a", "value": "b"}, {"operator": "Exists"}],
            "carpd": {"resources": {"requests": None, "limits": {"ephemeral-storage": form}}},
        }
        made = chart.one(chart.template({"node": node}, "--namespace", empty), "DaemonSet", "carp-node")
        plane.kubectl(
            "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-",
            stdin=json.dumps(made),
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
    assert "TEST SUITE: None" in helm(plane, "test", "carp")


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


LINE = "n2 has not confirmed within 120 s: look at its pod's log"


@contextlib.contextmanager
def kubelet(plane: ControlPlane) -> Iterator[None]:
    """Yield a Node whose kubelet answers each question for a log with one line."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = f"{LINE}\n".encode() if "/containerLogs/" in self.path else b""
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            return

    server = plane.node.run_in(lambda: ThreadingHTTPServer((LONELY_ADDRESS, 0), Handler))
    pair = plane._authority.server("kubelet", [LONELY_ADDRESS])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    plane.add_node("n1", LONELY_ADDRESS)
    port = {"daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}}}
    plane.admin.patch("/api/v1/nodes/n1/status", {"status": port})
    with ThreadPoolExecutor() as pool:
        pool.submit(server.serve_forever)
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


def test_uninstallation_shows_the_log(plane: ControlPlane) -> None:
    """`helm uninstall` prints what the job said before the job is deleted, with the nodes that it names."""
    helm(plane, "install", "other", str(chart.CHART), "--take-ownership")
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"

    def ours() -> list[str]:
        found = plane.admin.get(pods)["items"]
        return [p["metadata"]["name"] for p in found if p["metadata"]["name"].startswith("carp-uninstall-")]

    with kubelet(plane), ThreadPoolExecutor() as pool:
        said = pool.submit(helm, plane, "uninstall", "other", "--timeout", "30s")
        wait_until(ours, 15.0, "the job has its pod")
        (name,) = ours()
        target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
        plane.admin.create(f"{pods}/{name}/binding", {"metadata": {"name": name}, "target": target})
        plane.admin.patch(f"{pods}/{name}/status", {"status": {"phase": "Succeeded"}})
        assert LINE in said.result()
    assert [] == ours()
    assert {} == objects(plane)
