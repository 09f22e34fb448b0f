"""Hear who answers our probes, for as long as somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp import announce
from carp.announce import FrameSocket, answer_of
from carp.core import events as ev

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from carp.core.auth import Address
    from carp.runner import Member
    from carp.segment import Segment


class Answers:
    """The sockets that hear answers by ARP and neighbour discovery, one for each interface that needs it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        began: Callable[[], float],
        deliver: Callable[[Member, ev.Event], None],
    ) -> None:
        """``began`` is called at the begin of each turn, ``deliver`` gives an event to a vhost."""
        self._loop = loop
        self._began = began
        self._deliver = deliver
        self._asked: dict[tuple[int, Address], set[asyncio.Future[bool]]] = {}

    def listen(self, segment: Segment) -> None:
        """Make sure that answers on an interface are heard."""
        if segment.listener is None:
            segment.listener = FrameSocket(segment.ifindex, listen=True)
            self._loop.add_reader(segment.listener.fileno(), self._on_frames, segment)

    def _on_frames(self, segment: Segment) -> None:
        self._began()
        if segment.listener is None:
            return
        for frame in segment.listener.receive():
            answer = answer_of(frame)
            if answer is None or answer[1] == segment.mac:
                continue
            address, mac = answer
            for waiting in self._asked.get((segment.ifindex, address), ()):
                if not waiting.done():
                    waiting.set_result(True)
            for member in segment.members.values():
                if address in (vip.ip for vip in member.vhost.config.addresses):
                    self._deliver(member, ev.Answered(address, mac))

    async def ask(self, segment: Segment, address: Address) -> bool:
        """Ask once who has an address and wait until somebody answers; to be cancelled. Raises OSError."""
        future: asyncio.Future[bool] = self._loop.create_future()
        waiting = self._asked.setdefault((segment.ifindex, address), set())
        waiting.add(future)
        probe = (
            announce.arp_probe(segment.mac, address)
            if address.version == 4
            else announce.nd_probe(segment.mac, address)
        )
        try:
            self.listen(segment)
            segment.frames().send(probe)
            return await future
        finally:
            waiting.discard(future)
            if not waiting:
                self._asked.pop((segment.ifindex, address), None)

    def stop_idle(self, segments: Iterable[Segment]) -> None:
        """Close what nobody needs any more."""
        for segment in segments:
            asked = any(ifindex == segment.ifindex for ifindex, _ in self._asked)
            if not asked and not any(member.vhost.listening for member in segment.members.values()):
                self.stop(segment)

    def stop(self, segment: Segment) -> None:
        """Hear no more answers on an interface."""
        if segment.listener is not None:
            self._loop.remove_reader(segment.listener.fileno())
            segment.listener.close()
            segment.listener = None
