"""The backup's part of the machine: how long to wait for a master, and when to take over from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from carp.core import events as ev
from carp.core.config import PreemptMode, SealMode
from carp.core.election import Standing, compare
from carp.core.listening import PROBE_LEAD, Listening, Step
from carp.core.timing import interval
from carp.core.transitions import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.core.events import Effect
    from carp.core.wire import Advert

STAGGER: Final = 0.001
"""s per unit of advskew between the takeovers of several backups that hear the same advert."""
JITTER: Final = 0.08
"""s at most between backups of equal skew."""

QUIET: Final = 1 / 6
"""Of the dead time: as long as our masters leave between two adverts, and a little more."""
FAILED_CLAIM_DELAY: Final = 0.5
"""s, and as much again at random, by which a member whose last claim failed heeds a bow-out later."""
CLAIM_JITTER: Final = 0.01
"""s at most between members that start together; small, so that the best placed still claims first."""


class Takeover(NamedTuple):
    """A takeover that is due at ``at``, and from whom."""

    at: float
    cause: Cause
    peer: str | None


class Backup:
    """What a vhost in state BACKUP waits for. Made anew each time it becomes one."""

    def __init__(
        self,
        config: VhostConfig,
        chance: Callable[[], float],
        now: float,
        *,
        dead_time: float,
        extra: float = 0.0,
        hold: float = 0.0,
        late: bool = False,
    ) -> None:
        """Arm the first dead time.

        ``extra``: s added to it; ``hold``: s for which we do not preempt; ``late``: and heed a bow-out later
        than others, since our last claim failed and would only keep them from theirs.
        """
        self.config = config
        self.heard_at = now
        self._chance = chance
        self._dead_time = dead_time
        self._dead_at = now + dead_time + extra
        self._hold_until = now + hold
        self._late = late
        self._takeover: Takeover | None = None
        self._worse_since: float | None = None
        self.listening: Listening | None = None

    def listen(self, now: float, advskew: int) -> None:
        """Start listening before a first claim.

        One interval where all members are ours, else base + 1 s: any skew a master may have.
        """
        timing = self.config.timing
        own_members = self.config.seal is SealMode.SEALED
        listen = interval(timing.advbase, timing.advskew) if own_members else timing.advbase + 1.0
        listen += STAGGER * advskew + CLAIM_JITTER * self._chance()
        if self.config.first_claimant:
            listen = PROBE_LEAD
        self.listening = Listening(now, listen=listen, dead_time=self._dead_time)

    def due(self) -> float:
        """Return when `tick` has something to do."""
        due = self._dead_at if self.listening is None else self.listening.due()
        return due if self._takeover is None else min(due, self._takeover.at)

    def silent(self, now: float) -> bool:
        """Whether no master is heard: a takeover comes nearer."""
        return self.listening is not None or now - self.heard_at > QUIET * self._dead_time

    def retime(self, config: VhostConfig, dead_time: float, skew_change: int) -> None:
        """Take over new settings; the wait goes on from the advert heard last.

        ``skew_change``: by how much the skew on the wire grew. A planned takeover moves with it: a demotion
        that comes after the master's bow-out lets the others go first all the same.
        """
        self.config = config
        if self._takeover is not None:
            self._takeover = self._takeover._replace(at=self._takeover.at + STAGGER * skew_change)
        self._dead_at += dead_time - self._dead_time
        self._dead_time = dead_time

    def stalled(self, now: float, advskew: int) -> None:
        """Wait a full dead time: adverts that came meanwhile were discarded unread."""
        self._takeover = None
        self._dead_at = now + self._dead_time
        if self.listening is not None:
            self.listen(now, advskew)

    @property
    def conflict(self) -> tuple[Address, bytes] | None:
        """Who answers for an address of ours although no master is heard."""
        return None if self.listening is None else self.listening.conflict

    def hear(
        self,
        own: tuple[int, int, int],
        advert: Advert,
        source: Address,
        now: float,
        *,
        rivals: tuple[bool, bool],
    ) -> None:
        """Take in a master's ordinary advert.

        ``rivals``: whether anybody, and whether anybody but this master, was heard with our interval.
        """
        self.listening = None
        self.heard_at = now
        self._dead_at = now + self._dead_time + self._jitter(wanted=rivals[1])
        cause = self._reason_to_take_over(own, advert, now)
        if cause is None:
            self._takeover = None
        elif self._takeover is None:
            self._plan(cause, own[1], source, now, jitter=rivals[0])

    def hear_bow_out(self, advskew: int, source: Address, now: float, *, jitter: bool) -> None:
        """Take over from a master that goes, staggered by skew."""
        if self._late and now < self._hold_until:
            now += FAILED_CLAIM_DELAY * (1 + self._chance())
        if self._takeover is None:
            self._plan(Cause.BOW_OUT, advskew, source, now, jitter=jitter)

    def _plan(self, cause: Cause, advskew: int, source: Address, now: float, *, jitter: bool) -> None:
        at = now + STAGGER * advskew + self._jitter(wanted=jitter)
        self._takeover = Takeover(at, cause, str(source))

    def _jitter(self, *, wanted: bool) -> float:
        return JITTER * self._chance() if wanted else 0.0

    def _reason_to_take_over(self, own: tuple[int, int, int], theirs: Advert, now: float) -> Cause | None:
        """Return which line of carp-protocol.md section 5.3 lets us take over from a living master."""
        held = now < self._hold_until
        if theirs.demotion > own[2] and not held:
            return Cause.PEER_DEMOTED
        preempt = self.config.preempt
        if preempt.mode is PreemptMode.NEVER or compare(own, theirs) is not Standing.WORSE:
            self._worse_since = None
        elif not held:
            self._worse_since = now if self._worse_since is None else self._worse_since
            if preempt.mode is PreemptMode.ALWAYS or now - self._worse_since >= preempt.after:
                return Cause.PREEMPTED
        return Cause.PEER_TOO_SLOW if self.config.timing.times_out(theirs) else None

    def tick(self, now: float) -> tuple[Sequence[Effect], Takeover | None]:
        """Return what is due: effects, or the takeover whose time has come."""
        if self._takeover is not None and self._takeover.at <= now:
            return (), self._takeover
        if self.listening is not None:
            return self._tick_listening(self.listening, now)
        if self._dead_at <= now:
            return (), Takeover(now, Cause.DEAD_TIME, None)
        return (), None

    def _tick_listening(self, waiting: Listening, now: float) -> tuple[Sequence[Effect], Takeover | None]:
        step = waiting.step(now)
        if step is Step.PROBE:
            return (ev.Probe(),), None
        if step is Step.CLAIM:
            return (), Takeover(now, Cause.FIRST_CLAIM, None)
        if step is Step.CONFLICT and waiting.conflict is not None:
            address, mac = waiting.conflict
            text = f"{address} is in use by {mac.hex(':')}, which sends no adverts of this vhid and password"
            return (ev.Notice("conflict", text),), None
        return (), None
