"""What an agent's token may do, with the roles and the policy of deploy/rbac on a real API server."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from agentfix import NAMESPACE, NODES, SECRETS, World, vhost
from apiclient import ApiError
from apifix import _running
from carp_operator.agent.agent import MANAGER
from carp_operator.kube.access import Access
from carp_operator.kube.client import Client
from carp_operator.kube.errors import Forbidden, NotFound
from carp_operator.kube.resources import CARP_NODES
from carp_operator.kube.resources import SECRETS as SECRET_KIND
from controlargs import PORT
from lanfix import need_lan
from nodefix import Lab, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from apiclient import ApiClient

pytestmark = pytest.mark.root
STATUS = {"status": {"agentVersion": "1"}}
OTHER = "the agent on node 'n1' may not write CarpNode 'n2'"
UNBOUND = "the token of this agent is not bound to a pod on a node"


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a control plane with the CarpNodes n1 and n2."""
    need_lan()
    with Lab() as lab, _running(request.config, tmp_path_factory, lab.node("n9")) as plane:
        made = World(lab, plane)
        for name in ("n1", "n2"):
            made.spec(name, vhost())
        yield made


@pytest.fixture(scope="module")
def agent(world: World) -> ApiClient:
    """Return a client with the token of the agent of n1."""
    return world.plane.client(token=world.token("n1"))


def refusal(call: Callable[[], object]) -> str:
    """Return the message of a request that must be refused as not allowed."""
    with pytest.raises(ApiError) as caught:
        call()
    assert 403 == caught.value.status, str(caught.value)
    return str(caught.value)


def test_own_status(world: World, agent: ApiClient) -> None:
    """An agent writes the status of its own CarpNode, by merge and by apply, and nothing else by that."""
    before = world.get("n1")
    patch = {**STATUS, "metadata": {"labels": {"a": "b"}, "finalizers": ["x.y/z"]}, "spec": {"vhosts": []}}
    agent.patch(f"{NODES}/n1/status", patch)
    body = {"apiVersion": "carp.vip/v1alpha1", "kind": "CarpNode", "metadata": {"name": "n1"}}
    agent.apply(f"{NODES}/n1/status", body | {"status": {"agentVersion": "2"}}, MANAGER, force=True)
    after = world.get("n1")
    assert "2" == after["status"]["agentVersion"]
    assert (before["spec"], before["metadata"].get("labels"), before["metadata"].get("finalizers")) == (
        after["spec"],
        after["metadata"].get("labels"),
        after["metadata"].get("finalizers"),
    )


def test_other_node(agent: ApiClient) -> None:
    """The status of another node's CarpNode is refused, by names."""
    assert OTHER in refusal(lambda: agent.patch(f"{NODES}/n2/status", STATUS))


@pytest.mark.parametrize("name", ["n1", "n2"])
def test_spec(agent: ApiClient, name: str) -> None:
    """No spec is an agent's to write, not even its own, and no object to make or delete."""
    assert "cannot patch resource" in refusal(
        lambda: agent.patch(f"{NODES}/{name}", {"spec": {"vhosts": []}})
    )
    assert "cannot delete resource" in refusal(lambda: agent.delete(f"{NODES}/{name}"))
    assert "cannot create resource" in refusal(lambda: agent.create(NODES, {"metadata": {"name": "n7"}}))


def test_policy_alone(world: World, agent: ApiClient) -> None:
    """Even with a role that allows everything, the policy lets an agent write its own status only."""
    world.plane.kubectl(
        "create", "clusterrolebinding", "too-much", "--clusterrole=cluster-admin",
        f"--serviceaccount={NAMESPACE}:carp-agent",
    )  # fmt: skip
    try:
        wait_until(lambda: agent.exists("/api/v1/nodes/n1"), 5.0, "the role is in force")
        only = "an agent may only patch the status of a CarpNode"
        assert only in refusal(lambda: agent.patch(f"{NODES}/n1", {"spec": {"vhosts": []}}))
        assert only in refusal(lambda: agent.delete(f"{NODES}/n1"))
        assert OTHER in refusal(lambda: agent.patch(f"{NODES}/n2/status", STATUS))
        assert "may not write CarpNode ''" in refusal(lambda: agent.delete(NODES))
    finally:
        world.plane.kubectl("delete", "clusterrolebinding", "too-much")


def test_token_without_pod(world: World) -> None:
    """A token that is bound to no pod reads, and writes nothing; the message says which token to use."""
    unbound = world.plane.client(token=world.token("n1", bound=False))
    assert "n1" == unbound.get(f"{NODES}/n1")["metadata"]["name"]
    message = refusal(lambda: unbound.patch(f"{NODES}/n1/status", STATUS))
    assert UNBOUND in message
    assert "projected token" in message


def test_legacy_token(world: World) -> None:
    """A token from a Secret, which names no node at all, is refused with the same message."""
    annotations = {"kubernetes.io/service-account.name": "carp-agent"}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "legacy", "annotations": annotations},
    }
    world.plane.admin.create(SECRETS, body)

    def token() -> str:
        data: dict[str, Any] = world.plane.admin.get(f"{SECRETS}/legacy").get("data", {})
        return base64.b64decode(data.get("token", "")).decode()

    wait_until(token, 10.0, "the token controller fills the Secret")
    legacy = world.plane.client(token=token())
    assert UNBOUND in refusal(lambda: legacy.patch(f"{NODES}/n1/status", STATUS))


def test_secrets(world: World, agent: ApiClient) -> None:
    """Of all Secrets an agent reads one, by its name."""
    world.plane.kubectl("-n", NAMESPACE, "create", "secret", "generic", "other")
    assert "carp-keys" == agent.get(f"{SECRETS}/carp-keys")["metadata"]["name"]
    listed = agent.get(SECRETS, fieldSelector="metadata.name=carp-keys")
    assert ["carp-keys"] == [each["metadata"]["name"] for each in listed["items"]]
    for path in (
        f"{SECRETS}/other",
        SECRETS,
        "/api/v1/secrets",
        "/api/v1/namespaces/default/secrets/carp-keys",
    ):
        assert "secrets" in refusal(lambda path=path: agent.get(path))
    assert "cannot patch" in refusal(lambda: agent.patch(f"{SECRETS}/carp-keys", {"data": {}}))


def test_our_client(world: World) -> None:
    """Our own client shows the policy's words in one line, and tells missing from forbidden."""
    token = world.token("n1")
    plane = world.plane
    access = Access((f"https://{plane.node.address}:{PORT}",), lambda: token, authority=str(plane.ca))

    def forbidden() -> str:
        client = Client(access)
        client.patch(CARP_NODES, "n1", STATUS, subresource="status", manager=MANAGER)
        with pytest.raises(Forbidden) as caught:
            client.patch(CARP_NODES, "n2", STATUS, subresource="status", manager=MANAGER)
        with pytest.raises(Forbidden):
            client.get(SECRET_KIND.within(NAMESPACE), "other")
        with pytest.raises(NotFound):
            client.get(CARP_NODES, "n8")
        return str(caught.value)

    message = plane.node.run_in(forbidden)
    assert message.startswith("patch carpnodes.carp.vip n2/status: HTTP 403: ")
    assert OTHER in message
    assert "\n" not in message
