"""When a backup sends a bow-out to a master whose seal is too old for us: it answers, sealed later than that.

A bow-out is no claim. Without it a clock that was ahead would lock us out: we would neither believe the
master nor claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core import events as ev

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.events import Effect

TEACH_EVERY: Final = 1.0
FRESH: Final = 0.05
"""s for which the last advert of a loser still says something."""


class Teacher:
    """Bows out at most once a second: backups of others may take it for their master's."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._next = 0.0

    def refused(self, now: float) -> Sequence[Effect]:
        """Return what to say to a master whose advert was refused as too old."""
        if now < self._next:
            return ()
        self._next = now + TEACH_EVERY
        return (ev.Send(bow_out=True, until=now + FRESH),)
