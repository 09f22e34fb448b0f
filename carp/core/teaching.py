"""When a backup sends a bow-out to the master, that it may learn something: the master answers and announces.

A bow-out is no claim. Backups of other implementations take one for their master's, so it is sent for a
reason only, and at most once a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.transitions import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.events import Effect

TEACH_EVERY: Final = 1.0
FRESH: Final = 0.05
"""s for which the last advert of a loser still says something."""


class Teacher:
    """Knows whether the master may lack something that we know."""

    def __init__(self) -> None:
        """Nothing to say yet."""
        self._next = 0.0
        self._unheard = False

    def let_go(self, cause: Cause) -> None:
        """Take note of how we ceased to be master: without a word, clients may go on asking us."""
        self._unheard = cause in {Cause.LEASE_LAPSED, Cause.LINK_DOWN}

    def heard(self, now: float, *, sealed_only: bool) -> Sequence[Effect]:
        """Say to a master that is heard for the first time since that it has to announce again."""
        speak, self._unheard = self._unheard and sealed_only, False
        return self._bow_out(now) if speak else ()

    def refused(self, now: float) -> Sequence[Effect]:
        """Say to a master whose seal is too old for us what time it is: it answers, sealed later than that.

        Without it a clock that was ahead would lock us out: we would neither believe the master nor claim.
        """
        return self._bow_out(now) if now >= self._next else ()

    def _bow_out(self, now: float) -> Sequence[Effect]:
        self._next = now + TEACH_EVERY
        return (ev.Send(bow_out=True, until=now + FRESH),)
