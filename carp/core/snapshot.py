"""What a vhost shows of itself. Frozen; no secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carp.core.seal import UNITS, distance, from_wall

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.errors import DropReason
    from carp.core.transitions import State
    from carp.core.vhost import Vhost
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
    seal_time: int | None = None
    """The time in the seal, in 1/256 s; None without a seal."""

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
        time = advert.counter >> 32 if sealed else None
        return cls(sources, advert.advbase, advert.advskew, advert.demotion, now, sealed, time)

    def drift(self, wall: float) -> float | None:
        """Return how far the seal's time was ahead of our clock in s, where ``wall`` was ours then.

        At most 97 days either way; None without a seal.
        """
        return None if self.seal_time is None else distance(self.seal_time, from_wall(wall)) / UNITS


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


def take(vhost: Vhost) -> Snapshot:
    """Return a vhost's snapshot."""
    listening = None if vhost.backup is None else vhost.backup.listening
    leaving = None if vhost.master is None else vhost.master.leaving
    return Snapshot(
        name=vhost.config.name,
        vhid=vhost.config.vhid,
        state=vhost.state,
        since=vhost.since,
        reason=vhost.reason,
        cause=vhost.cause,
        transitions=vhost.transitions,
        header=vhost.header(),
        demotions=dict(vhost.demotions),
        master=vhost.others.master,
        drops=dict(vhost.drops),
        conflict=None if listening is None else listening.conflict,
        leaving=None if leaving is None else leaving.purpose.value,
    )
