"""Blocking work beside a loop (carp.threads)."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from carp.threads import in_thread


def test_in_thread() -> None:
    """Blocking work has its result or its error; what nobody waits for any more disturbs nobody."""

    async def run() -> None:
        assert 3 == await in_thread(lambda: 3)
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0)
        task = asyncio.ensure_future(in_thread(lambda: 4))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.02)

    asyncio.run(run())


def test_no_exit_waits_for_a_thread() -> None:
    """The loop ends beside work that hangs, and what that comes to later disturbs nobody."""
    hanging = threading.Event()

    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await in_thread(lambda: hanging.wait(10))

    began = time.monotonic()
    asyncio.run(run())
    assert 5 > time.monotonic() - began
    hanging.set()
