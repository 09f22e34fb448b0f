"""`carp status`: every vhost of this node, once or as long as somebody looks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from carp.commands import table
from carp.commands.arguments import OK, TROUBLE, WrongUseError, chosen, make_parser, say
from carp.commands.client import Client
from carp.commands.words import is_troubled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
STATE is MASTER (holds the address), BACKUP (listens) or INIT (takes no part; the reason stands below).
MASTER SEEN is the last master heard besides this node, and how long ago. DROPS counts adverts that were
not believed, by reason. FROM (wide) says whether a vhost comes from the file or over the socket.
TWO OWNERS (wide) is the longest time with two owners after a kill or stall, among our own members.

exit code: 0; 1 when a vhost shown is INIT or in conflict; 2 when nobody answers or a NAME is wrong
"""


def parser() -> Parser:
    """Return the command line of `carp status`."""
    result = make_parser("status", "Show the vhosts of this node as its carpd knows them.", _EPILOG)
    result.add_argument("names", nargs="*", metavar="NAME", help="only these vhosts")
    result.add_argument(
        "-o", "--output", choices=("wide", "json", "yaml"), help="more columns, or all data for programs"
    )
    result.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="go on: a table that refreshes in place on a terminal, else a line (or JSON) for each change",
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Show the status and return the exit code."""
    given = parser().parse_args(argv)
    if given.watch and given.output == "yaml":
        raise WrongUseError("--watch: 'yaml' is no stream; use -o json")
    with Client(given.socket) as client:
        answer = client.call("status")
    vhosts = chosen(answer["vhosts"], given.names)
    if given.watch:
        from carp.commands.following import follow  # noqa: PLC0415 (a status alone does without)

        return follow(given.socket, given.names, given.output)
    _show(answer, vhosts, given.output)
    return TROUBLE if any(is_troubled(vhost) for vhost in vhosts) else OK


def _show(answer: dict[str, Any], vhosts: list[dict[str, Any]], output: str | None) -> None:
    if output in ("json", "yaml"):
        shown = {key: answer[key] for key in ("daemon", "vhosts", "interfaces", "links")}
        shown["vhosts"] = vhosts
        if output == "json":
            say(json.dumps(shown, indent=2))
            return
        from carp.commands.yamltext import dump  # noqa: PLC0415 (rarely wanted)

        say(dump(shown).rstrip())
        return
    for line in picture(answer, vhosts, wide=output == "wide"):
        say(line)


def picture(answer: dict[str, Any], vhosts: Sequence[dict[str, Any]], *, wide: bool) -> list[str]:
    """Return the lines of the table and of what stands below it."""
    heads = table.lines(vhosts, wide=wide) if vhosts else ["no vhost is configured on this node"]
    notes = table.below(answer, vhosts)
    return [*heads, *(["", *notes] if notes else [])]
