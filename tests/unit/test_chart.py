"""What the chart renders: from no values, from many, and from wrong ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import chart
from carp.daemon.main import parser as daemon_parser
from carp_operator.agent import main as agent_main
from carp_operator.controller import options, selftest, uninstall
from tree import ROOT

Values = dict[str, Any]
DAEMON_SET = ("DaemonSet", "carp-node")
DEPLOYMENT = ("Deployment", "carp-controller")
UNPRIVILEGED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture(scope="module")
def default() -> list[dict[str, Any]]:
    """Return what the chart renders with no values."""
    return chart.template()


def _pod(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = chart.one(objects, kind, name)["spec"]["template"]["spec"]
    return found


def _containers(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return every container by name."""
    pods = [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in ("DaemonSet", "Deployment", "Job", "Pod")
    ]
    return {container["name"]: container for pod in pods for container in pod["containers"]}


def _nested(path: str, value: Any) -> Values:
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


@pytest.mark.parametrize("name", chart.MATRIX)
def test_lint(name: str) -> None:
    """`helm lint --strict` has nothing against any of the value sets."""
    done = chart.run("lint", "--strict", str(chart.CHART), values=chart.MATRIX[name])
    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize("version", ["1.31", "1.37"])
@pytest.mark.parametrize("name", chart.MATRIX)
def test_objects_fit_the_published_schemas(name: str, version: str) -> None:
    """No field that the oldest supported Kubernetes, or a new one, does not know."""
    for made in chart.template(chart.MATRIX[name]):
        if not made["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(made, version, strict=True)


@pytest.mark.parametrize("name", chart.MATRIX)
def test_programs_understand_their_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command line that any value set leads to is one that its program reads."""
    monkeypatch.setenv("POD_NAMESPACE", "carp-system")
    read = {
        "carp": lambda words: daemon_parser().parse_args(words[1:]),
        "carp-agent": agent_main._parser().parse_args,
        "carp-controller": options.parse,
        "carp-uninstall": uninstall._parser().parse_args,
        "carp-selftest": selftest._parser().parse_args,
    }
    for container in _containers(chart.template(chart.MATRIX[name])).values():
        program, *words = container["command"]
        assert program in chart.entry_points()
        read[program](words)


@pytest.mark.parametrize("name", chart.MATRIX)
def test_references_meet(name: str) -> None:
    """Names of accounts, roles, ports and volumes are those of objects that are there."""
    objects = chart.template(chart.MATRIX[name])
    names = {(each["kind"], each["metadata"]["name"]) for each in objects}
    given = {"given-agent", "given-controller"}
    for each in objects:
        if each["kind"].endswith("RoleBinding"):
            reference = each["roleRef"]
            assert (reference["kind"], reference["name"]) in names
            assert {s["name"] for s in each["subjects"]} <= given | {
                n for k, n in names if k == "ServiceAccount"
            }
        if each["kind"] in ("DaemonSet", "Deployment"):
            template = each["spec"]["template"]
            assert each["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
            for container in template["spec"]["containers"]:
                volumes = {volume["name"] for volume in template["spec"].get("volumes", ())}
                assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
                ports = {port["containerPort"] for port in container["ports"]}
                asked = container["livenessProbe"]["httpGet"]["port"]
                assert asked in ports | {port["name"] for port in container["ports"]}
                assert any(str(port) in word for port in ports for word in container["command"])


def test_carpd_has_no_more_than_it_needs(default: list[dict[str, Any]]) -> None:
    """Two capabilities, nothing else of root's, no token, no limit of the processor."""
    pod = _pod(default, *DAEMON_SET)
    carpd, agent = pod["containers"]
    assert {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]} == carpd["securityContext"]["capabilities"]
    assert (True, False, False) == tuple(
        carpd["securityContext"][key]
        for key in ("readOnlyRootFilesystem", "allowPrivilegeEscalation", "privileged")
    )
    assert False is pod["automountServiceAccountToken"]
    assert {"state", "run"} == {mount["name"] for mount in carpd["volumeMounts"]}
    assert {"token", "run"} == {mount["name"] for mount in agent["volumeMounts"]}
    assert ["state"] == [volume["name"] for volume in pod["volumes"] if "hostPath" in volume]
    assert "cpu" not in carpd["resources"]["limits"]
    assert "lifecycle" not in carpd


@pytest.mark.parametrize("name", chart.MATRIX)
def test_everybody_else_is_unprivileged(name: str) -> None:
    """Every other container runs as nobody without a capability, whatever the values."""
    for container, found in _containers(chart.template(chart.MATRIX[name])).items():
        assert container == "carpd" or found["securityContext"] == UNPRIVILEGED, container


def test_agent_may_use_the_socket(default: list[dict[str, Any]]) -> None:
    """The agent's user is let in, by the group that the pod's volumes have."""
    pod = _pod(default, *DAEMON_SET)
    carpd, agent = pod["containers"]
    given = daemon_parser().parse_args(carpd["command"][2:])
    user = agent["securityContext"]["runAsUser"]
    assert (user, str(pod["securityContext"]["fsGroup"])) == (given.socket_uid, given.socket_group)
    assert given.socket == agent["command"][1].removeprefix("--socket=")


def test_rolling_upgrade(default: list[dict[str, Any]]) -> None:
    """One node at a time, ready by what the agent knows of carpd, and time enough to hand over."""
    spec = chart.one(default, *DAEMON_SET)["spec"]
    assert (5, 1) == (spec["minReadySeconds"], spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"])
    pod = spec["template"]["spec"]
    carpd, agent = pod["containers"]
    assert "readinessProbe" not in carpd
    asked = agent["readinessProbe"]["httpGet"]
    assert ("127.0.0.1", 9106, "/readyz") == (asked["host"], asked["port"], asked["path"])
    assert 15 == pod["terminationGracePeriodSeconds"]
    assert [{"operator": "Exists"}] == pod["tolerations"]
    assert "system-node-critical" == pod["priorityClassName"]


def test_controller_leaves_a_dead_node_soon(default: list[dict[str, Any]]) -> None:
    """After 30 s, not after 5 minutes; and no budget blocks a drain while there is one replica."""
    tolerated = {
        each["key"]: each.get("tolerationSeconds") for each in _pod(default, *DEPLOYMENT)["tolerations"]
    }
    assert 30 == tolerated["node.kubernetes.io/not-ready"] == tolerated["node.kubernetes.io/unreachable"]
    assert "PodDisruptionBudget" not in {each["kind"] for each in default}
    two = chart.template(chart.MATRIX["two controllers"])
    assert 1 == chart.one(two, "PodDisruptionBudget", "carp-controller")["spec"]["minAvailable"]
    assert "--leader-elect" in _pod(two, *DEPLOYMENT)["containers"][0]["command"]


def test_no_custom_resource(default: list[dict[str, Any]]) -> None:
    """None stands in the chart: a first installation with one beside its definition fails."""
    assert [] == [each["kind"] for each in default if each["apiVersion"].startswith("carp.vip/")]


def test_definitions_survive(default: list[dict[str, Any]]) -> None:
    """The three definitions are upgraded with the release and kept when it goes."""
    definitions = [each for each in default if each["kind"] == "CustomResourceDefinition"]
    policies = [each["metadata"]["annotations"]["helm.sh/resource-policy"] for each in definitions]
    assert ["keep"] * 3 == policies


def test_pod_template_changes_with_the_image_only(default: list[dict[str, Any]]) -> None:
    """A new version of the chart with the same image restarts no carpd."""
    pod = json.dumps(chart.one(default, *DAEMON_SET)["spec"]["template"])
    assert "helm.sh/chart" not in pod
    assert "app.kubernetes.io/version" not in pod


def test_image() -> None:
    """A digest counts instead of a tag."""
    pods = _containers(chart.template(chart.MATRIX["registry and digest"])).values()
    assert {f"registry.example.org:5000/net/carp-operator@sha256:{'a' * 64}"} == {c["image"] for c in pods}
    tagged = _containers(chart.template({"image": {"tag": "9.9"}})).values()
    assert {"carp-operator:9.9"} == {c["image"] for c in tagged}


def test_policy_names_the_account() -> None:
    """The admission policy is about the account that the agents have, in the release's namespace."""
    policy = chart.one(
        chart.template(chart.MATRIX["names"]), "ValidatingAdmissionPolicy", "vip-agent-own-node"
    )
    (condition,) = policy["spec"]["matchConditions"]
    assert "request.userInfo.username == 'system:serviceaccount:carp-system:a'" == condition["expression"]


BAD: dict[str, tuple[str, Any, str]] = {
    "unknown": ("imagee", {}, "additional properties 'imagee' not allowed"),
    "unknown inside": ("node.carpd.resource", {}, "at '/node/carpd': additional properties 'resource' not"),
    "unknown in a list": ("node.tolerations", [{"kay": "x"}], "additional properties 'kay' not allowed"),
    "replicas": ("controller.replicas", 0, "at '/controller/replicas': minimum: got 0, want 1"),
    "replicas as text": ("controller.replicas", "1", "got string, want integer"),
    "interfaces as text": ("interfaces", "eth0", "at '/interfaces': got string, want array"),
    "interface": (
        "interfaces",
        ["eth0,eth1"],
        'interfaces[0]: "eth0,eth1" is no name or pattern of an interface',
    ),
    "endpoint": (
        "apiServer.endpoints",
        ["10.0.0.1:6443"],
        'apiServer.endpoints[0]: "10.0.0.1:6443" is no URL',
    ),
    "digest": ("image.digest", "sha256:ab", 'image.digest: "sha256:ab" is no digest: sha256: and 64 hex'),
    "pull policy": (
        "image.pullPolicy",
        "Sometimes",
        "value must be one of 'Always', 'IfNotPresent', 'Never'",
    ),
    "duration": ("controller.replaceAfter", "5", 'controller.replaceAfter: "5" is no duration such as 30s'),
    "no duration": ("uninstall.timeout", "", "uninstall.timeout: is empty; write a duration such as 30s"),
    "port": ("controller.metrics.port", 70000, "maximum: got 70,000, want 65,535"),
    "ports": ("node.metrics.carpdPort", 9106, "are ports of the same node and must differ"),
    "address": ("node.metrics.address", "10.0.0.1", "value must be one of '127.0.0.1', '0.0.0.0'"),
    "log": ("logFormat", "xml", "at '/logFormat': value must be one of 'text', 'json'"),
    "folder": ("node.stateDir", "carp", 'node.stateDir: "carp" is no absolute path of a folder'),
    "folder above": ("node.stateDir", "/etc/..", 'node.stateDir: "/etc/.." goes up by ..'),
    "repository": (
        "image.repository",
        "registry/x:1.0",
        'image.repository: "registry/x:1.0" has a tag; write that into image.tag',
    ),
    "nobody away": ("node.updateStrategy.rollingUpdate.maxUnavailable", 0, "minimum: got 0, want 1"),
    "a number in quotes": (
        "node.updateStrategy.rollingUpdate.maxUnavailable",
        "2",
        'node.updateStrategy.rollingUpdate.maxUnavailable: "2" is neither a number without quotes',
    ),
    "quantity": (
        "controller.resources.limits.cpu",
        "abc",
        'controller.resources.limits.cpu: "abc" is no quantity such as 100m or 128Mi',
    ),
    "below zero": ("node.agent.resources.limits.cpu", -1, "minimum: got -1, want 0"),
    "affinity": ("node.affinity", {"foo": 1}, "at '/node/affinity': additional properties 'foo' not allowed"),
    "toleration": ("node.tolerations", [{"value": "x"}], "at '/node/tolerations/0': missing property 'key'"),
    "two values": (
        "node.carpd.extraEnv",
        [{"name": "A", "value": "b", "valueFrom": {}}],
        "at '/node/carpd/extraEnv/0': maxProperties: got 3, want 2",
    ),
    "name": ("fullnameOverride", "Carp_1", 'fullnameOverride: "Carp_1" is no name of a Kubernetes object'),
    "no account": ("controller.serviceAccount.create", False, "controller.serviceAccount.name: is required"),
    "one account": ("node.agent.serviceAccount.name", "carp-controller", "is the controller's account too"),
    "unreached": ("monitoring.podMonitor.enabled", True, "Prometheus cannot reach 127.0.0.1"),
    "address to test": ("test.address", "vip", 'test.address: "vip" is no IP address such as'),
    "no address": (
        "test.address",
        "999.1.1.1",
        'test.address: "999.1.1.1" is no IP address such as 192.0.2.99',
    ),
    "a colon": ("test.address", ":", 'test.address: ":" is no IP address such as'),
    "a prefix alone": ("test.address", "/99", 'test.address: "/99" is no IP address such as'),
    "soon": ("controller.replaceAfter", "9s", 'controller.replaceAfter: "9s" is not between 10s and 168h'),
    "late": ("controller.resync", "24h1s", 'controller.resync: "24h1s" is not between 10s and 24h'),
    "at once": ("uninstall.timeout", "0s", 'uninstall.timeout: "0s" is not between 1s and 1h'),
    "for ever": ("test.timeout", "9999999h", 'test.timeout: "9999999h" is no duration such as 30s'),
    "a label of ours": (
        "commonLabels",
        {"app.kubernetes.io/name": "x"},
        'commonLabels: "app.kubernetes.io/name" is a label that the chart sets itself',
    ),
    "another": ("monitoring.labels", {"helm.sh/chart": "x"}, 'monitoring.labels: "helm.sh/chart" is a label'),
    "selected": (
        "node.podLabels",
        {"app.kubernetes.io/component": "x"},
        'node.podLabels: "app.kubernetes.io/component" is a label that the chart sets itself',
    ),
    "key of a label": ("commonLabels", {"a b": "x"}, 'commonLabels: "a b" is no key of a label: at most 63'),
    "value of a label": (
        "controller.podLabels",
        {"team": "a b"},
        'controller.podLabels.team: "a b" is no value of a label: at most 63 letters',
    ),
    "probes": (
        "controller.metrics.address",
        "127.0.0.1",
        "controller.metrics.address: the kubelet's probes reach 127.0.0.1 with controller.hostNetwork only",
    ),
    "no profile": (
        "node.carpd.seccompProfile.type",
        "Localhost",
        "node.carpd.seccompProfile.localhostProfile: is required where type is Localhost",
    ),
    "a profile too many": (
        "node.carpd.seccompProfile.localhostProfile",
        "carpd.json",
        'localhostProfile: "carpd.json" counts with type Localhost only, and type is RuntimeDefault',
    ),
    "a profile elsewhere": (
        "node.carpd.seccompProfile",
        {"type": "Localhost", "localhostProfile": "../carpd.json"},
        'localhostProfile: "../carpd.json" is no path below the kubelet\'s folder seccomp',
    ),
    "selinux": ("node.carpd.seLinuxOptions", {"kind": "spc_t"}, "additional properties 'kind' not allowed"),
    "seccomp": ("node.carpd.seccompProfile.type", "Unconfined", "one of 'RuntimeDefault', 'Localhost'"),
    "peer": ("networkPolicy.metricsFrom", [{}], "minProperties: got 0, want 1"),
}


@pytest.mark.parametrize(("path", "value", "message"), BAD.values(), ids=BAD)
def test_wrong_values(path: str, value: Any, message: str) -> None:
    """Are refused in one readable line that names the value's place."""
    assert message in chart.refusal(_nested(path, value))


def test_old_kubernetes() -> None:
    """Is refused."""
    done = chart.run("template", "carp", str(chart.CHART), "--kube-version", "1.30.9")
    assert "chart requires kubeVersion: >=1.31.0-0" in done.stderr


def test_every_value_is_in_the_schema() -> None:
    """The schema knows every default, and refuses what is unknown at each level."""
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text(encoding="utf-8"))
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))

    def compare(path: str, given: Values, known: Values) -> None:
        assert False is known["additionalProperties"], path
        for key, value in given.items():
            below = known["properties"][key]
            if isinstance(value, dict) and "properties" in below:
                compare(f"{path}.{key}", value, below)

    compare("", values, schema)


def test_versions_agree() -> None:
    """The chart's version and the program's are one."""
    about = yaml.safe_load((chart.CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert version[1] == about["version"] == about["appVersion"]


def test_notes_say_the_next_command() -> None:
    """After an installation a reader knows what to type."""
    text = Path(chart.CHART / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    for part in (
        "pod-security.kubernetes.io/enforce=privileged",
        "kubectl wait --for=condition=Ready",
        "helm test",
        # Where all nodes are control-plane nodes.
        "nodeSelector: {matchLabels: {kubernetes.io/os: linux}}",
    ):
        assert part in text
