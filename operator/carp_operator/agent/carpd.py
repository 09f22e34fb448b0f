"""The connection to carpd's control socket, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from carp.commands.client import VERSION, NoAnswerError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.agent.view import Message

LIMIT: Final = 16 << 20
"""Bytes of one message; 510 vhosts need 1 MiB."""
PATIENCE: Final = 10.0
"""s that carpd may take to answer, and between two questions whether it lives."""
REFRESH: Final = 30
"""Every how many of these questions everything is asked anew: what only counts causes no event."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class Carpd:
    """Hands on what carpd tells, and asks it."""

    def __init__(
        self, path: str, *, on_message: Callable[[Message], None], on_loss: Callable[[str], None]
    ) -> None:
        """``on_message`` gets snapshots and changes; ``on_loss`` why there is none, at each attempt."""
        self._path = path
        self._on_message = on_message
        self._on_loss = on_loss
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, tuple[str, asyncio.Future[Message]]] = {}
        self._asked = 0
        self._pause = FIRST_PAUSE
        self._overdue = ""
        """What carpd owes an answer for longer than it may."""

    async def run(self) -> None:
        """Stay connected until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=LIMIT)
            except OSError as error:
                problem = f"{self._path}: {error.strerror or error}: does carpd run?"
            else:
                problem = await self._serve(reader, writer)
            self._on_loss(problem)
            await asyncio.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        """Follow one connection to its end, and return why it ended."""
        self._writer, self._overdue = writer, ""
        tending = asyncio.ensure_future(self._tend(writer))
        try:
            problem = await self._read(reader)
        except (OSError, ValueError) as error:
            problem = f"{self._path}: {error}"
        finally:
            self._writer = None
            tending.cancel()
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(NoAnswerError(f"{self._path}: carpd has closed the connection"))
            self._waiting.clear()
            writer.transport.abort()
        return self._overdue or problem

    async def _tend(self, writer: asyncio.StreamWriter) -> None:
        """Ask for everything, then now and then whether it lives; a carpd that stands still is let go.

        It answers one request after the other: while it owes an answer, that is the question.
        """
        try:
            await self.ask("watch")
            for turn in range(1 << 62):
                await asyncio.sleep(PATIENCE)
                if not self._waiting:
                    await self.ask("status" if turn % REFRESH == REFRESH - 1 else "hello")
        except (NoAnswerError, RefusedError):
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> str:
        while line := await reader.readline():
            message = json.loads(line)
            if not isinstance(message, dict) or message.get("v") != VERSION:
                return f"{self._path}: what answers there is no carpd of this version"
            op, future = self._waiting.pop(message.get("id", 0), ("", None))
            self._hand_on(op, message)
            if future is not None and not future.done():
                future.set_result(message)
            elif future is None and message.get("ok") is False:
                return str(message.get("error"))
        return f"{self._path}: carpd has closed the connection"

    def _hand_on(self, op: str, message: Message) -> None:
        """Hand on what carpd tells, in the order in which it came: an answer is older than what follows."""
        if "event" in message:
            self._pause = FIRST_PAUSE
            self._on_message(message)
        elif op == "status" and message.get("ok"):
            self._on_message({"event": "snapshot", **message})
        elif op == "hello" and message.get("ok"):
            self._on_message({"event": "changes", "daemon": _daemon(message)})

    async def ask(self, op: str, *, patience: float | None = None, **fields: Any) -> Message:
        """Return the answer to one request, for which carpd has ``patience`` s, by default `PATIENCE`.

        Then it is let go: what is asked next would only wait behind it.
        Raises NoAnswerError and RefusedError.
        """
        writer = self._writer
        if writer is None:
            raise NoAnswerError(f"{self._path}: carpd is not connected")
        self._asked += 1
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        number = self._asked
        self._waiting[number] = op, future
        seconds = PATIENCE if patience is None else patience
        request = {"v": VERSION, "id": number, "op": op, **fields}
        try:
            async with asyncio.timeout(seconds):
                writer.write(json.dumps(request).encode() + b"\n")
                with contextlib.suppress(ConnectionError):  # then reading ends, and says why
                    await writer.drain()
                answer = await future
        except TimeoutError:
            self._overdue = f"{self._path}: carpd has not answered within {seconds:g} s"
            writer.transport.abort()
            raise NoAnswerError(self._overdue) from None
        finally:
            self._waiting.pop(number, None)
        if not answer.get("ok"):
            raise RefusedError(str(answer.get("error")))
        return answer


def _daemon(answer: Message) -> Message:
    """Return what carpd says about itself, without the envelope."""
    return {key: value for key, value in answer.items() if key not in ("v", "id", "ok")}
