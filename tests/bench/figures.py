"""What was measured, as a table with ratios, as JSON and as a picture."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS = "carp"
PEERS = ("ucarp", "keepalived")
COLOURS = {OURS: "#2a78b8", "ucarp": "#c9803a", "keepalived": "#7a7a7a"}


@dataclass(frozen=True)
class Figure:
    """One measured quantity; less is better.

    ``bound`` in ``unit`` is what ours must not exceed, None where it is only shown. ``runs`` holds the
    single measurements behind a figure of several, in ``unit``; ``note`` says what is not obvious.
    """

    part: str
    what: str
    unit: str
    carp: float
    bound: float | None = None
    peers: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether ours stays within the bound."""
        return self.bound is None or self.carp <= self.bound

    @property
    def verdict(self) -> str:
        """Return ok, NOT, or nothing where there is no bound."""
        if self.bound is None:
            return ""
        return "ok" if self.ok else "NOT"

    def repeat(self, *, quick: bool) -> str:
        """Return the command that measures just this part."""
        return f'make bench ARGS="--only {self.part}{" --quick" if quick else ""}"'

    def to_json(self, *, quick: bool) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "ok": self.ok, "repeat": self.repeat(quick=quick)}


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _peer(figure: Figure, name: str) -> str:
    value = figure.peers.get(name)
    if value is None:
        return "-"
    ratio = f" ({number(value / figure.carp)}x)" if figure.carp > 0 else ""
    return number(value) + ratio


def table(figures: Sequence[Figure], *, quick: bool) -> list[str]:
    """Return the lines of the table; a peer's ratio is its figure divided by ours."""
    head = ("measured", "unit", "bound", OURS, "", *PEERS, "again")
    rows = [
        (
            figure.what, figure.unit, "" if figure.bound is None else f"<= {number(figure.bound)}",
            number(figure.carp), figure.verdict, *(_peer(figure, name) for name in PEERS),
            figure.repeat(quick=quick),
        )
        for figure in figures
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows)
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    notes = [f"{figure.what}: {figure.note}" for figure in figures if figure.note]
    return [line.rstrip() for line in [*lines, *([""] if notes else []), *notes]]


_WIDTH, _LEFT, _BAR, _ROW = 1000, 410, 430, 16


def svg(figures: Sequence[Figure]) -> str:
    """Return a picture: a group of bars per figure, each group on its own scale, the bound as a line."""
    body: list[str] = []
    y = 24
    for figure in figures:
        y = _group(body, figure, y)
    size = f'width="{_WIDTH}" height="{y + 8}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *body, "</svg>", ""])


def _group(body: list[str], figure: Figure, y: int) -> int:
    bars = {OURS: figure.carp, **figure.peers}
    top = max((*bars.values(), figure.bound or 0.0)) or 1.0
    title = html.escape(f"{figure.what} ({figure.unit})")
    body.append(f'<text x="{_LEFT - 10}" y="{y + 11}" text-anchor="end">{title}</text>')
    start = y
    for name, value in bars.items():
        width = max(1.0, value / top * _BAR)
        body.append(
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_ROW - 3}" fill="{COLOURS[name]}"/>'
        )
        body.append(f'<text x="{_LEFT + width + 5:.1f}" y="{y + 11}">{name} {number(value)}</text>')
        y += _ROW
    if figure.bound is not None:
        x = _LEFT + figure.bound / top * _BAR
        colour = "#3a9a4a" if figure.ok else "#c02020"
        body.append(f'<path d="M{x:.1f} {start - 2}V{y - 1}" stroke="{colour}" stroke-width="2"/>')
    return y + 10
