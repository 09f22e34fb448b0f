"""Who answers ARP and ND probes (carp.answers), on a cable between two namespaces."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp.announce import FrameSocket, gratuitous_arp
from carp.answers import Answers
from carp.core import events as ev
from carp.links import Place
from carp.segment import Segment
from linkfix import NAME, End, cable
from nsfix import ip

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from carp.core.auth import Address

__all__ = ["cable"]

pytestmark = pytest.mark.root
FAR = ["10.1.1.2", "fd00::2"]


class World:
    """The near end's segment with one vhost on it."""

    def __init__(self, end: End) -> None:
        words = ip("-n", end.namespace, "-o", "link", "show", NAME).split()
        mac = bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))
        self.segment = Segment(Place(end.ifindex, NAME, mac, ()))
        self.turns = 0
        self.told: list[ev.Event] = []
        self.answers = Answers(
            asyncio.get_running_loop(), self._began, lambda _, event: self.told.append(event)
        )
        vips = [SimpleNamespace(ip=ip_address(text)) for text in FAR]
        self.vhost = SimpleNamespace(config=SimpleNamespace(addresses=vips), listening=False)
        self.segment.members[42] = SimpleNamespace(vhost=self.vhost)  # type: ignore[assignment]

    def _began(self) -> float:
        self.turns += 1
        return 0.0

    async def ask(self, address: str, seconds: float = 5.0) -> bool:
        return await asyncio.wait_for(self.answers.ask(self.segment, ip_address(address)), seconds)

    async def begin(self, address: str, seconds: float = 5.0) -> asyncio.Task[bool]:
        """Ask, and return as soon as the question is out."""
        task = asyncio.ensure_future(self.ask(address, seconds))
        while not self.answers._asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return task

    def close(self) -> None:
        self.answers.stop(self.segment)
        self.segment.close()


def _play(end: End, scene: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        with end.enter():
            world = World(end)
            try:
                await scene(world)
            finally:
                world.close()

    asyncio.run(run())


def _mac(end: End) -> bytes:
    words = ip("-n", end.namespace, "-o", "link", "show", NAME).split()
    return bytes.fromhex(words[words.index("link/ether") + 1].replace(":", ""))


@pytest.mark.parametrize("address", FAR)
def test_a_neighbour_answers(cable: tuple[End, End], address: str) -> None:
    """ARP and ND; a vhost with that address hears of it, as at the begin of a turn."""
    near, far = cable

    async def scene(world: World) -> None:
        assert await world.ask(address)
        assert ev.Answered(ip_address(address), _mac(far)) in world.told
        assert world.turns > 0

    _play(near, scene)


@pytest.mark.parametrize("address", ["10.1.1.77", "fd00::77"])
def test_nobody_answers(cable: tuple[End, End], address: str) -> None:
    """The question waits until it is cancelled, and leaves nothing behind."""

    async def scene(world: World) -> None:
        with pytest.raises(TimeoutError):
            await world.ask(address, 0.1)
        assert {} == world.answers._asked
        assert [] == world.told

    _play(cable[0], scene)


def test_a_question_that_cannot_be_sent(cable: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway check on a link that is down fails each time, and leaves nothing behind."""

    def refuse(_frame: bytes) -> None:
        raise OSError(100, "Network is down")

    async def scene(world: World) -> None:
        monkeypatch.setattr(world.segment.frames(), "send", refuse)
        for _ in range(3):
            with pytest.raises(OSError, match="down"):
                await world.ask(FAR[0])
        assert {} == world.answers._asked

    _play(cable[0], scene)


def test_many_ask_the_same(cable: tuple[End, End]) -> None:
    """One answer is for all of them."""

    async def scene(world: World) -> None:
        assert [True] * 5 == await asyncio.gather(*(world.ask(FAR[0]) for _ in range(5)))
        assert {} == world.answers._asked

    _play(cable[0], scene)


def test_our_own_frames_are_no_answer(cable: tuple[End, End]) -> None:
    """What this interface itself announces says nothing about others."""

    async def scene(world: World) -> None:
        address: Address = ip_address("10.1.1.77")
        world.answers.listen(world.segment)
        asking = await world.begin(str(address), 0.3)
        world.segment.frames().send(gratuitous_arp(world.segment.mac, address))  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            await asking

    _play(cable[0], scene)


def test_an_announcement_is_an_answer(cable: tuple[End, End]) -> None:
    """Who tells the segment that it has an address has it, asked or not."""
    near, far = cable

    async def scene(world: World) -> None:
        asking = await world.begin("10.1.1.77")
        with far.enter():
            sender = FrameSocket(far.ifindex)
        sender.send(gratuitous_arp(_mac(far), ip_address("10.1.1.77")))  # type: ignore[arg-type]
        sender.close()
        assert await asking
        assert [] == world.told  # no vhost here has that address

    _play(near, scene)


def test_listening_ends_when_nobody_needs_it(cable: tuple[End, End]) -> None:
    """The socket that sees every frame is open only while a question or a listening vhost wants it."""

    async def scene(world: World) -> None:
        await world.ask(FAR[0])
        assert world.segment.listener is not None
        world.vhost.listening = True
        world.answers.stop_idle([world.segment])
        assert world.segment.listener is not None
        world.vhost.listening = False
        asking = await world.begin("10.1.1.77", 0.2)
        world.answers.stop_idle([world.segment])
        assert world.segment.listener is not None
        with pytest.raises(TimeoutError):
            await asking
        world.answers.stop_idle([world.segment])
        assert world.segment.listener is None
        world.answers.stop(world.segment)
        assert await world.ask(FAR[0])

    _play(cable[0], scene)
