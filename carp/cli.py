"""The command `carp`: ucarp's command line, or a word that starts another tool.

Only what the chosen tool needs is imported: the process that takes part in an election stays small.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from carp import __version__, commands
from carp.core.errors import CarpError, ConfigError
from carp.options import USAGE, UsageError, help_text, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.command import Command

OK: Final = 0
FAILED: Final = 1
WRONG: Final = 2
"""What the user gave or may do does not let carp start; nothing was changed."""
_INTERRUPTED: Final = 130

_PRIVILEGE_HINT: Final = "systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; containers: --cap-add"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line says; return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and not words[0].startswith("-"):
            return _tool(words[0], words[1:])
        return _ucarp(words)
    except CarpError as error:
        return _complain(error, WRONG)
    except KeyboardInterrupt:
        return _INTERRUPTED


def _complain(problem: object, code: int) -> int:
    for line in str(problem).splitlines():
        print(f"carp: {line}", file=sys.stderr, flush=True)
    return code


def _tool(name: str, words: list[str]) -> int:
    """Run another tool with the words after its name."""
    tools: dict[str, Callable[[list[str]], int]] = {
        "decode": _decode,
        "watch": _watch,
        "demo": _demo,
        "daemon": _daemon,
        "check": _check,
        **{each: partial(commands.main, each) for each in commands.NAMES},
    }
    if name not in tools:
        raise UsageError(f"{name!r} is neither an option nor one of {', '.join(tools)}; see carp --help")
    return tools[name](words)


def _decode(words: list[str]) -> int:
    from carp.inspect import decode_main  # noqa: PLC0415 (imports scapy)

    return decode_main(words)


def _watch(words: list[str]) -> int:
    from carp.inspect import watch_main  # noqa: PLC0415 (imports scapy)

    return watch_main(words)


def _demo(words: list[str]) -> int:
    from carp.lab.demo import main as demo_main  # noqa: PLC0415 (imports pyroute2)

    return demo_main(words)


def _daemon(words: list[str]) -> int:
    # Looking for garbage while importing costs a tenth of the start; `carp.run` enables it again.
    gc.disable()
    from carp.daemon.main import main as daemon_main  # noqa: PLC0415 (imports asyncio and yaml)

    return daemon_main(words)


def _check(words: list[str]) -> int:
    from carp.daemon.check import main as check_main  # noqa: PLC0415 (imports yaml)

    return check_main(words)


def _ucarp(words: list[str]) -> int:
    """Take part in one election, as ucarp does."""
    if not words:
        print(USAGE, file=sys.stderr)
        return WRONG
    given = scan(words)
    if "help" in given:
        print(help_text())
        return OK
    if "version" in given:
        print(f"carp {__version__}")
        return OK
    gc.disable()  # As for the daemon.
    from carp.command import command  # noqa: PLC0415 (help is there without it)

    chosen = command(given, os.environ)
    _check_interface(chosen.config.interface.name)
    if not chosen.background:
        return _run(chosen, lambda: None)
    from carp.background import in_background  # noqa: PLC0415 (a rare way to run)

    return in_background(lambda ready: _run(chosen, ready))


def _check_interface(name: str) -> None:
    """Refuse a name that no interface has now; one that goes away later is waited for. Raises ConfigError."""
    present = sorted(known for _, known in socket.if_nameindex())
    if name and name not in present:
        raise ConfigError("--interface (-i)", name, f"is no interface here; there are {', '.join(present)}")


def _run(chosen: Command, ready: Callable[[], None]) -> int:
    from carp import logs  # noqa: PLC0415 (the process that takes part is the only one to log)
    from carp.run import NoPrivilegeError, RunOptions, run  # noqa: PLC0415 (imports asyncio)

    def log_to(*, terminal: bool) -> None:
        logs.setup(json=chosen.json, debug=chosen.debug, facility=chosen.facility, daemon=not terminal)

    def started() -> None:
        for note in chosen.notes:
            fields = {"vhost": chosen.config.name, "event": "note"}
            logging.getLogger("carp").warning("%s", note, extra={"fields": fields})
        if chosen.background:
            log_to(terminal=False)
        ready()

    log_to(terminal=True)
    try:
        return run([chosen.config], RunOptions(chosen.state_dir, release=chosen.release, ready=started))
    except NoPrivilegeError as error:
        return _complain(f"{error} ({_PRIVILEGE_HINT})", WRONG)
    except CarpError as error:
        return _complain(error, WRONG)
    except OSError as error:
        return _complain(error, FAILED)
