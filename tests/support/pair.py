"""Real vhosts on a wire that loses nothing: time moves from deadline to deadline.

`config(advskew=1)` makes settings, `Wire` carries adverts, `plain` and `sealed` craft those of others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from carp.core import events as ev
from carp.core import wire
from carp.core.schema import parse_vhost
from carp.core.seal import from_wall
from carp.core.transitions import State
from carp.core.vhost import Vhost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carp.core.auth import Address
    from carp.core.config import Credentials, VhostConfig
    from carp.core.events import Effect, Event

DEFAULTS = {
    "name": "ingress",
    "vhid": 42,
    "interface": "eth0",
    "addresses": ["10.1.1.252"],
    "password": "love",
}
WALL = 1_700_000_000.0


def config(**fields: Any) -> VhostConfig:
    """Return settings: `DEFAULTS` and what the schema makes of the fields given."""
    return parse_vhost(DEFAULTS | fields)


def address(text: str) -> Address:
    """Return an IP address."""
    return ip_address(text)


def plain(
    settings: VhostConfig,
    advbase: int = 1,
    advskew: int = 0,
    demotion: int = 0,
    *,
    counter: int = 1,
    signed_with: Credentials | None = None,
) -> wire.Advert:
    """Return an authentic advert of a foreign speaker: its counter bears no seal."""
    context = (signed_with or settings.sign).context(settings.vhid)
    digest = context.digest(counter.to_bytes(8, "big"))
    return wire.Advert(settings.vhid, advbase, advskew, demotion, counter, digest)


def sealed(
    settings: VhostConfig,
    source: str,
    time: int,
    advbase: int = 1,
    advskew: int = 0,
    demotion: int = 0,
    *,
    signed_with: Credentials | None = None,
) -> wire.Advert:
    """Return an advert of a member of ours with a seal of this time (1/256 s)."""
    context = (signed_with or settings.sign).context(settings.vhid)
    fields = bytes((settings.vhid, advbase, advskew, demotion))
    tag = context.tag(time, fields, address(source).packed)
    counter = time << 32 | int.from_bytes(tag, "big")
    return plain(settings, advbase, advskew, demotion, counter=counter, signed_with=signed_with)


@dataclass(eq=False)
class Station:
    """One vhost on the wire and what it did."""

    vhost: Vhost
    deaf: bool = False
    done: list[tuple[float, Effect]] = field(default_factory=list)
    sent: list[tuple[float, tuple[int, int, int]]] = field(default_factory=list)

    @property
    def state(self) -> State:
        """The vhost's state."""
        return self.vhost.state

    def times(self, kind: type[Effect]) -> list[float]:
        """Return when effects of a kind were carried out."""
        return [at for at, effect in self.done if isinstance(effect, kind)]

    def changes(self) -> list[tuple[State, str]]:
        """Return each new state with its cause."""
        return [(e.new, e.cause.value) for _, e in self.done if isinstance(e, ev.Changed)]

    def forget(self) -> None:
        """Begin a new record."""
        self.done.clear()
        self.sent.clear()


class Wire:
    """A segment: what one sends all others hear at once, unless they are deaf."""

    def __init__(self, now: float = 100.0) -> None:
        """Begin with nobody at ``now`` seconds."""
        self.now = now
        self.stations: list[Station] = []

    def add(self, settings: VhostConfig, *sources: str, chance: Callable[[], float] = lambda: 0.0) -> Station:
        """Start a member whose link is up."""
        station = Station(Vhost(settings, chance=chance, now=self.now))
        self.stations.append(station)
        self.give(station, ev.LinkUp(tuple(address(s) for s in sources)))
        return station

    def stamp(self) -> int:
        """Return the seal time of a member whose wall clock is right."""
        return from_wall(WALL + self.now)

    def kill(self, station: Station) -> None:
        """End a member without a word."""
        self.stations.remove(station)

    def give(self, station: Station, event: Event) -> tuple[Effect, ...]:
        """Give a member an event and carry out what follows."""
        effects = tuple(station.vhost.handle(event, self.now))
        self._carry_out(station, effects)
        return effects

    def hear(self, station: Station, advert: wire.Advert, source: str) -> tuple[Effect, ...]:
        """Let a member hear an advert."""
        return self.give(station, ev.Heard(advert, address(source)))

    def run(self, seconds: float) -> None:
        """Let time pass, from deadline to deadline."""
        end = self.now + seconds
        while self._step(end):
            pass
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float = 60.0) -> float:
        """Let time pass until a condition holds after a step; return the seconds that it took."""
        start = self.now
        while not condition():
            assert self._step(start + limit), f"not within {limit} s"
        return self.now - start

    def _step(self, end: float) -> bool:
        """Tick who is due first, if that is until ``end``; whether somebody was."""
        due, station = min(((s.vhost.deadline(), s) for s in self.stations), key=lambda pair: pair[0])
        if due > end:
            return False
        self.now = max(self.now, due)
        self._carry_out(station, station.vhost.tick(self.now))
        return True

    def _carry_out(self, station: Station, effects: Iterable[Effect]) -> None:
        vhost = station.vhost
        for effect in effects:
            station.done.append((self.now, effect))
            match effect:
                case ev.Send(bow_out):
                    self._send(station, bow_out=bow_out)
                case ev.Leave():
                    self._send(station, bow_out=False)
                case ev.Hold() | ev.Renew() if vhost.config.fenced:
                    vhost.renewed(self.now, vhost.config.timing.lifetime())
                case ev.Cede():
                    vhost.renewed(self.now, 1)

    def _send(self, station: Station, *, bow_out: bool) -> None:
        vhost = station.vhost
        header = vhost.header(bow_out=bow_out)
        station.sent.append((self.now, header))
        for source, payload in vhost.signer.packets(header, vhost.sources, WALL + self.now):
            advert = wire.unpack(payload)
            assert isinstance(advert, wire.Advert)
            for other in list(self.stations):
                if other is not station and not other.deaf:
                    self.give(other, ev.Heard(advert, source))


def master(
    settings: VhostConfig, *sources: str, chance: Callable[[], float] = lambda: 0.0
) -> tuple[Wire, Station]:
    """Return a wire with one member that has just become master."""
    line = Wire()
    station = line.add(settings, *(sources or ("10.1.1.1",)), chance=chance)
    line.run_until(lambda: station.state is State.MASTER)
    station.forget()
    return line, station


def backup(
    settings: VhostConfig, *sources: str, chance: Callable[[], float] = lambda: 0.0
) -> tuple[Wire, Station]:
    """Return a wire with one member that has just become backup and listens."""
    line = Wire()
    station = line.add(settings, *(sources or ("10.1.1.1",)), chance=chance)
    station.forget()
    return line, station
