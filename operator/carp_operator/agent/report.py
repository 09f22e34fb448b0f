"""What a node says about itself: carpd's view and its answers as `CarpNode.status`. Pure.

A status is written when something in it has changed that a person or the planner acts on. Counters of packets
change all the time; they go along, or when one has grown tenfold.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from carp import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.agent.view import Message, View
    from carp_operator.agent.wanted import Object

REASONS: Final[dict[str, str]] = {
    # Ready
    "Serving": "carpd answers, and its settings are on disk.",
    "CarpdUnreachable": "carpd does not answer; the last that it said stands here.",
    "CarpdStopped": "carpd was told to stop.",
    "NotStored": "carpd goes on in memory: a reboot would bring back older settings.",
    # InSync
    "Applied": "carpd runs what the spec says.",
    "VhostsRefused": "Some vhosts were not taken and run with older settings; the message names them.",
    "Refused": "carpd has refused the whole spec; what runs goes on.",
    "SecretMissing": "The Secret with the passwords was not read yet; what runs goes on.",
    "NoSettings": "The spec has no cluster or no vhosts yet; what runs goes on.",
    "Pending": "carpd has not answered to this spec yet, or could not be handed it.",
}
"""Reason of a condition of a CarpNode -> what it means and what happens."""
MAX_TEXT: Final = 1000
"""Characters of a text in a status."""
_SAME_MOMENT: Final = 2.0
"""s by which two readings of one moment may differ: carpd reckons it back from a monotonic clock."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the spec: what carpd has confirmed, and what it has not taken."""

    uid: str = ""
    generation: int = 0
    """Of the settings that carpd has stored at our request; empty and 0: none yet."""
    reason: str = "Pending"
    message: str = REASONS["Pending"]
    refused: Mapping[str, str] = field(default_factory=dict)
    """By vhost, why it was not taken."""


def status(node: Object, previous: Object, view: View, verdict: Verdict, now: str) -> dict[str, Any]:
    """Return the status to write. ``previous`` is the one before; ``now`` RFC 3339, UTC."""
    vhosts = _vhosts(node, previous, view, verdict)
    confirmed = {"observedUID": verdict.uid, "observedGeneration": verdict.generation}
    if not verdict.uid:
        confirmed = {key: previous[key] for key in confirmed if key in previous}
    return {
        **confirmed,
        "agentVersion": __version__,
        "carpdVersion": view.daemon.get("version", previous.get("carpdVersion", "")),
        "lastWrite": now,
        "masters": sum(vhost["state"] == "MASTER" for vhost in vhosts),
        "interfaces": _interfaces(view) if view.daemon else previous.get("interfaces", []),
        "vhosts": vhosts,
        "foreign": _foreign(view) if view.daemon else previous.get("foreign", []),
        "conditions": _conditions(node, previous, view, verdict, now),
    }


def differs(status: Object, previous: Object) -> bool:
    """Whether a status is worth a write."""
    return _weighty(status) != _weighty(previous) or _grown(status, previous)


def urgent(status: Object, previous: Object) -> bool:
    """Whether more has changed than who else is heard."""
    return differs({**status, "foreign": []}, {**previous, "foreign": []})


def _weighty(status: Object) -> dict[str, Any]:
    """Return a status without what changes all the time."""
    rest = {key: value for key, value in status.items() if key not in ("lastWrite", "vhosts")}
    return rest | {
        "vhosts": [{k: v for k, v in vhost.items() if k != "drops"} for vhost in status.get("vhosts", ())]
    }


def _grown(status: Object, previous: Object) -> bool:
    before = {vhost["name"]: vhost.get("drops", {}) for vhost in previous.get("vhosts", ())}
    return any(
        count >= max(10 * before.get(vhost["name"], {}).get(reason, 0), 1)
        for vhost in status["vhosts"]
        for reason, count in vhost.get("drops", {}).items()
    )


def _vhosts(node: Object, previous: Object, view: View, verdict: Verdict) -> list[dict[str, Any]]:
    """Return what runs by order of the socket, and what was ordered and does not run."""
    before = {vhost["name"]: vhost for vhost in previous.get("vhosts", ())}
    if not view.daemon:
        return [{**vhost, "problem": view.problem[:MAX_TEXT]} for vhost in before.values()]
    found = {
        name: _vhost(vhost, before.get(name, {}), view)
        for name, vhost in view.vhosts.items()
        if vhost["source"] != "file"
    }
    ordered = (node.get("spec") or {}).get("vhosts") or ()
    for name in (vhost.get("name") for vhost in ordered if isinstance(vhost, dict)):
        if isinstance(name, str) and name not in found:
            found[name] = {"name": name, "state": "INIT", "transitions": 0, "drops": {}}
    for name, problem in verdict.refused.items():
        if name in found:
            found[name]["refused"] = problem[:MAX_TEXT]
    return [found[name] for name in sorted(found)]


def _vhost(vhost: Message, before: Object, view: View) -> dict[str, Any]:
    conflict, seen = vhost.get("conflict"), vhost.get("master")
    shown: dict[str, Any] = {
        "name": vhost["name"],
        "state": vhost["state"],
        "since": _since(vhost, before),
        "transitions": vhost["transitions"],
        "interface": vhost["interface"],
        "vhid": vhost["vhid"],
        "advbase": vhost["advbase"],
        "advskew": vhost["advskew"],
        "demotions": vhost["demotions"],
        "drops": vhost["drops"],
        "problem": vhost["error"][:MAX_TEXT],
        "conflict": conflict["mac"] if conflict else "",
        "reason": vhost["cause"] or "",
    }
    if seen and shown["state"] != "MASTER":
        shown["masterSeen"] = {"source": seen["source"], "advskew": seen["advskew"]}
    if view.stopped:
        shown |= {"state": "INIT", "problem": "carpd has stopped", "reason": "stopped"}
    elif not view.connected:
        shown["problem"] = view.problem[:MAX_TEXT]
    return {key: value for key, value in shown.items() if value not in ("", [])}


def _since(vhost: Message, before: Object) -> str:
    """Return since when the state lasts, as it was first told where that is the same moment."""
    new, old = str(vhost["since"]), str(before.get("since", ""))
    if before.get("state") != vhost["state"] or not old:
        return new
    try:
        apart = (datetime.fromisoformat(new) - datetime.fromisoformat(old)).total_seconds()
    except (ValueError, TypeError):
        return new
    return old if abs(apart) <= _SAME_MOMENT else new


def _interfaces(view: View) -> list[dict[str, Any]]:
    fields = ("name", "mac", "mtu", "carrier", "addresses")
    links = ({key: link[key] for key in fields} for link in view.links)
    return sorted(links, key=lambda link: str(link["name"]))


def _foreign(view: View) -> list[dict[str, Any]]:
    found = [
        {"interface": interface["interface"], **{key: speaker[key] for key in ("protocol", "id", "source")}}
        | ({"mac": speaker["mac"]} if speaker["mac"] else {})
        for interface in view.interfaces
        for speaker in interface["foreign"]
    ]
    return sorted(found, key=lambda s: (s["interface"], s["protocol"], s["id"], s["source"]))


def _conditions(
    node: Object, previous: Object, view: View, verdict: Verdict, now: str
) -> list[dict[str, Any]]:
    before = {each.get("type"): each for each in previous.get("conditions", ())}
    generation = (node.get("metadata") or {}).get("generation", 0)
    found = []
    for kind, (reason, message) in {"InSync": _in_sync(view, verdict), "Ready": _ready(view)}.items():
        holds = "True" if reason in ("Serving", "Applied") else "False"
        old = before.get(kind, {})
        found.append(
            {
                "type": kind,
                "status": holds,
                "reason": reason,
                "message": message[:MAX_TEXT],
                "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == holds else now,
                "observedGeneration": generation,
            }
        )
    return found


def _ready(view: View) -> tuple[str, str]:
    if view.stopped:
        return "CarpdStopped", REASONS["CarpdStopped"]
    if not view.connected:
        return "CarpdUnreachable", view.problem
    if not view.daemon.get("persisted"):
        return "NotStored", "; ".join(view.daemon.get("problems", ())) or REASONS["NotStored"]
    return "Serving", REASONS["Serving"]


def _in_sync(view: View, verdict: Verdict) -> tuple[str, str]:
    if view.connected:
        return verdict.reason, verdict.message
    return "CarpdUnreachable", "carpd cannot be told anything now; see Ready."
