"""Hear who answers our probes, for as long as somebody asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.announce import FrameSocket, answer_of
from carp.core import events as ev

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

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
            for member in segment.members.values():
                if address in (vip.ip for vip in member.vhost.config.addresses):
                    self._deliver(member, ev.Answered(address, mac))

    def stop_idle(self, segments: Iterable[Segment]) -> None:
        """Close what nobody needs any more."""
        for segment in segments:
            if not any(member.vhost.listening for member in segment.members.values()):
                self.stop(segment)

    def stop(self, segment: Segment) -> None:
        """Hear no more answers on an interface."""
        if segment.listener is not None:
            self._loop.remove_reader(segment.listener.fileno())
            segment.listener.close()
            segment.listener = None
