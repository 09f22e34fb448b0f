from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carp import hooks
from carp.core.schema import parse_vhost
from carp.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from carp.core.config import VhostConfig

LOG = logging.getLogger("carp.test.hooks")


class World:
    """A folder of scripts, a vhost that uses them, and what was logged."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.folder = folder
        self.caplog = caplog
        self.hooks = Hooks(LOG)

    def script(self, name: str, body: str, mode: int = 0o700) -> str:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\ncd {self.folder}\n{body}\n")
        path.chmod(mode)
        return str(path)

    def config(self, up: str = "", down: str = "", **settings: Any) -> VhostConfig:
        scripts: dict[str, Any] = {"up": up, "down": down}
        scripts |= {key: settings.pop(key) for key in ("argument", "timeout") if key in settings}
        data: dict[str, Any] = {
            "name": "eth0.7",
            "vhid": 7,
            "interface": "eth0",
            "addresses": ["10.1.1.252/24"],
            "password": "x",
            "scripts": scripts,
        }
        return parse_vhost({**data, **settings})

    def run(self, config: VhostConfig, *, up: bool = True) -> asyncio.Future[bool]:
        """Run a script; the future is whether it went well."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.hooks.run(config, "eth0", up=up, done=future.set_result)
        return future

    def read(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def logged(self, level: int) -> list[str]:
        return [record.getMessage() for record in self.caplog.records if record.levelno == level]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (files and processes set no event)
                await asyncio.sleep(0.002)


@pytest.fixture
def world(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> World:
    """Make a world whose log is seen even after a test that set the parent logger up for a process."""
    monkeypatch.setattr(logging.getLogger("carp"), "propagate", True)
    caplog.set_level(logging.DEBUG, LOG.name)
    return World(tmp_path, caplog)


def play(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene to its end within ten seconds."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await scene

    asyncio.run(limited())


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_arguments_are_ucarps(world: World) -> None:
    """A script gets interface, bare address and the argument as one word; once per address, in order."""

    async def scene() -> None:
        up = world.script("up", 'for a in "$@"; do printf "<%s>" "$a"; done >> called')
        config = world.config(up, argument="a b", addresses=["10.1.1.252/24", "2001:db8::252/64"])
        assert await world.run(config)
        assert "<eth0><10.1.1.252><a b><eth0><2001:db8::252><a b>" == world.read("called")
        assert await world.run(world.config(up))
        assert world.read("called").endswith("<a b><eth0><10.1.1.252>")

    play(scene())


def test_no_script_is_no_work(world: World) -> None:
    """A vhost without a script is done at once and well."""

    async def scene() -> None:
        assert await world.run(world.config())
        assert [] == world.caplog.records

    play(scene())


def test_the_call_returns_at_once(world: World) -> None:
    """Even a script that never ends holds up nothing."""

    async def scene() -> None:
        start = time.monotonic()
        future = world.run(world.config(world.script("up", "sleep 60")))
        assert time.monotonic() - start < 5.0
        await world.hooks.drain(0.1)
        assert not future.done()

    play(scene())


def test_output_is_logged_with_its_vhost(world: World) -> None:
    """Each line of standard output and error is logged; a last line needs no end."""

    async def scene() -> None:
        up = world.script("up", "echo one; echo two >&2; printf '\\377'")
        assert await world.run(world.config(up))
        lines = [f"{up} eth0 10.1.1.252: started", f"{up}: one", f"{up}: two", f"{up}: \\xff"]
        assert lines == world.logged(logging.INFO)
        fields = {"vhost": "eth0.7", "event": "script", "script": up}
        assert [fields] * 4 == [record.__dict__["fields"] for record in world.caplog.records]

    play(scene())


@pytest.mark.parametrize(("body", "how"), [("exit 3", "exit code 3"), ("kill -9 $$", "ended by signal 9")])
def test_a_failure_is_a_warning(world: World, body: str, how: str) -> None:
    """A script that fails is logged with its exit code; the next address is still tried."""

    async def scene() -> None:
        up = world.script("up", body)
        assert not await world.run(world.config(up, addresses=["10.1.1.252", "10.1.1.253"]))
        wanted = [f"{up} eth0 10.1.1.252: {how}", f"{up} eth0 10.1.1.253: {how}"]
        assert wanted == world.logged(logging.WARNING)

    play(scene())


def test_a_script_that_cannot_run_is_an_error(world: World) -> None:
    """A missing script and one without the right to execute are logged with the kernel's reason."""

    async def scene() -> None:
        missing = str(world.folder / "missing")
        assert not await world.run(world.config(missing))
        plain = world.script("plain", "exit 0", mode=0o600)
        assert not await world.run(world.config(plain))
        called = "eth0 10.1.1.252: cannot be run:"
        reasons = [f"{missing} {called} No such file or directory", f"{plain} {called} Permission denied"]
        assert reasons == world.logged(logging.ERROR)

    play(scene())


def test_a_hanging_script_is_ended_with_its_children(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its time limit the whole group gets SIGTERM, and what ignores that SIGKILL after the grace time."""
    monkeypatch.setattr(hooks, "TERM_GRACE", 0.3)

    async def scene() -> None:
        up = world.script(
            "up",
            "trap 'echo t >> term' TERM\n(trap '' TERM; sleep 60) &\necho $! > child\nsleep 60\nsleep 9",
        )
        start = time.monotonic()
        assert not await world.run(world.config(up, timeout="1s"))
        assert 1.2 < time.monotonic() - start < 5
        assert "t\n" == world.read("term")
        await world.until(lambda: not is_running(int(world.read("child"))))
        assert [f"{up} eth0 10.1.1.252: is ended, it runs for more than 1 s"] == world.logged(logging.ERROR)

    play(scene())


def test_what_a_script_leaves_in_the_background_may_stay(world: World) -> None:
    """A child that keeps the script's output open delays nothing and is not killed."""

    async def scene() -> None:
        up = world.script("up", "sleep 60 &\necho $! > child")
        start = time.monotonic()
        assert await world.run(world.config(up))
        child = int(world.read("child"))
        assert time.monotonic() - start < 3
        assert is_running(child)
        os.kill(child, 9)

    play(scene())


@pytest.mark.parametrize("body", ["yes flood | head -n 20000", "head -c 100000 /dev/zero | tr '\\0' x"])
def test_a_flood_is_cut(world: World, body: str) -> None:
    """Of much output at most 100 lines are logged, then one warning; the script still ends by itself."""

    async def scene() -> None:
        up = world.script("up", body)
        assert await world.run(world.config(up))
        assert [f"{up} eth0 10.1.1.252: prints too much, the rest is not logged"] == world.logged(
            logging.WARNING
        )
        assert len(world.logged(logging.INFO)) <= 101
        assert sum(map(len, world.logged(logging.INFO))) < 8192 + 101 * (len(up) + 20)

    play(scene())


def test_an_endless_flood_leaves_the_loop_alone(world: World) -> None:
    """A script that prints without end costs no more than a few reads a second until its time limit."""

    async def scene() -> None:
        future = world.run(world.config(world.script("up", "exec yes"), timeout="500ms"))
        await world.until(lambda: world.logged(logging.WARNING))
        before = time.thread_time()
        assert not await future
        assert time.thread_time() - before < 0.1

    play(scene())


def test_a_vhosts_scripts_never_overlap(world: World) -> None:
    """The down script waits for the up script of the same vhost; another vhost does not wait."""

    async def scene() -> None:
        os.mkfifo(world.folder / "go")
        up = world.script("up", "echo up >> order; read x < go; echo upped >> order")
        down = world.script("down", "echo down >> order")
        config = world.config(up, down)
        first = world.run(config)
        await world.until(lambda: world.read("order"))
        second = world.run(config, up=False)
        assert await world.run(world.config(world.script("other", "true"), name="other"))
        assert "up\n" == world.read("order")
        (world.folder / "go").write_text("x\n")
        assert (True, True) == (await first, await second)
        assert "up\nupped\ndown\n" == world.read("order")

    play(scene())


def test_only_the_last_wish_counts(world: World) -> None:
    """A script that has not started is dropped when another is wished for, and its caller hears so."""

    async def scene() -> None:
        os.mkfifo(world.folder / "go")
        up = world.script("up", "echo up >> order; read x < go")
        config = world.config(up, world.script("down", "echo down >> order"))
        first = world.run(config)
        await world.until(lambda: world.read("order"))
        dropped = world.run(config, up=False)
        last = world.run(dataclasses.replace(config), up=True)
        assert dropped.done()
        assert not dropped.result()
        for result in (first, last):
            with (world.folder / "go").open("w") as fifo:
                fifo.write("x\n")
            assert await result
        assert "up\nup\n" == world.read("order")

    play(scene())


def test_a_wish_right_after_the_last_script_is_heard(world: World) -> None:
    """A wish in the moment in which the vhost's task ends is not lost."""

    async def scene() -> None:
        config = world.config(world.script("up", "echo up >> order"))
        again: list[asyncio.Future[bool]] = []
        done = asyncio.Event()

        def ended(_: bool) -> None:
            again.append(world.run(config))
            done.set()

        world.hooks.run(config, "eth0", up=True, done=ended)
        await done.wait()
        assert await again[0]
        assert await world.run(config)
        assert "up\nup\nup\n" == world.read("order")

    play(scene())


def test_drain_waits_for_scripts(world: World) -> None:
    """At exit a running script may finish."""

    async def scene() -> None:
        up = world.script("up", "sleep 0.2; echo done > finished")
        world.run(world.config(up))
        await world.hooks.drain(5)
        assert "done\n" == world.read("finished")

    play(scene())


def test_drain_kills_what_takes_too_long(world: World) -> None:
    """At exit a script over the time left is killed with its group."""

    async def scene() -> None:
        world.run(world.config(world.script("up", "echo $$ > pid; sleep 60")))
        await world.until(lambda: world.read("pid"))
        await world.hooks.drain(0.05)
        await world.until(lambda: not is_running(int(world.read("pid"))))

    play(scene())


def test_a_script_inherits_the_environment_and_no_files(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script has our environment, no file of ours, an empty input and a session of its own."""
    monkeypatch.setenv("CARP_TEST", "seen")

    async def scene() -> None:
        reader, writer = os.pipe()
        os.set_inheritable(writer, True)
        up = world.script(
            "up", "echo $CARP_TEST; ls -l /proc/self/fd | grep -c pipe; cat; ps -o sid= -p $$; echo $$"
        )
        assert await world.run(world.config(up))
        os.close(reader)
        os.close(writer)
        seen, pipes, session, pid = (
            line.removeprefix(f"{up}: ").strip() for line in world.logged(logging.INFO)[1:]
        )
        # `ls` has two pipes: its output to grep, and the script's standard error.
        assert ("seen", "2", pid) == (seen, pipes, session)

    play(scene())


def test_many_starts_do_not_stop_the_loop(world: World) -> None:
    """After a failover of 60 vhosts their scripts start one by one: the loop is never away for long."""

    async def scene() -> None:
        up = world.script("up", "exit 0")
        futures = [world.run(world.config(up, name=f"v{number}")) for number in range(60)]
        gaps, last = [], time.monotonic()
        waiting: Awaitable[Any] = asyncio.gather(*futures)
        while not all(future.done() for future in futures):
            await asyncio.sleep(0)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()
        await waiting
        assert sorted(gaps)[-3] < 0.1  # the two longest may be the machine's

    play(scene())
