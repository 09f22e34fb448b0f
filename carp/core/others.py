"""What a vhost knows of the other members: the master heard last, and who has our interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core.snapshot import MasterSeen

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.timing import Timing
    from carp.core.wire import Advert

MAX_RIVALS: Final = 64


class Others:
    """Members as heard; backups are silent, so most are never seen here."""

    def __init__(self) -> None:
        """Begin knowing nobody."""
        self.master: MasterSeen | None = None
        self._rivals: set[Address] = set()

    def note(self, advert: Advert, source: Address, now: float, timing: Timing, *, sealed: bool) -> None:
        """Take note of an ordinary advert; ``timing`` is ours."""
        self.master = MasterSeen.after(self.master, advert, source, now, sealed=sealed)
        if advert.advbase != timing.advbase or advert.advskew != timing.advskew:
            self._rivals.discard(source)
        elif len(self._rivals) < MAX_RIVALS:
            self._rivals.add(source)

    def is_master(self, source: Address) -> bool:
        """Whether the master heard last sends from ``source``."""
        return source in self.sources()

    def sources(self) -> tuple[Address, ...]:
        """Return the sources of the master heard last, at most one per family."""
        return () if self.master is None else self.master.sources

    def have_our_interval(self, *, besides_master: bool = False) -> bool:
        """Whether anybody, or anybody but the master, was heard with our interval and may act when we do."""
        if besides_master and self.master is not None:
            return not self._rivals.issubset(self.master.sources)
        return bool(self._rivals)
