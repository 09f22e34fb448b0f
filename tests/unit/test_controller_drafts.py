"""From a plan to writes: order, bodies, and what an older definition cannot hold."""

from __future__ import annotations

from typing import Any

from carp_operator.api import crd
from carp_operator.controller.drafts import drafts
from carp_operator.kube.resources import CARP_NODES, POOLS, VIRTUAL_IPS
from planfix import World, cluster

SCHEMAS: dict[Any, Any] = {
    VIRTUAL_IPS: crd.definition(crd.VIRTUAL_IP)["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
    POOLS: crd.definition(crd.POOL)["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
    CARP_NODES: crd.definition(crd.CARP_NODE)["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
}


def world(**spec: Any) -> World:
    """Return three nodes and a VirtualIP."""
    made = cluster(3)
    made.vip("web", "10.0.9.9", **spec)
    return made


def without(kind: Any, *path: str) -> dict[Any, Any]:
    """Return the schemas, one of them without a property."""

    def copy(schema: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        if names[0] == "[]":
            return {**schema, "items": copy(schema["items"], names[1:])}
        known = dict(schema["properties"])
        if len(names) == 1:
            del known[names[0]]
        else:
            known[names[0]] = copy(known[names[0]], names[1:])
        return {**schema, "properties": known}

    return {**SCHEMAS, kind: copy(SCHEMAS[kind], path)}


def test_bodies() -> None:
    """CarpNodes are owned by their Nodes; statuses carry the uid of the object they were made for."""
    made = world()
    draft = drafts(made.plan(), made.snapshot(), SCHEMAS)
    assert {"n1", "n2", "n3"} == {write.name for write in draft.nodes}
    body = draft.nodes[0].body
    assert [("Node", made.nodes[body["metadata"]["name"]].uid)] == [
        (o["kind"], o["uid"]) for o in body["metadata"]["ownerReferences"]
    ]
    assert {"c"} == {write.body["spec"]["cluster"] for write in draft.nodes}
    (status,) = draft.statuses
    assert ("status", "web", made.vips["web"].uid) == (
        status.verb,
        status.name,
        status.body["metadata"]["uid"],
    )
    assert {} == draft.outdated


def test_planned_world_needs_no_write() -> None:
    """When everything is as planned there is nothing to write."""
    made = world()
    made.settle()
    draft = drafts(made.plan(), made.snapshot(), SCHEMAS)
    assert ([], []) == (draft.nodes, draft.statuses)


def test_unknown_schema_leaves_nothing_out() -> None:
    """Without schemas everything is written."""
    made = world()
    assert 3 == len(drafts(made.plan(), made.snapshot(), {}).nodes)


def test_missing_field_of_a_spec() -> None:
    """A field that CarpNodes cannot hold is left out, and the VirtualIP says so until it is put right."""
    made = world(when_all_fail="Release", health_checks=({"name": "web", "tcp": {"port": 80}},))
    older = without(CARP_NODES, "spec", "vhosts", "[]", "whenAllFail")
    draft = drafts(made.plan(), made.snapshot(), older)
    assert {"web": ("spec.vhosts[].whenAllFail",)} == draft.outdated
    assert not any("whenAllFail" in vhost for w in draft.nodes for vhost in w.body["spec"]["vhosts"])
    ready = draft.statuses[0].body["status"]["conditions"][-1]
    assert "the served CRD lacks spec.vhosts[].whenAllFail" in ready["message"]


def test_outdated_definition_comes_to_rest() -> None:
    """What was pruned and stored so is not written again, although it is not what the planner wants."""
    made = world(when_all_fail="Release", health_checks=({"name": "web", "tcp": {"port": 80}},))
    older = without(CARP_NODES, "spec", "vhosts", "[]", "whenAllFail")
    for _ in range(4):
        draft = drafts(made.plan(), made.snapshot(), older)
        for write in draft.nodes:
            spec, old = write.body["spec"], made.carpnodes[write.name]
            made.carp(write.name, vhosts=tuple(spec["vhosts"]), cluster=spec["cluster"], listed=True)
            made.carp(write.name, owner=made.nodes[write.name].uid, generation=old.generation + 1)
        for write in draft.statuses:
            made.vips["web"] = type(made.vips["web"])(
                **{f: getattr(made.vips["web"], f) for f in made.vips["web"].__slots__ if f != "status"},
                status=write.body["status"],
            )
    assert ([], []) == (draft.nodes, draft.statuses)
    assert {"web": ("spec.vhosts[].whenAllFail",)} == draft.outdated


def test_missing_field_of_a_status() -> None:
    """The same for a status."""
    made = world()
    made.settle()
    made.vip("db", "10.0.9.10")
    draft = drafts(made.plan(), made.snapshot(), without(VIRTUAL_IPS, "status", "vhid"))
    statuses = {write.name: write.body["status"] for write in draft.statuses}
    assert "vhid" not in statuses["db"]
    assert ("status.vhid",) == draft.outdated["db"]


def test_absent_virtualip_gets_no_status() -> None:
    """One that is kept although it vanished is planned for, but nothing is written to it."""
    made = world()
    draft = drafts(made.plan(), made.snapshot(), SCHEMAS, {"web"})
    assert 3 == len(draft.nodes)
    assert [] == draft.statuses


def test_a_write_is_about_an_object_and_the_schemas() -> None:
    """Another generation, another uid or another schema makes it one that may be tried again."""
    made = world()
    made.pool("p", "10.0.9.1-10.0.9.5")
    first = drafts(made.plan(), made.snapshot(), SCHEMAS)
    other = drafts(made.plan(), made.snapshot(), SCHEMAS, served=1)
    pairs = zip((*first.nodes, *first.statuses), (*other.nodes, *other.statuses), strict=True)
    assert all(a == b and a.about != b.about for a, b in pairs)
    made.carp("n1", generation=2)
    made.vip("web", "10.0.9.9")
    after = drafts(made.plan(), made.snapshot(), SCHEMAS)
    pairs = zip((*first.nodes, *first.statuses), (*after.nodes, *after.statuses), strict=True)
    assert {"n1", "web"} == {a.name for a, b in pairs if a.about != b.about}


def test_pool_status() -> None:
    """Pools get their status."""
    made = world()
    made.pool("p", "10.0.8.1-10.0.8.9")
    draft = drafts(made.plan(), made.snapshot(), SCHEMAS)
    assert ["p"] == [write.name for write in draft.statuses if write.resource == POOLS]
