"""Objects of the API server as JSON, and what people want to know of them. Pure but for `read`.

A field that is missing, or has another type than ours, reads as nothing: whatever stands in a cluster can be
shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp.commands.arguments import age
from carp_operator.api.codec import epoch
from carp_operator.kube.errors import Forbidden, NotFound
from carp_operator.kube.resources import CARP_NODES, NODES, VIRTUAL_IPS
from carp_operator.plan.facts import MAINTENANCE
from carp_operator.plan.handover import ANNOTATION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.kube.client import Client, Object
    from carp_operator.kube.resources import Resource

PARTS: Final = ("BACKUP", "MASTER")


@dataclass(slots=True)
class Cluster:
    """Objects by name. ``unread``: kinds that we may not read, by their plural, with the reason."""

    vips: dict[str, Object] = field(default_factory=dict)
    carpnodes: dict[str, Object] = field(default_factory=dict)
    nodes: dict[str, Object] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)


def read(client: Client) -> Cluster:
    """Return the objects. Raises KubeError where VirtualIPs cannot be read; the rest is left out then."""
    found = Cluster(vips=by_name(client.list(VIRTUAL_IPS)))
    found.carpnodes = _if_allowed(client, CARP_NODES, found)
    found.nodes = _if_allowed(client, NODES, found)
    return found


def _if_allowed(client: Client, kind: Resource, found: Cluster) -> dict[str, Object]:
    try:
        return by_name(client.list(kind))
    except (Forbidden, NotFound) as error:
        found.unread[kind.plural] = str(error)
        return {}


def by_name(items: Sequence[Object]) -> dict[str, Object]:
    """Return objects by their names, sorted."""
    return {name_of(item): item for item in sorted(items, key=name_of)}


def dig(data: Any, *path: str) -> Any:
    """Return what stands at a path, None where there is nothing."""
    for key in path:
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


def text(data: Any, *path: str) -> str:
    """Return the text at a path; empty where there is none."""
    found = dig(data, *path)
    return found if isinstance(found, str) else ""


def whole(data: Any, *path: str) -> int:
    """Return the integer at a path; 0 where there is none."""
    found = dig(data, *path)
    return found if isinstance(found, int) else 0


def maps(data: Any, *path: str) -> list[dict[str, Any]]:
    """Return the objects in the list at a path."""
    found = dig(data, *path)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def texts(data: Any, *path: str) -> list[str]:
    """Return the texts in the list at a path."""
    found = dig(data, *path)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def name_of(item: Object) -> str:
    """Return an object's name."""
    return text(item, "metadata", "name")


def annotation(item: Object, key: str) -> str:
    """Return the value of an annotation; empty where it is not set."""
    return text(item, "metadata", "annotations", key)


def condition(item: Object, kind: str) -> tuple[str, str, str]:
    """Return status, reason and message of a condition; ``Unknown`` and two empty texts where it lacks."""
    for each in maps(item, "status", "conditions"):
        if each.get("type") == kind:
            return text(each, "status"), text(each, "reason"), text(each, "message")
    return "Unknown", "", ""


def since(moment: str, now: float) -> str:
    """Return how long ago a moment (RFC 3339) was, for people; empty for what is none."""
    return age(now - epoch(moment)) if epoch(moment) else ""


# --- VirtualIPs ---------------------------------------------------------------------------------------


def health(vip: Object) -> tuple[bool, str, str]:
    """Return whether a VirtualIP answers, the reason that says most, and its message."""
    holds, reason, message = condition(vip, "Ready")
    for kind, cause in (("Accepted", "NotAccepted"), ("Advertised", "NotAdvertised")):
        if reason == cause:
            _, reason, message = condition(vip, kind)
    return holds == "True", reason or "Unknown", message or "the controller has not answered yet"


def master(vip: Object) -> str:
    """Return the node that holds a VirtualIP, as its status says; empty: nobody."""
    return text(vip, "status", "master", "node")


def vhost(carpnode: Object | None, vip: str) -> dict[str, Any]:
    """Return what a node says of its part in a VirtualIP; empty where it says nothing."""
    return next((v for v in maps(carpnode, "status", "vhosts") if v.get("name") == vip), {})


def demotions(member: Mapping[str, Any], key: str = "demotion") -> str:
    """Return why a member stands back: ``Cordoned 100, health:web 20``; empty where it does not."""
    parts = (each for each in member.get(key) or () if isinstance(each, dict))
    return ", ".join(f"{text(each, 'reason')} {whole(each, 'amount')}" for each in parts)


def node_ready(node: Object | None) -> bool:
    """Whether Kubernetes calls a Node Ready."""
    return node is not None and condition(node, "Ready")[0] == "True"


def out_of_service(cluster: Cluster, name: str) -> str:
    """Return why a node should hold nothing while another can; empty where it may."""
    if annotation(cluster.carpnodes.get(name, {}), MAINTENANCE) == "true":
        return "is in maintenance"
    return "is cordoned" if dig(cluster.nodes.get(name), "spec", "unschedulable") is True else ""


def away(carpnode: Object) -> str:
    """Return why what a node said last may not be true any more; empty where carpd answers its agent."""
    _, reason, message = condition(carpnode, "Ready")
    return message or reason if reason in ("CarpdUnreachable", "CarpdStopped") else ""


def confirmed(carpnode: Object) -> bool:
    """Whether a node has stored the settings of this very object, the newest."""
    stored = text(carpnode, "status", "observedUID"), whole(carpnode, "status", "observedGeneration")
    return stored == (text(carpnode, "metadata", "uid"), whole(carpnode, "metadata", "generation"))


def unable(cluster: Cluster, vip: Object, name: str) -> str:
    """Return why a member could not take over now; empty where it could."""
    if not node_ready(cluster.nodes.get(name)) and cluster.nodes:
        return "its Node is not Ready"
    carpnode = cluster.carpnodes.get(name, {})
    gone = away(carpnode)
    if gone:
        return gone
    part = vhost(carpnode, name_of(vip))
    if CARP_NODES.plural in cluster.unread:  # the controller has read it for us
        part = next((m for m in maps(vip, "status", "nodes") if m.get("name") == name), {})
    state = text(part, "state") or "Unknown"
    if state in PARTS:
        return ""
    problem = text(part, "problem")
    return problem or ("has not reported it" if state == "Unknown" else f"is {state}")


def order(vip: Object) -> list[dict[str, Any]]:
    """Return the members in the order in which they would take over: least demoted, then lowest advskew."""

    def rank(member: dict[str, Any]) -> tuple[int, int, str]:
        amount = sum(whole(each, "amount") for each in maps(member, "demotion"))
        return amount, whole(member, "advskew"), text(member, "name")

    return sorted(maps(vip, "status", "nodes"), key=rank)


def waiting(vip: Object) -> list[str]:
    """Return what was asked for and is not done yet."""
    found = []
    if text(vip, "metadata", "deletionTimestamp"):
        found.append("it is being deleted")
    if whole(vip, "metadata", "generation") > whole(vip, "status", "observedGeneration"):
        found.append("the controller has not looked at the newest spec yet")
    step = text(vip, "status", "authentication", "step")
    if step:
        names = ", ".join(texts(vip, "status", "authentication", "waitingFor"))
        found.append(
            f"a change of password or addresses is at step {step}" + f", waiting for {names}" * bool(names)
        )
    asked = annotation(vip, ANNOTATION)
    if asked and asked != text(vip, "status", "handover", "request"):
        found.append(f"a handover was asked for ({asked}) and is not finished")
    return found


def now() -> float:
    """Return epoch seconds."""
    return time.time()
