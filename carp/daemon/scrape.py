"""Answer Prometheus over HTTP/1.1, on the election's loop and without disturbing it.

A request has 4 KiB and 2 s, an answer 10 s, and 16 connections are served at a time. The text is made one
slice a turn of the loop and at most a tenth of the time, so not even a client in an endless loop can take
the time of the election.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from carp.core.errors import ConfigError
from carp.daemon.registry import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_REQUEST: Final = 4096
REQUEST_TIME: Final = 2.0
ANSWER_TIME: Final = 10.0
MAX_CONNECTIONS: Final = 16
PAUSE: Final = 9
"""How many times as long as making an answer took, nothing is made."""
MIN_PAUSE: Final = 0.005
"""s between two answers at least."""


class Endpoint(NamedTuple):
    """Where to listen: an address and port, or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        """Return the form that `parse_address` reads."""
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Answer(NamedTuple):
    """One HTTP response; ``allow`` names the methods where the request's was not one of them."""

    status: str
    body: bytes
    kind: str = "text/plain; charset=utf-8"
    allow: str = ""


def parse_address(text: str, field: str = "metrics") -> Endpoint:
    """Read ``127.0.0.1:9105``, ``[::]:9105`` or ``unix:/path``; port 0 takes a free one.

    Raises ConfigError with ``field``.
    """
    if text.startswith("unix:/"):
        return Endpoint("", 0, text.removeprefix("unix:"))
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        address = None
    valid_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535
    if address is None or bracketed != (address.version == 6) or not valid_port:
        raise ConfigError(field, text, "is not ADDRESS:PORT, [IPV6]:PORT or unix:/PATH")
    return Endpoint(str(address), int(port))


class Server:
    """A running endpoint."""

    def __init__(self, render: Callable[[], Iterable[str]]) -> None:
        """``render`` is asked once for each scrape; each item it yields is one turn of the loop."""
        self.endpoint = Endpoint("", 0)
        self._render = render
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._making = asyncio.Lock()
        self._free_at = 0.0

    async def start(self, endpoint: Endpoint) -> None:
        """Listen. Raises OSError."""
        listener = _unix_socket(endpoint.path) if endpoint.path else _tcp_socket(endpoint)
        self.endpoint = endpoint if endpoint.path else Endpoint(*listener.getsockname()[:2])
        self._server = await asyncio.start_server(
            self._connected, sock=listener, limit=MAX_REQUEST, backlog=MAX_CONNECTIONS
        )

    async def close(self) -> None:
        """Stop listening, cut every connection, remove the Unix socket."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self.endpoint.path:
            _remove(self.endpoint.path)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                method, answer = await self._answer(reader)
                writer.write(_head(answer))
                if method != "HEAD":
                    writer.write(answer.body)
                async with asyncio.timeout(ANSWER_TIME):
                    writer.close()
                    await writer.wait_closed()
        finally:
            # No effect on what has been closed; whatever else is left is cut off.
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, Answer]:
        """Return the method and what there is to say. Raises TimeoutError and IncompleteReadError."""
        try:
            async with asyncio.timeout(REQUEST_TIME):
                request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return "", Answer("431 Request Header Fields Too Large", b"more than 4 KiB\n")
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return "", Answer("400 Bad Request", b"no HTTP/1 request\n")
        method, target, _ = words
        path = target.partition("?")[0]
        if path not in ("/metrics", "/healthz"):
            return method, Answer("404 Not Found", b"only /metrics and /healthz\n")
        if method not in ("GET", "HEAD"):
            return method, Answer("405 Method Not Allowed", b"only GET and HEAD\n", allow="GET, HEAD")
        if path == "/healthz":
            return method, Answer("200 OK", b"ok\n")
        return method, Answer("200 OK", await self._make(), CONTENT_TYPE)

    async def _make(self) -> bytes:
        """Return the exposition, slice by slice, after the pause that the one before it has cost."""
        loop = asyncio.get_running_loop()
        async with self._making:
            await asyncio.sleep(self._free_at - loop.time())
            busy = 0.0
            slices = []
            began = loop.time()
            for text in self._render():
                slices.append(text.encode())
                busy += loop.time() - began
                await asyncio.sleep(0)
                began = loop.time()
            self._free_at = began + max(MIN_PAUSE, PAUSE * busy)
            return b"".join(slices)


async def serve(address: str, render: Callable[[], Iterable[str]]) -> Server:
    """Listen on an address, see `parse_address`. Raises ConfigError, and OSError where it cannot be used."""
    server = Server(render)
    await server.start(parse_address(address))
    return server


def _head(answer: Answer) -> bytes:
    allow = f"Allow: {answer.allow}\r\n" if answer.allow else ""
    return (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n"
        f"{allow}Connection: close\r\n\r\n"
    ).encode()


def _tcp_socket(endpoint: Endpoint) -> socket.socket:
    """Bind; the IPv6 wildcard takes IPv4 too, as admins know it from other exporters."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    both = endpoint.host == "::" and socket.has_dualstack_ipv6()
    return socket.create_server((endpoint.host, endpoint.port), family=family, dualstack_ipv6=both)


def _unix_socket(path: str) -> socket.socket:
    """Bind, after removing the socket of a process that is gone."""
    if _is_stale(path):
        _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise
    return listener


def _is_stale(path: str) -> bool:
    """Whether a socket stands there that nobody listens on; anything else is somebody's."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        return stat.S_ISSOCK(Path(path).stat().st_mode) and probe.connect_ex(path) == errno.ECONNREFUSED
    return False


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink(missing_ok=True)
