"""What the commands of the plugin share: a parser that answers as kubectl does, and their output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

from carp.commands import yamltext
from carp.core.errors import CarpError

if TYPE_CHECKING:
    from collections.abc import Iterable

OK: Final = 0
FAILED: Final = 1
PROGRAM: Final = "kubectl carp"


class UsageError(CarpError):
    """The words of the command line make no sense."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are printed by the caller."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(f"{message}; see '{self.prog} --help'")


def make_parser(name: str, description: str, epilog: str) -> Parser:
    """Return the parser of the command ``name``."""
    return Parser(
        prog=f"{PROGRAM} {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o for a command that prints text without it."""
    parser.add_argument("-o", "--output", choices=("json", "yaml"), help="as data")


def as_data(data: Any, output: str) -> str:
    """Return what JSON can hold as ``json`` or ``yaml``."""
    return yamltext.dump(data) if output == "yaml" else json.dumps(data, indent=2) + "\n"


def complain(problems: Iterable[object]) -> int:
    """Print each problem as kubectl does; return the exit code."""
    sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
    return FAILED


def put(text: str) -> bool:
    """Print; whether somebody reads it: a reader that has seen enough is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail once more at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True
