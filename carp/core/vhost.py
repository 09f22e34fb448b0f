"""The machine of one vhost: events in, effects out, time and chance as arguments.

`handle` takes an event, `tick` lets time pass, `deadline` says when to tick next. The state is assigned
before the effects are carried out; effects keep the order of design.md rule 4: advert, addresses,
announcements, script. The runner reports back what the kernel did (`renewed`) and what went wrong
(`ClaimFailed`, `LeaseLapsed`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.backup import Backup
from carp.core.config import held_difference
from carp.core.election import Standing, compare
from carp.core.errors import DropReason, MisuseError
from carp.core.leaving import Purpose, farewell
from carp.core.listening import conflict_over
from carp.core.master import Master
from carp.core.others import Others
from carp.core.seal import Seal
from carp.core.signer import Signer
from carp.core.snapshot import Snapshot, take
from carp.core.teaching import FRESH, Teacher
from carp.core.ties import FOREIGN_JITTER, Ties, Verdict
from carp.core.timing import MAX_DEMOTION, demoted_skew
from carp.core.transitions import Cause, State, next_state
from carp.core.wire import BOW_OUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.auth import Address
    from carp.core.backup import Takeover
    from carp.core.config import VhostConfig
    from carp.core.events import Effect, Event
    from carp.core.wire import Advert

NEVER: Final = float("inf")
FAILED_CLAIM_HOLD: Final = 10
"""Dead times without preempting after a takeover that the kernel refused."""


class Vhost:
    """One vhid on one interface."""

    def __init__(
        self, config: VhostConfig, *, chance: Callable[[], float], seal: Seal | None = None, now: float = 0.0
    ) -> None:
        """``chance`` returns a number in [0, 1); ``seal`` carries the times of an earlier run."""
        self.config = config
        self.state = State.INIT
        self.since = now
        self.reason = "starting"
        self.transitions = 0
        self.cause = ""
        self.signer = Signer(config, Seal() if seal is None else seal)
        self.sources: tuple[Address, ...] = ()
        self.demotions: dict[str, int] = {}
        self.drops: Counter[DropReason] = Counter()
        self.others = Others()
        self.stopped = False
        self.left_lease = False
        """Whether it stopped with nobody to take over, so that its addresses stay until their lease ends."""
        self.lapses_at = NEVER
        """When the lease of a master ends; never while there is none."""
        self._header: tuple[int, int, int] | None = None
        self._chance = chance
        self._started = False
        self.backup: Backup | None = None
        self.master: Master | None = None
        self._ties = Ties()
        self._teacher = Teacher()

    @property
    def demotion(self) -> int:
        """The sum of all demotions, at most 254."""
        return min(sum(self.demotions.values()), MAX_DEMOTION)

    @property
    def listening(self) -> bool:
        """Whether answers to our probes matter now."""
        return self.backup is not None and self.backup.listening is not None

    @property
    def holds(self) -> bool:
        """Whether we are a master that has its addresses."""
        return self.master is not None and (self.has_lease or not self.config.fenced)

    def header(self, *, bow_out: bool = False) -> tuple[int, int, int]:
        """Return (advbase, advskew, byte 4) of our next advert."""
        if self._header is None:
            timing, demotion = self.config.timing, self.demotion
            self._header = timing.advbase, demoted_skew(timing.advskew, demotion), demotion
        if not bow_out:
            return self._header
        leaving = None if self.master is None else self.master.leaving
        stops = leaving is not None and leaving.purpose is Purpose.STOP
        return BOW_OUT, BOW_OUT, 255 if stops else self._header[2]

    def period(self) -> float:
        """Return how often we advertise as master, in seconds."""
        return self.config.timing.advert_period(self.demotion, fenced=self.config.fenced)

    def dead_time(self) -> float:
        """Return how long we wait for an advert as backup, in seconds."""
        return self.config.timing.dead_time(self.demotion)

    def deadline(self) -> float:
        """Return when `tick` has something to do; infinity when nothing is planned."""
        if self.backup is not None:
            return self.backup.due()
        return NEVER if self.master is None else self.master.due()

    @property
    def has_lease(self) -> bool:
        """Whether we are a master whose addresses have a lifetime."""
        return self.lapses_at != NEVER

    def renewed(self, at: float, lifetime: float) -> None:
        """Take note that a lease of ``lifetime`` seconds began at ``at`` or a little later."""
        if self.master is not None:
            self.lapses_at = at + lifetime

    def snapshot(self) -> Snapshot:
        """Return what there is to show."""
        return take(self)

    def handle(self, event: Event, now: float) -> Sequence[Effect]:
        """Take in one event and return what it leads to."""
        match event:
            case ev.Heard(advert, source):
                return self._hear(advert, source, now)
            case ev.LinkUp() | ev.LinkDown() | ev.Resume():
                return self._link(event, now)
            case ev.Answered(address, mac):
                if self.backup is not None and self.backup.listening is not None:
                    self.backup.listening.answer(address, mac)
                return ()
            case ev.Reconfigure(config):
                return self._reconfigure(config, now)
            case ev.Demote(reason, amount):
                return self._demote(reason, amount, now)
            case ev.Stop(release):
                return self._stop(now, release=release)
            case ev.Stalled() if self.backup is not None:
                self.backup.stalled(now, self.header()[1])
                return ()
        return () if self.master is None else self._handle_as_master(event, self.master, now)

    def _handle_as_master(self, event: Event, master: Master, now: float) -> Sequence[Effect]:
        match event:
            case ev.StepDown():
                return master.leave(Purpose.STEP_DOWN, now)
            case ev.LeaseLapsed():
                return self._let_go(Cause.LEASE_LAPSED, now)
            case ev.ClaimFailed(reason):
                self.reason = reason
                # Whoever has heard our advert must not wait for us: the next one takes over at once.
                bow_out = ev.Send(bow_out=True, until=now + FRESH)
                return (bow_out, *self._let_go(Cause.CLAIM_FAILED, now, extra=self.dead_time()))
            case ev.Stalled() if now > self.lapses_at:
                return self._let_go(Cause.LEASE_LAPSED, now)
            case ev.AddressGone() if master.leaving is None and self.config.manage:
                return (ev.Send(), ev.Hold(), ev.Announce())
            case ev.ScriptEnded() if not self.config.manage:
                return master.announce(now)
        return ()

    def tick(self, now: float) -> Sequence[Effect]:
        """Do what is due at ``now``."""
        if self.backup is not None:
            effects, takeover = self.backup.tick(now)
            return effects if takeover is None else self._take_over(takeover, now)
        if self.master is None:
            return ()
        effects, cause = self.master.tick(now, self.lapses_at)
        if cause is Cause.STOPPED:
            return self._end(self.master, now)
        return effects if cause is None else self._let_go(cause, now)

    def _change(self, cause: Cause, now: float, peer: str | None = None) -> ev.Changed:
        old, self.state = self.state, next_state(self.state, cause)
        self.since = now
        self.transitions += 1
        self.cause = cause.value
        self.backup = self.master = None
        self.lapses_at = NEVER
        return ev.Changed(old, self.state, cause, peer)

    def _link(self, event: ev.LinkUp | ev.LinkDown | ev.Resume, now: float) -> Sequence[Effect]:
        if isinstance(event, ev.LinkUp):
            return self._link_up(event.sources, now)
        if isinstance(event, ev.Resume):
            return self._resume(event.sources, event.expires, now)
        said, self.reason = self.reason == event.reason, event.reason
        if self.state is State.INIT:
            return () if said or self.stopped else (ev.Notice("waiting", event.reason),)
        return self._let_go(Cause.LINK_DOWN, now)

    def _link_up(self, sources: tuple[Address, ...], now: float) -> Sequence[Effect]:
        self.sources = sources
        if self.state is not State.INIT or self.stopped:
            return ()
        self.reason = ""
        changed = self._change(Cause.LINK_UP, now)
        self.backup = Backup(self.config, self._chance, now, dead_time=self.dead_time())
        self.backup.listen(now, self.header()[1])
        first, self._started = not self._started, True
        if first and not self.config.scripts.neutral:
            return changed, ev.Script(up=False)
        return (changed,)

    def _resume(self, sources: tuple[Address, ...], expires: float, now: float) -> Sequence[Effect]:
        self.sources, self.reason, self._started = sources, "", True
        changed = self._change(Cause.LEASE_RESUMED, now)
        self.master = Master(self.config, self.period(), self.signer.seal, now)
        self.renewed(now, expires - now)
        # The last run may have called the down script at its end.
        up = ev.Script(up=True)
        return (changed, *self.master.advertise(now, self.lapses_at), *self.master.announce(now), up)

    def _take_over(self, takeover: Takeover, now: float) -> Sequence[Effect]:
        self.reason = ""
        changed = self._change(takeover.cause, now, takeover.peer)
        self.master = Master(self.config, self.period(), self.signer.seal, now)
        if not self.config.manage and self.config.scripts.up:
            # Announced only once the script has added the address (`ScriptEnded`).
            return changed, ev.Send(until=now + FRESH), ev.Script(up=True)
        hold = (ev.Hold(),) if self.config.manage else ()
        return changed, ev.Send(until=now + FRESH), *hold, *self.master.announce(now), ev.Script(up=True)

    def _let_go(
        self, cause: Cause, now: float, peer: str | None = None, *, extra: float = 0.0
    ) -> Sequence[Effect]:
        """Leave BACKUP or MASTER; ``extra`` seconds are added to the dead time that follows."""
        leaving = None if self.master is None else self.master.leaving
        was_master = self.master is not None
        changed = self._change(cause, now, peer)
        if self.state is State.BACKUP:
            stepped_down = leaving is not None and leaving.purpose is Purpose.STEP_DOWN
            failed = cause is Cause.CLAIM_FAILED
            holds = FAILED_CLAIM_HOLD if failed else int(stepped_down)
            dead = self.dead_time()
            self.backup = Backup(
                self.config, self._chance, now, dead_time=dead, extra=extra, hold=holds * dead, late=failed
            )
        if not was_master:
            return (changed,)
        release = (ev.Release(self.config.addresses),) if self.config.manage else ()
        stops = leaving is not None and leaving.purpose is Purpose.STOP
        return (changed, *release, ev.Script(up=False), *(self._stop(now, release=True) if stops else ()))

    # --- adverts ---------------------------------------------------------------------------------

    def _hear(self, advert: Advert, source: Address, now: float) -> Sequence[Effect]:
        if self.state is State.INIT:
            return self._drop(DropReason.INACTIVE)
        verdict = self.signer.judge(advert, source, self.sources)
        if isinstance(verdict, DropReason):
            teach = verdict is DropReason.REPLAY and self.listening
            return (*self._drop(verdict), *(self._teacher.refused(now) if teach else ()))
        if source.version == 4:
            self._ties.heard_v4()
        if self.master is not None:
            return self._hear_as_master(self.master, advert, source, now, sealed=verdict.sealed)
        if self.backup is not None:
            conflict = self.backup.conflict
            self._hear_as_backup(self.backup, advert, source, now, sealed=verdict.sealed)
            if not advert.is_bow_out:
                return () if conflict is None else (conflict_over(source),)
        return ()

    def _drop(self, reason: DropReason) -> Sequence[Effect]:
        self.drops[reason] += 1
        return (ev.Dropped(reason),)

    def _hear_as_backup(
        self, backup: Backup, advert: Advert, source: Address, now: float, *, sealed: bool
    ) -> None:
        own = self.header()
        if advert.is_bow_out:
            # Only from the master heard last, and not when we are demoted more than a member of ours is.
            if not self.others.is_master(source) or (sealed and own[2] > advert.demotion):
                return
            if sealed:
                self.signer.seal.raise_floors(self.others.sources(), advert.counter >> 32)
            backup.hear_bow_out(own[1], source, now, jitter=self.others.have_our_interval())
            return
        if self.cause == Cause.CLAIM_FAILED.value:
            self.reason = ""  # somebody else could: whatever was in the way, nobody waits for it
        self.others.note(advert, source, now, self.config.timing, sealed=sealed)
        rivals = self.others.have_our_interval(), self.others.have_our_interval(besides_master=True)
        backup.hear(own, advert, source, now, rivals=rivals)

    def _hear_as_master(
        self, master: Master, advert: Advert, source: Address, now: float, *, sealed: bool
    ) -> Sequence[Effect]:
        if now > self.lapses_at:
            return self._let_go(Cause.LEASE_LAPSED, now)
        if master.leaving is not None:
            if not advert.is_bow_out:
                self.others.note(advert, source, now, self.config.timing, sealed=sealed)
                master.leaving.answer(now, advert.counter >> 32 if sealed else None)
            return ()
        if advert.is_bow_out:
            return master.reassert(now, self.lapses_at)
        standing = compare(self.header(), advert)
        if standing is Standing.WORSE:
            return master.reassert(now, self.lapses_at)
        if standing is Standing.TIE:
            return self._tie(master, advert, source, now, sealed=sealed)
        return self._lose(Cause.BETTER_MASTER, advert, source, now, sealed=sealed)

    def _lose(
        self, cause: Cause, advert: Advert, source: Address, now: float, *, sealed: bool
    ) -> Sequence[Effect]:
        """Yield with one last advert: the winner then announces again, since caches may hold our MAC."""
        self.others.note(advert, source, now, self.config.timing, sealed=sealed)
        return (ev.Send(until=now + FRESH), *self._let_go(cause, now, str(source)))

    def _tie(
        self, master: Master, advert: Advert, source: Address, now: float, *, sealed: bool
    ) -> Sequence[Effect]:
        verdict = self._ties.judge(source, self.sources, now, sealed=sealed)
        if verdict is Verdict.WAIT:
            return ()
        if verdict is Verdict.STAY:
            return master.reassert(now, self.lapses_at)
        if verdict is Verdict.YIELD:
            return self._lose(Cause.TIE_LOST, advert, source, now, sealed=sealed)
        low, high = FOREIGN_JITTER
        extra = low + (high - low) * self._chance()
        self.others.note(advert, source, now, self.config.timing, sealed=sealed)
        return self._let_go(Cause.TIE_LOST, now, str(source), extra=extra)

    # --- orders ----------------------------------------------------------------------------------

    def _demote(self, reason: str, amount: int, now: float) -> Sequence[Effect]:
        """Hand over when the demotion grows; say so in the next advert when it shrinks."""
        before, skew, self._header = self.demotion, self.header()[1], None
        if amount:
            self.demotions[reason] = amount
        else:
            self.demotions.pop(reason, None)
        if self.demotion == before:
            return ()
        if self.backup is not None:
            self.backup.retime(self.config, self.dead_time(), self.header()[1] - skew)
        if self.master is None:
            return ()
        self.master.retime(self.config, self.period(), now)
        if self.demotion > before:
            return self.master.leave(Purpose.DEMOTION, now)
        return self.master.advertise(now, self.lapses_at) if self.master.leaving is None else ()

    def _stop(self, now: float, *, release: bool) -> Sequence[Effect]:
        if self.stopped:
            return ()
        if self.master is not None:
            return self.master.leave(Purpose.STOP, now, release=release)
        self.stopped = True
        changed = () if self.state is State.INIT else (self._change(Cause.STOPPED, now),)
        return (*changed, ev.Stopped())

    def _end(self, master: Master, now: float) -> Sequence[Effect]:
        """Finish a stop; the last advert and renewal belong to the master that we still are."""
        last, self.left_lease = farewell(self.config, master.leaving, self.lapses_at)
        self.stopped = True
        return (*last, self._change(Cause.STOPPED, now), ev.Stopped())

    def _reconfigure(self, config: VhostConfig, now: float) -> Sequence[Effect]:
        """Take over new settings in place; what is held changes by the difference only."""
        if config == self.config:
            return ()
        if config.vhid != self.config.vhid:
            msg = f"vhid {self.config.vhid} cannot become {config.vhid} in place"
            raise MisuseError(msg)
        old, skew, self.config, self._header = self.config, self.header()[1], config, None
        signer = Signer(config, self.signer.seal)
        signer.inherit(self.signer)
        self.signer = signer
        if self.backup is not None:
            self.backup.retime(config, self.dead_time(), self.header()[1] - skew)
        if self.master is None:
            return ()
        self.master.retime(config, self.period(), now)
        if not config.fenced:
            self.lapses_at = NEVER
        removed, again = held_difference(old, config)
        release = (ev.Release(removed),) if removed else ()
        shorter = self.has_lease and config.lifetime < old.lifetime and self.master.leaving is None
        if shorter:
            # Others wait a shorter time from now on: so must the kernel.
            self.lapses_at = min(self.lapses_at, now + config.lifetime)
        if again:
            return (*release, *self.master.hold(now))
        return (*release, ev.Send(), ev.Hold()) if shorter else release
