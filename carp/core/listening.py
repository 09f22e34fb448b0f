"""The first claim: listen, ask by ARP and neighbour discovery, then claim or say who is in the way.

Design.md section 5: never INIT -> MASTER. An answered probe only defers, since the kernel of a killed
owner goes on answering until its lease ends; still answered after dead time + 1.2 s without an advert,
it is an address conflict.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from carp.core import events as ev

if TYPE_CHECKING:
    from carp.core.auth import Address

PROBES: Final = 3
PROBE_SPACING: Final = 0.1
PROBE_LEAD: Final = PROBES * PROBE_SPACING
LEASE_TAIL: Final = 1.2
"""s; a killed owner's kernel answers at most this much longer than our dead time."""


class Step(enum.Enum):
    """What is due."""

    WAIT = 0
    PROBE = 1
    CLAIM = 2
    CONFLICT = 3


class Listening:
    """One member's way to its first claim. Times in seconds of the monotonic clock."""

    def __init__(self, now: float, *, listen: float, dead_time: float) -> None:
        """``listen`` is how long to wait for an advert before the first claim."""
        self._dead_time = dead_time
        self._limits = [now + dead_time, now + dead_time + LEASE_TAIL]
        self.answered: tuple[Address, bytes] | None = None
        self.conflict: tuple[Address, bytes] | None = None
        self._aim(now, now + listen)

    def _aim(self, now: float, claim_at: float) -> None:
        self._claim_at = max(claim_at, now + PROBE_LEAD)
        self._probes_left = PROBES

    def due(self) -> float:
        """Return when the next step is."""
        return self._claim_at - self._probes_left * PROBE_SPACING

    def answer(self, address: Address, mac: bytes) -> None:
        """Take note that somebody uses an address."""
        if self._probes_left < PROBES:
            self.answered = (address, mac)

    def step(self, now: float) -> Step:
        """Return what is due at ``now`` and move on to the next step."""
        if now < self.due():
            return Step.WAIT
        if self._probes_left:
            self._probes_left -= 1
            # A late probe needs time for its answer as well.
            self._claim_at = max(self._claim_at, now + (self._probes_left + 1) * PROBE_SPACING)
            return Step.PROBE
        if self.answered is None:
            return Step.CLAIM
        answered, self.answered = self.answered, None
        if self._limits:
            self._aim(now, self._limits.pop(0))
            return Step.WAIT
        self._aim(now, now + self._dead_time)
        is_new = self.conflict is None or self.conflict[1] != answered[1]
        self.conflict = answered
        return Step.CONFLICT if is_new else Step.WAIT


def conflict_over(master: Address) -> ev.Notice:
    """Say that an address that somebody answered for has an owner whom we know."""
    return ev.Notice("conflict-over", f"{master} is master; the conflict is over", warning=False)
