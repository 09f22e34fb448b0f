"""From a packet to its vhost, and the reasons for which one is not believed (carp.hearing)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp.core import events as ev
from carp.core import wire
from carp.core.errors import DropReason
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.hearing import BURST, Hearing
from carp.links import Place
from carp.meter import Meter
from carp.rawsock import Packet
from carp.runner import Member
from carp.segment import Segment
from crafted import VRRP2
from pair import address, config, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.core.events import Effect
    from carp.core.wire import Advert

OTHER = address("10.1.1.2")


class World(Meter):
    """A backup on a segment; clock, runner, watcher, meter and receiver in one."""

    def __init__(self) -> None:
        self.settings = config()
        self.vhost = Vhost(self.settings, chance=lambda: 0.0, now=100.0)
        self.vhost.handle(ev.LinkUp((address("10.1.1.1"),)), 100.0)
        self.segment = Segment(Place(7, "eth0", bytes(6), ()))
        self.segment.members[42] = Member(self.vhost, None)  # type: ignore[arg-type]
        self.queue: list[Packet] = []
        self.drops: list[tuple[int | None, DropReason]] = []
        self.counted = 0
        self.errors: list[Exception] = []
        self.due: list[float] = []
        self.ran: list[Effect] = []
        self.hearing = Hearing(
            self, self, self, self,  # type: ignore[arg-type]
            failed=lambda _, error: self.errors.append(error), due=self.due.append,
        )  # fmt: skip

    def now(self) -> float:
        return 101.0

    def wall(self) -> float:
        return 1.0

    def run(self, _member: Member, effects: Any) -> None:
        self.ran += effects

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        assert "eth0" == interface
        self.drops.append((vhid, reason))

    def heard(self, vhost: Vhost, master: Any, advert: Advert, now: float) -> None:
        self.counted += 1

    def receive(self) -> Iterator[Packet]:
        while self.queue:
            yield self.queue.pop(0)

    def advert(self, **changes: Any) -> bytes:
        return wire.pack(plain(self.settings, **changes))

    def take(self, *payloads: bytes, ttl: int = 255, stalled: bool = False) -> None:
        self.queue += [Packet(OTHER, ttl, payload) for payload in payloads]
        self.hearing.drain(self.segment, self, stalled=stalled)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    """Return a backup that has heard nothing yet."""
    made = World()
    assert State.BACKUP is made.vhost.state
    return made


def test_an_advert_reaches_its_vhost(world: World) -> None:
    """It is counted, believed, and the vhost's next deadline is told."""
    world.take(world.advert())
    assert (1, []) == (world.counted, world.drops)
    assert world.vhost.snapshot().master is not None
    assert [world.vhost.deadline()] == world.due


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", DropReason.SHORT),
        (wire.pack(plain(config()))[:35], DropReason.SHORT),
        (VRRP2, DropReason.VRRP),
        (bytes(36), DropReason.VERSION),
    ],
)
def test_what_is_no_advert(world: World, payload: bytes, reason: DropReason) -> None:
    """It belongs to no vhost and is counted for the interface."""
    world.take(payload)
    assert [(None, reason)] == world.drops
    assert {reason: 1} == world.segment.drops
    assert 0 == world.counted


def test_a_vhid_that_nobody_has(world: World) -> None:
    """It is counted for the interface, with its vhid."""
    other = config(vhid=43)
    world.take(wire.pack(plain(other)))
    assert [(43, DropReason.VHID)] == world.drops
    assert {DropReason.VHID: 1} == world.segment.drops


def test_a_packet_that_has_crossed_a_router(world: World) -> None:
    """Anything but 255 is not believed, however authentic."""
    world.take(world.advert(), ttl=254)
    assert [(42, DropReason.TTL)] == world.drops
    assert world.vhost.snapshot().master is None


def test_what_waited_while_a_backup_stood_still(world: World) -> None:
    """Its age is unknown, so a backup does not believe it."""
    world.take(world.advert(), stalled=True)
    assert [(42, DropReason.STALLED)] == world.drops
    assert world.vhost.snapshot().master is None


def test_another_password(world: World) -> None:
    """The vhost itself judges; the watcher hears of it, the meter does not, the interface counts nothing."""
    stranger = config(password="hate")
    world.take(wire.pack(plain(stranger)))
    assert [(42, DropReason.HMAC)] == world.drops
    assert (0, {}) == (world.counted, world.segment.drops)
    assert {DropReason.HMAC: 1} == world.vhost.drops


def test_an_error_of_ours_is_that_vhosts_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed on with its cause, and the packets behind it are taken in."""
    handle, calls = world.vhost.handle, []

    def failing(event: Any, now: float) -> Any:
        calls.append(event)
        if len(calls) == 1:
            raise ZeroDivisionError
        return handle(event, now)

    monkeypatch.setattr(world.vhost, "handle", failing)
    world.take(world.advert(counter=1), world.advert(counter=2))
    assert [ZeroDivisionError] == [type(error) for error in world.errors]
    assert 1 == world.counted


def test_a_flood_leaves_timers_their_turn(world: World) -> None:
    """At most so many packets are read in one go; the rest waits."""
    world.take(*[b""] * (BURST + 500))
    assert BURST + 1 == world.segment.drops[DropReason.SHORT]
    assert 499 == len(world.queue)
