"""Two masters of equal interval: who stays (design.md section 5)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from carp.core.auth import Address

FOREIGN_JITTER: Final = (0.5, 1.5)
"""s added to the dead time after yielding to a foreign master with our interval."""
V6_PATIENCE: Final = 1.0
"""s; a tie that lasts this long over IPv6 alone is decided by IPv6 sources. Not a number of adverts: several
may leave at once and overtake those of the other family."""


class Verdict(enum.Enum):
    """What to do about a tie."""

    STAY = "stay"
    YIELD = "yield"
    YIELD_AND_JITTER = "yield, and come back at a random time"
    WAIT = "wait for the other family's advert"


class Ties:
    """Judges ties of one vhost: one verdict for both families, by the IPv4 source where it has one."""

    def __init__(self) -> None:
        """Begin with no tie seen."""
        self._v6_since: float | None = None

    def heard_v4(self) -> None:
        """Take note that IPv4 adverts arrive, so that a tie is theirs to decide."""
        self._v6_since = None

    def judge(self, source: Address, own: tuple[Address, ...], now: float, *, sealed: bool) -> Verdict:
        """Return the verdict on a tie with the sender at ``source``.

        Ours against ours: the lower source stays. A foreign one compares in its own way or always
        yields, so yield to it and come back later and at random.
        """
        ours = next((s for s in own if s.version == source.version), None)
        if not sealed or ours is None or ours == source:
            return Verdict.YIELD_AND_JITTER
        if source.version == 6 and len(own) > 1:
            self._v6_since = now if self._v6_since is None else self._v6_since
            if now - self._v6_since < V6_PATIENCE:
                return Verdict.WAIT
        return Verdict.STAY if int(ours) < int(source) else Verdict.YIELD
