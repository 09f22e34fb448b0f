"""Up and down scripts: beside the election, never in its way.

ucarp waits for its script and sends nothing meanwhile (carp-protocol.md section 9, B1 and B2). Here each
vhost has one task that runs its scripts one after the other, each for a limited time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.config import VhostConfig

TERM_GRACE: Final = 2.0
"""Seconds between SIGTERM and SIGKILL for a script that is over its time."""
_MAX_LINES: Final = 100
_MAX_BYTES: Final = 8192
_CHUNK: Final = 4096
_FLOOD_PAUSE: Final = 0.05
"""Seconds between two reads of output that nobody will see: a flood costs a script its time, not ours."""
_LATE_OUTPUT: Final = 0.2
"""Seconds to read on after the script's end: what it left in the background may keep the pipe open."""


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a vhost wants to have run."""

    config: VhostConfig
    interface: str
    up: bool
    done: Callable[[bool], None] | None

    @property
    def script(self) -> str:
        return self.config.scripts.up if self.up else self.config.scripts.down

    def tell(self, *, ok: bool) -> None:
        if self.done is not None:
            self.done(ok)


class Hooks:
    """Up and down scripts of many vhosts: never in the way of the election."""

    def __init__(self, log: logging.Logger) -> None:
        """Everything that a script prints or does wrong goes to ``log``."""
        self._log = log
        self._wishes: dict[str, _Wish] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        # A start costs a few ms of the loop: after a failover of many vhosts they must not come in a row.
        self._starting = asyncio.Lock()

    def run(
        self, config: VhostConfig, interface: str, *, up: bool, done: Callable[[bool], None] | None = None
    ) -> None:
        """Have the up or down script run with ucarp's arguments, once for each address; return at once.

        A vhost's scripts never overlap; of the wishes that wait only the last is kept. ``done`` hears
        whether every call exited with 0; false also for a wish that was dropped.
        """
        name = config.name
        dropped = self._wishes.pop(name, None)
        self._wishes[name] = _Wish(config, interface, up, done)
        if dropped is not None:
            dropped.tell(ok=False)
        if name not in self._workers:
            self._workers[name] = asyncio.get_running_loop().create_task(self._work(name))

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 (it kills the rest)
        """Wait for all scripts, at most ``timeout`` seconds; kill what then still runs."""
        workers = list(self._workers.values())
        if workers:
            _, late = await asyncio.wait(workers, timeout=timeout)
            for worker in late:
                worker.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _work(self, name: str) -> None:
        try:
            while (wish := self._wishes.pop(name, None)) is not None:
                wish.tell(ok=await self._fulfil(wish))
        finally:
            del self._workers[name]

    async def _fulfil(self, wish: _Wish) -> bool:
        """Call the script for each address, also after one that failed; return whether all went well."""
        ok = True
        for vip in wish.config.addresses if wish.script else ():
            argument = wish.config.scripts.argument
            arguments = [wish.interface, str(vip.ip), *([argument] if argument else [])]
            ok = await _Run(self._log, wish, arguments).run(self._starting) and ok
        return ok


class _Run:
    """One call of a script."""

    def __init__(self, log: logging.Logger, wish: _Wish, arguments: list[str]) -> None:
        self._logger = log
        self._wish = wish
        self._arguments = arguments
        self._timeout = wish.config.scripts.timeout
        self._called = " ".join([wish.script, *arguments])

    def _log(self, level: int, message: str) -> None:
        fields = {"vhost": self._wish.config.name, "event": "script", "script": self._wish.script}
        self._logger.log(level, "%s", message, extra={"fields": fields})

    async def run(self, starting: asyncio.Lock) -> bool:
        """Run to the end or to the time limit; return whether the script exited with 0."""
        try:
            process, reader = await self._start(starting)
        except OSError as error:
            self._log(logging.ERROR, f"{self._called}: cannot be run: {error.strerror}")
            return False
        self._log(logging.INFO, f"{self._called}: started")
        output = asyncio.ensure_future(self._read(reader))
        try:
            return await self._wait(process)
        finally:
            await _kill_group(process)
            await self._finish(output)

    async def _start(self, starting: asyncio.Lock) -> tuple[asyncio.subprocess.Process, int]:
        """Return the started script and the descriptor with its output. Raises OSError.

        The pipe is ours: with asyncio's, whoever keeps it open would delay the news of the script's end.
        """
        reader, writer = os.pipe()
        try:
            async with starting:
                process = await asyncio.create_subprocess_exec(
                    self._wish.script,
                    *self._arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=writer,
                    stderr=writer,
                    start_new_session=True,
                )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return process, reader

    async def _wait(self, process: asyncio.subprocess.Process) -> bool:
        try:
            code = await asyncio.wait_for(process.wait(), self._timeout)
        except TimeoutError:
            self._log(logging.ERROR, f"{self._called}: is ended, it runs for more than {self._timeout:g} s")
            await _end_group(process)
            return False
        if code:
            how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
            self._log(logging.WARNING, f"{self._called}: {how}")
        return code == 0

    async def _finish(self, output: asyncio.Future[None]) -> None:
        _, late = await asyncio.wait([output], timeout=_LATE_OUTPUT)
        for task in late:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await output

    async def _read(self, descriptor: int) -> None:
        """Log the script's output; what is too much is still read, so that the script can go on."""
        stream = asyncio.StreamReader(limit=_CHUNK)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb", buffering=0)
        )
        try:
            await self._print_some(stream)
            while await stream.read(_CHUNK):  # noqa: ASYNC110 (a throttle, not a wait for something)
                await asyncio.sleep(_FLOOD_PAUSE)
        finally:
            transport.close()

    async def _print_some(self, stream: asyncio.StreamReader) -> None:
        """Log lines to the end of the output, or until there are too many."""
        rest, lines, size = b"", 0, 0
        while data := await stream.read(_CHUNK):
            size += len(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole[: _MAX_LINES - lines]:
                self._print(line)
            lines += len(whole)
            if size > _MAX_BYTES or lines > _MAX_LINES:
                self._log(logging.WARNING, f"{self._called}: prints too much, the rest is not logged")
                return
        if rest:
            self._print(rest)

    def _print(self, line: bytes) -> None:
        self._log(logging.INFO, f"{self._wish.script}: {line.decode(errors='backslashreplace')}")


def _signal_group(process: asyncio.subprocess.Process, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the script and what it started: politely first, then for certain."""
    _signal_group(process, signal.SIGTERM)
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), TERM_GRACE)
    _signal_group(process, signal.SIGKILL)


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    """Kill a script that still runs: its time is up, or ours."""
    if process.returncode is None:
        _signal_group(process, signal.SIGKILL)
        # What hangs in the kernel dies later, and must not keep the vhost's next script waiting.
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERM_GRACE)
