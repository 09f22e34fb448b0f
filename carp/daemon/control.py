"""The control socket: newline-delimited JSON, versioned, on a Unix socket.

A request is ``{"v": 1, "id": ..., "op": "...", ...}``; its answer repeats ``id`` and has ``ok`` true with the
result, or ``ok`` false with ``error``. Requests of one client are carried out one by one, the next when the
answer before is on its way. A client that sends nonsense, too much, or half a line and no more is told so and
cut off, and so is one that asks and does not read. Nothing else notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import socket
import stat
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Answer = Callable[[dict[str, Any]], None]
    Handler = Callable[[str, dict[str, Any], "Client"], Any]

log: Final = logging.getLogger("carp.control")
VERSION: Final = 1
MAX_LINE: Final = 4 << 20
"""Bytes of one request: 510 vhosts need 0.3 MiB."""
MAX_UNREAD: Final = 4 << 20
"""Bytes of answers that a client may leave unread."""
HALF_LINE: Final = 10.0
"""s that a client may take to finish a line it has begun, or to read answers before its next one."""
LINGER: Final = 1.0
"""s that a client which is cut off has for reading why."""
MAX_CLIENTS: Final = 64
_UCRED: Final = struct.Struct("3i")


class RequestError(Exception):
    """A request that cannot be carried out; the text goes to the client."""


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Control) -> None:
        """``server`` knows who may connect and what the operations are."""
        self._server = server
        self._buffer = bytearray()
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self.paused = False
        self.on_close: Callable[[], None] | None = None
        self.on_drain: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Check who it is."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 (a stream socket has no other)
        self._transport = transport
        transport.set_write_buffer_limits(high=1 << 16)
        problem = self._server.admit(self, transport.get_extra_info("socket"))
        if problem:
            self.cut_off(problem)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the connection."""
        self._server.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.on_close is not None:
            self.on_close()

    def pause_writing(self) -> None:
        """Take note that the client does not read."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on with what was held back."""
        self.paused = False
        if self.on_drain is not None:
            self.on_drain()
        self._proceed()

    def data_received(self, data: bytes) -> None:
        """Take in what may be a part of a line or many."""
        self._buffer += data
        self._proceed()

    def answered(self) -> None:
        """Take note that the request under way is answered."""
        self._busy = False
        self._proceed()

    def _proceed(self) -> None:
        """Carry out one whole line: a thousand at once would keep the election waiting."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._busy:
            return
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > MAX_LINE:
                self.cut_off(f"a request of more than {MAX_LINE} bytes")
                return
            self._be_patient("half a request and no more" if self._buffer else "")
            transport.resume_reading()
        elif self.paused:
            self._be_patient("answers that nobody reads")
            transport.pause_reading()
        else:
            self._be_patient("")
            transport.pause_reading()
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._busy = True
            self._request(line)

    def _be_patient(self, problem: str) -> None:
        """Cut the client off for this unless something changes in time; empty: nothing is amiss."""
        if not problem and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        elif problem and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HALF_LINE, self.cut_off, problem)

    def _request(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            self.cut_off("a request that is not JSON")
            return
        if (
            not isinstance(request, dict)
            or request.get("v") != VERSION
            or not isinstance(request.get("op"), str)
        ):
            self.cut_off(f'a request must be {{"v": {VERSION}, "id": ..., "op": "..."}}')
            return
        self._server.carry_out(request, self)

    def send(self, answer: dict[str, Any]) -> None:
        """Send one line; cut the client off when it leaves too much unread."""
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
        if self._transport.get_write_buffer_size() > MAX_UNREAD:
            log.warning("a client of the control socket does not read: cut off")
            self._transport.abort()

    def cut_off(self, problem: str) -> None:
        """Say why and end the connection."""
        if self._transport is not None and not self._transport.is_closing():
            self.send({"v": VERSION, "id": None, "ok": False, "error": problem})
            self._transport.close()
            asyncio.get_running_loop().call_later(LINGER, self._transport.abort)


class Control:
    """Listens on the socket and gives each request to ``handler(op, request, client)``.

    The handler returns the fields of the answer, or an awaitable of them, or None when it answers by
    itself; it raises RequestError for a request that it refuses.
    """

    def __init__(
        self, path: str, handler: Handler, *, uid: int | None = None, gid: int | None = None
    ) -> None:
        """``uid`` may connect besides root; with ``gid`` the socket belongs to that group, mode 0660."""
        self._path = Path(path)
        self._handler = handler
        self._uid = uid
        self._gid = gid
        self._server: asyncio.AbstractServer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.clients: set[Client] = set()

    async def start(self) -> None:
        """Bind, after removing a stale socket file. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._remove_stale()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(self._path))
        try:
            self._path.chmod(0o600 if self._gid is None else 0o660)
            if self._gid is not None:
                os.chown(self._path, -1, self._gid)
        except OSError:
            sock.close()
            self._path.unlink()
            raise
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: Client(self), sock=sock)

    def _remove_stale(self) -> None:
        """Remove the socket file that an earlier run left; one that answers belongs to a living carpd."""
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise OSError(errno.ENOTSOCK, "a file that is no socket is there", str(self._path))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    self._path.unlink()
                return
        raise OSError(errno.EADDRINUSE, "another carpd listens there", str(self._path))

    def admit(self, client: Client, sock: socket.socket) -> str:
        """Return why a client may not connect, empty when it may."""
        _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        if uid not in (0, os.geteuid(), self._uid):
            return f"uid {uid} may not use this socket"
        if len(self.clients) >= MAX_CLIENTS:
            return f"more than {MAX_CLIENTS} clients"
        self.clients.add(client)
        return ""

    def carry_out(self, request: dict[str, Any], client: Client) -> None:
        """Answer one request."""
        task = asyncio.get_running_loop().create_task(self._answer(request, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: client.answered())

    async def _answer(self, request: dict[str, Any], client: Client) -> None:
        answer: dict[str, Any] = {"v": VERSION, "id": request.get("id")}
        try:
            result = self._handler(request["op"], request, client)
            if asyncio.iscoroutine(result):
                result = await result
        except RequestError as error:
            client.send({**answer, "ok": False, "error": str(error)})
            return
        except Exception:
            log.exception("operation %s", request["op"])
            client.send({**answer, "ok": False, "error": "internal error, see the log"})
            return
        if result is not None:
            client.send({**answer, "ok": True, **result})

    async def close(self) -> None:
        """Stop listening, cut everybody off, remove the socket file."""
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._path.unlink()
        for client in list(self.clients):
            client.cut_off("carpd stops")
