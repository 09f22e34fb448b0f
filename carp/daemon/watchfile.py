"""Notice that files have changed, whatever changed them: an editor, a rename, a swapped symlink."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Mark: TypeAlias = tuple[object, ...]
    Marks: TypeAlias = tuple[Mark, ...]

PERIOD: Final = 1.5
"""s between two looks."""
SETTLE: Final = 0.2
"""s that a burst of changes may go on before it counts, as one."""
_FOLDER: Final = "folder"


class Watch:
    """Calls ``changed`` in the running event loop within 2 s of a change of one of ``paths``.

    A path may be a file, a folder (its entries count, hidden ones not), a symlink to either (what it leads
    to counts: a Kubernetes ConfigMap changes by swapping the link ``..data``), or not there yet.

    A thread looks: on a disk that hangs, `stat` hangs, and the election must go on. No inotify: it follows
    neither swapped links nor network file systems, and a look costs 20 to 300 us.
    """

    def __init__(self, paths: Iterable[str], changed: Callable[[], None], seen: Marks | None) -> None:
        """Start to watch; must be called in a running event loop.

        What differs from ``seen``, which `look` returned, has changed; where nothing was seen, everything.
        """
        self._paths = tuple(paths)
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        # A daemon thread: one that hangs on a disk must not keep the process from ending.
        threading.Thread(target=self._run, args=(seen,), name="watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more: no call comes after this, and the thread ends by itself within 2 s."""
        self._stopped = True

    def _run(self, seen: Marks | None) -> None:
        if seen is None:
            seen = self._look()
            self._call()
        while not self._stopped:
            time.sleep(PERIOD)
            if self._look() == seen:
                continue
            time.sleep(SETTLE)
            seen = self._look()
            self._call()

    def _call(self) -> None:
        with suppress(RuntimeError):  # the loop has ended without stop()
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self._stopped:
            self._changed()

    def _look(self) -> Marks:
        return look(self._paths)


def look(paths: Iterable[str]) -> Marks:
    """Return what differs once one of the paths has changed: to be taken before they are read."""
    return tuple(_mark(path) for path in paths)


def _mark(path: str) -> Mark:
    """Return something that differs once the file, or anything in the folder, has changed."""
    mark = _stamp(path)
    if mark[0] is not _FOLDER:
        return mark
    try:
        names = os.listdir(path)  # noqa: PTH208 (Path objects cost more than the look)
    except OSError as error:
        return (error.errno,)
    return tuple((name, _stamp(f"{path}/{name}")) for name in sorted(names) if not name.startswith("."))


def _stamp(path: str) -> Mark:
    """Return what tells two states of a file apart: ctime too, as copies may keep mtime and size."""
    try:
        info = os.stat(path)  # noqa: PTH116 (as above)
    except OSError as error:
        return (error.errno,)
    if stat.S_ISDIR(info.st_mode):
        return (_FOLDER,)
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
