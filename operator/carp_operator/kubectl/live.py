"""The planner on what stands in the cluster, and with a manifest applied to it: a picture of each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from carp.core.reader import parse_duration
from carp_operator.api import codec
from carp_operator.kube.errors import KubeError
from carp_operator.kube.resources import CARP_NODES, NODES, POOLS, VIRTUAL_IPS
from carp_operator.kubectl import install as installed
from carp_operator.plan.model import KeyState, Snapshot
from carp_operator.plan.planner import plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carp_operator.api.objects import CarpNode, Pool, VirtualIP
    from carp_operator.kube.client import Client
    from carp_operator.kubectl.manifests import Manifests
    from carp_operator.plan.model import Plan

_OWN: Final = frozenset(
    ("name", "interface", "addresses", "passwordRef", "advskew", "accept", "demotions", "firstClaimant")
)
"""Fields of a vhost that differ from node to node, or that the picture shows elsewhere."""
_TIMES: Final = ("advbase", "deadRatio")
"""Settings that differ from node to node while they change."""
_FAR: Final = "9999-12-31T23:59:59Z"
"""A VirtualIP that is not created yet is the youngest."""


@dataclass(slots=True)
class Options:
    """What the controller was started with, as far as it matters to a plan."""

    interfaces: str = ""
    replace_after: float = 300.0


@dataclass(frozen=True, slots=True)
class Picture:
    """What a plan comes to, by VirtualIP, pool and node: plain data that a person can compare."""

    vips: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, list[str]] = field(default_factory=dict)
    """Node -> the VirtualIPs that it is told, in order of name."""


def snapshot(client: Client, now: float) -> Snapshot:
    """Return the cluster as the controller would see it, but for the passwords. Raises KubeError."""
    vips = {vip.name: vip for vip in map(codec.virtual_ip, client.list(VIRTUAL_IPS))}
    carpnodes = {carp.name: carp for carp in map(codec.carp_node, client.list(CARP_NODES))}
    options = _options(client)
    clusters = {carp.cluster for carp in carpnodes.values() if carp.cluster}
    return Snapshot(
        cluster=min(clusters, default=""),
        vips=vips,
        pools={pool.name: pool for pool in map(codec.pool, client.list(POOLS))},
        nodes={node.name: node for node in map(codec.node, client.list(NODES))},
        carpnodes=carpnodes,
        keys=_keys(vips, carpnodes.values()),
        now=now,
        replace_after=options.replace_after,
        interfaces=options.interfaces,
    )


def _options(client: Client) -> Options:
    """Return the controller's options where its Deployment may be read, else the defaults."""
    found = Options()
    try:
        install = installed.Install(installed.find_namespace(client))
        kind = installed.DEPLOYMENTS.within(install.namespace)
        install.controllers = client.list(kind, label=installed.LABEL)
    except KubeError:
        return found
    found.interfaces = installed.argument(install, "--interfaces")
    found.replace_after = parse_duration(installed.argument(install, "--replace-after")) or 300.0
    return found


def _keys(vips: Mapping[str, VirtualIP], carpnodes: Iterable[CarpNode]) -> dict[str, KeyState]:
    """Return the password of each VirtualIP by the name that the nodes are told; no Secret is read."""
    told: dict[str, set[str]] = {}
    for carp in carpnodes:
        for entry in carp.vhosts:
            told.setdefault(str(entry.get("name", "")), set()).add(str(entry.get("passwordRef", "")))
    return {name: KeyState(max(told.get(name, ()), key=_number, default=f"{name}.1")) for name in vips}


def _number(key: str) -> int:
    digits = key.rpartition(".")[2]
    return int(digits) if digits.isascii() and digits.isdigit() else 0


def applied(before: Snapshot, manifests: Manifests) -> Snapshot:
    """Return the cluster after an apply of these objects."""
    vips, pools, keys = dict(before.vips), dict(before.pools), dict(before.keys)
    for name, vip in manifests.vips.items():
        old = before.vips.get(name)
        vips[name] = _vip(vip, old)
        keys.setdefault(name, KeyState(f"{name}.1"))
        if old is not None and old.spec and vip.spec and old.spec.secret != vip.spec.secret:
            current = keys[name].current
            keys[name] = KeyState(f"{name}.{_number(current) + 1}")
    for name, pool in manifests.pools.items():
        pools[name] = _pool(pool, before.pools.get(name))
    return replace(before, vips=vips, pools=pools, keys=keys)


def _vip(vip: VirtualIP, old: VirtualIP | None) -> VirtualIP:
    if old is None:
        return replace(vip, uid=f"new {vip.name}", created=_FAR, generation=1, status={})
    generation = old.generation + (old.spec != vip.spec)
    return replace(old, spec=vip.spec, errors=vip.errors, generation=generation)


def _pool(pool: Pool, old: Pool | None) -> Pool:
    if old is None:
        return replace(pool, uid=f"new {pool.name}", generation=1, status={})
    return replace(pool, uid=old.uid, generation=old.generation + 1, status=old.status)


def picture(snapshot: Snapshot) -> Picture:
    """Return what the planner makes of a cluster."""
    made = plan(snapshot)
    found = Picture()
    for name, vip in sorted(snapshot.vips.items()):
        found.vips[name] = _shown(vip, made, made.vip_statuses.get(name, vip.status))
    for node, each in sorted(made.nodes.items()):
        found.nodes[node] = [entry["name"] for entry in each.spec.get("vhosts", ())]
    return found


def _shown(vip: VirtualIP, made: Plan, status: Mapping[str, Any]) -> dict[str, Any]:
    entries = {
        node: entry
        for node, each in made.nodes.items()
        for entry in each.spec.get("vhosts", ())
        if entry["name"] == vip.name
    }
    ranked = sorted(entries, key=lambda node: (entries[node]["advskew"], node))
    shown: dict[str, Any] = {
        key: status[key]
        for key in ("addresses", "vhid", "interface", "pool", "failoverBound", "authentication")
        if key in status
    }
    first = entries[ranked[0]] if ranked else {}
    shown["members"] = [_member(node, entries[node], first) for node in ranked]
    if ranked:
        shown["settings"] = {key: value for key, value in sorted(first.items()) if key not in _OWN | {"vhid"}}
    known = ("Accepted", "Ready") if vip.status else ("Accepted",)
    shown["conditions"] = [
        f"{c['type']} {c['status']} {c['reason']}: {c['message']}"
        for c in status.get("conditions", ())
        if c.get("type") in known
    ]
    return shown


def _member(node: str, entry: Mapping[str, Any], first: Mapping[str, Any]) -> str:
    """Return a member in a line: its rank, times that are not those of the first, what it signs with."""
    parts = [f"advskew {entry['advskew']}"]
    parts += [f"{key} {entry.get(key)}" for key in _TIMES if entry.get(key) != first.get(key)]
    parts += [f"signs {entry['passwordRef']} {','.join(entry['addresses'])}"]
    others = [f"{o['passwordRef']} {','.join(o['addresses'])}" for o in entry.get("accept", ())]
    parts += [f"accepts {other}" for other in others]
    parts += [f"demoted {d['reason']} {d['amount']}" for d in entry.get("demotions", ())]
    return f"{node}: {'; '.join(parts)}"
