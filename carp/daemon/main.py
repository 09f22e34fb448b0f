"""`carp daemon`: run every vhost of a configuration file."""

from __future__ import annotations

import argparse
import logging
import sys
from typing import TYPE_CHECKING

from carp import logs
from carp.core.errors import CarpError, ConfigErrors
from carp.daemon.configfile import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.config import VhostConfig

EXIT_BAD_INPUT = 2


def parser() -> argparse.ArgumentParser:
    """Return the command line of `carp daemon`."""
    result = argparse.ArgumentParser(
        prog="carp daemon",
        description="Share addresses with other hosts: run every vhost of a file in one process.",
        epilog="TERM hands over and stops, USR1 logs each vhost's state, USR2 hands over and stays backup.",
    )
    result.add_argument("--config", required=True, metavar="FILE", help="YAML file with the list `vhosts`")
    result.add_argument(
        "--state-dir", default="/run/carp", metavar="DIR", help="runtime state (default %(default)s)"
    )
    result.add_argument(
        "--release", action="store_true", help="on stop delete addresses even if nobody takes over"
    )
    result.add_argument("--check", action="store_true", help="only check the file")
    result.add_argument("--json", action="store_true", help="log JSON lines")
    result.add_argument("--debug", action="store_true", help="log more")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon and return its exit code: 0 after a stop, 2 for bad input."""
    options = parser().parse_args(argv)
    try:
        configs, notes = load(options.config)
    except ConfigErrors as errors:
        for error in errors.errors:
            sys.stderr.write(f"carp daemon: {options.config}: {error}\n")
        return EXIT_BAD_INPUT
    if options.check:
        sys.stdout.write(f"{options.config}: {len(configs)} vhosts, no errors\n")
        return 0
    logs.setup(json=options.json, debug=options.debug, facility=None, daemon=False)
    for note in notes:
        logging.getLogger("carp").warning("%s", note)
    return _run(configs, options)


def _run(configs: list[VhostConfig], options: argparse.Namespace) -> int:
    from carp.run import RunOptions, run  # noqa: PLC0415 (checking a file needs no engine)

    try:
        return run(configs, RunOptions(options.state_dir, release=options.release, strict=False))
    except CarpError as error:
        sys.stderr.write(f"carp daemon: {error}\n")
        return EXIT_BAD_INPUT
    except OSError as error:
        sys.stderr.write(f"carp daemon: {error}\n")
        return 1
