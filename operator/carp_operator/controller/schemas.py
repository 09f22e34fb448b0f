"""What the served CustomResourceDefinitions can hold, and what of an object they cannot. Pure.

A server-side apply with one field that the served schema lacks is refused whole, so a controller that is
newer than its CRDs would write nothing: such fields are left out, and said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.resources import CARP_NODES, GROUP, POOLS, VERSION, VIRTUAL_IPS, Resource

if TYPE_CHECKING:
    from collections.abc import Mapping

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
OURS: Final = (VIRTUAL_IPS, POOLS, CARP_NODES)
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"


def crd_name(kind: Resource) -> str:
    """Return the name of a kind's CustomResourceDefinition."""
    return f"{kind.plural}.{GROUP}"


@dataclass(frozen=True, slots=True)
class Served:
    """One CustomResourceDefinition: why its objects cannot be trusted (empty: they can), uid, schema."""

    problem: str
    uid: str = ""
    schema: Mapping[str, Any] | None = None


def served(crd: Mapping[str, Any]) -> Served:
    """Judge a CustomResourceDefinition."""
    meta, spec = crd.get("metadata", {}), crd.get("spec", {})
    name = meta.get("name", "")
    if meta.get("deletionTimestamp"):
        return Served(f"the CustomResourceDefinition {name} is being deleted")
    conditions = crd.get("status", {}).get("conditions") or []
    if not any(c.get("type") == "Established" and c.get("status") == "True" for c in conditions):
        return Served(f"the CustomResourceDefinition {name} is not established yet")
    for version in spec.get("versions", ()):
        if version.get("name") == VERSION and version.get("served"):
            schema = version.get("schema", {}).get("openAPIV3Schema")
            return Served("", meta.get("uid", ""), schema)
    return Served(f"the CustomResourceDefinition {name} does not serve {VERSION}")


def prune(value: Any, schema: Mapping[str, Any] | None, path: str = "") -> tuple[Any, tuple[str, ...]]:
    """Return a value without the fields that a schema lacks, and their paths, lists with ``[]``."""
    if schema is None or schema.get(_KEEP):
        return value, ()
    if isinstance(value, dict):
        return _object(value, schema, path)
    if isinstance(value, list | tuple) and isinstance(schema.get("items"), dict):
        kept: list[Any] = []
        lost: dict[str, None] = {}
        for item in value:
            one, missing = prune(item, schema["items"], f"{path}[]")
            kept.append(one)
            lost.update(dict.fromkeys(missing))
        return kept, tuple(lost)
    return value, ()


def _object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> tuple[Any, tuple[str, ...]]:
    known, others = schema.get("properties") or {}, schema.get("additionalProperties")
    kept: dict[str, Any] = {}
    lost: dict[str, None] = {}
    for name, item in value.items():
        inner = known.get(name, others)
        where = f"{path}.{name}" if path else name
        if inner is None or inner is False:
            lost[where] = None
            continue
        one, missing = prune(item, inner if isinstance(inner, dict) else None, where)
        kept[name] = one
        lost.update(dict.fromkeys(missing))
    return kept, tuple(lost)
