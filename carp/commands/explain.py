"""`carp explain`: one vhost's situation in a paragraph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.commands import words
from carp.commands.arguments import OK, TROUBLE, age, chosen, make_parser, say, wrapped
from carp.commands.client import Client
from carp.core.timing import KERNEL_LAG, interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
What one node can know: masters advertise, backups are silent. For the whole segment: carp watch -i IF.

exit code: 0; 1 when the vhost is INIT or in conflict; 2 when nobody answers or NAME is wrong
"""


def parser() -> Parser:
    """Return the command line of `carp explain`."""
    text = "Say in words who is master of a vhost and why, and what would happen next."
    result = make_parser("explain", text, _EPILOG)
    result.add_argument("name", metavar="NAME", help="the vhost")
    return result


def main(argv: Sequence[str]) -> int:
    """Explain a vhost and return the exit code."""
    given = parser().parse_args(argv)
    with Client(given.socket) as client:
        answer = client.call("status")
    (vhost,) = chosen(answer["vhosts"], [given.name])
    say(wrapped(paragraph(vhost, answer["daemon"])))
    return TROUBLE if words.is_troubled(vhost) else OK


def paragraph(vhost: dict[str, Any], daemon: dict[str, Any]) -> str:
    """Return everything there is to say about a vhost, as one paragraph."""
    sentences = [*_who(vhost), *_wire(vhost), *_demoted(vhost), *_next(vhost), *_death(vhost)]
    origin = "the file" if vhost["source"] == "file" else "the control socket"
    sentences.append(f"Its settings come from {origin}.")
    sentences += [f"{text[0].upper()}{text[1:]}." for text in words.problems(daemon)]
    return " ".join(sentences)


def _heard(vhost: dict[str, Any]) -> bool:
    """Whether the master heard last is heard now, not only once."""
    seen = vhost["master"]
    return seen is not None and seen["lastHeard"] <= max(vhost["deadTime"], _every(seen))


def _every(seen: dict[str, Any]) -> float:
    return interval(seen["advbase"], seen["advskew"])


def _who(vhost: dict[str, Any]) -> Iterator[str]:
    where = f" on {vhost['interface']}" if vhost["interface"] else ""
    what = f"{vhost['name']} ({', '.join(vhost['addresses'])}; vhid {vhost['vhid']}{where})"
    since = f"since {vhost['since']}, {age(vhost['seconds'])} ago"
    if vhost["state"] == "MASTER":
        yield f"This node is master of {what} {since}: {words.cause(vhost['cause'])}."
        if vhost["leaving"]:
            yield f"It is handing over right now ({vhost['leaving']})."
    elif vhost["state"] == "INIT":
        reason = vhost["reason"] or words.cause(vhost["cause"])
        yield f"This node takes no part in {what}: {reason}. It holds no address and can succeed nobody."
    elif _heard(vhost):
        yield f"{vhost['master']['source']} is master of {what}."
        yield f"This node is backup {since}: {words.cause(vhost['cause'])}."
    else:
        yield f"This node is backup of {what} {since}: {words.cause(vhost['cause'])}; it hears no master."
    if vhost["conflict"] is not None:
        conflict = vhost["conflict"]
        yield (
            f"It does not claim {conflict['address']}, because {conflict['mac']} answers for it and sends no "
            f"advert that this node believes: find that machine, or compare password, address list and vhid."
        )


def _wire(vhost: dict[str, Any]) -> Iterator[str]:
    seen = vhost["master"]
    if seen is None:
        yield "On the wire no other master has been heard."
    else:
        kind = "a carp-operator" if seen["sealed"] else "a ucarp, a firewall or another CARP"
        demoted = f", demotion {seen['demotion']}" if seen["demotion"] else ""
        yield (
            f"On the wire the last advert of another master came from {seen['source']} "
            f"{age(seen['lastHeard'])} ago: advbase {seen['advbase']}, advskew {seen['advskew']}{demoted}, "
            f"so one every {_every(seen):.2f} s at least; by its counter it is {kind}."
        )
        if vhost["state"] == "MASTER" and _heard(vhost) and seen["lastHeard"] < vhost["seconds"]:
            yield "So there are two masters at the moment: one of them has to yield within a few adverts."
    if vhost["clockSkew"]:
        side = "ahead of" if vhost["clockSkew"] > 0 else "behind"
        yield (
            f"The clock in its counter is {age(abs(vhost['clockSkew']))} {side} this node's: set both by "
            "NTP; it never decides who is master."
        )
    if vhost["sendProblem"]:
        yield f"This node's own adverts do not leave: {vhost['sendProblem']}."
    if vhost["drops"]:
        yield f"Not believed since carpd started: of all adverts {words.drops(vhost['drops'])}."


def _demoted(vhost: dict[str, Any]) -> Iterator[str]:
    if vhost["demotion"]:
        yield f"This node is demoted by {words.demotions(vhost)}, so every healthier member goes first."
    else:
        yield "Nothing demotes this node."
    yield from (f"{text[0].upper()}{text[1:]}." for text in words.failing(vhost))


def _next(vhost: dict[str, Any]) -> Iterator[str]:
    own = f"advbase {vhost['advbase']}, advskew {vhost['advskew']}, preempt {vhost['preempt']}"
    if vhost["state"] == "MASTER":
        yield (
            "Who is next cannot be known from here, because backups are silent: of those that hear this "
            "node, the one with the least demotion and then the lowest advbase and advskew."
        )
    elif vhost["state"] == "BACKUP":
        yield (
            f"This node ({own}) claims when it has heard no master for {vhost['deadTime']:.2f} s; other "
            "backups are silent and cannot be seen from here: one with a lower advskew would be faster."
        )
        if _heard(vhost):
            yield _preempts(vhost)


def _preempts(vhost: dict[str, Any]) -> str:
    seen = vhost["master"]
    if seen["demotion"] > vhost["demotion"]:
        return "The master is demoted more than this node, so this node takes over as soon as it may."
    ours = vhost["demotion"], interval(vhost["advbase"], vhost["advskew"])
    if ours >= (seen["demotion"], _every(seen)):
        return "While that master lives, this node does not take over: it is not preferred."
    if vhost["preempt"] == "Never":
        return "It is preferred over that master, but with preempt Never it waits until that one goes."
    return f"It is preferred over that master and takes over (preempt {vhost['preempt']})."


def _death(vhost: dict[str, Any]) -> Iterator[str]:
    if vhost["state"] != "MASTER":
        yield "If this node died now, no address would move."
        return
    dead = f"an equal backup would claim {vhost['deadTime']:.2f} s after the last advert"
    if vhost["lifetime"] is None:
        yield f"If this node died now, {dead}. carpd killed alone would leave the address here: no fence."
        return
    bound = vhost["overlapBound"]
    two = f"at most {bound:g} s with two owners" if bound else "no time with two owners"
    yield (
        f"If this node died now, {dead}. If carpd alone were killed, the kernel would take the address away "
        f"at most {vhost['lifetime'] + KERNEL_LAG:.2f} s after its last renewal: {two} among own members."
    )
