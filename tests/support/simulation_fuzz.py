"""Whatever payload arrives on protocol 112, nothing raises, and it counts as believed or under one reason.

The target is the way of a packet through `wire.unpack` and `Vhost.handle`, with vhosts that change their
states as the packets and the time tell them to. Packets are random bytes, mutated adverts, and adverts
with any fields that are signed well, some of them sealed.
"""

from __future__ import annotations

import random
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core import wire
from carp.core.config import PreemptMode, SealMode
from carp.core.errors import DropReason
from carp.core.vhost import Vhost
from simulation_cluster import VHID, make_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp.core.auth import Address

OWN: Final = IPv4Address("10.98.0.1")
SOURCES: Final[tuple[Address, ...]] = (
    OWN, IPv4Address("10.98.0.2"), IPv4Address("10.98.3.1"), IPv4Address("0.0.0.0"), IPv6Address("fd00::2"),
    IPv6Address("fe80::1"),
)  # fmt: skip
BELIEVED: Final = "believed"
_INTERESTING: Final = (0, 1, 2, 3, 127, 128, 239, 240, 241, 254, 255)


class Target:
    """Feeds packets to one vhost per kind of settings and counts what becomes of them."""

    def __init__(self, seed: int) -> None:
        """``seed`` decides every packet and every moment."""
        self.rng = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.fed = 0
        self._now = 1000.0
        self._key = make_config().sign.context(VHID)
        self.vhosts = [self._vhost(seal, preempt) for seal in SealMode for preempt in PreemptMode]

    def _vhost(self, seal: SealMode, preempt: PreemptMode) -> Vhost:
        config = make_config(skew=100, seal=seal, preempt=preempt)
        vhost = Vhost(config, chance=self.rng.random, now=self._now)
        self._carry_out(vhost, vhost.handle(ev.LinkUp((OWN,)), self._now))
        return vhost

    def feed(self, payload: bytes, source: Address) -> str:
        """Take one packet the way the engine does; return the reason, or `BELIEVED`."""
        self.fed += 1
        self._now += self.rng.expovariate(1.0) * self.rng.choice((0.001, 0.01, 0.3))
        advert = wire.unpack(payload)
        vhost = self.vhosts[self.fed % len(self.vhosts)]
        if isinstance(advert, DropReason):
            result: str = advert
        elif advert.vhid != VHID:
            result = DropReason.VHID
        else:
            result = self._hear(vhost, advert, source)
        self.counts[result] += 1
        if vhost.deadline() <= self._now:
            self._carry_out(vhost, vhost.tick(self._now))
        return result

    def _hear(self, vhost: Vhost, advert: wire.Advert, source: Address) -> str:
        before = sum(vhost.drops.values())
        effects = vhost.handle(ev.Heard(advert, source), self._now)
        dropped = [effect.reason for effect in effects if isinstance(effect, ev.Dropped)]
        assert len(dropped) == sum(vhost.drops.values()) - before <= 1, (dropped, vhost.drops)
        self._carry_out(vhost, effects)
        return dropped[0] if dropped else BELIEVED

    def _carry_out(self, vhost: Vhost, effects: Iterable[ev.Effect]) -> None:
        """Be a runner for whom everything works."""
        for effect in effects:
            match effect:
                case ev.Send(bow_out):
                    vhost.signer.packets(vhost.header(bow_out=bow_out), vhost.sources, 1e9 + self._now)
                case ev.Hold() | ev.Renew():
                    vhost.renewed(self._now, vhost.config.timing.lifetime())
                case ev.Cede():
                    vhost.renewed(self._now, 1)

    # --- packets -------------------------------------------------------------------------------------

    def make(self) -> tuple[bytes, Address]:
        """Return a random packet."""
        rng = self.rng
        source = rng.choice(SOURCES)
        kind = rng.random()
        if kind < 0.1:
            return rng.randbytes(rng.randrange(80)), source
        payload = self._signed(source)
        return (payload, source) if kind < 0.5 else (self._mutated(payload), source)

    def _signed(self, source: Address) -> bytes:
        rng = self.rng

        def byte() -> int:
            return rng.choice(_INTERESTING) if rng.random() < 0.5 else rng.randrange(256)

        base, skew, demotion = (255, 255, byte()) if rng.random() < 0.1 else (byte() % 4, byte(), byte() % 3)
        counter = rng.getrandbits(64)
        if rng.random() < 0.6:
            time = (int((1e9 + self._now) * 256) + rng.randrange(-2000, 2000)) % 2**32
            tag = self._key.tag(time, bytes((VHID, base, skew, demotion)), source.packed)
            counter = time << 32 | int.from_bytes(tag, "big")
        digest = self._key.digest(counter.to_bytes(8, "big"))
        return wire.pack(wire.Advert(VHID, base, skew, demotion, counter, digest))

    def _mutated(self, payload: bytes) -> bytes:
        rng = self.rng
        data = bytearray(payload)
        for _ in range(rng.randint(1, 3)):
            match rng.randrange(4):
                case 0:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                case 1:
                    data[rng.randrange(len(data))] = rng.choice(_INTERESTING)
                case 2:
                    data = data[: rng.randrange(1, len(data) + 1)]
                case 3:
                    data += rng.randbytes(rng.randrange(1, 9))
        if rng.random() < 0.5 and len(data) == wire.HEADER_LENGTH:
            data[6:8] = b"\0\0"
            data[6:8] = wire.checksum(bytes(data)).to_bytes(2, "big")
        return bytes(data)


def fuzz(count: int, seed: int = 1) -> Counter[str]:
    """Feed that many packets; return how often each reason was given. Raises whatever the target does."""
    target = Target(seed)
    for _ in range(count):
        target.feed(*target.make())
    assert sum(target.counts.values()) == target.fed == count
    return target.counts
