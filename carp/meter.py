"""What the engine tells whoever counts. On the election's path, so plain calls and no return values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from carp.core.master import Master
    from carp.core.vhost import Vhost
    from carp.core.wire import Advert


class Meter:
    """Counts what happens; this one counts nothing."""

    def sent(self, vhost: Vhost, count: int, late: float | None) -> None:
        """Take note of a round of adverts; ``late``: s after it was due, None where no time was set."""

    def heard(self, vhost: Vhost, master: Master | None, advert: Advert, now: float) -> None:
        """Take note of an advert that was believed; ``master`` is what the vhost was as master before it."""

    def renewed(self, vhost: Vhost) -> None:
        """Take note of a renewal of the addresses' lifetime."""

    def announced(self, vhost: Vhost) -> None:
        """Take note of a round of announcements."""

    def stalled(self, seconds: float) -> None:
        """Take note that the loop stood still."""

    def turned(self, now: float) -> None:
        """Take note that the loop turns and lets time pass; called at most four times a second."""


UNMETERED: Final = Meter()
