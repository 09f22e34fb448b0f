"""When the election loop wakes up next, and whether it stood still before it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.timers import SystemClock, Timer

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from carp.core.timing import Timing
    from carp.core.vhost import Vhost

MAX_PATIENCE: Final = 0.5
"""s; how long the loop may be silent: L/4 at the defaults, which is also how often a master advertises."""
HEARTBEAT: Final = 1.1
"""Patiences after which the loop wakes up in any case."""
WATCHFUL: Final = 0.25
"""Likewise while a backup hears no master."""
STALL: Final = 1.2
"""Patiences of silence that are a stall."""
LATE: Final = 0.005
"""s; a timer later than this reads the sockets before it fires."""


def patience(timings: Iterable[Timing]) -> float:
    """Return for how many seconds the loop may be silent."""
    return min([MAX_PATIENCE, *(min(t.dead_time() / 3, t.lifetime() / 4) for t in timings)])


def heartbeat(now: float, vhosts: Iterable[Vhost]) -> float:
    """Return after how many patiences the loop wakes up in any case."""
    silent = any(vhost.backup is not None and vhost.backup.silent(now) for vhost in vhosts)
    return WATCHFUL if silent else HEARTBEAT


class Pulse:
    """The engine's timer: it fires at the next deadline, or to find out in time that the loop did not run.

    Silence tells how long the loop stood still at most: it includes the sleep before. So while a backup
    counts down to its takeover the sleeps are short. With long ones a delay of 50 ms at the wrong moment
    would pass for a stall, after which a backup counts anew.
    """

    def __init__(self) -> None:
        """Make the timer, not armed. Raises OSError."""
        self._timer = Timer()
        self._patience = MAX_PATIENCE
        self._beat = HEARTBEAT * MAX_PATIENCE
        self._awake_at = SystemClock.now()
        self._armed_at = self._next_due = 0.0

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._timer.fileno()

    def tune(self, timings: Iterable[Timing]) -> None:
        """Take over the settings of all vhosts."""
        self._patience = patience(timings)

    def stall(self, now: float) -> float:
        """Begin a turn; return for how many seconds the loop stood still, 0 if it did not."""
        gap, self._awake_at = now - self._awake_at, now
        return gap if gap > STALL * self._patience else 0.0

    def fired(self) -> None:
        """Take note that the timer has fired."""
        self._timer.clear()

    def is_late(self, now: float) -> bool:
        """Whether so much time has passed since a deadline that the sockets come first."""
        return now - self._armed_at > LATE

    def is_due(self, now: float) -> bool:
        """Whether a deadline has come."""
        return now >= self._armed_at

    def woken(self, now: float) -> None:
        """Packets have woken us: the wake-up that only proves that we run can be later."""
        if self._armed_at < self._next_due and self._armed_at - now < self._patience / 2:
            self._arm(min(self._next_due, now + self._beat))

    def rearm(self, now: float, vhosts: Collection[Vhost]) -> None:
        """Arm the timer for the next deadline of all, or for the next sign of life."""
        self._next_due = min((vhost.deadline() for vhost in vhosts), default=now + self._patience)
        self._beat = heartbeat(now, vhosts) * self._patience
        self._arm(min(self._next_due, now + self._beat))

    def hurry(self, due: float) -> None:
        """Arm the timer for an earlier deadline; a later one re-arms itself when the timer fires."""
        if due < self._armed_at:
            self._next_due = due
            self._arm(due)

    def close(self) -> None:
        """Give the timer back."""
        self._timer.close()

    def _arm(self, at: float) -> None:
        self._armed_at = at
        self._timer.arm(at)
