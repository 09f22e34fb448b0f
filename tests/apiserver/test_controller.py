"""The controller on a real API server, with its own role; the agents are played by the tests."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from apiclient import ApiError
from apifix import _running
from carp_operator.api import crd
from controllerfix import API, CRDS, NAMESPACE, PODS, SECRETS, Setup

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controllerfix import Controller

pytestmark = pytest.mark.root
ROLE = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/carp-controller"


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """Yield a control plane with three nodes."""
    with _running(request.config, tmp_path_factory) as plane:
        setup = Setup(plane, tmp_path_factory.mktemp("controller"))
        setup.nodes(3)
        yield setup


@pytest.fixture
def setup(made: Setup) -> Iterator[Setup]:
    """Yield it, and take away what the test has made."""
    made.agents.deaf.clear()
    yield made
    for path in (f"{API}/virtualips", f"{API}/carpnodes", SECRETS, "/api/v1/namespaces/default/events"):
        made.plane.admin.delete(path)


@pytest.fixture
def controller(setup: Setup) -> Iterator[Controller]:
    """Yield a running controller that has made the CarpNodes."""
    with setup.controller() as found:
        setup.until(lambda: len(setup.carp_nodes()) == 3, "CarpNodes")
        setup.quiet(found)
        yield found
        assert "a turn of the loop failed" not in found.text()


def ready(setup: Setup, *names: str) -> None:
    """Wait until VirtualIPs are ready."""
    for name in names:
        setup.until(
            lambda n=name: setup.condition(n)[1] == "Ready", f"{name} is ready: {setup.condition(name)}"
        )


def test_apply_brings_specs_status_secret_and_event(setup: Setup, controller: Controller) -> None:
    """Applying a VirtualIP ends in specs, a status, a generated Secret, its copy, and an Event."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    entries = setup.entries("web")
    assert {"n1", "n2", "n3"} == entries.keys()
    assert {"web.1"} == {entry["passwordRef"] for entry in entries.values()}
    assert {"10.1.9.1"} == {address for entry in entries.values() for address in entry["addresses"]}
    owners = setup.plane.admin.get(f"{API}/carpnodes/n1")["metadata"]["ownerReferences"]
    uid = setup.plane.admin.get("/api/v1/nodes/n1")["metadata"]["uid"]
    assert [("Node", "n1", uid)] == [(o["kind"], o["name"], o["uid"]) for o in owners]
    setup.until(lambda: setup.secret("carp-web"), "the Secret")
    password = setup.secret("carp-web")["password"]
    assert 19 == len(password)
    assert {"web.1": password} == setup.secret("carp-keys")
    secret = setup.plane.admin.get(f"{SECRETS}/carp-web")["metadata"]
    assert "carp-operator" == secret["labels"]["app.kubernetes.io/managed-by"]
    assert [setup.vip("web")["metadata"]["uid"]] == [o["uid"] for o in secret["ownerReferences"]]
    setup.until(lambda: setup.events("MasterChanged"), "an Event")
    event = setup.events("MasterChanged")[0]
    assert ("VirtualIP", "web", "carp-controller") == (
        event["involvedObject"]["kind"],
        event["involvedObject"]["name"],
        event["source"]["component"],
    )
    assert password not in controller.text()
    assert password not in str(setup.vip("web")) + str(setup.carp_nodes()) + controller.page("/metrics")[1]


def test_steady_state_writes_nothing(setup: Setup, controller: Controller) -> None:
    """When all is done, neither the controller nor a second start of it writes anything."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    setup.until(lambda: setup.secret("carp-web"), "the Secret")
    setup.quiet(controller)
    before, writes = setup.marks(), controller.metric("carp_controller_writes_total")
    controller.stop()
    with setup.controller("--resync", "10s", port=9108) as again:
        setup.quiet(again)
        setup.until(lambda: again.metric("carp_controller_resyncs_total") >= 2, "a resync", 20)
        assert 0 == again.metric("carp_controller_writes_total")
    assert before == setup.marks()
    assert writes > 0


def test_deleted_virtualip_leaves_nodes(setup: Setup, controller: Controller) -> None:
    """A deleted VirtualIP goes from every node, and its password from carp-keys once all confirmed."""
    setup.apply("web", "10.1.9.1")
    setup.apply("db", "10.1.9.2")
    ready(setup, "web", "db")
    other = setup.entries("db")["n1"]["passwordRef"]
    setup.plane.admin.delete(f"{API}/virtualips/web")
    setup.until(lambda: not setup.entries("web"), "gone from the nodes")
    setup.until(lambda: {other} == setup.secret("carp-keys").keys(), "its entry is dropped")
    ready(setup, "db")


def test_password_changes_in_three_steps(setup: Setup, controller: Controller) -> None:
    """All accept a new password, then sign with it, then drop the old; a silent node holds that up."""
    setup.put_secret("web", password="first")
    setup.apply("web", "10.1.9.1", authentication={"secretRef": {"name": "web", "key": "password"}})
    ready(setup, "web")
    assert {"web.1": "first"} == setup.secret("carp-keys")
    setup.agents.deaf = {"n3"}
    setup.put_secret("web", password="second")
    setup.until(lambda: all(e.get("accept") for e in setup.entries("web").values()), "all accept")
    assert {"web.1": "first", "web.2": "second"} == setup.secret("carp-keys")
    setup.until(lambda: "n3" in setup.condition("web")[2], "the silent node is named")
    setup.quiet(controller)
    assert {"web.1"} == {e["passwordRef"] for e in setup.entries("web").values()}
    setup.agents.deaf = set()
    setup.until(lambda: {"web.2"} == {e["passwordRef"] for e in setup.entries("web").values()}, "all sign")
    setup.until(lambda: not any(e.get("accept") for e in setup.entries("web").values()), "all drop")
    setup.until(lambda: {"web.2": "second"} == setup.secret("carp-keys"), "the old value is dropped")
    setup.until(lambda: setup.events("Rotated"), "an Event")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"other": "x"}, "Secret carp-system/web has no key password"),
        ({"password": ""}, "Secret carp-system/web: key password is empty"),
        ({"password": "x" * 20}, "Secret carp-system/web: key password has 20 bytes"),
    ],
)
def test_wrong_password_is_a_condition(
    setup: Setup, controller: Controller, values: dict[str, str], message: str
) -> None:
    """What cannot be a password is named in the condition; what runs keeps the password it has."""
    setup.put_secret("web", password="right")
    setup.apply("web", "10.1.9.1", authentication={"secretRef": {"name": "web", "key": "password"}})
    ready(setup, "web")
    setup.quiet(controller)
    before = setup.entries("web")
    setup.plane.admin.delete(f"{SECRETS}/web")
    setup.until(lambda: "does not exist" in setup.condition("web", "Accepted")[2], "the Secret is missed")
    setup.put_secret("web", **values)
    setup.until(lambda: message in setup.condition("web", "Accepted")[2], message)
    assert ("False", "NoPassword") == setup.condition("web", "Accepted")[:2]
    assert before == setup.entries("web")
    assert {"web.1": "right"} == setup.secret("carp-keys")


def test_lost_keys_come_back(setup: Setup, controller: Controller) -> None:
    """carp-keys deleted by hand comes back from memory; at a cold start, from Secrets and CarpNodes."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    setup.until(lambda: setup.secret("carp-web"), "the Secret")
    keys = setup.secret("carp-keys")
    setup.plane.admin.delete(f"{SECRETS}/carp-keys")
    setup.until(lambda: setup.secret("carp-keys") == keys, "carp-keys is back")
    setup.plane.admin.delete(f"{SECRETS}/carp-web")
    setup.until(lambda: setup.secret("carp-web").get("password") == keys["web.1"], "the Secret is back")
    controller.stop()
    setup.plane.admin.delete(f"{SECRETS}/carp-keys")
    with setup.controller(port=9108) as again:
        setup.until(lambda: setup.secret("carp-keys") == keys, "carp-keys is back after a cold start")
        setup.quiet(again)
    assert {"web.1"} == {e["passwordRef"] for e in setup.entries("web").values()}


def test_hand_edit_is_put_right(setup: Setup, controller: Controller) -> None:
    """Somebody's change of a CarpNode's spec is undone and told."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    setup.quiet(controller)
    before = setup.entries("web")
    edited = {**before["n2"], "advskew": 200, "deadRatio": 9, "source": "10.1.0.9"}
    setup.plane.admin.patch(f"{API}/carpnodes/n2", {"spec": {"vhosts": [edited], "cluster": "other"}})
    setup.until(lambda: setup.events("SpecRestored"), "an Event")
    setup.until(lambda: setup.entries("web") == before, "the spec is back")
    assert "other" != setup.carp_nodes()["n2"]["spec"]["cluster"]
    event = setup.events("SpecRestored")[0]
    assert ("n2", "CarpNode", "Warning") == (
        event["involvedObject"]["name"],
        event["involvedObject"]["kind"],
        event["type"],
    )


def test_deleted_carp_node_is_made_anew_whole(setup: Setup, controller: Controller) -> None:
    """A CarpNode that is deleted comes back with everything that it said."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    before = setup.entries("web")["n2"]
    uid = setup.carp_nodes()["n2"]["metadata"]["uid"]
    setup.plane.admin.delete(f"{API}/carpnodes/n2")
    setup.until(lambda: "n2" in setup.entries("web"), "it is back")
    after = setup.plane.admin.get(f"{API}/carpnodes/n2")
    assert uid != after["metadata"]["uid"]
    setup.until(lambda: setup.entries("web")["n2"]["addresses"] == before["addresses"], "with its addresses")
    ready(setup, "web")


def test_api_server_away_for_a_while(setup: Setup, controller: Controller) -> None:
    """An outage is survived: what was deleted and applied meanwhile or afterwards is followed at once."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    setup.plane.stop_api()
    end = time.monotonic() + 10
    while time.monotonic() < end:
        assert 200 == controller.page("/healthz")[0]
        time.sleep(0.5)
    setup.plane.start_api()
    setup.apply("db", "10.1.9.2")
    took = setup.until(lambda: setup.condition("db")[1] == "Ready", "db is ready")
    print(f"ready {took:.2f} s after the API server")
    assert took < 5
    assert 200 == controller.page("/readyz")[0]
    assert {"n1", "n2", "n3"} == setup.entries("web").keys()


def test_definitions_deleted_and_applied_again(setup: Setup, controller: Controller) -> None:
    """Nothing is planned without a definition; what vanished with it is kept until it comes again."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    kept = setup.entries("web")
    name = f"virtualips.{crd.GROUP}"
    setup.plane.admin.delete(f"{CRDS}/{name}")
    setup.until(lambda: not setup.plane.admin.exists(f"{CRDS}/{name}"), "the definition is gone", 30)
    setup.until(lambda: controller.page("/readyz")[0] == 503, "not ready")
    assert f"the CustomResourceDefinition {name}" in controller.page("/readyz")[1]
    assert kept == setup.entries("web")
    setup.install()
    setup.until(lambda: controller.page("/readyz")[0] == 200, "ready again", 30)
    setup.quiet(controller)
    assert kept == setup.entries("web")
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    after = setup.entries("web")
    assert {n: (e["vhid"], e["passwordRef"]) for n, e in kept.items()} == {
        n: (e["vhid"], e["passwordRef"]) for n, e in after.items()
    }


def test_older_definition_gets_what_it_can_hold(setup: Setup, controller: Controller) -> None:
    """Where the served schema lacks a field the rest is written; condition and Event name the field."""
    path = f"{CRDS}/carpnodes.{crd.GROUP}"
    definition = setup.plane.admin.get(path)
    vhost = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del vhost["vhosts"]["items"]["properties"]["whenAllFail"]
    setup.plane.admin.replace(path, definition)
    try:
        # The server publishes a changed schema a moment later, and the controller looks when it is refused.
        checks = [{"name": "web", "tcp": {"port": 80}}]
        setup.apply("web", "10.1.9.1", whenAllFail="Release", healthChecks=checks)
        setup.until(lambda: "spec.vhosts[].whenAllFail" in setup.condition("web")[2], "the condition", 30)
        assert {"n1", "n2", "n3"} == setup.entries("web").keys()
        setup.until(lambda: setup.events("SchemaOutdated"), "an Event")
    finally:
        setup.install()


def test_second_replica_takes_over(setup: Setup) -> None:
    """Of two replicas one writes; when it ends the other goes on, at once where it could say so."""
    with (
        setup.controller("--leader-elect") as first,
        setup.controller("--leader-elect", port=9108) as second,
    ):
        setup.until(lambda: len(setup.carp_nodes()) == 3, "CarpNodes")
        setup.quiet(first)
        setup.until(lambda: second.page("/readyz")[0] == 200, "the standby is ready")
        leads = {c: c.metric("carp_controller_leading") for c in (first, second)}
        assert 1 == sum(leads.values())
        leader, standby = (first, second) if leads[first] else (second, first)
        assert "standby" in standby.page("/readyz")[1]
        assert 0 == standby.metric("carp_controller_writes_total")
        assert leader.stop() < 2
        setup.until(lambda: standby.metric("carp_controller_leading") == 1, "the standby leads", 5)
        setup.apply("web", "10.1.9.1")
        ready(setup, "web")


def test_killed_replica_is_replaced_after_its_lease(setup: Setup) -> None:
    """A replica that dies without a word is replaced once its Lease has run out."""
    with setup.controller("--leader-elect") as first:
        setup.until(lambda: first.metric("carp_controller_leading") == 1, "it leads")
        with setup.controller("--leader-elect", port=9108) as second:
            assert first.process is not None
            first.process.kill()
            took = setup.until(lambda: second.metric("carp_controller_leading") == 1, "the other leads", 30)
            print(f"took over after {took:.1f} s")
            assert took > 8


def test_missing_definitions_suspend(setup: Setup) -> None:
    """Without the CRDs the controller waits, says why, and goes on when they come."""
    for kind in crd.KINDS:
        setup.plane.admin.delete(f"{CRDS}/{kind.plural}.{crd.GROUP}")
    with setup.controller() as controller:
        setup.until(lambda: "install the CRDs" in controller.page("/readyz")[1], "it says why")
        assert 503 == controller.page("/readyz")[0]
        assert 200 == controller.page("/healthz")[0]
        setup.install()
        setup.until(lambda: len(setup.carp_nodes()) == 3, "CarpNodes", 30)
        setup.quiet(controller)
        assert 3 <= controller.metric("carp_controller_writes_total")


def test_burst_stays_within_the_budget(setup: Setup, controller: Controller) -> None:
    """200 VirtualIPs at once are written at 10 a second after the burst; the nodes come first."""
    began = time.monotonic()
    before = controller.metric("carp_controller_writes_total")
    for index in range(200):
        setup.apply(f"vip{index}", f"10.1.{200 + index // 200}.{index + 1}")
    told = setup.until(
        lambda: all(len(c["spec"]["vhosts"]) == 200 for c in setup.carp_nodes().values()), "told", 60
    )
    spent = controller.metric("carp_controller_writes_total") - before
    took = time.monotonic() - began
    print(f"200 told {told:.1f} s after the last was applied; {spent:.0f} writes in {took:.1f} s")
    assert spent <= 60 + 10 * took + 5
    assert told < 10
    controller.stop()


def test_pods_that_are_not_ready_are_named(setup: Setup, controller: Controller) -> None:
    """A node without a Ready pod is named until it has one, also while its pods come and go."""
    setup.apply("web", "10.1.9.1")
    ready(setup, "web")
    try:
        for node, good in (("n1", True), ("n2", False), ("n3", True)):
            setup.put_pod(node, ready=good, since=300)
        setup.until(lambda: "n2: its pod" in setup.condition("web")[2], "n2 is named")
        assert ("True", "Degraded") == setup.condition("web")[:2]
        assert not any(f"{node}: its pod" in setup.condition("web")[2] for node in ("n1", "n3"))
        setup.quiet(controller)
        before = setup.marks()
        setup.plane.admin.delete(f"{PODS}/carp-node-n2", gracePeriodSeconds="0")
        setup.put_pod("n2", ready=False)
        setup.quiet(controller)
        assert before == setup.marks()
        setup.put_pod("n2", ready=True)
        ready(setup, "web")
    finally:
        setup.delete_pods()
    assert "no status tells" not in controller.text()


def test_older_role_that_refuses_pods(setup: Setup) -> None:
    """The controller goes on without: it is ready, plans, and has said once what is refused."""
    rules = setup.plane.admin.get(ROLE)["rules"]
    setup.plane.admin.patch(ROLE, {"rules": [rule for rule in rules if "pods" not in rule["resources"]]})
    try:
        setup.put_pod("n2", ready=False, since=300)
        with setup.controller() as controller:
            setup.apply("web", "10.1.9.1")
            ready(setup, "web")
            setup.quiet(controller)
            assert 200 == controller.page("/readyz")[0]
            assert 1 == controller.text().count("no status tells of an agent that is gone")
            assert f"list pods in {NAMESPACE}: HTTP 403: pods is forbidden" in controller.text()
    finally:
        setup.plane.admin.patch(ROLE, {"rules": rules})
        setup.delete_pods()


def test_role_is_no_larger_than_needed(setup: Setup) -> None:
    """The controller's account can neither read other namespaces' Secrets nor change VirtualIPs."""
    client = setup.plane.client(token=setup.plane.token(NAMESPACE, "carp-controller"))
    setup.apply("web", "10.1.9.1")
    for attempt in (
        lambda: client.get("/api/v1/namespaces/kube-system/secrets"),
        lambda: client.get("/api/v1/secrets"),
        lambda: client.get("/api/v1/pods"),
        lambda: client.delete(f"{PODS}/carp-node-n1"),
        lambda: client.patch(f"{API}/virtualips/web", {"spec": {"vhid": 9}}),
        lambda: client.delete(f"{API}/virtualips/web"),
        lambda: client.delete("/api/v1/nodes/n1"),
        lambda: client.patch(f"{API}/carpnodes/n1/status", {"status": {}}),
    ):
        with pytest.raises(ApiError) as caught:
            attempt()
        assert 403 == caught.value.status
