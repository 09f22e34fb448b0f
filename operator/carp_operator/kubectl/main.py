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
from carp_operator.kubectl.usage import OK, PROGRAM, UsageError, complain, put

if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED: Final = 130
_COMMANDS: Final = {"render": "Print the configuration file of each node, with no cluster"}
"""Each is the module of that name beside this one, with ``main(words) -> int``."""


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
        if name not in _COMMANDS:
            raise UsageError(_unknown(name))
        code: int = import_module(f"carp_operator.kubectl.{name}").main(given[1:])
    except CarpError as error:
        return complain([error])
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def _unknown(name: str) -> str:
    what = "flag" if name.startswith("-") else "command"
    close = get_close_matches(name, _COMMANDS, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown {what} {name!r} for {PROGRAM!r}{hint}; see '{PROGRAM} --help'"


def _help() -> str:
    width = max(map(len, _COMMANDS))
    commands = "".join(f"  {name:<{width}}  {text}\n" for name, text in _COMMANDS.items())
    return (
        "Virtual IP addresses that move between nodes by CARP.\n\n"
        f"Available Commands:\n{commands}\n"
        f"Usage:\n  {PROGRAM} COMMAND [options]\n\n"
        f"Use '{PROGRAM} COMMAND --help' for what a command does, its options and examples.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
