"""`carp demote` and `carp undemote`: named reasons why another node should go first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.commands.arguments import OK, chosen, make_parser, say
from carp.commands.client import Client
from carp.commands.words import demotions
from carp.converters import number
from carp.core.timing import MAX_DEMOTION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
Demotions with different reasons add up, to at most 254. A master whose demotion grows hands over. They
last until undemoted or until carpd restarts. `maintenance` and `health:...` are carpd's own reasons.

exit code: 0; 2 when nobody answers or an argument is wrong
"""


def demote_parser() -> Parser:
    """Return the command line of `carp demote`."""
    result = make_parser("demote", "Let other nodes go first on a vhost, for a named reason.", _EPILOG)
    result.add_argument("name", metavar="NAME", help="the vhost")
    result.add_argument("reason", metavar="REASON", help="a word of your own, such as upgrade")
    result.add_argument(
        "amount",
        metavar="AMOUNT",
        type=number("AMOUNT", 1, MAX_DEMOTION),
        help=f"how much, 1-{MAX_DEMOTION}; replaces an earlier amount of the same reason",
    )
    return result


def undemote_parser() -> Parser:
    """Return the command line of `carp undemote`."""
    result = make_parser("undemote", "Take back a demotion.", _EPILOG)
    result.add_argument("name", metavar="NAME", help="the vhost")
    result.add_argument("reason", metavar="REASON", help="the reason to take back")
    return result


def demote(argv: Sequence[str]) -> int:
    """Demote and return the exit code."""
    given = demote_parser().parse_args(argv)
    return _change(given, "demote", amount=given.amount)


def undemote(argv: Sequence[str]) -> int:
    """Take a demotion back and return the exit code."""
    return _change(undemote_parser().parse_args(argv), "undemote")


def _change(given: argparse.Namespace, op: str, **fields: int) -> int:
    with Client(given.socket) as client:
        client.call(op, name=given.name, reason=given.reason, **fields)
        (vhost,) = chosen(client.call("status")["vhosts"], [given.name])
    say(f"{given.name}: demotion {demotions(vhost)}, advskew {vhost['advskew']}")
    return OK
