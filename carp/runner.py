"""Carry out effects in order, and never renew what we no longer own (design.md rule 3).

A process can be stopped between any two lines here. So the age of the last renewal is read again right
before each send and each renewal, a renewal follows only an advert that began at most 50 ms before, and
one that turns out late is taken back at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.meter import UNMETERED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp.core.vhost import Vhost
    from carp.meter import Meter
    from carp.ports import Clock, Kernel, Observer, Port

FRESH: Final = 0.05
"""s; the oldest advert that a renewal may stand on."""
CEDED_LIFETIME: Final = 1


@dataclass(slots=True, eq=False)
class Member:
    """A vhost, its port, and when its last successful advert began."""

    vhost: Vhost
    port: Port
    sent_at: float | None = None
    problem: str = ""
    due_at: float | None = None
    """When the advert about to be sent was due, where it had a time."""


class Runner:
    """Carries out the effects of many vhosts."""

    def __init__(self, clock: Clock, kernel: Kernel, observer: Observer, meter: Meter = UNMETERED) -> None:
        """Renewals are collected and leave together at `flush`."""
        self._clock = clock
        self._kernel = kernel
        self._observer = observer
        self._meter = meter
        self._renewals: list[Member] = []
        self._untold: list[tuple[Vhost, ev.Effect]] = []

    def handle(self, member: Member, event: ev.Event) -> None:
        """Give an event to a vhost and carry out what follows."""
        self.run(member, member.vhost.handle(event, self._clock.now()))

    def run(self, member: Member, effects: Iterable[ev.Effect]) -> None:
        """Carry out effects in order; stop where one shows that the rest would be wrong.

        What the observer sees comes last: a log line holds no advert up, and says what is so by then.
        """
        try:
            for effect in effects:
                if not self._carry_out(member, effect):
                    return
        finally:
            self._tell()

    def _carry_out(self, member: Member, effect: ev.Effect) -> bool:
        """Carry out one effect; whether those after it are still right."""
        match effect:
            case ev.Send(bow_out, until):
                return self._send(member, bow_out=bow_out, until=until)
            case ev.Renew():
                self._renewals.append(member)
            case ev.Hold():
                return self._hold(member)
            case ev.Cede():
                return self._cede(member)
            case ev.Leave(expires):
                return self._leave(member, expires)
            case _:
                self._simple(member, effect)
        return True

    def _tell(self) -> None:
        while self._untold:
            self._observer.saw(*self._untold.pop(0))

    def _simple(self, member: Member, effect: ev.Effect) -> None:
        match effect:
            case ev.Release(vips):
                member.port.release(vips)
            case ev.Announce():
                self._meter.announced(member.vhost)
                member.port.announce(member.vhost.config.addresses)
            case ev.Probe():
                member.port.probe(member.vhost.config.addresses)
            case ev.Script(up):
                member.port.script(up=up)
            case _:
                self._untold.append((member.vhost, effect))

    def _lapsed(self, member: Member, now: float | None = None) -> bool:
        """Become backup when the lease is over; whether that was so."""
        now = self._clock.now() if now is None else now
        if now <= member.vhost.lapses_at:
            return False
        self.run(member, member.vhost.handle(ev.LeaseLapsed(), now))
        return True

    def _send(self, member: Member, *, bow_out: bool = False, until: float = inf) -> bool:
        if self._lapsed(member):
            return False
        vhost = member.vhost
        began = self._clock.now()
        member.sent_at = None
        if began > until:
            member.problem = "stopped before the advert"
            return True
        packets = vhost.signer.packets(vhost.header(bow_out=bow_out), vhost.sources, self._clock.wall())
        if vhost.signer.seal.overdrawn:
            member.port.remember()
        problem = member.port.send(packets)
        due, member.due_at = member.due_at, None
        if problem is None:
            member.sent_at = began
            self._meter.sent(vhost, len(packets), None if due is None else began - due)
        else:
            member.problem = problem
            self._tell()
            self._observer.send_failed(vhost, problem)
        return True

    def _is_fresh(self, member: Member, now: float | None = None) -> bool:
        now = self._clock.now() if now is None else now
        return member.sent_at is not None and now - member.sent_at <= FRESH

    def _hold(self, member: Member) -> bool:
        """Add the addresses: at a takeover only on a fresh advert, or the takeover failed."""
        vhost = member.vhost
        config = vhost.config
        claims = not vhost.has_lease
        if config.fenced and not self._is_fresh(member):
            problem = member.problem if member.sent_at is None else "stopped between advert and address"
            return self._claim_failed(member, problem) if claims else True
        lifetime = config.lifetime if config.fenced else None
        began = self._clock.now()
        problem = member.port.hold(config.addresses, lifetime) or ""
        late = lifetime is not None and self._clock.now() - began > lifetime / 4
        if claims and (problem or late):
            member.port.release(config.addresses)
            return self._claim_failed(member, problem or "stopped while adding the address")
        if self._lapsed(member):
            return False
        if lifetime is not None and not problem:
            vhost.renewed(began, lifetime)
        return True

    def _claim_failed(self, member: Member, problem: str) -> bool:
        self._tell()  # of the takeover, before its reason becomes that of the failure
        self.handle(member, ev.ClaimFailed(problem))
        return False

    def _cede(self, member: Member) -> bool:
        if self._lapsed(member):
            return False
        began = self._clock.now()
        problem = member.port.hold(member.vhost.config.addresses, CEDED_LIFETIME, ceded=True)
        if self._lapsed(member):
            return False
        if problem is None:
            member.vhost.renewed(began, CEDED_LIFETIME)
        return True

    def _leave(self, member: Member, expires: float) -> bool:
        config = member.vhost.config
        # The vhost is no master any more, so `_send` cannot see that its lease is over.
        if self._clock.now() > expires:
            return True
        self._send(member)
        if config.fenced and self._is_fresh(member) and self._clock.now() <= expires:
            member.port.hold(config.addresses, config.lifetime)
            if self._clock.now() > expires:
                member.port.release(config.addresses)
        return True

    def flush(self) -> None:
        """Renew, in one call, every lease whose advert was sent just now."""
        if not self._renewals:
            return
        pending, self._renewals = self._renewals, []
        ready = [member for member in pending if self._may_renew(member)]
        if not ready:
            return
        began = self._clock.now()
        leases = [(m.port.ifindex, m.vhost.config.addresses, m.vhost.config.lifetime) for m in ready]
        refused = self._kernel.renew(leases)
        for position, member in enumerate(ready):
            # Still judged by the lease before this one: what came too late has brought the address back.
            if not self._lapsed(member) and position not in refused:
                member.vhost.renewed(began, leases[position][2])
                self._meter.renewed(member.vhost)

    def _may_renew(self, member: Member) -> bool:
        # Without a lease it let go since: not even the repeated advert is due then.
        if member.sent_at is None or not member.vhost.has_lease:
            return False
        if not self._is_fresh(member) and not self._send(member):
            return False
        # One look at the clock for both: a stop between two looks would be seen by neither.
        now = self._clock.now()
        return not self._lapsed(member, now) and self._is_fresh(member, now)
