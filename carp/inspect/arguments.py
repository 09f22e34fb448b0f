"""What the two commands have in common: their options, their errors, their way out."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from ipaddress import ip_interface
from typing import TYPE_CHECKING, NoReturn

from carp.converters import number
from carp.core.auth import MAX_PASSWORD, Address
from carp.core.errors import CarpError, ConfigError
from carp.inspect.verdict import Keys
from carp.passfile import read_password_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAILED = 1
USAGE = 2


class UsageError(CarpError):
    """The command line as a whole makes no sense."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, printed by `run`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UsageError(message)


def make_parser(name: str, description: str, examples: str) -> Parser:
    """Return a parser with the options for checking digests."""
    parser = Parser(
        prog=f"carp {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("checking the HMAC (needs a password and all addresses of the vhid)")
    group.add_argument(
        "-p",
        "--pass",
        dest="password",
        metavar="PASSWORD",
        help="the shared password; others on this host can see it, so better use --passfile",
    )
    group.add_argument("-o", "--passfile", metavar="FILE", help="read the password from a file's first line")
    group.add_argument(
        "-a",
        "--address",
        dest="addresses",
        metavar="ADDRESS",
        type=parse_address,
        action="append",
        default=[],
        help="a shared address, IPv4 or IPv6; once for each",
    )
    parser.add_argument(
        "-v", "--vhid", metavar="N", type=number("--vhid", 1, 255), help="only this vhid (or VRRP's VRID)"
    )
    return parser


def parse_address(text: str) -> Address:
    """Return an address; a prefix length is tolerated, it is not on the wire."""
    try:
        return ip_interface(text).ip
    except ValueError:
        raise ConfigError("--address", text, "is not an IP address") from None


def keys_from(arguments: argparse.Namespace, name: str) -> Keys:
    """Return the keys that the options of the command ``name`` give. Raises ConfigError."""
    given: str | None = arguments.password
    path: str | None = arguments.passfile
    if given is not None and path is not None:
        raise ConfigError("--passfile", path, "cannot be combined with --pass")
    option, key = "--pass", None if given is None else os.fsencode(given)
    if path is not None:
        option, key = "--passfile", _password_in(path, name)
    if key is not None and len(key) > MAX_PASSWORD:
        # The password itself must not end up in a log of errors.
        raise ConfigError(option, path, f"gives a password of {len(key)} bytes, more than {MAX_PASSWORD}")
    return Keys(key, tuple(arguments.addresses))


def _password_in(path: str, name: str) -> bytes:
    """Return a file's password, after saying what is odd about the file."""
    try:
        password, notes = read_password_file(path)
    except ConfigError as error:
        raise ConfigError("--passfile", error.value, error.problem) from None
    for note in notes:
        complain(name, f"--passfile: {note}")
    return password


def complain(name: str, problem: object) -> None:
    """Print one line to standard error."""
    print(f"carp {name}: {problem}", file=sys.stderr, flush=True)


def run(name: str, work: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Run a command's work and return its exit code: 2 for what the user gave, 1 for what went wrong later.

    Ctrl-C, and a reader of our output that has seen enough, are no errors.
    """
    try:
        return work(argv)
    except CarpError as error:
        complain(name, error)
        return USAGE if isinstance(error, ConfigError | UsageError) else FAILED
    except BrokenPipeError:
        # What is still buffered must not fail once more at the interpreter's exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 0
