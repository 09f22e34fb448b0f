"""The configuration file read again while vhosts run: in a thread of its own, one reading at a time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigErrors
from carp.daemon.configfile import load
from carp.daemon.status import stamp
from carp.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carp.core.config import VhostConfig

    Take = Callable[[list[VhostConfig]], Awaitable[None]]

log: Final = logging.getLogger("carp.daemon")
SLOW: Final = 3.0
"""s from which a reading that is under way is a problem to show."""


class Rereading:
    """Reads a configuration whenever it is asked to, and hands on what is sound.

    A file, or a password file that it names, can hang: on a share that is gone, or as a pipe that nobody
    writes. Only who asked waits for it, and whoever asks meanwhile shares the next reading.
    """

    def __init__(self, path: str, take: Take, on_change: Callable[[], None]) -> None:
        """``take`` gets the vhosts; ``on_change`` is called when there is something new to say."""
        self.problem = ""
        """What is wrong with the file as it was read last."""
        self._path = path
        self._take = take
        self._on_change = on_change
        self._current: asyncio.Task[str] | None = None
        self._next: asyncio.Task[str] | None = None
        self._since: float | None = None

    def ask(self) -> asyncio.Task[str]:
        """Read what is there from now on, soon; the task returns what is wrong with it."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._follow(self._current))
        return self._next

    async def _follow(self, before: asyncio.Task[str] | None) -> str:
        if before is not None:
            await asyncio.wait([before])
        self._current, self._next = self._next, None
        try:
            await self._again()
        finally:
            self._current = None
        return self.problem

    async def _again(self) -> None:
        try:
            configs, notes = await self._read()
        except ConfigErrors as errors:
            for error in errors.errors:
                log.error("%s", error)  # noqa: TRY400 (not a bug)
            log.error("%s: nothing changed", self._path)  # noqa: TRY400 (not a bug)
            self._found(str(errors))
            return
        for note in notes:
            log.warning("%s", note)
        self._found("")
        await self._take(configs)

    async def _read(self) -> tuple[list[VhostConfig], list[str]]:
        loop = asyncio.get_running_loop()
        self._since = began = loop.time()
        slow = loop.call_later(SLOW, self._on_change)
        try:
            return await in_thread(lambda: load(self._path, named=True))
        finally:
            self._since = None
            slow.cancel()
            if loop.time() - began >= SLOW:
                self._on_change()

    def _found(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_change()

    def problems(self, now: float) -> list[str]:
        """Return what there is to say of the file at ``now``, of the loop's clock."""
        found = [self.problem] if self.problem else []
        if self._since is not None and now - self._since >= SLOW:
            found.append(f"{self._path}: being read since {stamp(self._since, now)}")
        return found
