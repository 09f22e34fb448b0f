"""`carp maintenance`: let this node stand back, on all vhosts, until told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.commands.arguments import OK, TROUBLE, make_parser, say, seconds, warn
from carp.commands.client import Client
from carp.commands.handover import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
on      demote every vhost by 240 and hand over what this node holds; stays on over restarts and reboots
off     take part as before; what preempts, preempts
status  say which it is

exit code: 0; 1 after `on` when this node is still master of something, because nobody took over, after
`on` and `off` when a restart would forget it, because carpd could not store it, and after `status` when
it is on; 2 when nobody answers. So: carp maintenance on && reboot
"""


def parser() -> Parser:
    """Return the command line of `carp maintenance`."""
    result = make_parser("maintenance", "Switch the persistent maintenance mode of this node.", _EPILOG)
    result.add_argument("what", choices=("on", "off", "status"))
    result.add_argument(
        "--wait",
        type=seconds("--wait"),
        default=5.0,
        metavar="TIME",
        help="how long to wait for the successors after `on` (default 5s; 0s: do not wait)",
    )
    return result


def main(argv: Sequence[str]) -> int:
    """Switch or show the mode and return the exit code."""
    given = parser().parse_args(argv)
    with Client(given.socket) as client:
        if given.what == "status":
            return _status(client.call("status"))
        answer = client.call("maintenance", on=given.what == "on")
        stored = bool(answer["persisted"])
        if not stored:
            warn("maintenance: the mode could not be stored: a restart of carpd forgets it (carp status)")
        if given.what == "off":
            say("maintenance mode is off: this node takes part as its settings say")
            return OK if stored else TROUBLE
        vhosts = wait_for(client, lambda found: not _held(found), given.wait) if given.wait else {}
    return _entered(_held(vhosts), stored=stored)


def _held(vhosts: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(name for name, vhost in vhosts.items() if vhost["state"] == "MASTER")


def _entered(held: list[str], *, stored: bool) -> int:
    lasts = "also after a restart" if stored else "until carpd or the node restarts"
    say(f"maintenance mode is on, {lasts}; end it with: carp maintenance off")
    if held:
        warn(f"maintenance: still master of {', '.join(held)}: nobody took over; is a backup running?")
    return OK if stored and not held else TROUBLE


def _status(answer: dict[str, Any]) -> int:
    held = _held({str(vhost["name"]): vhost for vhost in answer["vhosts"]})
    holds = f"master of {', '.join(held)}" if held else "master of nothing"
    on = bool(answer["daemon"]["maintenance"])
    say(f"maintenance mode is {'on' if on else 'off'}; this node is {holds}")
    return TROUBLE if on else OK
