"""The three CustomResourceDefinitions, built from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp_operator.api import carpnode, pool, virtualip, virtualip_status

if TYPE_CHECKING:
    from carp_operator.api.fields import Object, Rule

GROUP: Final = "carp.vip"
VERSION: Final = "v1alpha1"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. Columns are (name, type, JSON path, whether only with ``-o wide``)."""

    kind: str
    plural: str
    short: str
    description: str
    spec: Object
    status: Object
    columns: tuple[tuple[str, str, str, bool], ...]
    rules: tuple[Rule, ...] = ()
    plain: bool = False
    """Without rules and defaults."""


def _condition(name: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].status'


_AGE: Final = ("Age", "date", ".metadata.creationTimestamp", False)

VIRTUAL_IP: Final = Kind(
    kind="VirtualIP",
    plural="virtualips",
    short="vip",
    description="IP addresses that one node at a time holds; when it dies, the next one does.",
    spec=virtualip.SPEC,
    status=virtualip_status.STATUS,
    rules=(virtualip.NAME_RULE,),
    columns=(
        ("Addresses", "string", ".status.addresses", False),
        ("VHID", "integer", ".status.vhid", False),
        ("Master", "string", ".status.master.node", False),
        ("Ready", "string", _condition("Ready"), False),
        _AGE,
        ("Interface", "string", ".status.interface", True),
        ("Backups", "string", ".status.backups", True),
        ("Since", "date", ".status.master.since", True),
        ("Transitions", "integer", ".status.transitions", True),
        ("Pool", "string", ".status.pool", True),
    ),
)
POOL: Final = Kind(
    kind="VirtualIPPool",
    plural="virtualippools",
    short="vippool",
    description="Addresses that VirtualIPs may take instead of naming their own.",
    spec=pool.SPEC,
    status=pool.STATUS,
    columns=(
        ("Ranges", "string", ".spec.addresses", False),
        ("IPv4-Used", "integer", ".status.ipv4.used", False),
        ("IPv4-Free", "integer", ".status.ipv4.available", False),
        ("IPv6-Used", "integer", ".status.ipv6.used", False),
        ("Ready", "string", _condition("Ready"), False),
        _AGE,
        ("IPv6-Free", "integer", ".status.ipv6.available", True),
    ),
)
CARP_NODE: Final = Kind(
    kind="CarpNode",
    plural="carpnodes",
    short="cn",
    description="One node's part: the settings that its carpd runs, written by the controller, and what "
    "it does.",
    spec=carpnode.SPEC,
    status=carpnode.STATUS,
    plain=True,
    columns=(
        ("Masters", "integer", ".status.masters", False),
        ("Ready", "string", _condition("Ready"), False),
        ("InSync", "string", _condition("InSync"), False),
        ("Version", "string", ".status.carpdVersion", False),
        _AGE,
        ("VHosts", "string", ".status.vhosts[*].name", True),
        ("Agent", "string", ".status.agentVersion", True),
        ("Seen", "date", ".status.lastWrite", True),
    ),
)
KINDS: Final = (VIRTUAL_IP, POOL, CARP_NODE)


def definition(kind: Kind) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "annotations": {"helm.sh/resource-policy": "keep"}},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["carp"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in kind.columns],
                    "schema": {"openAPIV3Schema": _schema(kind)},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, wide: bool) -> dict[str, Any]:  # noqa: FBT001 (a row of the table)
    column = {"name": name, "type": kind, "jsonPath": path}
    return {**column, "priority": 1} if wide else column


def _schema(kind: Kind) -> dict[str, Any]:
    rules = [rule.schema() for rule in kind.rules]
    return {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": kind.spec.schema(plain=kind.plain),
            "status": kind.status.schema(plain=True),
        },
        **({"x-kubernetes-validations": rules} if rules else {}),
    }
