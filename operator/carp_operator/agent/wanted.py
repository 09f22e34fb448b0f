"""What carpd is to be told: a CarpNode and the passwords that it names, as one `apply` request. Pure."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """The whole wanted set of a node, and which version of which object it is."""

    uid: str
    generation: int
    cluster: str
    vhosts: list[dict[str, Any]]
    missing: dict[str, str]
    """By vhost, the keys that the Secret lacks: carpd refuses such a vhost and keeps it as it was."""
    forget: bool = False
    """Whether the node is to keep nothing: it is the last that this cluster tells it."""

    def request(self, *, restored: bool) -> dict[str, Any]:
        """Return the fields of the request; ``restored``: take it although its generation is an older one."""
        fields = {
            "uid": self.uid,
            "generation": self.generation,
            "cluster": self.cluster,
            "vhosts": self.vhosts,
        }
        marks = {"restored": restored, "forget": self.forget}
        return fields | {key: True for key, holds in marks.items() if holds}


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nothing can be said for certain, so nothing is sent."""

    reason: str
    """One of `carp_operator.agent.report.REASONS`."""
    message: str


def keys_of(secret: Object) -> dict[str, str]:
    """Return the values of a Secret by key; one that is no base64 of text is left out."""
    found = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def wanted(node: Object, keys: Mapping[str, str] | None) -> Wanted | Nothing:
    """Return what a node is to do; ``keys`` None: the Secret was never read.

    A spec without a list of vhosts is none that the controller wrote, so it takes nothing away.
    """
    metadata, spec = node.get("metadata") or {}, node.get("spec") or {}
    uid, generation, cluster = metadata.get("uid"), metadata.get("generation"), spec.get("cluster")
    vhosts = spec.get("vhosts")
    if not (uid and isinstance(generation, int) and cluster and isinstance(vhosts, list)):
        return Nothing("NoSettings", "The spec has no cluster or no vhosts yet; what runs goes on.")
    if keys is None and any(_refs(vhost) for vhost in vhosts):
        return Nothing("SecretMissing", "The Secret with the passwords was not read yet; what runs goes on.")
    known = keys or {}
    missing = {}
    for vhost in vhosts:
        absent = [ref for ref in _refs(vhost) if ref not in known]
        if absent:
            missing[str(vhost.get("name"))] = f"passwordRef: {absent[0]!r} is no key of the Secret"
    forget = spec.get("uninstall") is True and not vhosts
    return Wanted(uid, generation, cluster, [_resolved(v, known) for v in vhosts], missing, forget)


def _parts(vhost: Any) -> list[Any]:
    """Return the vhost itself and what else it accepts: where a password may stand."""
    accepted = vhost.get("accept") if isinstance(vhost, dict) else None
    return [vhost, *accepted] if isinstance(accepted, list) else [vhost]


def _refs(vhost: Any) -> list[str]:
    refs = [part.get("passwordRef") for part in _parts(vhost) if isinstance(part, dict)]
    return [ref for ref in refs if isinstance(ref, str)]


def _resolved(vhost: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    first, *accepted = (_with_password(part, keys) for part in _parts(vhost))
    return first | {"accept": accepted} if accepted else first


def _with_password(part: Any, keys: Mapping[str, str]) -> dict[str, Any]:
    """Return a mapping with the password for its name; what is no mapping is carpd's to refuse."""
    if not isinstance(part, dict):
        return part  # type: ignore[no-any-return]
    fields = {key: value for key, value in part.items() if key != "passwordRef"}
    ref = part.get("passwordRef")
    return fields | {"password": keys[ref]} if isinstance(ref, str) and ref in keys else fields
