"""What commands that wait have in common: their options, and looking until something holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigError
from carp.core.reader import parse_duration
from carp_operator.kube.errors import Transient

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

LOOK: Final = 0.25
"""s between two looks."""
_LONGEST: Final = 3600.0
"""s"""


def add_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --wait and --timeout; ``what`` is waited for."""
    parser.add_argument(
        "--wait",
        default="true",
        choices=("true", "false"),
        help=f"wait {what} (default true; --wait=false: only ask for it)",
    )
    parser.add_argument("--timeout", default="30s", metavar="TIME", help="wait no longer (default 30s)")


def normal(words: Sequence[str]) -> list[str]:
    """Return the words with a bare --wait completed: it would take the word after it for its value."""
    return ["--wait=true" if word == "--wait" else word for word in words]


def seconds(given: argparse.Namespace) -> float:
    """Return for how long to wait; 0: not at all. Raises ConfigError."""
    value = parse_duration(given.timeout)
    if value is None or not 0 < value <= _LONGEST:
        raise ConfigError("timeout", given.timeout, "is not a time from 1ms to 1h, such as 30s")
    return value if given.wait == "true" else 0.0


def until(look: Callable[[], bool], limit: float) -> bool:
    """Look until it holds, for ``limit`` s at most; whether it holds.

    What is waited for may move the API server's own address, and that cuts connections: a look that fails
    so is none. Raises Transient where the last one did.
    """
    end = time.monotonic() + limit
    while True:
        lost: Transient | None = None
        try:
            if look():
                return True
        except Transient as error:
            lost = error
        if time.monotonic() >= end:
            break
        time.sleep(LOOK)
    if lost is not None:
        raise lost
    return False
