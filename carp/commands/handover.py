"""`carp handover`: move one vhost to another node, and say who has it now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from carp.commands.arguments import OK, TROUBLE, chosen, make_parser, say, seconds, warn
from carp.commands.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
The master bows out and lets go once a successor has answered: nothing is lost. It stays backup for at
least one dead time. Where nobody answers, the address stays here.

exit code: 0 another node is master; 1 nobody took over; 2 this node is not master, or nobody answers
"""
_LOOK: Final = 0.02
"""s between two looks at the status."""


def parser() -> Parser:
    """Return the command line of `carp handover`."""
    result = make_parser("handover", "Hand a vhost over to another node.", _EPILOG)
    result.add_argument("name", metavar="NAME", help="a vhost of which this node is master")
    result.add_argument(
        "--wait",
        type=seconds("--wait"),
        default=5.0,
        metavar="TIME",
        help="how long to wait for the successor (default 5s; 0s: do not wait)",
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Hand over and return the exit code. Raises RefusedError when this node is not master."""
    given = parser().parse_args(argv)
    with Client(given.socket) as client:
        start = time.monotonic()
        client.call("handover", name=given.name)
        if not given.wait:
            say(f"{given.name}: handing over")
            return OK
        vhosts = wait_for(client, lambda found: _moved(found.get(given.name), start), given.wait)
    taken = time.monotonic() - start
    (vhost,) = chosen(list(vhosts.values()), [given.name])
    return _report(vhost, taken)


def wait_for(
    client: Client, done: Callable[[dict[str, dict[str, Any]]], bool], limit: float
) -> dict[str, dict[str, Any]]:
    """Return the vhosts by name when ``done`` says so of them, or as they are after ``limit`` seconds."""
    end = time.monotonic() + limit
    while True:
        vhosts = {str(vhost["name"]): vhost for vhost in client.call("status")["vhosts"]}
        if done(vhosts) or time.monotonic() >= end:
            return vhosts
        time.sleep(_LOOK)


def _moved(vhost: dict[str, Any] | None, start: float) -> bool:
    """Whether the vhost has left this node: somebody was heard since ``start`` (monotonic), or it is gone."""
    if vhost is None or vhost["state"] == "INIT":
        return True
    seen = vhost["master"]
    heard = seen is not None and seen["lastHeard"] <= time.monotonic() - start
    return vhost["state"] == "BACKUP" and heard


def _report(vhost: dict[str, Any], taken: float) -> int:
    name = vhost["name"]
    if vhost["state"] == "MASTER":
        how = "is still handing over" if vhost["leaving"] else "is still master"
        warn(f"{name}: nobody took over within {taken:.1f} s: this node {how}; is a backup running?")
        return TROUBLE
    seen = vhost["master"]
    if vhost["state"] == "INIT" or seen is None or seen["lastHeard"] > taken:
        warn(f"{name}: this node is {vhost['state']}, but no new master has been heard in {taken:.1f} s")
        return TROUBLE
    say(f"{name}: {seen['source']} is master, {taken:.2f} s after the request; this node is backup")
    return OK
