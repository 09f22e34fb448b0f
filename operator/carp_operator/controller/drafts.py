"""A plan -> the writes that carry it out, in their order, within what the served schemas can hold. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp_operator.controller.outbox import Write
from carp_operator.controller.schemas import prune
from carp_operator.kube.resources import CARP_NODES, GROUP, POOLS, VERSION, VIRTUAL_IPS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from carp_operator.api.objects import CarpNode, VirtualIP
    from carp_operator.kube.resources import Resource
    from carp_operator.plan.model import NodePlan, Plan, Snapshot

API: Final = f"{GROUP}/{VERSION}"


@dataclass(slots=True)
class Drafts:
    """``writes`` in their order; ``outdated``: VirtualIP -> fields that a served schema lacks."""

    nodes: list[Write] = field(default_factory=list)
    statuses: list[Write] = field(default_factory=list)
    outdated: dict[str, tuple[str, ...]] = field(default_factory=dict)


def drafts(
    plan: Plan,
    snapshot: Snapshot,
    schemas: Mapping[Resource, Mapping[str, Any] | None],
    absent: Collection[str] = (),
    served: int = 0,
) -> Drafts:
    """Return the writes.

    ``absent``: VirtualIPs that are planned for and not on the server; ``served``: a number for the schemas.
    """
    result = Drafts()
    lost: defaultdict[str, dict[str, None]] = defaultdict(dict)
    spec_schema = _part(schemas.get(CARP_NODES), "spec")
    for each in plan.writes:
        spec = _spec(each, spec_schema, lost)
        carp = snapshot.carpnodes.get(each.name)
        if carp is None or not _stands(carp, each.owner, spec):
            about = (served,) if carp is None else (served, carp.uid, carp.generation)
            result.nodes.append(Write(CARP_NODES, each.name, "apply", _carp_node(each, spec), about))
    vips, status_schema = snapshot.vips, _part(schemas.get(VIRTUAL_IPS), "status")
    for name in sorted({*plan.vip_statuses, *lost} & vips.keys() - set(absent)):
        status, missing = prune(dict(plan.vip_statuses.get(name, vips[name].status)), status_schema, "status")
        lost[name].update(dict.fromkeys(missing))
        if lost[name]:
            status = _amended(status, lost[name])
        if status != vips[name].status:
            result.statuses.append(_vip_status(vips[name], status, served))
    pool_schema = _part(schemas.get(POOLS), "status")
    for name, wanted in plan.pool_statuses.items():
        status, _ = prune(dict(wanted), pool_schema, "status")
        if status != snapshot.pools[name].status:
            pool = snapshot.pools[name]
            meta = {"name": name, "uid": pool.uid}
            body = {"apiVersion": API, "kind": "VirtualIPPool", "metadata": meta, "status": status}
            result.statuses.append(Write(POOLS, name, "status", body, (served, pool.uid, pool.generation)))
    result.outdated = {name: tuple(fields) for name, fields in lost.items() if fields}
    return result


def _part(schema: Mapping[str, Any] | None, name: str) -> Mapping[str, Any] | None:
    return None if schema is None else (schema.get("properties") or {}).get(name)


def _spec(
    made: NodePlan, schema: Mapping[str, Any] | None, lost: defaultdict[str, dict[str, None]]
) -> dict[str, Any]:
    """Return a spec that the schema can hold, and note what was left out by VirtualIP."""
    rest = {key: value for key, value in made.spec.items() if key != "vhosts"}
    whole, _ = prune(rest, schema, "spec")
    if "vhosts" not in made.spec:
        return dict(whole)
    items = (_part(schema, "vhosts") or {}).get("items")
    vhosts = []
    for entry in made.spec["vhosts"]:
        kept, missing = prune(entry, items, "spec.vhosts[]")
        lost_here = lost[entry["name"]] if missing else {}
        lost_here.update(dict.fromkeys(missing))
        vhosts.append(kept)
    return {**whole, "vhosts": vhosts}


def _stands(carp: CarpNode, owner: str, spec: Mapping[str, Any]) -> bool:
    stored = {"cluster": carp.cluster} | ({"vhosts": list(carp.vhosts)} if carp.listed else {})
    return carp.owner == owner and stored == spec


def _carp_node(made: NodePlan, spec: Mapping[str, Any]) -> dict[str, Any]:
    owner = {"apiVersion": "v1", "kind": "Node", "name": made.name, "uid": made.owner}
    meta = {"name": made.name, "ownerReferences": [owner]}
    return {"apiVersion": API, "kind": "CarpNode", "metadata": meta, "spec": spec}


def _vip_status(vip: VirtualIP, status: Mapping[str, Any], served: int) -> Write:
    # With the uid it fails where the object was deleted and made anew meanwhile.
    meta = {"name": vip.name, "uid": vip.uid}
    body = {"apiVersion": API, "kind": "VirtualIP", "metadata": meta, "status": status}
    return Write(VIRTUAL_IPS, vip.name, "status", body, (served, vip.uid, vip.generation))


def _amended(status: dict[str, Any], lost: Iterable[str]) -> dict[str, Any]:
    """Return a status whose condition Ready says what the served schemas lack."""
    note = f"the served CRD lacks {', '.join(lost)}: apply the CRDs of this version (SchemaOutdated)"
    conditions = [dict(each) for each in status.get("conditions", ())]
    for each in conditions:
        if each.get("type") == "Ready" and note not in each.get("message", ""):
            each["message"] = f"{each.get('message', '')}; {note}"
    return {**status, "conditions": conditions}
