from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from carp.daemon import watchfile
from carp.daemon.watchfile import PERIOD, SETTLE, Watch, look

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class _Calls:
    """Counts calls of `changed`, and waits for the next."""

    def __init__(self) -> None:
        self.count = 0
        self._event = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._event.set()

    async def next(self) -> float:
        """Wait for a call that has not been waited for; return the seconds it took."""
        began = time.monotonic()
        await asyncio.wait_for(self._event.wait(), 5)
        self._event.clear()
        return time.monotonic() - began


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchfile, "PERIOD", 0.02)
    monkeypatch.setattr(watchfile, "SETTLE", 0.02)


def _watching(paths: list[Path], steps: Callable[[_Calls], Awaitable[None]]) -> int:
    """Run steps under a watch; return how often it called in the end."""

    async def run() -> int:
        calls = _Calls()
        watch = Watch(map(str, paths), calls, look(map(str, paths)))
        await steps(calls)
        watch.stop()
        return calls.count

    return asyncio.run(run())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A file, and a folder beside it with one in it."""
    file, folder = tmp_path / "carp.yaml", tmp_path / "conf.d"
    folder.mkdir()
    for path in (file, folder / "a.yaml"):
        path.write_text("x")
    return file, folder


def _edit(file: Path, folder: Path) -> None:
    file.write_text("y")


def _same_size_and_time(file: Path, folder: Path) -> None:
    info = file.stat()
    file.write_text("y")
    os.utime(file, ns=(info.st_atime_ns, info.st_mtime_ns))


def _rename(file: Path, folder: Path) -> None:
    new = file.with_suffix(".new")
    new.write_text("x")
    new.rename(file)


def _delete(file: Path, folder: Path) -> None:
    file.unlink()


def _edit_inside(file: Path, folder: Path) -> None:
    (folder / "a.yaml").write_text("y")


def _add(file: Path, folder: Path) -> None:
    (folder / "b.yaml").write_text("x")


def _remove(file: Path, folder: Path) -> None:
    (folder / "a.yaml").unlink()


def _remove_folder(file: Path, folder: Path) -> None:
    (folder / "a.yaml").unlink()
    folder.rmdir()


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize(
    "change",
    [_edit, _same_size_and_time, _rename, _delete, _edit_inside, _add, _remove, _remove_folder],
)
def test_a_change_is_noticed(files: tuple[Path, Path], change: Callable[[Path, Path], None]) -> None:
    """Whatever happens to the file or in the folder is told."""

    async def steps(calls: _Calls) -> None:
        change(*files)
        await calls.next()

    assert 1 <= _watching([*files], steps)


@pytest.mark.usefixtures("_fast")
def test_what_comes_later_is_noticed(tmp_path: Path) -> None:
    """A file and a folder that did not exist at the start are watched, too."""

    async def steps(calls: _Calls) -> None:
        (tmp_path / "carp.yaml").write_text("x")
        await calls.next()
        (tmp_path / "conf.d").mkdir()
        await calls.next()
        (tmp_path / "conf.d" / "a.yaml").write_text("x")
        await calls.next()

    assert 3 <= _watching([tmp_path / "carp.yaml", tmp_path / "conf.d"], steps)


@pytest.mark.usefixtures("_fast")
def test_a_swapped_link_is_noticed(tmp_path: Path) -> None:
    """A Kubernetes ConfigMap changes by renaming a link over `..data`: file and folder are behind it."""
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "carp.yaml").write_text("x")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "carp.yaml").symlink_to("..data/carp.yaml")

    async def steps(calls: _Calls) -> None:
        for target in ("..2", "..1"):
            (tmp_path / "..new").symlink_to(target)
            (tmp_path / "..new").rename(tmp_path / "..data")
            await calls.next()

    assert 2 == _watching([tmp_path / "carp.yaml"], steps)
    assert 2 == _watching([tmp_path], steps)


@pytest.mark.usefixtures("_fast")
def test_hidden_files_and_reading_are_no_change(files: tuple[Path, Path]) -> None:
    """An editor's swap file in the folder, and reading, are not told; the next change is."""

    async def steps(calls: _Calls) -> None:
        (files[1] / ".a.yaml.swp").write_text("x")
        files[0].read_text()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(calls.next(), 0.3)
        files[0].write_text("y")
        await calls.next()

    assert 1 == _watching([*files], steps)


def test_a_burst_is_told_once_and_within_two_seconds(files: tuple[Path, Path]) -> None:
    """With the real times: many changes at once are one call, at most 2 s later."""

    async def steps(calls: _Calls) -> None:
        for i in range(20):
            files[0].write_text("y" * i)
            (files[1] / f"{i}.yaml").write_text("x")
        assert await calls.next() < 2.0 + 2.0  # as much again for a machine that stands still

    assert PERIOD + SETTLE < 2.0
    assert 1 == _watching([*files], steps)


@pytest.mark.usefixtures("_fast")
def test_the_call_comes_in_the_event_loop(files: tuple[Path, Path]) -> None:
    """`changed` may touch what belongs to the loop."""

    async def run() -> None:
        where: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        paths = [str(files[0])]
        watch = Watch(paths, lambda: where.set_result(threading.current_thread().name), look(paths))
        files[0].write_text("y")
        assert threading.current_thread().name == await asyncio.wait_for(where, 5)
        watch.stop()

    asyncio.run(run())


@pytest.mark.usefixtures("_fast")
def test_no_call_after_stop(files: tuple[Path, Path]) -> None:
    """A change noticed before, but not told yet, is not told after `stop`; its thread ends."""

    async def run() -> None:
        calls = _Calls()
        before = set(threading.enumerate())
        watch = Watch([str(files[0])], calls, look([str(files[0])]))
        (thread,) = set(threading.enumerate()) - before
        files[0].write_text("y")
        watch._loop.call_soon(watch._tell)
        watch.stop()
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
        await asyncio.sleep(0)
        assert 0 == calls.count

    asyncio.run(run())


@pytest.mark.usefixtures("_fast")
def test_a_loop_that_ended_ends_the_watch_quietly(
    files: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    """Without `stop`, a change after the loop's end is no traceback."""

    async def run() -> Watch:
        return Watch([str(files[0])], lambda: None, look([str(files[0])]))

    watch = asyncio.run(run())
    looked = threading.Event()
    stamp = watch._look

    def noted() -> tuple[object, ...]:
        looked.set()
        return stamp()

    watch._look = noted  # type: ignore[assignment,method-assign]
    files[0].write_text("y")
    assert looked.wait(5)
    looked.clear()
    assert looked.wait(5)
    watch.stop()
    assert "" == capfd.readouterr().err


@pytest.mark.usefixtures("_fast")
@pytest.mark.parametrize("known", [True, False])
def test_what_was_seen_before(files: tuple[Path, Path], known: bool) -> None:
    """What changed between a look and the watch is noticed; where nobody looked, everything counts, once."""

    async def run() -> int:
        calls, paths = _Calls(), [str(path) for path in (files[0], files[0].parent / "conf.d")]
        seen = look(paths) if known else None
        if known:
            files[0].write_text("y")
        watch = Watch(paths, calls, seen)
        await calls.next()
        await asyncio.sleep(0.1)
        watch.stop()
        return calls.count

    assert 1 == asyncio.run(run())


def test_a_look_is_cheap(files: tuple[Path, Path]) -> None:
    """Watching a file and a folder costs less than 0.02 % of a CPU."""

    async def run() -> float:
        watch = Watch(map(str, files), lambda: None, look(map(str, files)))
        watch.stop()
        began = time.thread_time()
        for _ in range(1000):
            watch._look()
        return (time.thread_time() - began) / 1000

    assert asyncio.run(run()) / PERIOD < 0.0002
