"""What has been heard on a segment, and its picture for a terminal. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp.core.errors import DropReason
from carp.core.timing import interval

if TYPE_CHECKING:
    from carp.inspect.verdict import Verdict

MAX_SPEAKERS: Final = 1024
"""Lines kept; a flood of invented sources must not eat the memory. The longest silent one goes."""
_DEAD_RATIO: Final = 3
"""Intervals without an advert after which a speaker counts as silent (the default of every
implementation, carp-protocol.md section 4)."""
_HEADS: Final = (
    "PROTO",
    "VHID",
    "SOURCE",
    "STATE",
    "BASE/SKEW",
    "DEMOTE",
    "EVERY",
    "AGE",
    "COUNT",
    "HMAC",
    "MAC",
)
"""The MAC is last because 80 columns cut it off; intervals and ages are in seconds."""

Key = tuple[str, int | None, str]


@dataclass(slots=True)
class Speaker:
    """One source of one vhid. Times are monotonic seconds."""

    verdict: Verdict
    count: int = 0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=9))

    @property
    def measured(self) -> float | None:
        """Return the mean time between its last packets, up to nine of them."""
        if len(self.times) < 2:
            return None
        return (self.times[-1] - self.times[0]) / (len(self.times) - 1)

    def state(self, now: float) -> str:
        """Return master, leaving (it said so) or silent: only a master sends."""
        advert = self.verdict.advert
        if self.verdict.priority == 0 or (advert is not None and advert.is_bow_out):
            return "leaving"
        expected = interval(advert.advbase, advert.advskew) if advert else self.measured or 1.0
        return "silent" if now - self.times[-1] > _DEAD_RATIO * expected else "master"

    def cells(self, now: float) -> tuple[str, ...]:
        """Return the line of this speaker, one text per column."""
        verdict, advert = self.verdict, self.verdict.advert
        pace = f"{advert.advbase}/{advert.advskew}" if advert else "-"
        if verdict.priority is not None:
            pace = f"prio {verdict.priority}"
        return (
            verdict.protocol,
            "-" if verdict.vhid is None else str(verdict.vhid),
            str(verdict.packet.source),
            self.state(now) if verdict.vhid is not None else "-",
            pace,
            str(advert.demotion) if advert else "-",
            "-" if self.measured is None else f"{self.measured:.3f}",
            f"{now - self.times[-1]:.1f}",
            str(self.count),
            _remark(verdict),
            verdict.packet.mac.hex(":") or "-",
        )


def _remark(verdict: Verdict) -> str:
    """Return the verdict on the HMAC, or the reason that comes before it."""
    if verdict.protocol == "vrrp":
        return f"VRRPv{verdict.packet.payload[0] >> 4}"
    if verdict.drop is not None and verdict.drop is not DropReason.HMAC:
        return verdict.drop.value
    return f"{verdict.hmac}, sealed" if verdict.sealed else verdict.hmac


class Segment:
    """Everybody heard, by protocol, vhid and source."""

    def __init__(self) -> None:
        """Start with nobody."""
        self._speakers: dict[Key, Speaker] = {}

    def hear(self, verdict: Verdict, now: float) -> None:
        """Take note of a packet."""
        key = (verdict.protocol, verdict.vhid, str(verdict.packet.source))
        speaker = self._speakers.get(key)
        if speaker is None:
            if len(self._speakers) >= MAX_SPEAKERS:
                del self._speakers[min(self._speakers, key=lambda old: self._speakers[old].times[-1])]
            speaker = self._speakers[key] = Speaker(verdict)
        speaker.verdict = verdict
        speaker.count += 1
        speaker.times.append(now)

    def lines(self, now: float, *, width: int, height: int) -> list[str]:
        """Return at most ``height`` lines of at most ``width`` columns, the heads first."""
        ordered = sorted(self._speakers.items(), key=lambda item: _order(item[0]))
        room = max(1, height - 1)
        shown = ordered if len(ordered) <= room else ordered[: room - 1]
        rows = [_HEADS, *(speaker.cells(now) for _, speaker in shown)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
        lines = ["  ".join(text.ljust(size) for text, size in zip(row, widths, strict=True)) for row in rows]
        if len(shown) < len(ordered):
            lines.append(f"... and {len(ordered) - len(shown)} more")
        return [line.rstrip()[:width] for line in lines]


def _order(key: Key) -> tuple[str, int, str]:
    protocol, vhid, source = key
    return protocol, vhid or 0, source
