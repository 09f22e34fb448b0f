"""Decoded JSON of the API server -> the typed values of `carp_operator.api.objects`.

Nothing that a server can store raises: what is missing reads as empty, what has another type than ours as
missing. Only a spec that people write is judged, by the tables of `virtualip` and `pool`.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from carp.core.config import Interface, Preempt, PreemptMode, SealMode
from carp.core.reader import parse_duration
from carp_operator.api import objects as o
from carp_operator.api import pool as pools
from carp_operator.api import shapes, values, virtualip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Interface, IPv6Interface

    from carp.core.errors import ConfigError
    from carp_operator.api.fields import Errors, Object

_EMPTY: Final[dict[str, Any]] = {}
_FAMILIES: Final = {"IPv4": 4, "IPv6": 6}
_NAME: Final = shapes.object_name("")
_NO_PREEMPT: Final = Preempt()
_MULTICAST: Final = o.Transport()


# --- what people write --------------------------------------------------------------------------------


def virtual_ip(raw: Mapping[str, Any], *, strict: bool = False) -> o.VirtualIP:
    """Return a VirtualIP.

    ``strict``, for manifests from a file, also reports fields that do not exist and names that no object has.
    """
    meta = _map(raw, "metadata")
    errors: Errors = []
    spec = _judged(virtualip.SPEC, raw, errors, strict=strict)
    name = _text(meta, "name")
    virtualip.NAME_RULE.judge(name, "", errors)
    if strict:
        _NAME.read(name, "metadata.name", errors)
    return o.VirtualIP(
        name=name,
        uid=_text(meta, "uid"),
        generation=_number(meta, "generation"),
        created=_text(meta, "creationTimestamp"),
        annotations=_texts(meta, "annotations"),
        spec=None if errors else _vip_spec(spec),
        errors=tuple(errors),
        status=_map(raw, "status"),
    )


def pool(raw: Mapping[str, Any], *, strict: bool = False) -> o.Pool:
    """Return a VirtualIPPool; a range with an error is left out, overlapping ones are joined."""
    meta = _map(raw, "metadata")
    errors: Errors = []
    _judged(pools.SPEC, raw, errors, strict=strict)
    spec = _map(raw, "spec")
    return o.Pool(
        name=_text(meta, "name"),
        uid=_text(meta, "uid"),
        generation=_number(meta, "generation"),
        ranges=_ranges(spec),
        avoid_buggy=spec.get("avoidBuggyIPs") is True,
        errors=tuple(errors),
        status=_map(raw, "status"),
    )


def _judged(table: Object, raw: Mapping[str, Any], errors: Errors, *, strict: bool) -> dict[str, Any]:
    spec = raw.get("spec")
    result: dict[str, Any] = table.read(_EMPTY if spec is None else spec, "spec", errors)
    if strict:
        errors.extend(table.unknown(spec, "spec"))
    return result


def _vip_spec(spec: dict[str, Any]) -> o.VipSpec:
    """Return the values of a spec in which everything is right."""
    given = spec.get("addressesFrom", _EMPTY)
    authentication = spec.get("authentication", _EMPTY)
    secret = authentication.get("secretRef")
    return o.VipSpec(
        addresses=tuple(vip for text in spec.get("addresses", ()) if (vip := values.vip_of(text))),
        pool=given.get("pool", ""),
        families=tuple(sorted(_FAMILIES[family] for family in given.get("families", ()))),
        vhid=spec.get("vhid"),
        interface=Interface(**spec["interface"]) if "interface" in spec else None,
        node_selector=_selector(spec["nodeSelector"]) if "nodeSelector" in spec else None,
        node_preferences=tuple(
            o.NodePreference(p["weight"], tuple(p["matchLabels"].items()))
            for p in spec.get("nodePreferences", ())
        ),
        max_nodes=spec["maxNodes"],
        failover_time=parse_duration(spec.get("failoverTime")),
        advertisement=_advertisement(spec.get("advertisement")),
        preempt=_preempt(spec["preempt"]),
        secret=None if secret is None else o.SecretRef(secret["name"], secret["key"]),
        mode=SealMode(authentication["mode"]) if "mode" in authentication else None,
        transport=_transport(spec["transport"]),
        health_checks=tuple(spec.get("healthChecks", ())),
        when_all_fail=spec["whenAllFail"],
        announce=spec.get("announce", _EMPTY),
        fencing=spec.get("fencing", "Lifetime"),
    )


def _selector(given: dict[str, Any]) -> o.Selector:
    return o.Selector(
        labels=tuple(given.get("matchLabels", _EMPTY).items()),
        expressions=tuple(
            o.Expression(e["key"], o.Operator(e["operator"]), tuple(e.get("values", ())))
            for e in given.get("matchExpressions", ())
        ),
    )


def _advertisement(given: dict[str, Any] | None) -> o.Advertisement | None:
    if given is None:
        return None
    return o.Advertisement(given["advbase"], given.get("advskewStep"), given["deadRatio"])


def _preempt(given: dict[str, Any]) -> Preempt:
    if given == {"mode": "Never"}:
        return _NO_PREEMPT
    return Preempt(PreemptMode(given["mode"]), parse_duration(given.get("after")) or 0.0)


def _transport(given: dict[str, Any]) -> o.Transport:
    if given == {"mode": "Multicast"}:
        return _MULTICAST
    group4, group6 = given.get("group", ""), given.get("group6", "")
    return o.Transport(given["mode"], group4, group6, tuple(given.get("extraPeers", ())))


def _ranges(spec: Mapping[str, Any]) -> tuple[o.PoolRange, ...]:
    given = spec.get("addresses")
    texts = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    spans = sorted(span for text in texts if (span := pools.span_of(text)) and span[1] <= span[2])
    joined: list[tuple[int, int, int]] = []
    for version, first, last in spans:
        if joined and joined[-1][0] == version and first <= joined[-1][2] + 1:
            joined[-1] = (version, joined[-1][1], max(last, joined[-1][2]))
        else:
            joined.append((version, first, last))
    return tuple(o.PoolRange(*span) for span in joined)


# --- what the cluster says ----------------------------------------------------------------------------


def node(raw: Mapping[str, Any]) -> o.Node:
    """Return what matters of a core/v1 Node."""
    meta = _map(raw, "metadata")
    ready: Mapping[str, Any] = _EMPTY
    for condition in _maps(_map(raw, "status"), "conditions"):
        if condition.get("type") == "Ready":
            ready = condition
    return o.Node(
        name=_text(meta, "name"),
        uid=_text(meta, "uid"),
        labels=_texts(meta, "labels"),
        ready=ready.get("status") == "True",
        ready_since=epoch(_text(ready, "lastTransitionTime")),
        unschedulable=_map(raw, "spec").get("unschedulable") is True,
        deleting=bool(meta.get("deletionTimestamp")),
    )


def carp_node(raw: Mapping[str, Any]) -> o.CarpNode:
    """Return a CarpNode: what the controller wrote and what the agent answered."""
    meta, spec, status = _map(raw, "metadata"), _map(raw, "spec"), _map(raw, "status")
    owners = [owner for owner in _maps(meta, "ownerReferences") if owner.get("kind") == "Node"]
    return o.CarpNode(
        name=_text(meta, "name"),
        uid=_text(meta, "uid"),
        generation=_number(meta, "generation"),
        owner=_text(owners[0], "uid") if owners else "",
        annotations=_texts(meta, "annotations"),
        cluster=_text(spec, "cluster"),
        vhosts=tuple(_maps(spec, "vhosts")),
        listed=isinstance(spec.get("vhosts"), list),
        observed_uid=_text(status, "observedUID"),
        observed_generation=_number(status, "observedGeneration"),
        reported="interfaces" in status,
        written=_text(status, "lastWrite"),
        links=tuple(_link(item) for item in _maps(status, "interfaces")),
        states=tuple(_state(item) for item in _maps(status, "vhosts")),
        speakers=tuple(_speaker(item) for item in _maps(status, "foreign")),
    )


def _link(item: Mapping[str, Any]) -> o.Link:
    given = item.get("addresses")
    found = [interface_of(text) for text in given if isinstance(text, str)] if isinstance(given, list) else []
    return o.Link(
        name=_text(item, "name"),
        mac=_text(item, "mac"),
        mtu=_number(item, "mtu"),
        carrier=item.get("carrier") is True,
        addresses=tuple(address for address in found if address is not None),
    )


def _state(item: Mapping[str, Any]) -> o.VhostState:
    return o.VhostState(
        name=_text(item, "name"),
        state=_text(item, "state"),
        since=_text(item, "since"),
        transitions=_number(item, "transitions"),
        advskew=_number(item, "advskew"),
        demotions=tuple((_text(d, "reason"), _number(d, "amount")) for d in _maps(item, "demotions")),
        interface=_text(item, "interface"),
        problem=_text(item, "problem"),
        refused=_text(item, "refused"),
        conflict=_text(item, "conflict"),
        advbase=_number(item, "advbase"),
        vhid=_number(item, "vhid"),
        seen=_text(_map(item, "masterSeen"), "source"),
    )


def _speaker(item: Mapping[str, Any]) -> o.Speaker:
    return o.Speaker(
        interface=_text(item, "interface"),
        protocol=_text(item, "protocol"),
        id=_number(item, "id"),
        source=_text(item, "source"),
        mac=_text(item, "mac"),
    )


@lru_cache(8192)
def interface_of(text: str) -> IPv4Interface | IPv6Interface | None:
    """Return an interface's address with its prefix length; None where it is none."""
    try:
        return ipaddress.ip_interface(text)
    except ValueError:
        return None


@lru_cache(4096)
def epoch(text: str) -> float:
    """Return the epoch seconds of a moment as RFC 3339; 0 where it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


# --- tolerant access ----------------------------------------------------------------------------------


def _map(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else _EMPTY


def _maps(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def _number(data: Mapping[str, Any], key: str) -> int:
    value = data.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _texts(data: Mapping[str, Any], key: str) -> dict[str, str]:
    return {name: value for name, value in _map(data, key).items() if isinstance(value, str)}


def first_error(errors: tuple[ConfigError, ...]) -> str:
    """Return one line for a condition: the first problem, and how many more there are."""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}"
