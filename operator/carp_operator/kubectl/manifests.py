"""Documents -> the VirtualIPs and pools that they describe, with everything that is wrong in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from carp_operator.api import codec
from carp_operator.api.crd import GROUP, VERSION
from carp_operator.api.shapes import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp.core.errors import ConfigError
    from carp_operator.api.objects import Pool, VirtualIP
    from carp_operator.kubectl.documents import Document

API: Final = f"{GROUP}/{VERSION}"
_KINDS: Final = ("VirtualIP", "VirtualIPPool")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_STICKY: Final = ("vhid", "addresses", "pool", "nodes")
"""What an object from a cluster keeps: which id, which addresses of which pool, who is how preferred."""


@dataclass
class Manifests:
    """What was read. ``vips`` and ``pools`` hold what is sound; ``titles`` is the place of each VirtualIP."""

    vips: dict[str, VirtualIP] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    broken_pools: set[str] = field(default_factory=set)
    titles: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather(documents: Iterable[Document]) -> Manifests:
    """Return the objects of these documents."""
    result = Manifests()
    seen: dict[tuple[str, str], Document] = {}
    for document in documents:
        kind = _kind(document, result)
        if not kind:
            continue
        name = _name(document.data)
        problem = name_problem(name, MAX_NAME)
        if problem:
            result.problems.append(f"{document.title}: metadata.name: {problem}")
            continue
        first = seen.setdefault((kind, name), document)
        if first is not document:
            where = f"{first.file}, {first.place}"
            result.problems.append(f"{document.title}: stands twice, first in {where}")
            continue
        if kind == "VirtualIP":
            _add_vip(document, name, result)
        else:
            _add_pool(document, name, result)
    return result


def name_problem(name: str, most: int = 253) -> str:
    """Return why this is no name of an object; empty when it is one. It becomes part of a path."""
    if not name:
        return "is required"
    if not _NAME.fullmatch(name):
        return f"{name!r} must be lower-case letters, digits, '-' and '.', at both ends letter or digit"
    return f"{name!r} is longer than {most} characters" if len(name) > most else ""


def _kind(document: Document, result: Manifests) -> str:
    """Return the kind of an object that is ours; report or note any other."""
    data = document.data
    if not isinstance(data, dict):
        result.problems.append(f"{document.title}: is no object: apiVersion and kind are missing")
        return ""
    api, kind = data.get("apiVersion"), data.get("kind")
    if kind not in _KINDS and not str(api).startswith(f"{GROUP}/"):
        if isinstance(kind, str) and isinstance(api, str):
            result.notes.append(f"{document.title}: skipped: only {' and '.join(_KINDS)} are rendered")
        else:
            missing = "kind" if isinstance(api, str) else "apiVersion"
            result.problems.append(f"{document.title}: {missing}: is required")
        return ""
    if api != API:
        result.problems.append(f"{document.title}: apiVersion: {api!r} is not {API}")
        return ""
    if kind not in _KINDS:
        hint = " (give it to --nodes)" if kind == "CarpNode" else ""
        result.problems.append(f"{document.title}: kind: {kind!r} is not one of {', '.join(_KINDS)}{hint}")
        return ""
    return str(kind)


def _name(data: dict[str, Any]) -> str:
    meta = data.get("metadata")
    name = meta.get("name") if isinstance(meta, dict) else None
    return name if isinstance(name, str) else ""


def _add_vip(document: Document, name: str, result: Manifests) -> None:
    vip = codec.virtual_ip(document.data, strict=True)
    result.problems += _lines(document, vip.errors)
    result.titles[name] = document.title
    if not vip.errors:
        sticky = {key: value for key, value in vip.status.items() if key in _STICKY}
        # Annotations ask for something once: a handover.
        result.vips[name] = replace(vip, status=sticky, annotations={})


def _add_pool(document: Document, name: str, result: Manifests) -> None:
    pool = codec.pool(document.data, strict=True)
    result.problems += _lines(document, pool.errors)
    if pool.errors:
        result.broken_pools.add(name)
    else:
        result.pools[name] = pool


def _lines(document: Document, errors: Iterable[ConfigError]) -> list[str]:
    return [f"{document.title}: {error}" for error in errors]
