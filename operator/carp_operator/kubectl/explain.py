"""`kubectl carp explain`: one VirtualIP's situation in a paragraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.commands import words as meanings
from carp.commands.arguments import wrapped
from carp_operator.kube.resources import VIRTUAL_IPS
from carp_operator.kubectl import access
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.table import row
from carp_operator.kubectl.usage import FAILED, OK, add_output, as_data, make_parser, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp_operator.kube.client import Object
    from carp_operator.kubectl.reading import Cluster
    from carp_operator.kubectl.usage import Parser

_EPILOG: Final = """\
examples:
  kubectl carp explain ingress
  kubectl carp explain ingress -o json

It repeats what the controller and the agents have written. What happens on the wire a node says itself:
kubectl -n carp-system exec POD -c carpd -- carp explain NAME

exit codes: 0; 1 for an error, or when the VirtualIP does not answer"""


def parser() -> Parser:
    """Return the command line of `kubectl carp explain`."""
    text = "Say in words who is master of a VirtualIP and why, who would be next, and what it waits for."
    result = make_parser("explain", text, _EPILOG)
    result.add_argument("name", metavar="VIP", help="the VirtualIP")
    add_output(result)
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Explain a VirtualIP; return the exit code. Raises CarpError."""
    given = parser().parse_args(words)
    name = access.named(given.name, "vip", "virtualip", "virtualips")
    client = access.client(given)
    vip = client.get(VIRTUAL_IPS, name)
    cluster = r.read(client)
    now = r.now()
    if given.output:
        put(as_data(facts(vip, cluster, now), given.output))
    else:
        put(wrapped(paragraph(vip, cluster, now)) + "\n")
    return OK if r.health(vip)[0] else FAILED


def facts(vip: Object, cluster: Cluster, now: float) -> dict[str, Any]:
    """Return what the paragraph says as data: what `status` shows, who could take over, and the sentences."""
    able, unable = _candidates(vip, cluster)
    return {
        **row(vip, cluster.carpnodes, now),
        "successors": [r.text(member, "name") for member in able],
        "unable": [{"name": r.text(member, "name"), "problem": problem} for member, problem in unable],
        "unread": list(cluster.unread.values()),
        "text": sentences(vip, cluster, now),
    }


def paragraph(vip: Object, cluster: Cluster, now: float) -> str:
    """Return everything there is to say, as one paragraph; ``now`` in epoch seconds."""
    return " ".join(sentences(vip, cluster, now))


def sentences(vip: Object, cluster: Cluster, now: float) -> list[str]:
    """Return the sentences of the paragraph."""
    said = [*_who(vip, cluster, now), *_others(vip, cluster), *_next(vip, cluster), *_state(vip)]
    said += [f"{text[0].upper()}{text[1:]}." for text in r.waiting(vip)]
    said += [f"This could not be read, so it is left out: {text}." for text in cluster.unread.values()]
    return said


def _who(vip: Object, cluster: Cluster, now: float) -> Iterator[str]:
    name, holder = r.name_of(vip), r.master(vip)
    addresses = ", ".join(r.texts(vip, "status", "addresses")) or "no address yet"
    vhid = r.dig(vip, "status", "vhid")
    what = f"{name} ({addresses}{f'; vhid {vhid}' if vhid else ''})"
    if not holder:
        yield f"Nobody says that it is master of {what}."
        return
    part = r.vhost(cluster.carpnodes.get(holder), name)
    where = f" on {r.text(part, 'interface')}" if r.text(part, "interface") else ""
    moment = r.text(vip, "status", "master", "since")
    lasting = f" since {moment}, {r.since(moment, now)} ago" if r.since(moment, now) else ""
    cause = r.text(part, "reason")
    why = f": {meanings.cause(cause)}" if cause else ""
    yield f"{holder} is master of {what}{where}{lasting}{why}."
    count = r.whole(vip, "status", "transitions")
    if count > 1:
        yield f"The addresses have moved {count - 1} time{'s'[: count != 2]} so far."
    if cluster.nodes and not r.node_ready(cluster.nodes.get(holder)):
        yield f"But the Node {holder} is not Ready, so what it said last may not be true any more."
    amounts = _standing_back(vip, holder)
    if amounts:
        yield f"It is demoted ({amounts}), so every healthier member goes first."


def _standing_back(vip: Object, name: str) -> str:
    found = (n for n in r.maps(vip, "status", "nodes") if n.get("name") == name)
    return next((r.demotions(member) for member in found), "")


def _others(vip: Object, cluster: Cluster) -> Iterator[str]:
    for member in r.order(vip):
        name = r.text(member, "name")
        part = r.vhost(cluster.carpnodes.get(name), r.name_of(vip))
        if r.text(part, "conflict"):
            other = r.text(part, "conflict")
            yield f"{name} sees a conflict: {other} answers for an address, and no advert of it is believed."
        if r.text(part, "refused"):
            yield f"{name} has not taken the newest settings and runs older ones: {r.text(part, 'refused')}."


def _candidates(
    vip: Object, cluster: Cluster
) -> tuple[list[dict[str, Any]], list[tuple[dict[str, Any], str]]]:
    """Return the members that could take over, in their order, and the others with the reason."""
    holder = r.master(vip)
    able: list[dict[str, Any]] = []
    unable: list[tuple[dict[str, Any], str]] = []
    for member in r.order(vip):
        name = r.text(member, "name")
        problem = r.unable(cluster, vip, name) if name != holder else ""
        if problem:
            unable.append((member, problem))
        elif name != holder:
            able.append(member)
    return able, unable


def _next(vip: Object, cluster: Cluster) -> Iterator[str]:
    able, unable = _candidates(vip, cluster)
    if able:
        yield _successor(vip, able)
    elif unable:
        yield f"Nobody could take {r.name_of(vip)} over now."
    elif r.maps(vip, "status", "nodes"):
        yield "There is no other member, so nobody could take over."
    for member, problem in unable:
        yield f"{r.text(member, 'name')} could not take over: {problem}."


def _successor(vip: Object, able: Sequence[dict[str, Any]]) -> str:
    first = able[0]
    skew = r.whole(first, "advskew")
    why = f"advskew {skew}" + (f", demoted: {r.demotions(first)}" if r.maps(first, "demotion") else "")
    lead = "it is the only one that could"
    if len(able) > 1:
        lead = "the least demotion first, then the lowest advskew"
    bound = r.text(vip, "status", "failoverBound")
    after = f", within {bound}" if bound else ""
    others = ", ".join(r.text(member, "name") for member in able[1:])
    rest = f"; after it {others}" if others else ""
    if not r.master(vip):
        return f"Next to claim is {r.text(first, 'name')} ({why}; {lead}){rest}."
    return f"If it died now, {r.text(first, 'name')} would take over{after} ({why}; {lead}){rest}."


def _state(vip: Object) -> Iterator[str]:
    ready, reason, message = r.health(vip)
    if reason == "Ready":
        yield "Every condition is met."
    elif ready:
        yield f"It answers, but is {reason}: {message}."
    else:
        yield f"It is not ready ({reason}): {message}."
    handover = r.text(vip, "status", "handover", "result")
    if handover:
        asked = r.text(vip, "status", "handover", "request")
        yield f"The last handover that was asked for ({asked}) is {handover}."
