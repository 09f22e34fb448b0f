"""Writes what vhosts remember, in a thread: a disk that stands still must not stop an election.

A snapshot of a virtual machine freezes its file systems for seconds; a lease lasts two.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.state import Memory

    Done = Callable[[OSError | None], None]

FINISH: Final = 2.0
"""s that the end of the process waits for the disk."""


class Scribe:
    """One writer, in order; of what is put for one vhost while the disk is busy only the newest counts."""

    def __init__(self) -> None:
        """Must be made in the running event loop, in which outcomes are told."""
        self._loop = asyncio.get_running_loop()
        self._newest: dict[Memory, tuple[bytes, Done]] = {}
        self._lock = threading.Lock()
        self._due: queue.SimpleQueue[Memory | threading.Event | None] = queue.SimpleQueue()
        # A daemon thread: one that hangs on a disk must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="scribe", daemon=True)
        self._thread.start()

    def put(self, memory: Memory, content: bytes, done: Done) -> None:
        """Write soon; ``done`` is told in the event loop what went wrong, if anything."""
        with self._lock:
            waiting = memory in self._newest
            self._newest[memory] = content, done
        if not waiting:
            self._due.put(memory)

    def flush(self) -> None:
        """Wait until all that was put is written; not to be called in the event loop."""
        done = threading.Event()
        self._due.put(done)
        done.wait()

    def finish(self) -> None:
        """Write what was put, as far as the disk does it in time, and end."""
        self._due.put(None)
        self._thread.join(FINISH)

    def _run(self) -> None:
        while (memory := self._due.get()) is not None:
            if isinstance(memory, threading.Event):
                memory.set()
                continue
            with self._lock:
                content, done = self._newest.pop(memory)
            problem = None
            try:
                memory.write(content)
            except OSError as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(done, problem)
