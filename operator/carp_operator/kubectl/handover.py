"""`kubectl carp handover`: ask the controller to move a VirtualIP, and say what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core.errors import CarpError
from carp_operator.api.codec import epoch
from carp_operator.kube.resources import VIRTUAL_IPS
from carp_operator.kubectl import access, waiting
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.usage import OK, complain, make_parser, put
from carp_operator.plan.handover import ANNOTATION, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp_operator.kube.client import Client, Object
    from carp_operator.kubectl.usage import Parser

MANAGER: Final = "kubectl-carp"
_SKEW: Final = 15.0
"""s by which our clock may differ from the server's; a request is given up by the controller's clock."""
_EPILOG: Final = """\
examples:
  kubectl carp handover ingress
  kubectl carp handover ingress --to node2
  kubectl carp handover ingress --to node2 --wait=false

The master bows out when its successor answers: no packet is lost. Where nobody is ready, nothing moves. The
request is an annotation of the VirtualIP, carried out once; with preempt Always the preferred node returns.

exit codes: 0 done, or asked for with --wait=false; 1 refused, failed, or not done in time"""


def parser() -> Parser:
    """Return the command line of `kubectl carp handover`."""
    result = make_parser("handover", "Move a VirtualIP to another node, without a lost packet.", _EPILOG)
    result.add_argument("name", metavar="VIP", help="the VirtualIP")
    result.add_argument(
        "--to", metavar="NODE", help="this member (default: away from the master, to the next)"
    )
    waiting.add_options(result, "for the result")
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Hand over; return the exit code. Raises CarpError."""
    given = parser().parse_args(waiting.normal(words))
    limit = waiting.seconds(given)
    name = access.named(given.name, "vip", "virtualip", "virtualips")
    to = access.named(given.to, "node", "nodes", "cn", "carpnode") if given.to else ""
    client = access.client(given)
    node, away = target(client.get(VIRTUAL_IPS, name), to)
    asked = ask(client, name, node, away=away, limit=limit)
    if not limit:
        put(f"virtualip.carp.vip/{name} handover requested\n")
        return OK
    return _wait(client, name, asked, limit)


def target(vip: Object, to: str) -> tuple[str, bool]:
    """Return which node to name, and whether it is the one to move away from. Raises CarpError."""
    name, holder = r.name_of(vip), r.master(vip)
    members = [r.text(member, "name") for member in r.maps(vip, "status", "nodes")]
    if to and to not in members:
        raise CarpError(f"--to: {to!r} is no member of {name}; members are {', '.join(members) or 'none'}")
    if not to and not holder:
        raise CarpError(f"{name}: nobody is master now; kubectl carp explain {name}")
    if not to and len(members) < 2:
        raise CarpError(f"{name}: {holder} is its only member, nobody can take over")
    return (to, False) if to else (holder, True)


def ask(client: Client, name: str, node: str, *, away: bool, limit: float = 0.0) -> str:
    """Write the request, and return it; with the time of the server where our clock differs.

    That second time the move may have begun, and may cut the connection; to write the same again is safe.
    """
    now = r.now()
    asked = request(node, away=away, now=now)
    moment = _server_time(_write(client, name, asked), asked)
    if moment and abs(moment - now) > _SKEW:
        asked = request(node, away=away, now=moment)
        waiting.until(lambda: bool(_write(client, name, asked)), limit)
    return asked


def _write(client: Client, name: str, asked: str) -> Object:
    body = {"metadata": {"annotations": {ANNOTATION: asked}}}
    return client.patch(VIRTUAL_IPS, name, body, manager=MANAGER)


def _server_time(vip: Object, asked: str) -> float:
    """Return when the server says that it wrote the request; 0 where it does not say."""
    if r.annotation(vip, ANNOTATION) != asked:
        return 0.0
    fields = r.maps(vip, "metadata", "managedFields")
    return max((epoch(r.text(f, "time")) for f in fields if f.get("manager") == MANAGER), default=0.0)


def _wait(client: Client, name: str, asked: str, limit: float) -> int:
    """Wait for the controller's answer, and print it."""
    vip: Object = {}

    def answered() -> bool:
        nonlocal vip
        vip = client.get(VIRTUAL_IPS, name)
        return r.text(vip, "status", "handover", "request") == asked

    if not waiting.until(answered, limit):
        holder = r.master(vip) or "nobody"
        problem = f"timed out after {limit:g}s waiting for the handover of {name}: {holder} is master"
        return complain([f"{problem}; does the controller run? kubectl carp doctor"])
    result = r.text(vip, "status", "handover", "result")
    word, _, rest = result.partition(": ")
    if word != "done":
        return complain([f"handover of {name} {word}: {rest}" if rest else f"handover of {name}: {result}"])
    put(f"virtualip.carp.vip/{name} handed over: {rest}\n")
    return OK
