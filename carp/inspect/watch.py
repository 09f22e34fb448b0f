"""`carp watch`: a segment live, as a table on a terminal, as JSON lines elsewhere."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Final, Protocol

from carp.converters import number
from carp.inspect.arguments import UsageError, keys_from, make_parser, run
from carp.inspect.table import Segment
from carp.inspect.tap import Tap
from carp.inspect.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.inspect.arguments import Parser
    from carp.inspect.verdict import Verdict

_DESCRIPTION: Final = """\
Show who speaks CARP (and VRRP) on the segment of an interface, what this host itself sends included.
A table that refreshes in place on a terminal; one JSON object per packet where the output is no terminal.
Sends nothing. Needs CAP_NET_RAW. Ends with Ctrl-C.
"""
_EXAMPLES: Final = """\
examples:
  who is master here, and is my password right?
      carp watch -i eth0 --passfile /etc/carp/vip.pass --address 10.1.1.252 --vhid 42
  is a vhid still free? listen for ten seconds:
      carp watch -i eth0 --seconds 10
  wait for the next advert of vhid 42:
      carp watch -i eth0 --vhid 42 --count 1 | jq .
  why does a member not count? print what a receiver would drop:
      carp watch -i eth0 --passfile p -a 10.1.1.252 | jq 'select(.drop)'

Only the interface's own segment is shown: watch eth0.10 for VLAN 10.
STATE: master, leaving (it said goodbye), silent (nothing for three of its intervals).
"""
_REFRESH: Final = 0.25
"""Seconds between two pictures."""


class Display(Protocol):
    """Where packets go."""

    def show(self, verdict: Verdict) -> None:
        """Take one packet."""

    def refresh(self, *, force: bool = False) -> None:
        """Draw what has changed, at most every `_REFRESH` seconds unless forced."""


class JsonLines:
    """One JSON object per packet."""

    def __init__(self, interface: str) -> None:
        """Name the interface in each object."""
        self._interface = interface

    def show(self, verdict: Verdict) -> None:
        """Print one packet."""
        link = {"mac": verdict.packet.mac.hex(":") or None, "interface": self._interface}
        print(json.dumps(verdict.record(time.time()) | link), flush=True)

    def refresh(self, *, force: bool = False) -> None:
        """Do nothing: lines are printed as they come."""


class Table:
    """The segment's table, redrawn over itself."""

    def __init__(self, interface: str) -> None:
        """Draw nothing yet."""
        self._interface = interface
        self._segment = Segment()
        self._drawn = 0
        self._due = 0.0

    def show(self, verdict: Verdict) -> None:
        """Take note of one packet."""
        self._segment.hear(verdict, time.monotonic())

    def refresh(self, *, force: bool = False) -> None:
        """Draw, when it is time."""
        now = time.monotonic()
        if now < self._due and not force:
            return
        self._due = now + _REFRESH
        columns, rows = shutil.get_terminal_size()
        title = f"{self._interface}: protocol 112, {time.strftime('%H:%M:%S')}, Ctrl-C ends"
        lines = [title[:columns], *self._segment.lines(now, width=columns, height=max(2, rows - 2))]
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        # To the line's end after each line, to the screen's end once: no flicker, no remains.
        print(back + "".join(line + "\x1b[K\n" for line in lines) + "\x1b[J", end="", flush=True)
        self._drawn = len(lines)


def watch_main(argv: Sequence[str]) -> int:
    """Run `carp watch` with the arguments after its name; return the exit code."""
    return run("watch", _work, argv)


def parser() -> Parser:
    """Return the command line of `carp watch`."""
    result = make_parser("watch", _DESCRIPTION, _EXAMPLES)
    add = result.add_argument
    add("-i", "--interface", metavar="NAME", help="the interface to watch (required)")
    add("--seconds", metavar="S", type=number("--seconds", 1, 10**9), help="end after S seconds")
    add("--count", metavar="N", type=number("--count", 1, 10**9), help="end after N shown packets")
    return result


def _work(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    if arguments.interface is None:
        msg = "no interface: give --interface NAME"
        raise UsageError(msg)
    keys = keys_from(arguments, "watch")
    with Tap(arguments.interface) as tap:
        display: Display = (Table if sys.stdout.isatty() else JsonLines)(arguments.interface)
        end = None if arguments.seconds is None else time.monotonic() + arguments.seconds
        left = arguments.count
        while left != 0 and (end is None or time.monotonic() < end):
            display.refresh()
            packet = tap.receive(_REFRESH if end is None else min(_REFRESH, end - time.monotonic()))
            if packet is None:
                continue
            verdict = judge(packet, keys)
            if arguments.vhid not in (None, verdict.vhid):
                continue
            display.show(verdict)
            left = None if left is None else left - 1
        display.refresh(force=True)
    return 0
