"""What single values of the chart change, and that chart and programs agree on which values are good."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
from typing import Any

import pytest
import yaml

import chart
from carp.core.errors import ConfigError
from carp.daemon import scrape
from carp_operator.agent.pages import Pages as AgentPages
from carp_operator.api import codec
from carp_operator.controller import options
from carp_operator.controller.pages import Page
from carp_operator.controller.pages import Pages as ControllerPages
from tree import ROOT

Object = dict[str, Any]
ADDRESSES = ["127.0.0.1", "0.0.0.0", "[::]", "[::1]"]
RELEASE = ("template", "carp", str(chart.CHART), "--kube-version", chart.KUBERNETES)


def taken(values: Object) -> bool:
    """Return whether the chart takes values."""
    return chart.run(*RELEASE, values=values).returncode == 0


def pod_specs(objects: list[Object]) -> dict[str, Object]:
    """Return the pod of each object that has one, by kind."""
    return {each["kind"]: each["spec"] for each in templates(objects)}


def templates(objects: list[Object]) -> list[Object]:
    """Return each pod with its labels and the kind of what makes it."""
    whole = [each for each in objects if each["kind"] == "Pod"]
    made = [each for each in objects if each["kind"] in ("DaemonSet", "Deployment", "Job")]
    return whole + [{"kind": each["kind"], **each["spec"]["template"]} for each in made]


# --- probes ---------------------------------------------------------------------------------------------


def probed(objects: list[Object]) -> dict[str, str]:
    """Return where the probes of each container of node and controller ask."""
    specs = pod_specs(objects)
    found = {}
    for container in specs["DaemonSet"]["containers"] + specs["Deployment"]["containers"]:
        probes = [container[kind] for kind in ("readinessProbe", "livenessProbe") if kind in container]
        (found[container["name"]],) = {probe["httpGet"].get("host", "") for probe in probes}
    return found


def status(host: str, port: int) -> int:
    """Return what a program answers to a probe."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("address", ADDRESSES)
def test_probes_reach_every_program(address: str) -> None:
    """With each address that the schema allows, carpd, agent and controller are asked where they listen."""
    metrics = {"metrics": {"address": address}}
    hosts = probed(chart.template({"node": metrics, "controller": {"hostNetwork": True, **metrics}}))

    async def answers() -> dict[str, int]:
        carpd = await scrape.serve(f"{address}:0", list)
        agent = AgentPages(str, str)
        await agent.start(f"{address}:0")
        controller = ControllerPages(f"{address}:0", {"/healthz": lambda: Page(good=True, text="ok\n")})
        controller.start()
        ports = {"carpd": carpd.endpoint.port, "agent": agent.port, "controller": controller.port}
        try:
            return {name: await asyncio.to_thread(status, hosts[name], port) for name, port in ports.items()}
        finally:
            await carpd.close()
            agent.close()
            controller.close()

    assert {"carpd": 200, "agent": 200, "controller": 200} == asyncio.run(answers())


def test_every_address_is_tried() -> None:
    """The schema allows no address that the test before does not try."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert set(ADDRESSES) == set(schema["definitions"]["address"]["enum"])


def test_controller_in_a_network_of_its_own() -> None:
    """Is asked at the pod's address, and can listen on all of them only."""
    assert "" == probed(chart.template())["controller"]
    for address in ADDRESSES:
        good = address in ("0.0.0.0", "[::]")
        assert good == taken({"controller": {"metrics": {"address": address}}})


def test_wildcard_takes_ipv4_whatever_the_host_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where net.ipv6.bindv6only makes new sockets take IPv6 only, the controller's still takes both."""

    class Narrow(socket.socket):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            if self.family == socket.AF_INET6 and "fileno" not in named:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

    monkeypatch.setattr(socket, "socket", Narrow)
    pages = ControllerPages("[::]:0", {"/healthz": lambda: Page(good=True, text="ok\n")})
    pages.start()
    try:
        assert 200 == status("127.0.0.1", pages.port)
    finally:
        pages.close()


def test_monitored_controller() -> None:
    """A monitor needs a controller that Prometheus reaches."""
    values: Object = chart.MATRIX["pods watched"] | {
        "controller": {"hostNetwork": True, "metrics": {"address": "[::1]"}}
    }
    assert "controller.metrics.address: Prometheus cannot reach [::1]" in chart.refusal(values)


# --- values that a program reads ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["9s", "10s", "24h", "24h1s", "168h", "168h1s", "10079m60s", "08m"])
@pytest.mark.parametrize(
    ("key", "option"),
    [("replaceAfter", "--replace-after"), ("resync", "--resync")],
    ids=["replace", "resync"],
)
def test_times_of_the_controller(key: str, option: str, value: str) -> None:
    """The chart takes exactly the times that the controller's option takes."""
    try:
        options.parse(["--namespace=x", f"{option}={value}"])
        good = True
    except ConfigError:
        good = False
    assert good == taken({"controller": {key: value}})


@pytest.mark.parametrize(
    "address",
    [
        *("192.0.2.99", "192.0.2.99/24", "10.0.0.1/32", "010.0.0.1", "10.0.0.256", "10.0.0", "10.0.0.1/33"),
        *(
            "2001:db8::99",
            "2001:DB8::99/64",
            "2001:db8:1:2:3:4:5:6",
            "2001:db8:1:2:3:4:5:6:7",
            "2001:db8::/129",
        ),
        *(
            "2001:db8::1::2",
            "2001:db8",
            "2001:db8:1:2:3:4:5::",
            "::2001:db8:1:2",
            "fe80::1%eth0",
            "12345::1",
            "::/9/9",
        ),
    ],
)
def test_address_of_the_test(address: str) -> None:
    """The chart takes exactly what a VirtualIP takes as an address."""
    spec = {"addresses": [address]}
    good = not codec.virtual_ip({"metadata": {"name": "a"}, "spec": spec}, strict=True).errors
    assert good == taken({"test": {"address": address}})


@pytest.mark.parametrize("value", ["1", "1.", ".5", "1.5", "100m", "3n", "128Mi", "1Ei", "1E", "1e9", "2e-3"])
def test_quantities(value: str) -> None:
    """The chart takes each form that Kubernetes has for one, and nothing near it."""
    assert taken(_limited(value))
    wrong = {f"{value}x", f"{value} Mi", f"{value}mi", f".{value}.", "", "Mi"}
    assert set() == {near for near in wrong if taken(_limited(near))}


def _limited(value: Any) -> Object:
    return {"node": {"carpd": {"resources": {"limits": {"memory": value}}}}}


@pytest.mark.parametrize("value", [1, 2, "1%", "25%", "100%"])
def test_nodes_upgraded_at_a_time(value: Any) -> None:
    """A number or a share."""
    found = chart.one(chart.template(_away(value)), "DaemonSet", "carp-node")["spec"]["updateStrategy"]
    assert value == found["rollingUpdate"]["maxUnavailable"]


def _away(value: Any) -> Object:
    return {"node": {"updateStrategy": {"rollingUpdate": {"maxUnavailable": value}}}}


# --- hooks ----------------------------------------------------------------------------------------------


def test_nothing_to_test() -> None:
    """Without an address there is no test that could succeed: not one object of it is rendered."""
    assert [] == [each for each in chart.template() if each["metadata"]["name"].endswith("-test")]
    tested = chart.template({"test": {"address": "192.0.2.99"}})
    names = [each["kind"] for each in tested if each["metadata"]["name"] == "carp-test"]
    assert {"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Pod"} == set(names)


def test_hooks_run_where_the_controller_runs() -> None:
    """In the node's network and on nodes without a pod network, where the controller is so."""
    placed = ("hostNetwork", "dnsPolicy", "nodeSelector", "tolerations")
    values: Object = {"test": {"address": "192.0.2.99"}, "controller": {"nodeSelector": {"vip": "yes"}}}
    selector = {"kubernetes.io/os": "linux", "vip": "yes"}
    for network in (False, True):
        values["controller"]["hostNetwork"] = network
        specs = pod_specs(chart.template(values))
        wanted = {key: specs["Deployment"].get(key) for key in placed}
        assert (network or None, selector) == (wanted["hostNetwork"], wanted["nodeSelector"])
        assert network == ("node.kubernetes.io/network-unavailable" in str(wanted["tolerations"]))
        for kind in ("Job", "Pod"):
            assert wanted == {key: specs[kind].get(key) for key in placed}


@pytest.mark.parametrize("name", ["carp", "vip"])
def test_pod_of_the_test_is_left_to_uninstalling(name: str) -> None:
    """It stays for its log; the uninstall hook is told its name, and may delete no other pod."""
    objects = chart.template({"fullnameOverride": name, "test": {"address": "192.0.2.99"}})
    pod = chart.one(objects, "Pod", f"{name}-test")["metadata"]
    assert "before-hook-creation" == pod["annotations"]["helm.sh/hook-delete-policy"]
    (container,) = pod_specs(objects)["Job"]["containers"]
    assert f"--test-pod={name}-test" in container["command"]
    rules = [
        rule
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Role", f"{name}-uninstall")
        for rule in each["rules"]
        if rule["resources"] == ["pods"] and "delete" in rule["verbs"]
    ]
    assert [[f"{name}-test"]] == [rule["resourceNames"] for rule in rules]


def test_log_of_the_uninstallation_is_shown() -> None:
    """Helm prints it before it deletes the job: it names the nodes that have not confirmed."""
    notes = chart.one(chart.template(), "Job", "carp-uninstall")["metadata"]["annotations"]
    assert "hook-succeeded,hook-failed" == notes["helm.sh/hook-output-log-policy"]
    assert "before-hook-creation,hook-succeeded" == notes["helm.sh/hook-delete-policy"]


def test_manifests_take_the_image_alike() -> None:
    """Installing and leaving with kustomize name the image by the same lines."""
    folder = ROOT / "deploy"
    come, leave = (
        yaml.safe_load((path / "kustomization.yaml").read_text(encoding="utf-8"))
        for path in (folder, folder / "uninstall")
    )
    assert come["images"] == leave["images"]
    assert ["uninstall.yaml"] == leave["resources"]
    head = (folder / "uninstall" / "uninstall.yaml").read_text(encoding="utf-8").partition("\n---\n")[0]
    for part in ("kubectl -n carp-system delete job carp-uninstall", "your own Secrets", "secretRef"):
        assert part in head


# --- labels, rights, SELinux ----------------------------------------------------------------------------


def test_common_labels_are_everywhere() -> None:
    """Each object of the chart has them, resource definitions and pods included; no selector has."""
    values = {"commonLabels": {"team": "network"}, "test": {"address": "192.0.2.99"}}
    objects = chart.template(values)
    assert {"CustomResourceDefinition", "DaemonSet", "Job", "Pod"} <= {each["kind"] for each in objects}
    without = [
        (each["kind"], each["metadata"])
        for each in [*objects, *templates(objects)]
        if each["metadata"].get("labels", {}).get("team") != "network"
    ]
    assert [] == without
    selectors = [each["spec"]["selector"] for each in objects if each["kind"] in ("DaemonSet", "Deployment")]
    assert "team" not in str(selectors)


def test_nearest_label_counts() -> None:
    """One that is set for pods, monitors or the dashboard counts before the common one, and stands once."""
    objects = chart.template(chart.MATRIX["one label in several places"])
    found = {each["kind"]: each["metadata"]["labels"] for each in objects}
    assert ("prometheus", "prometheus") == (
        found["PodMonitor"]["release"],
        found["PrometheusRule"]["release"],
    )
    assert ("grafana", "all") == (found["ConfigMap"]["release"], found["Service"]["release"])
    pods = {each["kind"]: each["metadata"] for each in templates(objects)}
    assert ("nodes", "control", "network") == tuple(
        pods[kind]["labels"]["team"] for kind in ("DaemonSet", "Deployment", "Job")
    )
    assert {"kubectl.kubernetes.io/default-container": "agent"} == pods["DaemonSet"]["annotations"]


def test_rights_of_people() -> None:
    """All read; edit and admin write VirtualIPs and pools, where the admin wants it, since that is to run
    programs on nodes; nobody writes CarpNodes or a status.
    """
    kinds = ("virtualips", "virtualippools", "carpnodes")
    view = {(kind, verb) for kind in kinds for verb in ("get", "list", "watch")}
    edit = view | {(kind, verb) for kind in kinds[:2] for verb in ("create", "update", "patch", "delete")}
    assert dict.fromkeys(("view", "edit", "admin"), view) == _aggregated({})
    assert {"view": view, "edit": edit, "admin": edit} == _aggregated({"aggregateToEdit": True})
    assert {} == _aggregated({"aggregateToView": False})


def _aggregated(values: dict[str, bool]) -> dict[str, set[tuple[str, str]]]:
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    rights: dict[str, set[tuple[str, str]]] = {}
    for role in [each for each in chart.template({"rbac": values}) if each["kind"] == "ClusterRole"]:
        for label in role["metadata"]["labels"]:
            if label.startswith(prefix):
                given = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
                rights.setdefault(label.removeprefix(prefix), set()).update(given)
    return rights


def test_selinux() -> None:
    """Options of SELinux are carpd's, which alone has a folder of the node; none are set by themselves."""
    given = {"node": {"carpd": {"seLinuxOptions": {"type": "spc_t"}}}}
    carpd, agent = pod_specs(chart.template(given))["DaemonSet"]["containers"]
    assert {"type": "spc_t"} == carpd["securityContext"]["seLinuxOptions"]
    assert "seLinuxOptions" not in agent["securityContext"]
    assert "seLinuxOptions" not in str(chart.template())
