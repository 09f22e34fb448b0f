"""What the commands that run once and end share: their options, their lines, their exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from carp.core.errors import CarpError, ConfigError
from carp.core.reader import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.commands.arguments import Parser


def patience(text: str) -> float:
    """Return the seconds of the option --timeout. Raises ConfigError."""
    value = parse_duration(text)
    if value is None:
        raise ConfigError("timeout", text, "is no duration such as 30s or 2m")
    return value


def add_connection(parser: Parser) -> None:
    """Add the options that say which API server is meant."""
    add = parser.add_argument
    add("--kubeconfig", metavar="FILE", help="connect as its current context; default: as the pod's account")
    add("--api-server", action="append", default=[], metavar="URL", help="may be repeated: tried in turn")


def say(line: str) -> None:
    """Print a line at once: somebody waits for it."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(program: str, work: Callable[[], int]) -> int:
    """Return the exit code of ``work``; 2 for wrong use, 1 for what the API server refuses, with a line."""
    try:
        return work()
    except ConfigError as error:
        sys.stderr.write(f"{program}: --{error}\n")
        return 2
    except CarpError as error:
        sys.stderr.write(f"{program}: {error}\n")
        return 1
