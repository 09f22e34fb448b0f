"""What vhosts remember is written by a thread (carp.scribe)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from carp import scribe as module
from carp.scribe import Scribe

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest


class Disk:
    """A memory whose file system can be frozen, or refuse."""

    def __init__(self) -> None:
        self.thawed = threading.Event()
        self.thawed.set()
        self.written: list[bytes] = []
        self.problem: OSError | None = None

    def write(self, content: bytes) -> None:
        self.thawed.wait()
        if self.problem:
            raise self.problem
        self.written.append(content)


def play(scene: Callable[[Any, Disk, list[OSError | None]], Any]) -> None:
    """Run a scene with a scribe, a disk and what was told of its writes."""

    async def run() -> None:
        await scene(Scribe(), Disk(), [])

    asyncio.run(run())


async def told(outcomes: list[OSError | None], count: int) -> None:
    """Wait until so many outcomes were told."""
    async with asyncio.timeout(5):
        while len(outcomes) < count:  # noqa: ASYNC110 (told by a thread)
            await asyncio.sleep(0.001)


def test_a_frozen_disk_holds_nobody_up() -> None:
    """The loop goes on; of what comes meanwhile only the newest is written, once the disk is back."""

    async def scene(scribe: Scribe, disk: Disk, outcomes: list[OSError | None]) -> None:
        disk.thawed.clear()
        began = time.monotonic()
        for number in range(1000):
            scribe.put(disk, b"%d" % number, outcomes.append)  # type: ignore[arg-type]
            await asyncio.sleep(0)
        assert 1.0 > time.monotonic() - began
        assert [] == outcomes
        disk.thawed.set()
        await told(outcomes, 1)
        await asyncio.to_thread(scribe.flush)
        assert b"999" == disk.written[-1]
        assert 2 >= len(disk.written)
        scribe.finish()

    play(scene)


def test_a_refusal_is_told_and_ends_nothing() -> None:
    """The next write is tried as ever."""

    async def scene(scribe: Scribe, disk: Disk, outcomes: list[OSError | None]) -> None:
        disk.problem = OSError(28, "No space left on device")
        scribe.put(disk, b"a", outcomes.append)  # type: ignore[arg-type]
        await told(outcomes, 1)
        disk.problem = None
        scribe.put(disk, b"b", outcomes.append)  # type: ignore[arg-type]
        await told(outcomes, 2)
        assert ["No space left on device", None] == [o and o.strerror for o in outcomes]
        assert [b"b"] == disk.written
        scribe.finish()

    play(scene)


def test_the_end_waits_for_the_disk_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put is written before the end, unless the disk hangs."""

    async def scene(scribe: Scribe, disk: Disk, outcomes: list[OSError | None]) -> None:
        scribe.put(disk, b"last", outcomes.append)  # type: ignore[arg-type]
        scribe.finish()
        assert [b"last"] == disk.written
        monkeypatch.setattr(module, "FINISH", 0.2)
        hanging = Scribe()
        disk.thawed.clear()
        hanging.put(disk, b"never", outcomes.append)  # type: ignore[arg-type]
        began = time.monotonic()
        hanging.finish()
        assert 2.0 > time.monotonic() - began
        disk.thawed.set()

    play(scene)
