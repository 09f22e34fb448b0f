"""`carp demo`: three nodes share an address, a client measures, and things go wrong."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from carp.lab import privilege
from carp.lab.client import Prober
from carp.lab.cluster import (
    VIP,
    Command,
    build,
    daemon_command,
    read_members,
    shared_address,
    write_members,
)
from carp.lab.errors import LabError
from carp.lab.network import Lan
from carp.lab.scenario import DURATION, Scenario
from carp.lab.timeline import LEGEND, Row, render, svg, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.lab.measure import OwnerChange, Summary

_DESCRIPTION = f"""\
Show a failover in under a minute. Three nodes, a switch and a client are made of network namespaces
on this machine; nothing outside of them is touched and nothing is left behind. The nodes run `carp daemon`
with one configuration file each and share {VIP}, or what the files of --members say; the client
asks that address for an answer every millisecond and, by ARP, who owns it. Then the owner is killed and
comes back, hands over, is stopped and comes back, loses its cable, and is cut off behind the switch.

The closing table has, for each fault, the longest time without an answer, how many answers were lost, and
the longest time in which two nodes owned the address, each beside its bound.
"""
_EPILOG = """\
It needs root, or a kernel that lets you make user namespaces.
exit codes: 0 every bound was met; 1 one was not; 2 the demo could not run; 130 Ctrl-C
examples:
  carp demo                     watch it
  carp demo --plot demo.svg     keep a picture
  carp demo --json | jq .rows   only the figures
  carp demo --members out       with the files that `kubectl carp render -o out` has written
"""


class Screen:
    """Show the story: redraw the timeline on a terminal, print one line per event elsewhere."""

    def __init__(self, stream: TextIO, *, quiet: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self.live = not quiet and stream.isatty()
        self._drawn = 0
        self._told = 0

    def observe(self, scenario: Scenario, prober: Prober) -> None:
        """Bring the screen up to date."""
        if self._quiet:
            return
        if self.live:
            rows = shutil.get_terminal_size().lines - 1
            self._redraw(timeline(scenario, prober.history, colour=True, rows=rows))
            return
        for event in scenario.events[self._told :]:
            self._stream.write(f"{event.time:6.1f} s  {event.text}\n")
        self._told = len(scenario.events)
        self._stream.flush()

    def close(self, lines: Sequence[str]) -> None:
        """Write the closing lines, over the live timeline if there is one."""
        if self.live:
            self._redraw(lines)
        elif not self._quiet:
            self._stream.write("\n" + "\n".join(lines) + "\n")

    def _redraw(self, lines: Sequence[str]) -> None:
        up = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._stream.write(up + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._stream.flush()
        self._drawn = len(lines)


def timeline(
    scenario: Scenario,
    changes: list[OwnerChange],
    summary: Summary | None = None,
    *,
    colour: bool,
    rows: int = 0,
) -> list[str]:
    """Return the picture of the story so far as lines, with the numbered events below.

    With `rows`, only as many of the last events as fit: what has scrolled away cannot be drawn over.
    """
    width = min(shutil.get_terminal_size((100, 24)).columns - 1, 160)
    until = max(scenario.now, DURATION) if summary is None else scenario.now
    drawn = render(
        scenario.lanes,
        scenario.spans(changes, summary),
        scenario.events,
        until=until,
        width=width,
        colour=colour,
    )
    told = [f"{n:3} {event.time:6.1f} s  {event.text}" for n, event in enumerate(scenario.events, 1)]
    shown = told[-max(1, rows - len(drawn) - 2) :] if rows else told
    return [*drawn, LEGEND, "", *(line[:width] for line in shown)]


def run(
    folder: Path,
    screen: Screen,
    *,
    plot: Path | None,
    source: Path | None = None,
    command: Command = daemon_command,
) -> dict[str, Any]:
    """Run the story in `folder` and return its figures; raises LabError.

    `source` holds NODE/carp.yaml of each node; without it the demo's own files are written.
    """
    if source is None:
        source = folder / "etc"
        write_members(source)
    vhosts = read_members(source)
    address = shared_address(vhosts)
    with Lan(prefix="carp-demo-") as lan:
        members = build(lan, source, folder / "var", vhosts, command)
        with Prober(lan.client, address) as prober:
            scenario = Scenario(lan, members, address, prober, lambda story: screen.observe(story, prober))
            scenario.run()
            result = prober.stop()
            summary = result.summary
            rows = scenario.rows(result)
            changes = list(summary.owners)
            screen.close([*timeline(scenario, changes, summary, colour=screen.live), "", *table(rows)])
            if plot is not None:
                picture = svg(
                    scenario.lanes, scenario.spans(changes, summary), scenario.events, until=scenario.now
                )
                plot.write_text(picture, encoding="utf-8")
    figures = _figures(scenario, rows, summary.sent)
    return {"name": next(iter(vhosts.values())).name, "address": address, **figures}


def main(argv: Sequence[str]) -> int:
    """Run `carp demo` with these arguments and return its exit code."""
    options = parser().parse_args(argv)
    try:
        privilege.enter()
        with tempfile.TemporaryDirectory(prefix="carp-demo-") as folder:
            try:
                screen = Screen(sys.stdout, quiet=options.json)
                figures = run(Path(folder), screen, plot=options.plot, source=options.members)
            finally:
                if options.logs is not None:
                    _keep_logs(Path(folder), options.logs)
    except (LabError, OSError) as error:
        sys.stderr.write(f"carp demo: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json:
        sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    for problem in figures["problems"]:
        sys.stderr.write(f"carp demo: {problem}\n")
    return 1 if figures["problems"] else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line of `carp demo`."""
    result = argparse.ArgumentParser(
        prog="carp demo",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument(
        "--json", action="store_true", help="print the figures as JSON instead of the timeline"
    )
    result.add_argument(
        "--members",
        type=Path,
        metavar="FOLDER",
        help="take the nodes from FOLDER/NODE/carp.yaml, one vhost each; the first has 10.99.0.1, …",
    )
    result.add_argument("--plot", type=Path, metavar="FILE.svg", help="write a picture of the timeline")
    result.add_argument("--logs", type=Path, metavar="FOLDER", help="keep each daemon's log there")
    return result


def _figures(scenario: Scenario, rows: Sequence[Row], sent: int) -> dict[str, Any]:
    return {
        "seconds": round(scenario.now, 1),
        "asked": sent,
        "events": [asdict(event) for event in scenario.events],
        "rows": [{**asdict(row), "met": not row.problems} for row in rows],
        "problems": [problem for row in rows for problem in row.problems],
    }


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("var/*/log"):
        shutil.copyfile(log, target / f"{log.parent.name}{os.extsep}log")
