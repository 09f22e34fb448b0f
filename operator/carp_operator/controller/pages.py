"""``/healthz``, ``/readyz`` and ``/metrics`` over HTTP, in a thread."""

from __future__ import annotations

import http
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from carp.core.errors import ConfigError
from carp.daemon.registry import CONTENT_TYPE
from carp.daemon.scrape import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE: Final = 5.0
"""s for a request."""
MOST: Final = 16
"""Connections at a time; further ones are closed at once."""
_TEXT: Final = "text/plain; charset=utf-8"


class Page(NamedTuple):
    """One answer; not ``good`` is answered by 503."""

    good: bool
    text: str


class Pages:
    """A small HTTP server."""

    def __init__(self, address: str, pages: Mapping[str, Callable[[], Page]]) -> None:
        """Listen. Raises ConfigError for what is no address, OSError where it cannot be used."""
        endpoint = parse_address(address)
        if endpoint.path:
            raise ConfigError("metrics", address, "is no ADDRESS:PORT or [IPV6]:PORT, which probes need")
        # Of a host whose kernel has no IPv6 the wildcard is IPv4's.
        host = endpoint.host
        if host == "::" and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"  # noqa: S104 (what was asked for)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = _Server(family, (host, endpoint.port), _handler(pages))
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="pages", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    """A thread for each of a bounded number of connections."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, family: socket.AddressFamily, place: tuple[str, int], handler: type[BaseHTTPRequestHandler]
    ) -> None:
        self.address_family = family
        self._slots = threading.BoundedSemaphore(MOST)
        super().__init__(place, handler)

    def server_bind(self) -> None:
        if self.server_address[0] == "::":
            # The wildcard takes IPv4 too, as carpd's does, also where net.ipv6.bindv6only says otherwise.
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's, which asks the DNS for our own name.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, *_: object) -> None:
        return  # a client that went away


def _handler(pages: Mapping[str, Callable[[], Page]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE
        server_version, sys_version = "carp-controller", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            page = pages.get(path)
            if page is None:
                self._say(http.HTTPStatus.NOT_FOUND, f"only {', '.join(pages)}\n")
                return
            found = page()
            status = http.HTTPStatus.OK if found.good else http.HTTPStatus.SERVICE_UNAVAILABLE
            self._say(status, found.text, CONTENT_TYPE if path == "/metrics" else _TEXT)

        do_HEAD = do_GET  # noqa: N815 (a name of http.server)

        def _say(self, status: http.HTTPStatus, text: str, kind: str = _TEXT) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    return Handler
