"""Small models of foreign speakers, written from what they do on the wire: ucarp, OpenBSD, FreeBSD.

They have no fence: an address stays until its owner yields or loses power. Times are virtual ones; all
facts are in carp-protocol.md sections 2 to 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core import wire
from carp.core.auth import Context
from carp.core.wire import Advert
from simulation_world import Packet, World

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.config import Vip

MICRO: Final = 1_000_000
MASK: Final = (1 << 64) - 1
DEMOTED_SKEW: Final = 240
TICK: Final = 0.01


def interval_us(base: int, skew: int) -> int:
    """Return base + skew/256 s in whole microseconds."""
    return base * MICRO + skew * MICRO // 256


class Foreign:
    """What all dialects share: states, timers, the key, an address without lifetime."""

    def __init__(
        self, world: World, index: int, vip: Vip, source: Address, *, password: bytes, vhid: int, skew: int,
        base: int = 1, preempt: bool = False,
    ) -> None:  # fmt: skip
        """``skew`` and ``base`` as configured there."""
        self.world = world
        self.index = index
        self.name = f"{type(self).__name__.lower()}{index}"
        self.link = True
        self.powered = False
        self.holds = False
        self.master = False
        self.demotion = 0
        self.base, self.skew, self.preempt = base, skew, preempt
        self._vip = vip
        self._source = source
        self._vhid = vhid
        self._context = Context(key=password, vhid=vhid, addresses=(vip.ip,))
        self._counter = world.rng.getrandbits(64)
        self._met = False
        self._timer = 0

    # --- the dialect -------------------------------------------------------------------------------

    def header(self) -> tuple[int, int, int]:
        """Return (advbase, advskew, byte 4) as sent."""
        return self.base, self.skew, 0

    def dead_time(self) -> float:
        """Return the wait for an advert in seconds."""
        return 3 * self.base + interval_us(0, self.skew) / MICRO

    def yields(self, advert: Advert, source: Address) -> bool:
        """Whether a master becomes backup on an advert."""
        raise NotImplementedError

    def seizes(self, advert: Advert) -> bool:
        """Whether a backup becomes master on an advert."""
        own = interval_us(*self.header()[:2])
        theirs = interval_us(advert.advbase, advert.advskew)
        return (self.preempt and own < theirs) or self._going_to_time_out(theirs)

    def _going_to_time_out(self, theirs: int) -> bool:
        return 3 * self.base * MICRO + interval_us(0, self.skew) < theirs

    def next_counter(self) -> int:
        """Return the counter to send: random until a peer was heard, then one more each time."""
        self._counter = (self._counter + 1) & MASK if self._met else self.world.rng.getrandbits(64)
        return self._counter

    # --- life --------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Start as backup."""
        self.powered = True
        self.world.say(self.name, "starts")
        self._become(master=False)

    def lose_power(self) -> None:
        """End without a word; the address goes with the machine."""
        self.powered = False
        self._timer += 1
        self.master = False
        self._set_address(held=False)
        self.world.say(self.name, "power lost")
        self.world.checks.disturbed()

    def receive(self, packet: Packet) -> None:
        """Check and heed an advert."""
        advert = packet.advert
        if not self.powered or advert.vhid != self._vhid or packet.source.version != 4:
            return
        if self._context.verify(advert.counter.to_bytes(8, "big"), advert.digest) is None:
            return
        if not self.accepts(advert):
            return
        self._met = True
        self.heed_counter(advert.counter)
        if self.master:
            if self.yields(advert, packet.source):
                self._yield()
        elif self.seizes(advert):
            self._become(master=True)
        else:
            self._arm_down()

    def accepts(self, advert: Advert) -> bool:
        """Whether a well-signed advert counts."""
        return True

    def heed_counter(self, counter: int) -> None:
        """Copy the counter of a valid advert, never compare it."""
        self._counter = counter

    def answers_for(self, address: Address) -> bool:
        """Whether ARP for an address is answered."""
        return self.holds and address == self._vip.ip

    def answered(self, address: Address, mac: bytes) -> None:
        """Never probe."""

    def _yield(self) -> None:
        self._become(master=False)

    def _become(self, *, master: bool) -> None:
        self.master = master
        self.world.say(self.name, "MASTER" if master else "BACKUP")
        if master:
            self._set_address(held=True)
            self._advertise(self._next_timer())
        else:
            self._set_address(held=False)
            self._arm_down()

    def _set_address(self, *, held: bool) -> None:
        if held == self.holds:
            return
        self.holds = held
        self.world.say(self.name, f"{'+' if held else '-'} {self._vip.ip}")
        notify = self.world.checks.address_on if held else self.world.checks.address_off
        notify(self, self._vip.ip)

    def _next_timer(self) -> int:
        self._timer += 1
        return self._timer

    def _arm_down(self) -> None:
        self.world.at(self._later(self.dead_time()), self._down, self._next_timer())

    def _later(self, seconds: float) -> float:
        """Return when a timer of a kernel that looks at its timers every 10 ms fires."""
        return self.world.now + seconds + self.world.rng.random() * TICK

    def _down(self, timer: int) -> None:
        if timer == self._timer and not self.master:
            self._become(master=True)

    def _advertise(self, timer: int) -> None:
        if timer == self._timer and self.master:
            self.send(*self.header())
            self.world.at(self._later(interval_us(*self.header()[:2]) / MICRO), self._advertise, timer)

    def send(self, base: int, skew: int, demotion: int) -> None:
        """Multicast one advert."""
        counter = self.next_counter()
        digest = self._context.digest(counter.to_bytes(8, "big"))
        advert = wire.unpack(wire.pack(Advert(self._vhid, base, skew, demotion, counter, digest)))
        if isinstance(advert, Advert):
            packet = Packet(advert, self._source, self.index, self.world.now)
            self.world.network.multicast(self, packet)


class Ucarp(Foreign):
    """Compares tied addresses byte-swapped, looks at its deadline once an interval, never bows out."""

    def yields(self, advert: Advert, source: Address) -> bool:
        """Yield to a shorter interval; at a tie to the source lower in host order."""
        own, theirs = interval_us(self.base, self.skew), interval_us(advert.advbase, advert.advskew)
        swapped = [int.from_bytes(a.packed, "little") for a in (source, self._source)]
        return own > theirs or (own == theirs and swapped[0] < swapped[1])

    def _yield(self) -> None:
        self.send(*self.header())
        self._become(master=False)

    def _arm_down(self) -> None:
        self._deadline = self.world.now + self.dead_time()
        self._look(self._next_timer())

    def _look(self, timer: int) -> None:
        if timer != self._timer or self.master:
            return
        if self.world.now >= self._deadline:
            self._become(master=True)
        else:
            self.world.at(self._later(interval_us(self.base, self.skew) / MICRO), self._look, timer)


class OpenBsd(Foreign):
    """Demotion in byte 4 and compared first, three whole intervals of dead time, one cookie for ever."""

    def header(self) -> tuple[int, int, int]:
        """Show the demotion in byte 4."""
        return self.base, self.skew, self.demotion

    def dead_time(self) -> float:
        """Scale with the skew."""
        return 3 * interval_us(self.base, self.skew) / MICRO

    def _going_to_time_out(self, theirs: int) -> bool:
        return self.base > 0 and super()._going_to_time_out(theirs)

    def next_counter(self) -> int:
        """Send the cookie."""
        return self._counter

    def heed_counter(self, counter: int) -> None:
        """Keep the cookie."""

    def accepts(self, advert: Advert) -> bool:
        """Take the own cookie for a loop."""
        return advert.counter != self._counter

    def yields(self, advert: Advert, source: Address) -> bool:
        """Yield to a lower demotion; at an equal one to an interval that is not longer."""
        own, theirs = interval_us(self.base, self.skew), interval_us(advert.advbase, advert.advskew)
        return advert.demotion < self.demotion or (own >= theirs and advert.demotion <= self.demotion)

    def seizes(self, advert: Advert) -> bool:
        """Seize from a master that is demoted more, even without preemption."""
        own, theirs = interval_us(self.base, self.skew), interval_us(advert.advbase, advert.advskew)
        preempts = self.preempt and own < theirs and advert.demotion >= self.demotion
        return preempts or advert.demotion > self.demotion or self._going_to_time_out(theirs)

    def shut_down(self) -> None:
        """Bow out once and go (ifconfig down)."""
        if self.master:
            self.send(wire.BOW_OUT, wire.BOW_OUT, self.demotion)
        self.lose_power()


class FreeBsd(Foreign):
    """Demotion in the skew, always yields at a tie, never bows out."""

    def header(self) -> tuple[int, int, int]:
        """Show at most skew 240."""
        return self.base, min(self.skew + self.demotion, DEMOTED_SKEW), 0

    def yields(self, advert: Advert, source: Address) -> bool:
        """Yield to any interval that is not longer."""
        own, theirs = interval_us(*self.header()[:2]), interval_us(advert.advbase, advert.advskew)
        return own >= theirs
