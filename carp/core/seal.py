"""The time inside a sealed advert: strictly increasing per sender, never a reason to lock a member out.

Times are 32-bit numbers of 1/256 s compared by serial arithmetic (design.md section 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp.core.auth import Address

MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31
UNITS: Final = 256
"""Per second."""
HOUR: Final = 3600 * UNITS
WRITE_AHEAD: Final = 600 * UNITS
"""How far the floor on disk runs ahead of the times sent, so that it is written every few minutes."""
FAR: Final = 60.0
"""s by which two clocks may differ before it is worth a word."""
MAX_SOURCES: Final = 256
"""Members remembered per vhid. Only a holder of the password can add one."""


def from_wall(seconds: float) -> int:
    """Return the seal time of a wall clock in seconds."""
    return int(seconds * UNITS) % MODULUS


def newer(a: int, b: int) -> bool:
    """Whether time ``a`` is later than ``b``, within 97 days."""
    return 0 < (a - b) % MODULUS < _HALF


def distance(a: int, b: int) -> int:
    """Return how far time ``a`` is after ``b``, negative before it, within 97 days."""
    return (a - b + _HALF) % MODULUS - _HALF


def is_far(drift: float) -> bool:
    """Whether times that are ``drift`` s ahead of ours tell of a wrong clock.

    A crash alone puts a sender's times ahead by what it had reserved.
    """
    return drift < -FAR or drift > FAR + WRITE_AHEAD / UNITS


def latest(first: int, *others: int | None) -> int:
    """Return the latest of some times; None counts as never."""
    best = first
    for other in others:
        if other is not None and newer(other, best):
            best = other
    return best


@dataclass(slots=True)
class Seal:
    """The times sent and heard in one vhid.

    ``reserved`` is the floor that stands on disk: no time beyond it may be sent before a later floor is
    written (``overdrawn`` says that one is due); after a restart it is the floor to continue from.
    ``newest`` is the latest time sent or heard: the latest heard alone would lie in what looks like the
    future to a master that hears nobody for 97 days.
    """

    last: int | None = None
    reserved: int | None = None
    newest: int | None = None
    floors: dict[bytes, int] = field(default_factory=dict)
    overdrawn: bool = False

    def next(self, wall: float) -> int:
        """Return the time for the next advert; advances the sender's floor."""
        # `latest` and `newer` written out: this runs for every advert.
        time, newest, reserved = int(wall * UNITS) % MODULUS, self.newest, self.reserved
        if newest is not None and not 0 < (time - newest) % MODULUS < _HALF:
            time = (newest + 1) % MODULUS
        if reserved is not None and 0 < (time - reserved) % MODULUS < _HALF:
            self.overdrawn = True
        self.last = self.newest = time
        return time

    def reserve(self, wall: float) -> int:
        """Return a new floor, to be written before a time beyond the old one is sent."""
        self.overdrawn = False
        self.reserved = (latest(from_wall(wall), self.newest) + WRITE_AHEAD) % MODULUS
        return self.reserved

    def close(self) -> None:
        """Make the floor exact: nothing more will be sent."""
        if self.last is not None:
            self.reserved = self.last

    def accept(self, source: bytes, time: int) -> bool:
        """Take note of a valid time; False when it is not newer than what the source has sent.

        A floor, and that of a source never heard, counts as at most one hour before the newest time:
        lost state locks nobody out, and an old recording gains nothing. No floor is later than the
        newest time, so its age needs no serial comparison, which 97 silent days would deceive.
        """
        floor = self.floors.get(source)
        if self.newest is not None and (floor is None or (self.newest - floor) % MODULUS > HOUR):
            # By its distance behind the newest, not from a floor moved back: of two members whose clocks are
            # 97 days apart exactly one refuses the other, and learns.
            if HOUR <= (self.newest - time) % MODULUS < _HALF:
                return False
        elif floor is not None and not newer(time, floor):
            return False
        if source not in self.floors and len(self.floors) >= MAX_SOURCES:
            del self.floors[next(iter(self.floors))]
        self.floors[source] = time
        self.newest = time if self.newest is None else latest(time, self.newest)
        return True

    def raise_floors(self, sources: Iterable[Address], time: int) -> None:
        """Believe nothing older than ``time`` from any source of a member: it said so over one of them.

        A bow-out over one family must not be undone by an older advert that was under way over the other.
        """
        for source in sources:
            floor = self.floors.get(source.packed)
            if floor is None or newer(time, floor):
                self.floors[source.packed] = time
