"""`carp check`: say everything that is wrong with a configuration, or what it amounts to."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import ConfigError, ConfigErrors
from carp.core.timing import LEASE_MARGIN
from carp.daemon import jsonschema
from carp.daemon.configfile import FOLDER, load
from carp.daemon.yamlfile import FileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.config import VhostConfig

EXIT_BAD_INPUT: Final = 2
_TITLES: Final = ("NAME", "VHID", "INTERFACE", "ADDRESSES", "DEAD TIME", "LIFETIME", "TWO OWNERS")

_NAMES: Final = 4
"""Vhosts that a warning names; more are counted."""


def parser() -> argparse.ArgumentParser:
    """Return the command line of `carp check`."""
    result = argparse.ArgumentParser(
        prog="carp check",
        description="Check a configuration of `carp daemon` with the daemon's own code, changing nothing.",
        epilog="LIFETIME is the kernel lifetime of a master's addresses, TWO OWNERS the longest time with "
        "two after a kill or stall. Exit code: 0 sound, 2 not.",
    )
    result.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help=f"YAML file with the list `vhosts`; merged with {FOLDER}/*.yaml and *.yml beside it, by name",
    )
    result.add_argument("--json", action="store_true", help="print one JSON object")
    result.add_argument("--schema", action="store_true", help="print the file's JSON Schema, for editors")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Check a file and return the exit code: 0 sound, 2 not."""
    options = parser().parse_args(argv)
    if options.schema:
        return _print(jsonschema.text(), 0)
    if options.file is None:
        parser().error("FILE is required, or --schema")
    configs: list[VhostConfig] = []
    notes: list[str] = []
    errors: list[ConfigError] = []
    try:
        configs, notes = load(options.file)
    except ConfigErrors as found:
        errors = found.errors
    code = EXIT_BAD_INPUT if errors else 0
    warnings = [*notes, *_grouped(configs)]
    if options.json:
        return _print(json.dumps(_report(configs, warnings, errors), indent=2, default=str) + "\n", code)
    sys.stderr.writelines(f"{error}\n" for error in errors)
    sys.stderr.writelines(f"warning: {warning}\n" for warning in warnings)
    return _print("" if errors else _table([_cells(config) for config in configs]), code)


def _print(text: str, code: int) -> int:
    """Print and return the exit code; a reader that has seen enough is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail once more at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def _report(configs: list[VhostConfig], warnings: list[str], errors: list[ConfigError]) -> dict[str, Any]:
    return {
        "valid": not errors,
        "errors": [_placed(error) for error in errors if isinstance(error, FileError)],
        "warnings": warnings,
        "vhosts": [_facts(config) for config in configs],
    }


def _placed(error: FileError) -> dict[str, Any]:
    place = {"file": error.file, "path": error.path, "line": error.line or None}
    return {**place, "value": error.value, "problem": error.problem}


def _facts(config: VhostConfig) -> dict[str, Any]:
    """Return what the settings amount to; times in seconds, None where the kernel has no part in it."""
    timing, fenced = config.timing, config.fenced
    return {
        "name": config.name,
        "vhid": config.vhid,
        "interface": str(config.interface),
        "addresses": [str(vip) for vip in config.addresses],
        "deadTime": round(timing.dead_time(), 3),
        "lifetime": timing.lifetime() if fenced else None,
        "overlapBound": round(timing.overlap_bound(), 2) if fenced else None,
    }


def _cells(config: VhostConfig) -> tuple[str, ...]:
    facts = _facts(config)
    fence = (
        (f"{facts['lifetime']} s", f"{facts['overlapBound']:.2f} s") if config.fenced else ("-", "no bound")
    )
    addresses = ", ".join(str(vip.ip) for vip in config.addresses)
    dead_time = f"{facts['deadTime']:.3f} s"
    return (config.name, str(config.vhid), str(config.interface), addresses, dead_time, *fence)


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(_TITLES, *rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (_TITLES, *rows))
    return "".join(f"{line}\n" for line in lines)


def _grouped(configs: list[VhostConfig]) -> list[str]:
    """Return each warning once, behind the names of its vhosts."""
    names: dict[str, list[str]] = {}
    for config in configs:
        for text in _warnings(config):
            names.setdefault(text, []).append(config.name)
    result = []
    for text, given in names.items():
        more = f" and {len(given) - _NAMES} more" if len(given) > _NAMES else ""
        result.append(f"{', '.join(given[:_NAMES])}{more}: {text}")
    return result


def _warnings(config: VhostConfig) -> list[str]:
    """Return what is allowed but may not be meant."""
    found = []
    if config.timing.advbase == 0:
        found.append(
            "advbase 0 goes among own members only: adverts are sealed, and ucarp, OpenBSD and firewalls "
            "are not heard"
        )
    if not config.manage:
        found.append("manageAddresses false: the scripts set the addresses, so a dead owner keeps them")
    elif not config.fenced:
        found.append("fencing Off: a dead owner keeps the addresses")
    bound = config.timing.overlap_bound()
    if config.fenced and bound:
        found.append(
            f"two owners for up to {bound:.2f} s after a kill or stall: a lifetime of whole seconds needs a "
            f"dead time of at least {1 + LEASE_MARGIN:.1f} s, such as deadRatio x advbase 2"
        )
    return found
