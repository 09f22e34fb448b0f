"""The master's part of the machine: advertise and renew, announce, hand over, know a lapsed lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.leaving import Leaving, Purpose, Step
from carp.core.timing import grid
from carp.core.transitions import Cause

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.config import VhostConfig
    from carp.core.events import Effect
    from carp.core.seal import Seal

NEVER: Final = float("inf")
V6_SETTLE: Final = 0.01
"""s until an IPv6 address that was added is announced."""
REASSERT: Final = 0.2
"""s between two announcements that answer adverts of a worse master."""
QUICK: Final = 5
"""Such announcements before they come as in a series; again after the end of one."""
_ADVERT: Final = (ev.Send(),)
_ADVERT_AND_RENEWAL: Final = (ev.Send(), ev.Renew())


class Master:
    """What a vhost in state MASTER does. Made anew each time it becomes one."""

    def __init__(self, config: VhostConfig, period: float, seal: Seal, now: float) -> None:
        """``period``: s between adverts; ``seal``: the times of what we send."""
        self.config = config
        self.period = period
        self._seal = seal
        self._lifetime = config.timing.lifetime()
        self.leaving: Leaving | None = None
        self._advert_at = grid(now, period)
        self._announce_at = NEVER
        self._announce_left = 0
        self._announced_at = -NEVER
        self._quick_left = QUICK
        self._hold_later = False

    def due(self) -> float:
        """Return when `tick` has something to do."""
        return min(self._advert_at, self._announce_at) if self.leaving is None else self.leaving.due()

    def retime(self, config: VhostConfig, period: float, now: float) -> None:
        """Take over new settings from now on."""
        self.config = config
        self.period = period
        self._lifetime = config.timing.lifetime()
        self._advert_at = min(self._advert_at, grid(now, period))

    def hold(self, now: float) -> Sequence[Effect]:
        """Hold what the settings say now, and announce it; one that leaves only if it stays after all.

        An ordinary advert in the middle of a handover would make the successor yield.
        """
        if self.leaving is not None:
            self._hold_later = True
            return ()
        self._hold_later = False
        return (ev.Send(), ev.Hold(), *self.announce(now))

    def advertise(self, now: float, lapses_at: float) -> Sequence[Effect]:
        """Send an advert and renew, in this order; at short intervals renew only as often as L/4 asks.

        Every renewal wakes each listener for addresses on the host: twice a second is fine, ten times
        is not (libraries.md).
        """
        self._advert_at = grid(now, self.period)
        left_at_next = lapses_at - now - self.period
        needed = self.config.fenced and left_at_next < self._lifetime * 0.75
        return _ADVERT_AND_RENEWAL if needed else _ADVERT

    def announce(self, now: float) -> Sequence[Effect]:
        """Start a series of announcements.

        With IPv6 a moment later: the kernel makes an added address reachable in a work queue of its own,
        and nobody should turn to us before.
        """
        self._announce_left = self.config.announce.count
        if 6 in self.config.families:
            soon = now + V6_SETTLE
            self._announce_at = min(soon, self._announce_at) if self._announce_at > now else soon
            return ()
        return self._announce_round(now)

    def _announce_round(self, now: float) -> Sequence[Effect]:
        settings = self.config.announce
        self._announced_at = now
        self._announce_left -= 1
        if self._announce_left > 0:
            self._announce_at = now + settings.interval
        else:
            self._announce_at = now + settings.refresh if settings.refresh else NEVER
            self._quick_left = QUICK
        return (ev.Announce(),)

    def reassert(self, now: float, lapses_at: float) -> Sequence[Effect]:
        """Answer a worse master at once and announce again: caches may have turned to it.

        In the middle of a series too, whose next round may be a second away; where that goes on, only as
        often as in a series.
        """
        again_at = self._announced_at + (REASSERT if self._quick_left else self.config.announce.interval)
        sooner = again_at < self._announce_at
        self._announce_left = self.config.announce.count
        if sooner:
            self._announce_at = again_at
            self._quick_left = max(0, self._quick_left - 1)
        announced = self.announce(now) if now >= again_at else ()
        return (*self.advertise(now, lapses_at), *announced)

    def leave(self, purpose: Purpose, now: float, *, release: bool = False) -> Sequence[Effect]:
        """Start a handover, or change the purpose of the one under way."""
        old = self.leaving
        if old is not None and release:
            old.release = True
        if old is not None and (old.purpose is Purpose.STOP or purpose is not Purpose.STOP):
            return ()
        self.leaving = Leaving(now, purpose, self._seal, release=release)
        if old is not None and old.answered_at is not None:
            self.leaving.answer(old.answered_at)
            return ()
        self.leaving.step(now)
        return self._bow_out()

    def _bow_out(self) -> Sequence[Effect]:
        """Cede before saying that we go: then an overlap ends even if we are killed in the middle."""
        return (ev.Cede(), ev.Send(bow_out=True)) if self.config.fenced else (ev.Send(bow_out=True),)

    def tick(self, now: float, lapses_at: float) -> tuple[Sequence[Effect], Cause | None]:
        """Return what is due, and why we let go if we do; ``lapses_at`` is the end of the lease."""
        if now > lapses_at:
            return (), Cause.LEASE_LAPSED
        if self.leaving is not None:
            return self._tick_leaving(self.leaving, now, lapses_at)
        effects: tuple[Effect, ...] = ()
        if self._advert_at <= now:
            effects += tuple(self.advertise(now, lapses_at))
        if self._announce_at <= now:
            effects += tuple(self._announce_round(now))
        return effects, None

    def _tick_leaving(
        self, handover: Leaving, now: float, lapses_at: float
    ) -> tuple[Sequence[Effect], Cause | None]:
        stops = handover.purpose is Purpose.STOP
        match handover.step(now):
            case Step.BOW_OUT:
                return self._bow_out(), None
            case Step.LET_GO:
                return (), Cause.STOPPED if stops else Cause.HANDED_OVER
            case Step.UNANSWERED if stops:
                return (), Cause.STOPPED
            case Step.UNANSWERED:
                self.leaving = None
                text = f"nobody answered the bow-out ({handover.purpose.value}): staying master"
                held = self.hold(now) if self._hold_later else ()
                return (*self.advertise(now, lapses_at), *held, ev.Notice("unanswered", text)), None
        return (), None
