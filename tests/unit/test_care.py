"""What health checks do to vhosts (carp.daemon.care), with checks that say what a test wants."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp import health
from carp.core import events as ev
from carp.daemon.care import ALL_FAIL, Care
from pair import config

if TYPE_CHECKING:
    from collections.abc import Callable

APP = {"name": "app", "tcp": {"port": 80}}
DB = {"name": "db", "tcp": {"port": 81}}


@dataclass
class Checks:
    """Notes which checks run, and lets a test speak for them."""

    ask: Any
    running: dict[str, Any] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    closed: bool = False

    def start(self, name: str, checks: Any, report: Callable[..., None], failed: Callable[..., None]) -> None:
        self.log.append(("start", name))
        self.running[name] = SimpleNamespace(checks=checks, report=report, failed=failed)

    def update(self, name: str, checks: Any) -> None:
        self.log.append(("update", name))
        self.running[name].checks = checks

    def stop(self, name: str) -> None:
        self.log.append(("stop", name))
        del self.running[name]

    def snapshot(self, name: str) -> list[str]:
        return [name] if name in self.running else []

    async def close(self) -> None:
        self.closed = True


class World:
    """An engine with vhosts, and the care for them."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.done: list[tuple[str, Any]] = []
        self.leaving: set[str] = set()
        self.care = Care(self, self.leaving.__contains__)  # type: ignore[arg-type]

    def put(self, name: str, *checks: dict[str, Any], **fields: Any) -> None:
        settings = config(name=name, healthChecks=list(checks), **fields)
        port = SimpleNamespace(segment=None)
        self.slots[name] = SimpleNamespace(config=settings, withdrawn="", port=port)
        self.care.update()

    def change(self, name: str, *checks: dict[str, Any], **fields: Any) -> None:
        """Give a vhost other settings in place."""
        self.slots[name].config = config(name=name, healthChecks=list(checks), **fields)
        self.care.update()

    def remove(self, name: str) -> None:
        del self.slots[name]
        self.care.update()

    @property
    def checks(self) -> Checks:
        found = self.care._checks
        assert isinstance(found, Checks)
        return found

    def handle(self, slot: Any, event: ev.Event) -> None:
        self.done.append((slot.config.name, event))

    def withdraw(self, slot: Any, reason: str) -> None:
        self.done.append(("withdraw", reason))
        slot.withdrawn = reason

    def restore(self, slot: Any) -> None:
        self.done.append(("restore", slot.config.name))
        slot.withdrawn = ""

    async def ask(self, segment: Any, address: Any) -> bool:
        self.done.append(("ask", (segment, address)))
        return True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose checks are played."""
    monkeypatch.setattr(health, "Checks", Checks)
    return World()


def test_without_checks_there_is_nothing(world: World) -> None:
    """Nothing is imported, started or shown."""
    world.put("web")
    assert world.care._checks is None
    assert [] == world.care.statuses("web")
    asyncio.run(world.care.close())


def test_checks_follow_the_settings(world: World) -> None:
    """They start with their vhost, go on while nothing changes, change with it, and end with it."""
    world.put("web", APP)
    world.care.update()
    world.put("web", APP, advskew=9)
    world.put("web", APP, DB)
    world.put("web")
    world.put("web", APP)
    world.remove("web")
    assert [("start", "web"), ("update", "web"), ("stop", "web"), ("start", "web"), ("stop", "web")] == (
        world.checks.log
    )


def test_a_verdict_demotes(world: World) -> None:
    """Its reason and amount reach the vhost; 0 ends it; a vhost that is gone is no trouble."""
    world.put("web", APP)
    report = world.checks.running["web"].report
    report("health:app", 40, "refused")
    report("health:app", 0, "answers")
    assert [("web", ev.Demote("health:app", 40)), ("web", ev.Demote("health:app", 0))] == world.done
    world.slots.clear()
    report("health:app", 40, "refused")
    assert 2 == len(world.done)


def test_all_fail_with_release(world: World) -> None:
    """The vhost is withdrawn, and comes back with the first check that is well."""
    world.put("web", APP, whenAllFail="Release")
    failed = world.checks.running["web"].failed
    failed(True)
    failed(False)
    failed(False)
    assert [("withdraw", ALL_FAIL), ("restore", "web")] == world.done


def test_all_fail_with_keep(world: World) -> None:
    """By default it stays."""
    world.put("web", APP)
    world.checks.running["web"].failed(True)
    world.slots.clear()
    world.checks.running["web"].failed(True)
    assert [] == world.done


def test_keep_brings_back_what_release_withdrew(world: World) -> None:
    """While all checks fail, a change to Keep restores the vhost, and one to Release withdraws it."""
    world.put("web", APP, whenAllFail="Release")
    world.checks.running["web"].failed(True)
    world.change("web", APP, whenAllFail="Keep")
    world.change("web", APP, whenAllFail="Keep")
    assert [("withdraw", ALL_FAIL), ("restore", "web")] == world.done
    world.change("web", APP, whenAllFail="Release")
    world.change("web", APP, whenAllFail="Release")
    assert [("withdraw", ALL_FAIL), ("restore", "web"), ("withdraw", ALL_FAIL)] == world.done


def test_who_comes_in_the_place_of_another_is_judged_anew(world: World) -> None:
    """A replaced vhost whose checks all fail takes no part under its new vhid either."""
    world.put("web", APP, whenAllFail="Release")
    world.checks.running["web"].failed(True)
    world.put("web", APP, whenAllFail="Release", vhid=43)
    assert [("withdraw", ALL_FAIL)] * 2 == world.done
    assert ALL_FAIL == world.slots["web"].withdrawn
    world.remove("web")
    world.put("web", APP, whenAllFail="Release")
    assert "" == world.slots["web"].withdrawn


def test_without_an_interface_a_gateway_says_nothing(world: World) -> None:
    """A vhost whose link is late at boot is not withdrawn for it: it would not be put onto it any more."""
    router = {"name": "router", "gateway": {"address": "10.1.1.1"}}
    world.put("web", APP, router, whenAllFail="Release")
    failed = world.checks.running["web"].failed
    failed(True)
    assert [] == world.done
    world.slots["web"].port.segment = "segment"
    failed(True)
    assert [("withdraw", ALL_FAIL)] == world.done


def test_who_is_leaving_is_left_alone(world: World) -> None:
    """A vhost that is being removed or replaced is neither stopped for its checks nor started again."""
    world.put("web", APP, whenAllFail="Release")
    world.leaving.add("web")
    world.checks.running["web"].failed(True)
    world.slots["web"].withdrawn = ALL_FAIL
    world.checks.running["web"].failed(False)
    world.change("web")
    assert [("web", ev.Demote("health:app", 0))] == world.done


def test_the_log_tells_causes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Each verdict with what was seen, a withdrawal before its stop, and why a vhost is back."""
    logging.getLogger("carp").propagate = True
    caplog.set_level(logging.INFO, logger="carp")
    world.put("web", APP, whenAllFail="Release")
    running = world.checks.running["web"]
    running.report("health:app", 100, "refused")
    running.failed(True)
    world.change("web", APP)
    world.change("web", APP, whenAllFail="Release")
    running.failed(False)
    running.failed(True)
    world.change("web")
    back = [text for text in caplog.messages if text.startswith("restored")]
    assert ["health check app demotes by 100: refused", f"withdrawn: {ALL_FAIL}"] == caplog.messages[:2]
    assert [
        "restored: whenAllFail is Keep now",
        "restored: a health check is up again",
        "restored: it has no health checks any more",
    ] == back


def test_who_was_withdrawn_for_another_reason_stays_out(world: World) -> None:
    """A check that is well again undoes only what checks did."""
    world.put("web", APP, whenAllFail="Release")
    world.slots["web"].withdrawn = "by hand"
    world.checks.running["web"].failed(False)
    assert [] == world.done


def test_the_end_of_the_checks_undoes_what_they_did(world: World) -> None:
    """Their demotions end, and a withdrawn vhost comes back."""
    world.put("web", APP, DB, whenAllFail="Release")
    world.checks.running["web"].failed(True)
    withdrawn = world.slots["web"]
    world.put("web")
    world.slots["web"].withdrawn = withdrawn.withdrawn
    world.put("web", APP, whenAllFail="Release")
    world.checks.running["web"].failed(True)
    world.done.clear()
    slot = world.slots["web"]
    slot.config = config(name="web")
    world.care.update()
    assert [("web", ev.Demote("health:app", 0)), ("restore", "web")] == world.done


def test_each_vhost_has_its_own(world: World) -> None:
    """The status and the end of one leave the other alone."""
    world.put("web", APP)
    world.put("own", APP)
    shown: list[Any] = [world.care.statuses(name) for name in ("web", "own", "nosuch")]
    assert [["web"], ["own"], []] == shown
    world.remove("web")
    assert ["own"] == list(world.checks.running)
    asyncio.run(world.care.close())
    assert world.checks.closed


def test_gateways_are_asked_on_the_vhosts_segment(world: World) -> None:
    """Without an interface nobody can answer; a vhost that is gone has none."""
    world.put("web", APP)
    assert not asyncio.run(world.checks.ask("nosuch", None))
    assert not asyncio.run(world.checks.ask("web", None))
    world.slots["web"].port.segment = "segment"
    assert asyncio.run(world.checks.ask("web", "address"))
    assert [("ask", ("segment", "address"))] == world.done
