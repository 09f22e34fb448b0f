"""`kubectl carp maintenance`: a node that should hold no address while another can."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from carp_operator.kube.resources import CARP_NODES
from carp_operator.kubectl import access, waiting
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.handover import MANAGER
from carp_operator.kubectl.usage import OK, complain, make_parser, put
from carp_operator.plan.facts import MAINTENANCE
from carp_operator.plan.vhosts import OUT_OF_SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp_operator.kube.client import Client, Object
    from carp_operator.kubectl.reading import Cluster
    from carp_operator.kubectl.usage import Parser

_GRACE: Final = 5.0
"""s for the controller to heed the annotation, before a member that cannot take over counts as a reason."""
_EPILOG: Final = """\
examples:
  kubectl carp maintenance node1 on
  kubectl carp maintenance node1 off

With `on` every VirtualIP of which the node is master moves, without a lost packet, and none comes back until
`off`. An address that nobody else can take stays where it is. The mode is an annotation of the CarpNode; a
cordoned node (kubectl drain) is treated alike.

exit codes: 0 the node has said that it is master of nothing (on), or takes part as before (off); 1 for an
error, or not so: a node that says nothing may hold anything"""


def parser() -> Parser:
    """Return the command line of `kubectl carp maintenance`."""
    result = make_parser(
        "maintenance", "Move all VirtualIPs away from a node, or let them come back.", _EPILOG
    )
    result.add_argument("node", metavar="NODE", help="the node")
    result.add_argument("mode", choices=("on", "off"), help="on: out of service")
    waiting.add_options(result, "until it has taken effect")
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Set the mode; return the exit code. Raises CarpError."""
    given = parser().parse_args(waiting.normal(words))
    limit = waiting.seconds(given)
    node = access.named(given.node, "node", "nodes", "cn", "carpnode", "carpnodes")
    client = access.client(given)
    value = "true" if given.mode == "on" else None
    body = {"metadata": {"annotations": {MAINTENANCE: value}}}
    client.patch(CARP_NODES, node, body, manager=MANAGER)
    put(f"carpnode.carp.vip/{node} maintenance {given.mode}\n")
    if not limit:
        return OK
    return _leave(client, node, limit) if given.mode == "on" else _return(client, node, limit)


def held(carpnode: Object | None) -> list[str]:
    """Return the VirtualIPs of which a node says that it is master."""
    return [r.text(v, "name") for v in r.maps(carpnode, "status", "vhosts") if v.get("state") == "MASTER"]


def unsaid(cluster: Cluster, node: str) -> str:
    """Return why nobody knows what a node holds; empty where its word counts."""
    carpnode = cluster.carpnodes.get(node)
    if carpnode is None:
        return cluster.unread.get(CARP_NODES.plural, "it has no CarpNode any more")
    if r.annotation(carpnode, MAINTENANCE) != "true":
        return "its CarpNode was made again, without the mode: ask once more"
    if not r.text(carpnode, "status", "lastWrite"):
        return "no agent has written its status yet"
    if cluster.nodes and not r.node_ready(cluster.nodes.get(node)):
        return "its Node is not Ready, so what it said last may not be true any more"
    gone = r.away(carpnode)
    if gone or r.confirmed(carpnode):
        return gone
    states = (r.condition(carpnode, kind) for kind in ("Ready", "InSync"))
    why = next((f": {message or reason}" for holds, reason, message in states if holds == "False"), "")
    return f"it has not confirmed its newest settings yet{why}"


def stuck(cluster: Cluster, node: str) -> dict[str, str]:
    """Return the VirtualIPs that a node holds and that no other member can take, with the reason."""
    found = {}
    for name in held(cluster.carpnodes.get(node)):
        vip = cluster.vips.get(name)
        others = [r.text(m, "name") for m in r.maps(vip, "status", "nodes") if m.get("name") != node]
        reasons = {
            other: r.out_of_service(cluster, other) or r.unable(cluster, vip or {}, other) for other in others
        }
        if all(reasons.values()):
            listed = "; ".join(f"{other} {why}" for other, why in reasons.items())
            found[name] = listed or "there is no other member"
    return found


def _leave(client: Client, node: str, limit: float) -> int:
    began = time.monotonic()
    cluster = r.Cluster()
    blocked: dict[str, str] = {}

    def gone() -> bool:
        nonlocal cluster, blocked
        cluster = r.read(client)
        left = held(cluster.carpnodes.get(node))
        blocked = stuck(cluster, node)
        if not left:
            return not unsaid(cluster, node)
        return set(left) == set(blocked) and time.monotonic() - began >= min(_GRACE, limit)

    waiting.until(gone, limit)
    left = held(cluster.carpnodes.get(node))
    unknown = unsaid(cluster, node)
    if not left and unknown:
        return complain([f"nobody knows whether {node} holds an address: {unknown}"])
    if not left:
        put(f"{node} is master of nothing\n")
        return OK
    return complain(
        f"{node} is still master of {name}: {_why(cluster, node, name, blocked)}" for name in left
    )


def _why(cluster: Cluster, node: str, name: str, blocked: dict[str, str]) -> str:
    if name in blocked:
        return f"nobody else can take over ({blocked[name]}); it moves as soon as one can"
    if not r.node_ready(cluster.nodes.get(node)):
        return "its Node is not Ready, so that is what it said last"
    return "it has not moved yet; does the controller run? kubectl carp doctor"


def _return(client: Client, node: str, limit: float) -> int:
    def back() -> bool:
        found = client.get(CARP_NODES, node)
        vhosts = [*r.maps(found, "spec", "vhosts"), *r.maps(found, "status", "vhosts")]
        return not any(
            d.get("reason") == OUT_OF_SERVICE["reason"] for v in vhosts for d in r.maps(v, "demotions")
        )

    if waiting.until(back, limit):
        put(f"{node} takes part as before\n")
        return OK
    problem = f"timed out after {limit:g}s waiting for {node} to take part again"
    return complain([f"{problem}; does the controller run? kubectl carp doctor"])
