"""`kubectl carp status`: every VirtualIP with its master, its backups and its health."""

from __future__ import annotations

import json
import queue
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.errors import Forbidden, NotFound
from carp_operator.kube.resources import CARP_NODES, VIRTUAL_IPS
from carp_operator.kubectl import access
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.table import lines, row
from carp_operator.kubectl.usage import FAILED, OK, as_data, complain, make_parser, put

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from carp_operator.kube.client import Client, Object
    from carp_operator.kube.watch import Event
    from carp_operator.kubectl.usage import Parser

_EPILOG: Final = """\
examples:
  kubectl carp status
  kubectl carp status ingress -o wide
  kubectl carp status --watch
  kubectl carp status -o json

BACKUPS stand in the order in which they would take over. LAST MOVE says when the present master got the
addresses, why, and, after a failure, for how long they can have been away at most. A line with ! below the
table wants attention.

exit codes: 0; 1 for an error, or when a VirtualIP that was named does not answer"""
_CLEAR: Final = "\x1b[H\x1b[2J"
_REDRAW: Final = 5.0
"""s between two pictures on a terminal where nothing has happened: ages grow."""
_TOGETHER: Final = 0.1
"""s in which changes are shown at once: a failover changes several objects."""


def parser() -> Parser:
    """Return the command line of `kubectl carp status`."""
    result = make_parser(
        "status", "Show VirtualIPs: who has the addresses, who comes next, and what is wrong.", _EPILOG
    )
    add = result.add_argument
    add("names", nargs="*", metavar="VIP", help="only these VirtualIPs")
    add("-o", "--output", choices=("json", "wide", "yaml"), help="all that is known, or more columns")
    add("-w", "--watch", action="store_true", help="show each change, until Ctrl-C")
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Show the VirtualIPs; return the exit code. Raises CarpError."""
    given = parser().parse_args(words)
    names = [access.named(word, "vip", "virtualip", "virtualips") for word in given.names]
    client = access.client(given)
    if given.watch:
        return _watch(client, names, given)
    rows = _rows(r.by_name(client.list(VIRTUAL_IPS)), _carpnodes(client), names)
    put(text(rows, given.output))
    missing = sorted(set(names) - {shown["name"] for shown in rows})
    if missing:
        return complain(f'virtualips.carp.vip "{name}" not found' for name in missing)
    return FAILED if names and not all(shown["ready"] for shown in rows) else OK


def _carpnodes(client: Client) -> dict[str, Object]:
    """Return the CarpNodes; none where we may not read them: they only tell causes."""
    try:
        return r.by_name(client.list(CARP_NODES))
    except (Forbidden, NotFound):
        return {}


def _rows(
    vips: dict[str, Object], carpnodes: dict[str, Object], names: Sequence[str]
) -> list[dict[str, Any]]:
    now = r.now()
    return [row(vip, carpnodes, now) for name, vip in sorted(vips.items()) if not names or name in names]


def text(rows: Sequence[dict[str, Any]], output: str | None) -> str:
    """Return the rows in a format: None for the table."""
    if output in ("json", "yaml"):
        return as_data({"virtualIPs": list(rows)}, output)
    if not rows:
        return "No VirtualIPs found.\n"
    return "\n".join(lines(rows, r.now(), wide=output == "wide")) + "\n"


def _watch(client: Client, names: Sequence[str], given: argparse.Namespace) -> int:
    terminal = sys.stdout.isatty() and given.output in (None, "wide")
    shown: list[dict[str, Any]] | None = None
    for vips, carpnodes, lost in follow(client):
        rows, reads = _rows(vips, carpnodes, names), True
        if terminal:
            stale = "".join(f"! not current: {reason}\n" for reason in lost)
            reads = put(_CLEAR + text(rows, given.output) + stale)
        elif shown is None or _steady(rows) != _steady(shown):
            reads = put(_document(rows, given.output))
            shown = rows
        if not reads:
            break
    return OK


def _document(rows: Sequence[dict[str, Any]], output: str | None) -> str:
    if output == "json":
        return json.dumps({"virtualIPs": rows}, separators=(",", ":")) + "\n"
    return "---\n" * (output == "yaml") + text(rows, output)


def _steady(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows without what time alone changes."""
    return [{**shown, "lastMove": {**(shown["lastMove"] or {}), "ago": ""}} for shown in rows]


def follow(client: Client) -> Iterator[tuple[dict[str, Object], dict[str, Object], list[str]]]:
    """Yield the VirtualIPs and CarpNodes now, after each change, and when a picture has grown old.

    With them comes why they may not be what there is now; nothing where they are.
    """
    from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert, Watcher  # noqa: PLC0415 (see access)

    client.page(
        VIRTUAL_IPS, {"limit": "1"}
    )  # what is wrong is an error here, not a watch that tries for ever
    events: queue.Queue[tuple[int, Event]] = queue.Queue()
    objects: tuple[dict[str, Object], dict[str, Object]] = ({}, {})
    lost: dict[int, str] = {}
    kinds = (VIRTUAL_IPS, CARP_NODES)
    watchers = [
        Watcher(client, kind, lambda event, at=at: events.put((at, event)))  # type: ignore[misc]
        for at, kind in enumerate(kinds)
    ]
    for watcher in watchers:
        watcher.start()
    known = False
    try:
        while True:
            for at, event in _batch(events):
                match event:
                    case Synced(items):
                        lost.pop(at, None)
                        objects[at].clear()
                        objects[at].update(r.by_name(items))
                        known = known or at == 0
                    case Upsert(item):
                        objects[at][r.name_of(item)] = item
                    case Deleted(item):
                        objects[at].pop(r.name_of(item), None)
                    case Lost(reason):
                        lost[at] = reason
                        sys.stderr.write(f"warning: {reason}\n")
            if known:
                yield *objects, sorted(set(lost.values()))
    finally:
        for watcher in watchers:
            watcher.stop(0.1)


def _batch(events: queue.Queue[tuple[int, Event]]) -> Iterator[tuple[int, Event]]:
    """Yield what comes next, with what follows at once; nothing where nothing comes."""
    try:
        yield events.get(timeout=_REDRAW)
        end = time.monotonic() + _TOGETHER
        while True:
            yield events.get(timeout=max(0.0, end - time.monotonic()))
    except queue.Empty:
        return
