from __future__ import annotations

from typing import Any

from carp_operator.kubectl.documents import Document
from carp_operator.kubectl.live import applied, picture, snapshot
from carp_operator.kubectl.manifests import gather
from kubectlfix import NOW, manifest, named, served


def test_options_of_the_controller() -> None:
    """Its Deployment says which interfaces count and when a node is replaced."""
    client: Any = served()
    command = ["carp-controller", "--interfaces=eth1", "--replace-after=2m"]
    labels = {"app.kubernetes.io/name": "carp-operator"}
    spec = {"template": {"spec": {"containers": [{"command": command}]}}}
    client.put("deployments", named("c", metadata={"labels": labels}, spec=spec), "carp-system")
    found = snapshot(client, NOW)
    assert ("eth1", 120.0) == (found.interfaces, found.replace_after)


def test_applied_keeps_what_is_stored() -> None:
    """uid, age, annotations and status of a live object stay; its picture is that of the same plan."""
    client: Any = served()
    live = snapshot(client, NOW)
    after = applied(live, gather([Document("f", "document 1", manifest("web"))]))
    assert live.vips == after.vips
    assert picture(live) == picture(after)
