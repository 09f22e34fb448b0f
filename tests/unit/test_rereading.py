"""The file read again while vhosts run (carp.daemon.rereading)."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from carp.daemon import rereading, watchfile
from carp.daemon.configfile import load, watched
from carp.daemon.rereading import Rereading
from carp.daemon.watchfile import look
from inprocess import Carpd, carpd, configure, waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from carp.core.config import VhostConfig


class Pipe:
    """A password file that is a pipe: whoever reads it hangs until somebody writes."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "pass"
        self._hidden = folder / "pipe"
        self.path.write_text("love\n")
        self.path.chmod(0o600)

    def vhost(self, **fields: Any) -> dict[str, Any]:
        """Return settings with this password."""
        settings = waiting(passwordFile=str(self.path), **fields)
        del settings["password"]
        return settings

    def hang(self) -> None:
        """Put the pipe in the file's place."""
        self.path.unlink()
        os.mkfifo(self.path, 0o600)

    def mend(self) -> None:
        """Put a file there again; who reads already still hangs."""
        self.path.rename(self._hidden)
        self.path.write_text("war\n")
        self.path.chmod(0o600)

    def release(self) -> None:
        """Let go who hangs, if somebody does."""
        for path in (self._hidden, self.path):
            with suppress(OSError):
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    """Yield a pipe; in the end nobody hangs, whatever the test came to."""
    made = Pipe(tmp_path)
    later = threading.Timer(8.0, made.release)
    later.start()
    yield made
    later.cancel()
    made.release()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_orders_do_not_wait_for_a_file_that_hangs(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are carried out, what is the matter is shown, and the process ends beside it."""
    monkeypatch.setattr(rereading, "SLOW", 0.05)
    began = time.monotonic()

    async def scene(daemon: Carpd) -> None:
        pipe.hang()
        daemon.service.reload()
        await _until(lambda: bool(daemon.service.about()["problems"]))
        (problem,) = (await daemon.ask("hello"))["problems"]
        assert problem.startswith(f"{tmp_path}/carp.yaml: being read since 20")
        assert (await daemon.ask("maintenance", on=True))["persisted"]
        assert {"own": "added"} == await daemon.results(waiting("own", vhid=2, addresses=["10.1.1.8"]))

    async def served() -> None:
        async with carpd(tmp_path, pipe.vhost()) as daemon:
            await scene(daemon)

    asyncio.run(served())
    assert 7.0 > time.monotonic() - began


def test_whoever_asks_meanwhile_shares_the_next_reading(
    tmp_path: Path, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One reading at a time, and one more for all that came meanwhile: what they wrote is read."""
    count = 0

    def counted(path: str, *, named: bool) -> Any:
        nonlocal count
        count += 1
        return load(path, named=named)

    monkeypatch.setattr(rereading, "load", counted)

    async def scene(daemon: Carpd) -> None:
        pipe.hang()
        first = asyncio.ensure_future(daemon.service.read_file())
        await _until(lambda: count == 1)
        await asyncio.sleep(0.5)  # the thread has opened the pipe by then
        configure(tmp_path, [pipe.vhost(advskew=7)])
        others = [asyncio.ensure_future(daemon.service.read_file()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert 1 == count
        pipe.mend()
        pipe.release()
        assert "passwordFile" in await first
        assert ["", "", ""] == await asyncio.gather(*others)
        assert 2 == count
        (web,) = (await daemon.ask("status"))["vhosts"]
        assert 7 == web["advskew"]
        assert [] == daemon.service.about()["problems"]

    async def served() -> None:
        async with carpd(tmp_path, pipe.vhost()) as daemon:
            await scene(daemon)

    asyncio.run(served())


def test_what_goes_wrong_in_a_reading_is_for_who_asked(tmp_path: Path) -> None:
    """A mistake of ours in it too; the next reading is none the worse."""
    taken: list[list[VhostConfig]] = []
    changes: list[None] = []

    async def take(configs: list[VhostConfig]) -> None:
        taken.append(configs)
        if len(taken) == 1:
            msg = "a mistake"
            raise RuntimeError(msg)

    async def scene() -> None:
        path = configure(tmp_path, [waiting(vhid=300)])
        file = Rereading(path, take, lambda: changes.append(None))
        for _ in range(2):
            assert "300 is not between" in await file.ask()
        assert ([file.problem], 1) == (file.problems(0.0), len(changes))
        configure(tmp_path, [waiting()])
        with pytest.raises(RuntimeError, match="a mistake"):
            await file.ask()
        assert "" == await file.ask()
        assert ([], 2, 2) == (file.problems(0.0), len(changes), len(taken))

    asyncio.run(scene())


@pytest.mark.parametrize(("known", "readings"), [("as it is", 0), ("as it was", 1), (None, 1)])
def test_the_file_changed_before_it_was_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str | None, readings: int
) -> None:
    """It is read again when it is not what was read, or nobody knows; else it is not."""
    monkeypatch.setattr(watchfile, "PERIOD", 0.02)
    monkeypatch.setattr(watchfile, "SETTLE", 0.02)
    kept: list[list[VhostConfig]] = []
    before = look(watched(configure(tmp_path, [waiting()])))
    seen = {} if known == "as it is" else {"seen": before if known else None}

    async def served() -> None:
        async with carpd(tmp_path, waiting(), keep=kept.append, **seen):
            await _until(lambda: len(kept) >= readings)
            await asyncio.sleep(0.1)

    asyncio.run(served())
    assert readings == len(kept)
