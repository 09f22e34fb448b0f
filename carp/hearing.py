"""From a received packet to the vhost that it is for; what is not believed is counted by reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core import wire
from carp.core.errors import DropReason
from carp.core.transitions import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.meter import Meter
    from carp.ports import Clock, Watcher
    from carp.rawsock import Packet, Receiver
    from carp.runner import Member, Runner
    from carp.segment import Segment

BURST: Final = 1000
"""Packets read from one socket before timers get their turn."""


class Hearing:
    """Reads sockets and hands adverts to vhosts."""

    def __init__(
        self,
        clock: Clock,
        runner: Runner,
        watcher: Watcher,
        meter: Meter,
        *,
        failed: Callable[[Member, Exception], None],
        due: Callable[[float], None],
    ) -> None:
        """``failed`` hears of an error of ours in one vhost, ``due`` when a vhost wants its next turn."""
        self._clock = clock
        self._runner = runner
        self._watcher = watcher
        self._meter = meter
        self._failed = failed
        self._due = due

    def drain(self, segment: Segment, receiver: Receiver, *, stalled: bool = False) -> None:
        """Take in what waits; after a stall backups believe none of it, its age being unknown."""
        for count, packet in enumerate(receiver.receive()):
            self._dispatch(segment, packet, stalled=stalled)
            if count >= BURST:
                return

    def _dispatch(self, segment: Segment, packet: Packet, *, stalled: bool) -> None:
        advert = wire.unpack(packet.payload)
        if isinstance(advert, DropReason):
            self._drop(segment, None, packet, advert)
            return
        member = segment.members.get(advert.vhid)
        if member is None:
            self._drop(segment, advert.vhid, packet, DropReason.VHID)
        elif packet.ttl != wire.TTL:
            self._drop(segment, advert.vhid, packet, DropReason.TTL)
        elif stalled and member.vhost.state is State.BACKUP:
            self._drop(segment, advert.vhid, packet, DropReason.STALLED)
        else:
            self._hear(segment, member, advert, packet)

    def _hear(self, segment: Segment, member: Member, advert: wire.Advert, packet: Packet) -> None:
        try:
            now, master = self._clock.now(), member.vhost.master
            effects = member.vhost.handle(ev.Heard(advert, packet.source), now)
            if effects and isinstance(effects[0], ev.Dropped):
                self._watcher.dropped(segment.name, advert.vhid, packet, effects[0].reason)
                effects = effects[1:]
            else:
                self._meter.heard(member.vhost, master, advert, now)
            if effects:
                self._runner.run(member, effects)
            self._due(member.vhost.deadline())
        except Exception as error:  # noqa: BLE001 (one vhost's trouble is one vhost's trouble)
            self._failed(member, error)

    def _drop(self, segment: Segment, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        segment.drops[reason] += 1
        self._watcher.dropped(segment.name, vhid, packet, reason)
