"""What the agent counts, as one table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp import __version__
from carp.daemon.registry import Family, Kind, Sample

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Tally:
    """Counted since the start, and what is read when somebody asks."""

    applies: Counter[str] = field(default_factory=Counter)
    """By result: done, refused, unanswered."""
    writes: Counter[str] = field(default_factory=Counter)
    """By result: done, failed."""
    connected: bool = False
    generation: int = 0
    confirmed: int = 0
    silent: Callable[[], float] = field(default=lambda: 0.0)
    """s since the API server was heard."""

    def text(self) -> str:
        """Return the exposition."""
        return "".join(family.text(self) for family in TABLE)


def _counted(counter: Counter[str], *results: str) -> list[Sample]:
    return [((result,), counter[result]) for result in results]


TABLE: Final[tuple[Family[Tally], ...]] = (
    Family(
        "carp_agent_build_info",
        Kind.GAUGE,
        "Always 1; the version.",
        ("version",),
        lambda _: [((__version__,), 1)],
    ),
    Family(
        "carp_agent_carpd_connected",
        Kind.GAUGE,
        "Whether carpd answers.",
        (),
        lambda tally: [((), tally.connected)],
    ),
    Family(
        "carp_agent_api_silence_seconds",
        Kind.GAUGE,
        "Time since the API server was heard; about a minute at most while all is well.",
        (),
        lambda tally: [((), tally.silent())],
    ),
    Family(
        "carp_agent_spec_generation",
        Kind.GAUGE,
        "Generation of the CarpNode that was read last.",
        (),
        lambda tally: [((), tally.generation)],
    ),
    Family(
        "carp_agent_confirmed_generation",
        Kind.GAUGE,
        "Generation that carpd has stored.",
        (),
        lambda tally: [((), tally.confirmed)],
    ),
    Family(
        "carp_agent_applies_total",
        Kind.COUNTER,
        "Specs handed to carpd, by what became of them.",
        ("result",),
        lambda tally: _counted(tally.applies, "done", "refused", "unanswered"),
    ),
    Family(
        "carp_agent_status_writes_total",
        Kind.COUNTER,
        "Writes of CarpNode.status, by what became of them.",
        ("result",),
        lambda tally: _counted(tally.writes, "done", "failed"),
    ),
)
