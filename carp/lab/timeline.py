"""Draw what happened: lanes of text, the closing table, a picture. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Kind(Enum):
    """What a stretch of a lane is: (how strongly it shows, character, terminal colour, picture colour).

    An owner shows over a daemon that is not running: its kernel goes on answering for a while.
    """

    READY = (1, "·", "2", "#cbd5e1")  # takes part, is not the owner
    OWNER = (4, "█", "32", "#16a34a")
    ANSWERED = (1, "▁", "32", "#bbf7d0")
    DOWN = (2, "x", "31", "#f87171")
    CUT = (3, "/", "33", "#f59e0b")
    LOST = (5, "█", "31", "#dc2626")

    @property
    def weight(self) -> int:
        """The stretch with the greater weight shows where two cover one column."""
        return self.value[0]

    @property
    def character(self) -> str:
        """How it looks as text."""
        return self.value[1]

    @property
    def ansi(self) -> str:
        """Its SGR number on a terminal."""
        return self.value[2]

    @property
    def colour(self) -> str:
        """Its fill in the picture."""
        return self.value[3]


LEGEND = "█ owner (by ARP)  · ready  x not running  / cable cut     client: ▁ answered  █ answers lost"


@dataclass(frozen=True)
class Span:
    """A stretch of a lane, in seconds from the beginning."""

    lane: str
    start: float
    end: float
    kind: Kind


@dataclass(frozen=True)
class Event:
    """Something that was done, in seconds from the beginning."""

    time: float
    text: str


@dataclass(frozen=True)
class Row:
    """One line of the closing table; the bounds are what it may reach at most."""

    fault: str
    outage_ms: float
    lost: int
    two_owners_s: float
    outage_bound_ms: float
    two_owners_bound_s: float

    @property
    def problems(self) -> tuple[str, ...]:
        """Which bounds were not met, one sentence each."""
        found = []
        if self.outage_ms > self.outage_bound_ms or (self.outage_bound_ms == 0 and self.lost):
            found.append(
                f"{self.fault}: outage {self.outage_ms:.0f} ms ({self.lost} answers lost) is over "
                f"{self.outage_bound_ms:.0f} ms"
            )
        if self.two_owners_s > self.two_owners_bound_s:
            found.append(
                f"{self.fault}: two owners for {self.two_owners_s:.3f} s, "
                f"over {self.two_owners_bound_s:.2f} s"
            )
        return tuple(found)


def columns(lane: str, spans: Sequence[Span], until: float, width: int) -> list[Kind | None]:
    """Return what to show in each of `width` columns that cover [0, until) seconds."""
    shown: list[Kind | None] = [None] * width
    for span in spans:
        if span.lane != lane or until <= 0:
            continue
        first = int(span.start / until * width)
        last = max(first + 1, round(span.end / until * width))  # the shortest outage is still seen
        for column in range(max(0, first), min(width, last)):
            before = shown[column]
            if before is None or before.weight < span.kind.weight:
                shown[column] = span.kind
    return shown


def render(
    lanes: Sequence[str],
    spans: Sequence[Span],
    events: Sequence[Event],
    *,
    until: float,
    width: int = 100,
    colour: bool = False,
) -> list[str]:
    """Return the timeline as lines: a ruler, one lane each, a row with the numbers of the events.

    Args:
        lanes: their names, in order.
        spans: what to draw.
        events: numbered from 1 below the column they happened in.
        until: seconds that the whole width stands for.
        width: characters of a whole line, at least 20.
        colour: use SGR colours (for a terminal).
    """
    margin = max((len(name) for name in lanes), default=0) + 2
    room = max(10, width - margin)
    lines = [" " * margin + _ruler(until, room)]
    for name in lanes:
        cells = columns(name, spans, until, room)
        text = "".join(_cell(kind, colour=colour) for kind in cells)
        lines.append(f"{name:<{margin}}{text}".rstrip())
    lines.append((" " * margin + _numbers(events, until, room)).rstrip())
    return lines


def table(rows: Sequence[Row]) -> list[str]:
    """Return the closing table as lines."""
    head = ("fault", "outage", "bound", "answers lost", "two owners", "bound", "")
    body = [
        (
            row.fault,
            f"{row.outage_ms:.0f} ms",
            f"{row.outage_bound_ms:.0f} ms",
            str(row.lost),
            f"{row.two_owners_s:.3f} s",
            f"{row.two_owners_bound_s:.2f} s",
            "OVER" if row.problems else "ok",
        )
        for row in rows
    ]
    widths = [max(len(line[n]) for line in (head, *body)) for n in range(len(head))]
    return [
        "  ".join(
            cell.ljust(size) if n in (0, len(head) - 1) else cell.rjust(size)
            for n, (cell, size) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (head, tuple("-" * size for size in widths), *body)
    ]


def svg(lanes: Sequence[str], spans: Sequence[Span], events: Sequence[Event], *, until: float) -> str:
    """Return the timeline as a picture: a complete SVG document, no script, no font of its own."""
    left, scale, height = 80, 900 / max(until, 0.001), 26
    foot = 44 + len(lanes) * height
    total = foot + 18 * len(events) + 36
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 {total}" font-family="sans-serif" '
            'font-size="12">'
        ),
        f'<rect width="1000" height="{total}" fill="#ffffff"/>',
    ]
    for row, name in enumerate(lanes):
        y = 24 + row * height
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        mine = sorted((span for span in spans if span.lane == name), key=lambda span: span.kind.weight)
        for span in mine:
            wide = max(1.0, (span.end - span.start) * scale)
            parts.append(
                f'<rect x="{left + span.start * scale:.1f}" y="{y}" width="{wide:.1f}" height="{height - 5}" '
                f'fill="{span.kind.colour}"/>'
            )
    for second in range(0, int(until) + 1, _step(until)):
        x = left + second * scale
        parts.append(f'<text x="{x:.1f}" y="16" text-anchor="middle" fill="#64748b">{second} s</text>')
    free = 0.0
    for number, event in enumerate(events, 1):
        x = left + event.time * scale
        free = max(free + 15, x)
        label = f"{number}  {event.time:.1f} s  {event.text}"
        parts += [
            (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="{foot - 16}" '
                'stroke="#0f172a" stroke-dasharray="3 2"/>'
            ),
            f'<text x="{free:.1f}" y="{foot - 4}" text-anchor="middle">{number}</text>',
            f'<text x="{left}" y="{foot + 18 * number}">{escape(label)}</text>',
        ]
    for number, kind in enumerate(Kind):
        x = left + 120 * number
        parts += [
            f'<rect x="{x}" y="{total - 22}" width="14" height="14" fill="{kind.colour}"/>',
            f'<text x="{x + 20}" y="{total - 10}">{kind.name.lower()}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def _cell(kind: Kind | None, *, colour: bool) -> str:
    if kind is None:
        return " "
    return f"\x1b[{kind.ansi}m{kind.character}\x1b[0m" if colour else kind.character


def _step(until: float) -> int:
    return next((step for step in (1, 2, 5, 10, 30, 60) if until / step <= 12), 300)


def _ruler(until: float, room: int) -> str:
    line = [" "] * room
    for second in range(0, int(until) + 1, _step(until)):
        _write(line, int(second / max(until, 0.001) * room), f"{second}s")
    return "".join(line).rstrip()


def _numbers(events: Sequence[Event], until: float, room: int) -> str:
    """Each number below its column, or beside the one before where that is taken."""
    line = [" "] * room
    free = 0
    for number, event in enumerate(events, 1):
        at = max(free, int(event.time / max(until, 0.001) * room))
        _write(line, at, str(number))
        free = at + len(str(number)) + 1
    return "".join(line)


def _write(line: list[str], at: int, text: str) -> None:
    for offset, character in enumerate(text):
        if at + offset < len(line):
            line[at + offset] = character
