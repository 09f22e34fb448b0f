"""What the commands have in common: their options, their output, the units they write."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final, NoReturn

from carp.commands.client import SOCKET
from carp.core.errors import CarpError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OK: Final = 0
TROUBLE: Final = 1
"""The command did its work, and what it found or reached is not as it should be."""
_WIDEST: Final = 100
"""Columns of a paragraph; longer lines are hard to follow."""


class WrongUseError(CarpError):
    """The words of the command line make no sense."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, printed by the caller."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise WrongUseError(f"{message}; see {self.prog} --help")


def make_parser(name: str, description: str, epilog: str, *, asks: bool = True) -> Parser:
    """Return the parser of the command ``name``, with --socket when it asks carpd."""
    parser = Parser(
        prog=f"carp {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if asks:
        parser.add_argument(
            "--socket", default=SOCKET, metavar="PATH", help=f"carpd's control socket (default {SOCKET})"
        )
    return parser


def seconds(option: str, high: float = 3600.0) -> Callable[[str], float]:
    """Return a converter of times such as 5, 5s, 0.5s or 200ms, from 0 to ``high`` s."""

    def convert(text: str) -> float:
        digits, factor = text.removesuffix("s"), 1.0
        if text.endswith("ms"):
            digits, factor = text[:-2], 0.001
        try:
            value = float(digits) * factor
        except ValueError:
            value = -1.0
        if not 0 <= value <= high:
            raise ConfigError(option, text, f"is not a time from 0s to {high:g}s, such as 5s or 500ms")
        return value

    return convert


def say(text: str = "") -> None:
    """Print a line."""
    sys.stdout.write(f"{text}\n")


def warn(text: str) -> None:
    """Print a line to standard error."""
    sys.stdout.flush()
    sys.stderr.write(f"carp: {text}\n")


def wrapped(text: str, *, indent: str = "", width: int = _WIDEST) -> str:
    """Return a paragraph in lines that fit the terminal, at most ``width`` columns."""
    columns = min(width, shutil.get_terminal_size((width, 24)).columns)
    return textwrap.fill(
        text,
        max(columns, 40),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def age(span: float) -> str:
    """Return a time span for people: 0.3s, 42s, 3m12s, 2h05m, 3d04h."""
    if span < 9.95:
        return f"{max(span, 0.0):.1f}s"
    whole = round(span)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def chosen(vhosts: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the vhosts of these names, or all, by name. Raises WrongUseError for one that is not here."""
    known = {str(vhost["name"]): vhost for vhost in vhosts}
    for name in names:
        if name not in known:
            raise WrongUseError(
                f"NAME: {name!r} is no vhost here; there are {', '.join(sorted(known)) or 'none'}"
            )
    return [known[name] for name in sorted(set(names) or known)]
