"""Answer Prometheus over HTTP/1.1, on the election's loop and without disturbing it.

A request has 4 KiB and 2 s, an answer 10 s. 16 connections are served at a time, the kernel keeps the next
ones waiting, and at most 200 a second are accepted. The text is made one slice a turn of the loop and at
most a tenth of the time. So not even clients in an endless loop can take the time of the election.
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

from carp.converters import socket_path
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
ACCEPT_PAUSE: Final = 0.005
"""s between two connections at least."""
NO_ACCEPT_PAUSE: Final = 1.0
"""s to wait when a connection cannot be accepted, as when file descriptors run out."""


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
        return Endpoint("", 0, socket_path(field, text.removeprefix("unix:")))
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

    def __init__(
        self, listener: socket.socket, endpoint: Endpoint, render: Callable[[], Iterable[str]]
    ) -> None:
        """Accept on ``listener``; ``render`` is asked once a scrape, each item it yields is one turn."""
        self.endpoint = endpoint
        self._listener = listener
        self._render = render
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._making = asyncio.Lock()
        self._free_at = 0.0
        self._tasks = {asyncio.create_task(self._accept())}

    async def close(self) -> None:
        """Stop listening, cut every connection, remove the Unix socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._listener.close()
        if self.endpoint.path:
            _remove(self.endpoint.path)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                self._slots.release()
                await asyncio.sleep(NO_ACCEPT_PAUSE)
                continue
            task = loop.create_task(self._serve(connection))
            self._tasks.add(task)
            task.add_done_callback(self._served)
            await asyncio.sleep(ACCEPT_PAUSE)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()

    async def _serve(self, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_REQUEST)
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
            busy, began = 0.0, loop.time()
            slices = []
            for text in self._render():
                # No text that somebody could bring in may end all scrapes.
                slices.append(text.encode(errors="replace"))
                busy += loop.time() - began
                await asyncio.sleep(0)
                began = loop.time()
            busy += loop.time() - began
            self._free_at = loop.time() + PAUSE * busy
            return b"".join(slices)


async def serve(address: str, render: Callable[[], Iterable[str]]) -> Server:
    """Listen on an address, see `parse_address`. Raises ConfigError, and OSError where it cannot be used."""
    endpoint = parse_address(address)
    listener = _unix_socket(endpoint.path) if endpoint.path else tcp_socket(endpoint)
    listener.setblocking(False)
    if not endpoint.path:
        endpoint = Endpoint(*listener.getsockname()[:2])
    return Server(listener, endpoint, render)


def _head(answer: Answer) -> bytes:
    allow = f"Allow: {answer.allow}\r\n" if answer.allow else ""
    return (
        f"HTTP/1.1 {answer.status}\r\nContent-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}\r\n"
        f"{allow}Connection: close\r\n\r\n"
    ).encode()


def tcp_socket(endpoint: Endpoint) -> socket.socket:
    """Bind; the IPv6 wildcard takes IPv4 too, as admins know it from other exporters."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    both = endpoint.host == "::" and socket.has_dualstack_ipv6()
    address = endpoint.host, endpoint.port
    return socket.create_server(address, family=family, backlog=MAX_CONNECTIONS, dualstack_ipv6=both)


def _unix_socket(path: str) -> socket.socket:
    """Bind, after removing the socket of a process that is gone."""
    if _is_stale(path):
        _remove(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(MAX_CONNECTIONS)
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
