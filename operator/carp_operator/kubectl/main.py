"""`kubectl-carp`: kubectl runs it as `kubectl carp`.

Only what the chosen command needs is imported; `render` works where there is no cluster, and without the
packages that talk to one.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Final

from carp import __version__
from carp.core.errors import CarpError
from carp_operator.kubectl.access import explained
from carp_operator.kubectl.usage import FAILED, OK, PROGRAM, UsageError, put

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED: Final = 130
COMMANDS: Final = {
    "status": "Show every VirtualIP: who has it, since when, who comes next",
    "explain": "Say in words who has a VirtualIP and why, and what would happen next",
    "handover": "Move a VirtualIP to another node",
    "maintenance": "Take a node out of service, or put it back",
    "doctor": "Check the installation, the nodes and the VirtualIPs, with advice",
    "diff": "Show what applying a manifest would change",
    "support-bundle": "Collect what a bug report needs, without secrets",
    "render": "Print the configuration file of each node, with no cluster",
    "completion": "Print the completion script for a shell",
}
"""Each is the module of that name beside this one (``_`` for ``-``), with ``main(words) -> int``."""
_HIDDEN: Final = "__complete"
"""What completion scripts call."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code: 0, or 1 with the reasons on standard error."""
    given = list(sys.argv[1:] if words is None else words)
    name = given[0] if given else "--help"
    if name in ("--help", "-h", "help"):
        put(_help())
        return OK
    if name == "--version":
        put(f"{PROGRAM} {__version__}\n")
        return OK
    try:
        if name == _HIDDEN:
            return import_module("carp_operator.kubectl.complete").main(given[1:])  # type: ignore[no-any-return]
        if name not in COMMANDS:
            raise UsageError(_unknown(name))
        code: int = import_module(f"carp_operator.kubectl.{name.replace('-', '_')}").main(given[1:])
    except CarpError as error:
        sys.stderr.write(f"{explained(error)}\n")
        return FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _unknown(name: str) -> str:
    what = "flag" if name.startswith("-") else "command"
    close = get_close_matches(name, COMMANDS, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {what} {name!r} for {PROGRAM!r}{hint}; see '{PROGRAM} --help'"


def _help() -> str:
    width = max(map(len, COMMANDS))
    commands = "".join(f"  {name:<{width}}  {text}\n" for name, text in COMMANDS.items())
    return (
        "Virtual IP addresses that move between nodes by CARP.\n\n"
        f"Available Commands:\n{commands}\n"
        f"Usage:\n  {PROGRAM} COMMAND [options]\n\n"
        f"Use '{PROGRAM} COMMAND --help' for what a command does, its options and examples.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
