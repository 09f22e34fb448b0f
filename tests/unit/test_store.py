"""The last accepted settings on disk (carp.daemon.store)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import resource
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.reader import NAME
from carp.daemon import store
from carp.daemon.store import FILE, LOCK, Keeper, Settings, Store
from carp.state import BusyError

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVEN = Settings(
    vhosts=({"name": "web", "vhid": 1, "password": "love", "addresses": ["10.1.1.9"]},),
    uid="u-1",
    generation=7,
    cluster="c-1",
    maintenance=True,
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Store]:
    """Yield a store in an empty folder."""
    made = Store(str(tmp_path))
    yield made
    made.close()


@contextmanager
def _full_disk() -> Iterator[None]:
    """Let this process write no more than 20 bytes into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _change(folder: Path, **fields: Any) -> None:
    outer = json.loads((folder / FILE).read_text())
    (folder / FILE).write_text(json.dumps({**outer, **fields}))


def test_what_was_saved_is_loaded(tmp_path: Path, disk: Store) -> None:
    """The next run finds all fields, passwords too, in a file that only the owner reads."""
    assert disk.save(GIVEN)
    disk.close()
    again = Store(str(tmp_path))
    assert GIVEN == again.load()
    assert "" == again.problem
    assert 0o600 == (tmp_path / FILE).stat().st_mode & 0o777
    assert 0o600 == (tmp_path / "_carpd.lock").stat().st_mode & 0o777
    again.close()


def test_forgetting_leaves_an_empty_folder(tmp_path: Path, disk: Store) -> None:
    """Settings, a half-written file, what vhosts remember and at the end the lock are deleted."""
    assert disk.save(GIVEN)
    for name in ("_settings.new", "_settings.bad", "web.json", "web.new", "web.lock"):
        (tmp_path / name).write_text("{}")
    assert disk.forget()
    assert ["_carpd.lock"] == [path.name for path in tmp_path.iterdir()]
    assert (None, "") == (disk.load(), disk.problem)
    disk.close()
    assert [] == list(tmp_path.iterdir())


def test_forgetting_spares_who_runs(tmp_path: Path, disk: Store) -> None:
    """What belongs to a vhost that some process runs stays, and so does what is nobody's."""
    (tmp_path / "web.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    with (tmp_path / "web.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert disk.forget()
    assert ["_carpd.lock", "notes.txt", "web.json", "web.lock"] == sorted(p.name for p in tmp_path.iterdir())


def test_settings_after_forgetting_are_kept(tmp_path: Path, disk: Store) -> None:
    """Whoever is told something new keeps it, and its lock with it."""
    assert disk.forget()
    assert disk.save(GIVEN)
    disk.close()
    assert ["_carpd.lock", FILE] == sorted(path.name for path in tmp_path.iterdir())


def test_forgetting_that_fails(tmp_path: Path, disk: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem names the file."""

    def refuse(path: Path, **_: Any) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    assert not disk.forget()
    assert f"{tmp_path / FILE}: Operation not permitted" == disk.problem


def test_the_first_run_finds_nothing(tmp_path: Path) -> None:
    """No folder is no problem: it is made, for the owner alone."""
    made = Store(str(tmp_path / "a" / "b"))
    assert (None, "") == (made.load(), made.problem)
    assert 0o700 == (tmp_path / "a" / "b").stat().st_mode & 0o777
    made.close()


def test_the_file_is_replaced_and_synced(
    tmp_path: Path, disk: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers see the old file or the new one, never a part; file, then name, then folder are synced."""
    disk.save(Settings())
    before = (tmp_path / FILE).stat().st_ino
    steps = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        steps.append("folder" if inode == tmp_path.stat().st_ino else "file")
        renamed = (tmp_path / FILE).stat().st_ino != before
        steps.append("renamed" if renamed else "not yet renamed")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    disk.save(GIVEN)
    assert ["file", "not yet renamed", "folder", "renamed"] == steps
    assert [FILE, "_carpd.lock"] == sorted((p.name for p in tmp_path.iterdir()), reverse=True)


def test_every_cut_is_noticed(tmp_path: Path, disk: Store) -> None:
    """A file that ends early is not believed, wherever it ends, and the problem names it."""
    disk.save(GIVEN)
    whole = (tmp_path / FILE).read_bytes()
    for length in range(len(whole)):
        (tmp_path / FILE).write_bytes(whole[:length])
        assert disk.load() is None, length
        assert str(tmp_path / FILE) in disk.problem


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path: Path, disk: Store) -> None:
    """One changed byte never gives other settings than those that were saved."""
    disk.save(GIVEN)
    whole = (tmp_path / FILE).read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / FILE).write_bytes(damaged)
        assert disk.load() in (None, GIVEN), at


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 4096, b"null", b"[]", b"7",
     b'{"version": 1}', b'{"version":1,"checksum":"","payload":7}',
     b"\xff\xfe", b'"\\ud800"', b"[" * 100_000, b'{"payload": {}, "version": 1, "checksum": 0}'],
    ids=[
        "empty", "zeros", "null", "list", "number", "short", "types", "not-utf8", "half-pair", "deep", "odd"
    ],
)  # fmt: skip
def test_garbage_is_a_problem_and_no_crash(tmp_path: Path, disk: Store, content: bytes) -> None:
    """Whatever stands in the file: no settings, and the status can say why."""
    (tmp_path / FILE).write_bytes(content)
    assert disk.load() is None
    assert str(tmp_path / FILE) in disk.problem


def test_a_wrong_checksum(tmp_path: Path, disk: Store) -> None:
    """Other content with the old checksum is not believed."""
    disk.save(GIVEN)
    payload = json.loads((tmp_path / FILE).read_text())["payload"]
    _change(tmp_path, payload=payload.replace("love", "hate"))
    assert disk.load() is None
    assert "checksum" in disk.problem


def test_a_file_of_another_version(tmp_path: Path, disk: Store) -> None:
    """What a later carpd wrote is not guessed at."""
    disk.save(GIVEN)
    _change(tmp_path, version=2)
    assert disk.load() is None
    assert "version 2 is not 1" in disk.problem


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, disk: Store) -> None:
    """A write that fails says so and leaves the settings saved before; the next good write clears it."""
    disk.save(GIVEN)
    with _full_disk():
        assert not disk.save(Settings(generation=8))
    assert str(tmp_path / FILE) in disk.problem
    assert GIVEN == disk.load()
    assert disk.save(Settings(generation=8))
    assert "" == disk.problem


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path through a file: a problem that names the folder, nothing loaded, nothing saved, no crash."""
    (tmp_path / "file").write_text("")
    made = Store(str(tmp_path / "file" / "state"))
    assert f"{tmp_path}/file/state: Not a directory" == made.problem
    assert made.load() is None
    assert not made.save(GIVEN)
    made.close()


def test_a_folder_that_vanishes(tmp_path: Path) -> None:
    """A folder deleted under way: saving fails and says so."""
    made = Store(str(tmp_path / "state"))
    (tmp_path / "state" / "_carpd.lock").unlink()
    (tmp_path / "state").rmdir()
    assert not made.save(GIVEN)
    assert "No such file or directory" in made.problem
    made.close()


def test_one_carpd_for_each_folder(tmp_path: Path, disk: Store) -> None:
    """A second one is refused by name; another folder is free, and so is this one after the end."""
    with pytest.raises(BusyError, match=f"another carpd uses the state folder {tmp_path}"):
        Store(str(tmp_path))
    Store(str(tmp_path / "other")).close()
    disk.close()
    Store(str(tmp_path)).close()


def test_a_crash_gives_the_lock_up(tmp_path: Path) -> None:
    """The kernel frees the lock of a process that was killed."""
    child = os.fork()
    if not child:
        Store(str(tmp_path))
        os._exit(0)
    os.waitpid(child, 0)
    Store(str(tmp_path)).close()


def test_no_vhost_can_be_called_like_a_file_of_ours() -> None:
    """A vhost's own files are NAME.json and NAME.lock, and a name begins with a letter or a digit."""
    assert [None, None] == [NAME.fullmatch(Path(file).stem) for file in (FILE, LOCK)]


@pytest.mark.parametrize("fields", [{"version": 2}, {"checksum": "0"}, {"payload": 7}])
def test_what_could_not_be_read_is_put_aside(tmp_path: Path, disk: Store, fields: dict[str, Any]) -> None:
    """The next write keeps it, for the owner alone: a later carpd, or a person, may make something of it."""
    disk.save(GIVEN)
    _change(tmp_path, **fields)
    (tmp_path / FILE).chmod(0o644)
    before = (tmp_path / FILE).read_bytes()
    assert disk.load() is None
    with _full_disk():
        assert not disk.save(GIVEN)
    assert before == (tmp_path / FILE).read_bytes()
    assert disk.save(GIVEN)
    kept = tmp_path / "_settings.bad"
    assert (before, 0o600) == (kept.read_bytes(), kept.stat().st_mode & 0o777)
    assert GIVEN == disk.load()
    assert disk.save(Settings(generation=8))
    assert before == kept.read_bytes()


def _refuse_once(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the disk refuse the next reading."""
    real, left = Path.read_bytes, [number]

    def read_bytes(path: Path) -> bytes:
        if left:
            raise OSError(left[0], os.strerror(left.pop()))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_what_the_disk_refused_to_give(
    tmp_path: Path, disk: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Another attempt may get it, which clears the problem; what is still unread is put aside by a write."""
    disk.save(GIVEN)
    before = (tmp_path / FILE).read_bytes()
    for again in (True, False):
        _refuse_once(monkeypatch, number)
        assert (None, True) == (disk.load(), disk.unread)
        assert f"{tmp_path / FILE}: {os.strerror(number)}" == disk.problem
        if again:
            assert (GIVEN, False, "") == (disk.load(), disk.unread, disk.problem)
    assert disk.save(Settings(maintenance=True))
    assert (False, "") == (disk.unread, disk.problem)
    assert before == (tmp_path / "_settings.bad").read_bytes()


def test_what_is_not_there_is_not_unread(tmp_path: Path, disk: Store) -> None:
    """Neither a first run, nor a folder where the file should be, has settings to wait for."""
    assert (None, False) == (disk.load(), disk.unread)
    (tmp_path / FILE).mkdir()
    assert (None, False) == (disk.load(), disk.unread)
    assert not disk.save(GIVEN)
    assert (tmp_path / FILE).is_dir()


def test_which_were_refused(tmp_path: Path, disk: Store) -> None:
    """That survives; a file that names none is one that earlier versions can read."""
    refused = replace(GIVEN, refused=("web",))
    assert disk.save(refused)
    assert refused == disk.load()
    assert disk.save(GIVEN)
    assert "refused" not in (tmp_path / FILE).read_text()


def test_a_slow_write_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it takes long and when it is over; the same settings are not written again."""
    monkeypatch.setattr(store, "SLOW", 0.0)
    told: list[tuple[bool, int]] = []

    async def scene() -> None:
        loop, disk, go = asyncio.get_running_loop(), Store(str(tmp_path)), threading.Event()

        def tell() -> None:
            told.append((keeper.persisted, len(keeper.problems(loop.time()))))
            go.set()

        keeper, save = Keeper(disk, tell), disk.save
        monkeypatch.setattr(disk, "save", lambda settings: go.wait(10) and save(settings))
        await keeper.keep(GIVEN)
        await keeper.keep(GIVEN)
        disk.close()

    asyncio.run(scene())
    assert [(False, 1), (True, 0)] == told
