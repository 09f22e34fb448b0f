from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carp_operator.kubectl.documents import Document
from carp_operator.kubectl.live import applied, picture, snapshot
from carp_operator.kubectl.manifests import gather
from carp_operator.plan.planner import plan
from kubectlfix import NOW, manifest, named, served

if TYPE_CHECKING:
    import pytest

    from carp_operator.plan.model import Plan, Snapshot


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


def test_a_member_with_times_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a change of times has come to one member only, they stand at that member."""

    def halfway(given: Snapshot) -> Plan:
        made = plan(given)
        last = made.nodes["n1"]
        (entry,) = last.spec["vhosts"]
        spec = {**last.spec, "vhosts": [{**entry, "advskew": 200, "advbase": 0}]}
        return replace(made, nodes={**made.nodes, "n1": replace(last, spec=spec)})

    monkeypatch.setattr("carp_operator.kubectl.live.plan", halfway)
    client: Any = served()
    members = picture(snapshot(client, NOW)).vips["web"]["members"]
    assert ["n1: advskew 200; advbase 0; signs web.1 10.1.0.252"] == [m for m in members if "advbase" in m]
