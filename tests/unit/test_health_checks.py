"""Health checks of many vhosts (carp.health), against an address that answers as a test says."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carp import health, health_probes
from carp.core.health import Check, Exec, Gateway, Target
from carp.core.health_monitor import Health
from carp.health import Checks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from carp.core.auth import Address

ROUTER = Gateway(IPv4Address("10.1.1.1"))
OTHER = Gateway(IPv4Address("10.1.1.2"))
Told = tuple[str, int, str]


@dataclass
class World:
    """Addresses that answer or not, and what the checks tell."""

    alive: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    asked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    told: list[Told] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)
    busy: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.checks = Checks(self.ask, chance=lambda: 0.0)

    async def ask(self, vhost: str, address: Address) -> bool:
        assert "web" == vhost
        self.asked[str(address)] += 1
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            while str(address) in self.silent:  # noqa: ASYNC110 (until cancelled)
                await asyncio.sleep(0.005)
        finally:
            self.busy -= 1
        return str(address) in self.alive

    def start(self, *checks: Check) -> None:
        self.checks.start("web", checks, lambda *told: self.told.append(told), self.failed.append)

    async def until_told(self, *expected: Told) -> None:
        await until(lambda: len(self.told) >= len(expected))
        assert list(expected) == self.told
        self.told.clear()

    async def rounds(self, address: str, count: int) -> None:
        """Wait until this many further runs have begun, so that all before them are judged."""
        first = self.asked[address]
        await until(lambda: self.asked[address] >= first + count)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what sets no event."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def check(target: Target = ROUTER, name: str = "router", **fields: Any) -> Check:
    """Return a check that runs all the time."""
    return replace(Check(name, target, period=0.01, timeout=1.0, rise=1, fall=2), **fields)


@pytest.fixture
def play() -> Callable[[Callable[[World], Coroutine[Any, Any, None]]], None]:
    """Return what plays a scene in a new world, within ten seconds."""

    def run(scene: Callable[[World], Coroutine[Any, Any, None]]) -> None:
        async def limited() -> None:
            world = World()
            async with asyncio.timeout(10):
                await scene(world)
                await world.checks.close()
            assert set() == asyncio.all_tasks() - {asyncio.current_task()}

        asyncio.run(limited())

    return run


Play = Any


def test_verdicts_are_reported(play: Play) -> None:
    """The vhost hears of the first success, of the demotion, and of its end, with the reason's name."""

    async def scene(world: World) -> None:
        world.alive.add("10.1.1.1")
        world.start(check(demotion=40))
        await world.until_told(("health:router", 0, "answers"))
        world.alive.clear()
        await world.until_told(("health:router", 40, "does not answer"))
        world.alive.add("10.1.1.1")
        await world.until_told(("health:router", 0, "answers"))

    play(scene)


def test_silence_is_a_failure_after_the_timeout(play: Play) -> None:
    """A target that does not answer fails when its time is over, and its next run is not at the same time."""

    async def scene(world: World) -> None:
        world.silent.add("10.1.1.1")
        world.start(check(timeout=0.03))
        await world.until_told(("health:router", 100, "no answer within 0.03 s"))
        assert 1 == world.most

    play(scene)


def test_slow_checks_never_overlap(play: Play) -> None:
    """A run that takes longer than the period is followed by one run, not by all that were missed."""

    async def scene(world: World) -> None:
        world.silent.add("10.1.1.1")
        world.start(check())
        await until(lambda: world.busy)
        await asyncio.sleep(0.1)
        assert 1 == world.asked["10.1.1.1"]
        world.silent.clear()
        begun = time.monotonic()
        await world.rounds("10.1.1.1", 4)
        assert time.monotonic() - begun >= 0.025
        assert 1 == world.most

    play(scene)


def test_an_error_of_ours_does_not_end_a_check(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What we did not expect is logged, says nothing about the target, and the check goes on."""
    monkeypatch.setattr(logging.getLogger("carp"), "propagate", True)

    async def scene(world: World) -> None:
        async def ask(vhost: str, address: Address) -> bool:
            if not world.asked["10.1.1.1"]:
                world.asked["10.1.1.1"] += 1
                raise RuntimeError("no such thing")
            return True

        world.checks = Checks(ask, chance=lambda: 0.0)
        world.start(check(fall=1))
        await world.until_told(("health:router", 0, "answers"))

    play(scene)
    assert {"web: health check router: internal error"} == {r.getMessage() for r in caplog.records}


def test_our_own_stall_is_no_failure(play: Play) -> None:
    """A run during which the loop stood still says nothing about the target."""

    async def scene(world: World) -> None:
        world.silent.add("10.1.1.1")
        world.alive.add("10.1.1.1")
        world.start(check(timeout=0.05, fall=1))
        await until(lambda: world.busy)
        time.sleep(0.05 + health.STALL + 0.02)  # noqa: ASYNC251 (the stall)
        world.silent.clear()
        await world.until_told(("health:router", 0, "answers"))

    play(scene)


def test_unchanged_checks_go_on(play: Play) -> None:
    """An update without a change disturbs nothing and reports nothing."""

    async def scene(world: World) -> None:
        world.start(check())
        await world.until_told(("health:router", 100, "does not answer"))
        before = world.checks._vhosts["web"].runs["router"]
        world.checks.update("web", [check(), check(OTHER, "other")])
        assert before is world.checks._vhosts["web"].runs["router"]
        assert [] == world.told

    play(scene)


def test_changed_checks_keep_their_health(play: Play) -> None:
    """A check with other settings stays demoted until it has succeeded; another amount is told at once."""

    async def scene(world: World) -> None:
        world.start(check())
        await world.until_told(("health:router", 100, "does not answer"))
        world.alive.add("10.1.1.2")
        world.checks.update("web", [check(OTHER, demotion=30)])
        assert [("health:router", 30, "does not answer")] == world.told
        world.told.clear()
        await world.until_told(("health:router", 0, "answers"))
        asked = world.asked["10.1.1.1"]
        await world.rounds("10.1.1.2", 3)
        assert asked == world.asked["10.1.1.1"]

    play(scene)


def test_removed_checks_take_their_demotion_along(play: Play) -> None:
    """The demotion of a check that is gone ends; one that was well needs no word."""

    async def scene(world: World) -> None:
        world.alive.add("10.1.1.2")
        world.start(check(), check(OTHER, "other"))
        await until(lambda: len(world.told) == 2)
        world.told.clear()
        world.checks.update("web", [])
        assert [("health:router", 0, "the check was removed")] == world.told
        assert [] == world.checks.snapshot("web")

    play(scene)


def test_all_failed(play: Play) -> None:
    """That all checks fail is told when the last one does, and its end when the first one is well."""

    async def scene(world: World) -> None:
        world.alive.add("10.1.1.1")
        world.start(check(), check(OTHER, "other"))
        await until(lambda: len(world.told) == 2)
        assert [] == world.failed
        world.alive.clear()
        await until(lambda: world.failed)
        world.alive.add("10.1.1.2")
        await until(lambda: not world.failed[-1])
        world.checks.update("web", [check()])
        assert world.failed[-1]
        world.checks.update("web", [])
        assert [True, False, True, False] == [told for told, _ in groupby(world.failed)]

    play(scene)


def test_that_all_fail_is_told_again_and_again(play: Play) -> None:
    """It comes with each result, since what a vhost does of it may have changed meanwhile."""

    async def scene(world: World) -> None:
        world.start(check())
        await until(lambda: len(world.failed) == 3)
        assert [True] * 3 == world.failed

    play(scene)


def test_a_first_failure_demotes_and_no_more(play: Play) -> None:
    """A vhost is demoted at once by a check that fails at the start; that all fail takes `fall` failures."""

    async def scene(world: World) -> None:
        world.start(check(fall=100))
        await world.until_told(("health:router", 100, "does not answer"))
        await world.rounds("10.1.1.1", 5)
        assert [] == world.failed

    play(scene)


def test_nothing_is_reported_after_stop(play: Play) -> None:
    """A vhost that is gone hears nothing more, and its checks do not run."""

    async def scene(world: World) -> None:
        world.start(check(fall=1))
        await until(lambda: world.asked)
        world.told.clear()
        world.checks.stop("web")
        asked = dict(world.asked)
        await asyncio.sleep(0.05)
        assert ([], asked) == (world.told, world.asked)
        assert [] == world.checks.snapshot("web")
        world.checks.stop("web")

    play(scene)


def test_stop_kills_a_program(play: Play, tmp_path: Path) -> None:
    """The program of a check that ends is killed."""
    mark = tmp_path / "pid"

    async def scene(world: World) -> None:
        world.start(check(Exec(("sh", "-c", f"echo $$ > {mark}; exec sleep 60"))))
        await until(lambda: mark.exists() and mark.read_text())
        pid = int(mark.read_text())
        world.checks.stop("web")
        await until(lambda: not Path(f"/proc/{pid}").exists())

    play(scene)


def test_programs_have_a_time_limit(play: Play) -> None:
    """A program that takes too long is killed, and that is a failure."""

    async def scene(world: World) -> None:
        world.start(check(Exec(("sleep", "60")), timeout=0.05))
        await world.until_told(("health:router", 100, "no answer within 0.05 s"))

    play(scene)


def test_a_program_that_cannot_be_killed_fails_again_and_again(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a killed program hangs in the kernel no second one starts, and each period is a failure."""
    kill = health_probes.Process.kill

    async def scene(world: World) -> None:
        monkeypatch.setattr(health_probes.Process, "kill", lambda _: None)
        world.start(check(Exec(("sleep", "60")), timeout=0.05, fall=3))
        await world.until_told(("health:router", 100, "no answer within 0.05 s"))
        await until(lambda: world.checks.snapshot("web")[0].failures == 3)
        assert "the program was killed and still hangs" == world.checks.snapshot("web")[0].detail
        process = world.checks._vhosts["web"].runs["router"]._process
        assert process is not None
        monkeypatch.setattr(health_probes.Process, "kill", kill)
        process.kill()
        await process.ended

    play(scene)


def test_a_missing_program_is_said(play: Play) -> None:
    """A program that is not there demotes with the reason."""

    async def scene(world: World) -> None:
        world.start(check(Exec(("/nonexistent/check",))))
        await world.until_told(("health:router", 100, "No such file or directory"))

    play(scene)


def test_snapshot(play: Play) -> None:
    """The status lists each check of a vhost in the order of the settings; none of an unknown vhost."""

    async def scene(world: World) -> None:
        world.start(check(OTHER, "other"), check())
        await until(lambda: len(world.told) == 2)
        shown = [(c.name, c.target, c.health, c.amount) for c in world.checks.snapshot("web")]
        assert [
            ("other", "gateway 10.1.1.2", Health.DOWN, 100),
            ("router", "gateway 10.1.1.1", Health.DOWN, 100),
        ] == shown
        assert [] == world.checks.snapshot("mail")

    play(scene)


def test_first_runs_are_spread(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check waits a random part of its period, at most a second, before it runs for the first time."""
    monkeypatch.setattr(health, "SPREAD", 0.2)

    async def scene(world: World) -> None:
        phases = iter((0.0, 0.9))
        world.checks = Checks(world.ask, chance=lambda: next(phases))
        world.start(check(period=60.0), check(OTHER, "other", period=60.0))
        await until(lambda: world.asked["10.1.1.1"])
        begun = time.monotonic()
        await until(lambda: world.asked["10.1.1.2"])
        assert 0.1 < time.monotonic() - begun

    play(scene)
