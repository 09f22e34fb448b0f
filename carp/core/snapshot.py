"""What a vhost shows of itself. Frozen; no secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.errors import DropReason
    from carp.core.transitions import State
    from carp.core.wire import Advert


@dataclass(frozen=True, slots=True)
class MasterSeen:
    """The master heard last: its sources (one per family), its header, when, and whether it is ours."""

    sources: tuple[Address, ...]
    advbase: int
    advskew: int
    demotion: int
    heard_at: float
    sealed: bool

    @classmethod
    def after(
        cls, previous: MasterSeen | None, advert: Advert, source: Address, now: float, *, sealed: bool
    ) -> MasterSeen:
        """Return what is known after an advert; the other family's source is kept."""
        if previous is None:
            sources: tuple[Address, ...] = (source,)
        elif source in previous.sources:
            sources = previous.sources
        else:
            sources = (source, *(s for s in previous.sources if s.version != source.version))
        return cls(sources, advert.advbase, advert.advskew, advert.demotion, now, sealed)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One vhost at one moment. Times are of the monotonic clock."""

    name: str
    vhid: int
    state: State
    since: float
    reason: str
    cause: str
    transitions: int
    header: tuple[int, int, int]
    demotions: dict[str, int]
    master: MasterSeen | None
    drops: dict[DropReason, int]
    conflict: tuple[Address, bytes] | None
    leaving: str | None
