"""When the status is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.agent import writing as module
from carp_operator.agent.metrics import Tally
from carp_operator.agent.troubles import Troubles
from carp_operator.agent.writing import Writing
from carp_operator.kube.errors import Forbidden, KubeError, NotFound, Transient, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PERIOD = 0.2


class World:
    """A value to write, and a server that takes it unless told otherwise."""

    def __init__(self) -> None:
        self.value = 0
        self.written = 0
        self.sent: list[tuple[float, int]] = []
        self.errors: list[KubeError] = []
        self.writing = Writing(self._compose, self._send, troubles=Troubles(), tally=Tally())

    def _compose(self) -> dict[str, Any] | None:
        return {"value": self.value} if self.value != self.written else None

    async def _send(self, status: dict[str, Any]) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.sent.append((asyncio.get_running_loop().time(), status["value"]))
        self.written = status["value"]

    def set(self, value: int) -> None:
        """Change the value."""
        self.value = value
        self.writing.poke()


def tell(monkeypatch: pytest.MonkeyPatch, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story."""
    monkeypatch.setattr(module, "PERIOD", PERIOD)

    async def run() -> None:
        world = World()
        task = asyncio.ensure_future(world.writing.run())
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(10):
                await story(world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first change is written at once, the next ones together a period later, the last one always."""

    async def story(world: World) -> None:
        for value in range(1, 50):
            world.set(value)
            await asyncio.sleep(0)
        await world.writing.finish(5)
        (first, one), (second, last) = world.sent
        assert (1, 49) == (one, last)  # had the first one waited, it would have told more
        assert PERIOD <= second - first < PERIOD + 1

    tell(monkeypatch, story)


def test_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poke with nothing new writes nothing."""

    async def story(world: World) -> None:
        for _ in range(3):
            await world.writing.finish(1)
        assert [] == world.sent

    tell(monkeypatch, story)


@pytest.mark.parametrize("error", [Unreachable("p", "x"), Forbidden("p", "x"), Transient("p", "x")])
def test_failure(monkeypatch: pytest.MonkeyPatch, error: KubeError) -> None:
    """A write that failed is tried again by itself, with what is newest then."""

    async def story(world: World) -> None:
        world.errors = [error]
        world.set(1)
        await asyncio.sleep(0.01)
        world.value = 2
        await world.writing.finish(5)
        assert [2] == [value for _, value in world.sent]

    tell(monkeypatch, story)


def test_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no object nothing is tried until somebody has news."""

    async def story(world: World) -> None:
        world.errors = [NotFound("p", "x")]
        world.set(1)
        await asyncio.sleep(2 * PERIOD)
        assert [] == world.sent
        world.writing.poke()
        await world.writing.finish(5)
        assert [1] == [value for _, value in world.sent]

    tell(monkeypatch, story)


def test_pauses() -> None:
    """Pauses double up to a limit that is short while nobody answers, and spread out."""
    for error, longest in ((Unreachable("p", "x"), 3.0), (Forbidden("p", "x"), 30.0)):
        writing = World().writing
        for n in range(40):
            base = min(longest, 2.0**n)
            assert base <= writing._pause(error) <= 1.5 * base


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end does not wait for a server longer than it may."""

    async def story(world: World) -> None:
        world.errors = [Unreachable("p", "x") for _ in range(99)]
        world.set(1)
        began = asyncio.get_running_loop().time()
        await world.writing.finish(0.1)
        assert asyncio.get_running_loop().time() - began < 1
        assert [] == world.sent

    tell(monkeypatch, story)
