"""Metrics and probes over HTTP: ``/metrics``, ``/healthz``, ``/readyz``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigError
from carp.daemon.registry import CONTENT_TYPE
from carp.daemon.scrape import parse_address, tcp_socket

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_REQUEST: Final = 4096
PATIENCE: Final = 5.0
"""s for a request and its answer."""
MAX_CONNECTIONS: Final = 16
_TEXT: Final = "text/plain; charset=utf-8"


class Pages:
    """A small HTTP server."""

    def __init__(self, metrics: Callable[[], str], unready: Callable[[], str]) -> None:
        """``metrics`` returns the exposition, ``unready`` why we are not ready, empty when we are."""
        self._metrics = metrics
        self._unready = unready
        self._open = 0
        self._server: asyncio.Server | None = None

    async def start(self, address: str) -> None:
        """Listen. Raises ConfigError for what is no address, OSError where it cannot be used."""
        endpoint = parse_address(address)
        if endpoint.path:
            raise ConfigError("metrics", address, "is no ADDRESS:PORT or [IPV6]:PORT, which probes need")
        self._server = await asyncio.start_server(self._serve, sock=tcp_socket(endpoint), limit=MAX_REQUEST)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else 0

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            # ValueError: a request longer than the limit.
            with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
                async with asyncio.timeout(PATIENCE):
                    if self._open <= MAX_CONNECTIONS:
                        writer.write(self._answer(await reader.readuntil(b"\r\n\r\n")))
                        await writer.drain()
        finally:
            self._open -= 1
            writer.close()

    def _answer(self, request: bytes) -> bytes:
        words = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(words) != 3 or words[0] not in ("GET", "HEAD"):
            return _response("405 Method Not Allowed", "only GET and HEAD\n")
        match words[1].partition("?")[0]:
            case "/metrics":
                return _response("200 OK", self._metrics(), CONTENT_TYPE, head=words[0] == "HEAD")
            case "/healthz":
                return _response("200 OK", "ok\n", head=words[0] == "HEAD")
            case "/readyz":
                problem = self._unready()
                line = "503 Service Unavailable" if problem else "200 OK"
                return _response(line, f"{problem or 'ok'}\n", head=words[0] == "HEAD")
        return _response("404 Not Found", "only /metrics, /healthz and /readyz\n")


def _response(line: str, text: str, kind: str = _TEXT, *, head: bool = False) -> bytes:
    body = text.encode()
    start = (
        f"HTTP/1.1 {line}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return start.encode() + (b"" if head else body)
