"""What the driver does apart from adverts (carp.engine); the election's path is in tests/e2e."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import TYPE_CHECKING

from carp.core import events as ev
from carp.core.vhost import Vhost
from carp.engine import LONG_TURN, MAX_WRITES
from inprocess import carpd, waiting

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest


def test_floors_are_written_a_few_at_a_time(tmp_path: Path) -> None:
    """Hundreds of vhosts begin together; writing all their files at once would make adverts late."""

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            count = 2 * MAX_WRITES + 3
            await daemon.apply(
                *(waiting(f"v{i}", vhid=i + 1, addresses=[f"10.1.2.{i}"]) for i in range(count))
            )
            engine = daemon.service.engine
            for slot in engine.slots.values():
                slot.rewrite_at = 0.0
            left = []
            for _ in range(3):
                engine._housekeeping(asyncio.get_running_loop().time())
                left.append(sum(slot.rewrite_at == 0.0 for slot in engine.slots.values()))
            assert [MAX_WRITES + 3, 3, 0] == left

    asyncio.run(scene())


def test_a_long_turn_is_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of vhosts take over together, each by what was heard just before, the longest due first."""
    deadlines = {f"v{i}": -float(i) for i in range(5)}
    ticked: list[str] = []

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            names = enumerate(deadlines)
            await daemon.apply(*(waiting(n, vhid=i + 1, addresses=[f"10.1.2.{i}"]) for i, n in names))
            engine, clock = daemon.service.engine, SimpleNamespace(time=1.0)
            clock.now = lambda: clock.time

            def slow() -> None:
                clock.time += LONG_TURN * 2

            def tick(vhost: Vhost, now: float) -> Sequence[ev.Effect]:
                assert now == began
                clock.time += LONG_TURN * 0.6
                ticked.append(vhost.config.name)
                deadlines[vhost.config.name] = math.inf
                return ()

            with monkeypatch.context() as patch:
                patch.setattr(engine, "_clock", clock)
                patch.setattr(Vhost, "deadline", lambda vhost: deadlines[vhost.config.name])
                patch.setattr(Vhost, "tick", tick)
                patch.setattr(engine._places, "check_carriers", lambda *_: None)
                turns = []
                for _ in range(3):
                    began = clock.now()
                    engine._turn(began)
                    turns.append(len(ticked))
                patch.setattr(engine._places, "check_carriers", lambda *_: slow())
                deadlines["v4"] = began = clock.now()
                engine._turn(began)
            assert [2, 4, 5] == turns
            assert ["v4", "v3", "v2", "v1", "v0", "v4"] == ticked

    asyncio.run(scene())


def test_new_settings_keep_the_very_same_addresses(tmp_path: Path) -> None:
    """Prepared renewals are kept by their identity: equal ones at each change would fill the memory."""

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            await daemon.apply(waiting())
            slot = daemon.service.engine.slots["web"]
            before = slot.config.addresses
            await daemon.apply(waiting(advskew=9), generation=2)
            assert (9, True) == (slot.config.timing.advskew, before is slot.config.addresses)
            await daemon.apply(waiting(addresses=["10.1.1.7"]), generation=3)
            assert ["10.1.1.7/32"] == [str(vip) for vip in slot.config.addresses]

    asyncio.run(scene())


def test_the_last_vhost_goes(tmp_path: Path) -> None:
    """Nothing of it is left, and the next one begins as ever."""

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            await daemon.apply(waiting())
            await daemon.apply(generation=2)
            await asyncio.sleep(0)
            engine = daemon.service.engine
            assert ({}, set()) == (engine.slots, engine.links.own)
            await daemon.apply(waiting(), generation=3)
            assert ["web"] == list(engine.slots)
            assert {vip.ip for vip in engine.slots["web"].config.addresses} == engine.links.own

    asyncio.run(scene())


def test_an_error_of_ours_in_the_middle_of_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vhost that was told to go has gone, whatever went wrong with it: nobody waits for it for ever."""
    handle = Vhost.handle

    def fail(vhost: Vhost, event: ev.Event, now: float) -> Sequence[ev.Effect]:
        if not isinstance(event, ev.Stop):
            return handle(vhost, event, now)
        raise RuntimeError(event)

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            await daemon.apply(waiting())
            with monkeypatch.context() as patch:
                patch.setattr(Vhost, "handle", fail)
                await daemon.apply(generation=2)
                assert await daemon.service.changes.quiet(2.0)
            assert {} == daemon.service.engine.slots
            await daemon.apply(waiting(), generation=3)
            assert ["web"] == list(daemon.service.engine.slots)

    asyncio.run(scene())
