"""`carp status` as a table, in OPNsense's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.commands import words
from carp.commands.arguments import age

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SHOWN_ADDRESSES: Final = 2
"""Addresses in the narrow table; the wide one has all."""


def _addresses(vhost: dict[str, Any]) -> str:
    shown = vhost["addresses"][:_SHOWN_ADDRESSES]
    more = len(vhost["addresses"]) - len(shown)
    return ",".join([*(_host(text) for text in shown), *([f"+{more}"] if more else [])])


def _host(text: str) -> str:
    """Leave out the length of a host address, which is the ordinary one."""
    return text.removesuffix("/128" if ":" in text else "/32")


def _state(vhost: dict[str, Any]) -> str:
    return f"{vhost['state']} CONFLICT" if vhost["conflict"] is not None else str(vhost["state"])


def _master(vhost: dict[str, Any]) -> str:
    seen = vhost["master"]
    if seen is None:
        return "-"
    return f"{seen['source']}, {age(seen['lastHeard'])}"


def _drops(vhost: dict[str, Any]) -> str:
    return ",".join(f"{reason} {count}" for reason, count in vhost["drops"].items()) or "0"


def _or_dash(field: str, unit: str = "") -> Callable[[dict[str, Any]], str]:
    def cell(vhost: dict[str, Any]) -> str:
        value = vhost[field]
        return "-" if value in (None, "") else f"{value:g}{unit}" if isinstance(value, float) else str(value)

    return cell


Column = tuple[str, "Callable[[dict[str, Any]], str]"]

NARROW: Final[tuple[Column, ...]] = (
    ("NAME", lambda vhost: str(vhost["name"])),
    ("VIP", _addresses),
    ("VHID", lambda vhost: str(vhost["vhid"])),
    ("INTERFACE", _or_dash("interface")),
    ("STATE", _state),
    ("SINCE", lambda vhost: age(vhost["seconds"])),
    ("ADVSKEW", lambda vhost: str(vhost["advskew"])),
    ("DEMOTION", words.demotions),
    ("MASTER SEEN", _master),
    ("DROPS", _drops),
)
WIDE: Final[tuple[Column, ...]] = (
    NARROW[0],
    ("VIP", lambda vhost: ",".join(_host(text) for text in vhost["addresses"])),
    *NARROW[2:5],
    ("SINCE", lambda vhost: f"{vhost['since']} ({age(vhost['seconds'])})"),
    ("ADVBASE", lambda vhost: str(vhost["advbase"])),
    *NARROW[6:],
    ("TRANSITIONS", lambda vhost: str(vhost["transitions"])),
    ("CAUSE", _or_dash("cause")),
    ("PREEMPT", _or_dash("preempt")),
    ("DEAD TIME", lambda vhost: f"{vhost['deadTime']:.1f}s"),
    ("LIFETIME", lambda vhost: "none" if vhost["lifetime"] is None else f"{vhost['lifetime']}s"),
    ("TWO OWNERS", lambda vhost: "-" if vhost["overlapBound"] is None else f"{vhost['overlapBound']:g}s"),
    ("LEASE", lambda vhost: "-" if vhost["lease"] is None else f"{vhost['lease']:.1f}s"),
    ("FROM", _or_dash("source")),
)


def lines(vhosts: Sequence[dict[str, Any]], *, wide: bool) -> list[str]:
    """Return the table, its heads first, each line without spaces at its end."""
    columns = WIDE if wide else NARROW
    rows = [[head for head, _ in columns], *([cell(vhost) for _, cell in columns] for vhost in vhosts)]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of equal length with their columns under each other, two spaces apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ("  ".join(text.ljust(size) for text, size in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in padded]


def below(answer: dict[str, Any], vhosts: Sequence[dict[str, Any]]) -> list[str]:
    """Return what belongs under the table: everything that wants somebody's attention."""
    notes = [*words.problems(answer["daemon"]), *(text for vhost in vhosts for text in words.remarks(vhost))]
    return [f"! {note}" for note in notes]
