"""`carp daemon`: carpd, every vhost of a host in one process."""

from __future__ import annotations

import argparse
import grp
import logging
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from carp import logs
from carp.converters import socket_path
from carp.core.errors import CarpError, ConfigError, ConfigErrors
from carp.daemon.configfile import UnreadableErrors, load, watched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.config import VhostConfig
    from carp.daemon.service import DaemonOptions
    from carp.daemon.watchfile import Marks

EXIT_BAD_INPUT: Final = 2
EXIT_FAILED: Final = 1
STATE_DIR: Final = "/var/lib/carp"
SOCKET: Final = "/run/carp/carpd.sock"


def parser() -> argparse.ArgumentParser:
    """Return the command line of `carp daemon`."""
    result = argparse.ArgumentParser(
        prog="carp daemon",
        description="Share addresses with other hosts: many vhosts in one process, from a file, from the "
        "control socket, or from both.",
        epilog="TERM hands over and stops, HUP reads the file again, USR1 logs each vhost's state, USR2 "
        "hands over and stays backup.",
    )
    add = result.add_argument
    add(
        "--config",
        default="",
        metavar="FILE",
        help="YAML file with the list `vhosts`; conf.d/*.yaml beside it is merged",
    )
    add("--state-dir", metavar="DIR", help=f"what a restart goes on from (default {STATE_DIR})")
    add("--socket", metavar="PATH", help=f"control socket (default {SOCKET}; in --state-dir where given)")
    add("--socket-uid", type=int, metavar="UID", help="user that may use the socket besides root")
    add("--socket-group", metavar="GROUP", help="group that the socket belongs to, mode 0660")
    add(
        "--metrics",
        default="",
        metavar="ADDRESS",
        help="Prometheus metrics, e.g. 127.0.0.1:9105 or unix:/PATH",
    )
    add("--respawn", action="store_true", help="start again at once after a crash")
    add("--release", action="store_true", help="on stop delete addresses even if nobody takes over")
    add("--check", action="store_true", help="only check the file")
    add("--json", action="store_true", help="log JSON lines")
    add("--debug", action="store_true", help="log more")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon and return its exit code: 0 after a stop, 2 for bad input.

    1 where the same may go well another time, such as a file on a disk that is not there yet: a service
    manager tries again after that, and not after 2.
    """
    given = parser().parse_args(argv)
    seen = _look(given.config) if given.config else None
    try:
        configs, notes = load(given.config, named=True) if given.config else ([], [])
        options = replace(_options(given), seen=seen)
    except ConfigErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"carp daemon: {error}\n")
        return EXIT_FAILED if isinstance(errors, UnreadableErrors) else EXIT_BAD_INPUT
    except ConfigError as error:
        sys.stderr.write(f"carp daemon: {error}\n")
        return EXIT_BAD_INPUT
    if given.check:
        sys.stdout.write(f"{given.config}: {len(configs)} vhosts, no errors\n")
        return 0
    logs.setup(json=given.json, debug=given.debug, facility=None, daemon=False)
    for note in notes:
        logging.getLogger("carp").warning("%s", note)
    if not given.respawn:
        return _run(configs, options)
    from carp.daemon.respawn import Kept, supervise  # noqa: PLC0415 (only who asks for it)

    kept: Kept[list[VhostConfig]] = Kept()

    def work() -> int:
        # A crash must not bring back what the file said when the parent was started.
        last = kept.get()
        # Nobody knows what the file was like when that was read.
        again = replace(options, keep=kept.put, seen=seen if last is None else None)
        return _run(configs if last is None else last, again)

    return supervise(work)


def _look(path: str) -> Marks:
    from carp.daemon.watchfile import look  # noqa: PLC0415 (imports asyncio)

    return look(watched(path))


def _options(given: argparse.Namespace) -> DaemonOptions:
    from carp.daemon.scrape import parse_address  # noqa: PLC0415 (imports asyncio)
    from carp.daemon.service import DaemonOptions  # noqa: PLC0415 (imports the engine)

    if given.metrics:
        parse_address(given.metrics, "--metrics")
    state_dir = given.state_dir or STATE_DIR
    default = f"{given.state_dir}/carpd.sock" if given.state_dir else SOCKET
    return DaemonOptions(
        config=given.config,
        state_dir=state_dir,
        socket=socket_path("--socket", given.socket or default),
        socket_uid=given.socket_uid,
        socket_gid=None if given.socket_group is None else _gid(given.socket_group),
        metrics=given.metrics,
        release=given.release,
    )


def _gid(name: str) -> int:
    """Return a group's number. Raises ConfigError."""
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        field = "--socket-group"
        raise ConfigError(field, name, "is no group here") from None


def _run(configs: list[VhostConfig], options: DaemonOptions) -> int:
    from carp.daemon.service import serve  # noqa: PLC0415 (imports the engine)

    try:
        return serve(configs, options)
    except CarpError as error:
        sys.stderr.write(f"carp daemon: {error}\n")
        return EXIT_BAD_INPUT
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"carp daemon: {name}{os.strerror(error.errno or 0)}\n")
        return EXIT_FAILED
