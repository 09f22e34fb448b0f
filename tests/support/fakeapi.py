"""An API server that says what a test tells it to, over plain HTTP: refusals, garbage, silence, cuts."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from carp_operator.kube.access import Access
from carp_operator.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Asked:
    method: str
    path: str
    query: dict[str, str]
    token: str
    kind: str
    body: Any
    proxy: str = ""
    """Who asked says this to a proxy."""


@dataclass
class Reply:
    """`body` is sent whole as JSON, or `chunks` one by one, then silence if `hang`, or a cut if `cut`."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] | None = None
    hang: bool = False
    cut: bool = False


class FakeApi:
    """`handler(asked)` answers; what was asked is in `asked`."""

    def __init__(self, handler: Callable[[Asked], Reply]) -> None:
        self.asked: list[Asked] = []
        self.ending = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                kind = self.headers.get("Content-Type", "")
                query = dict(parse_qsl(parts.query))
                content, proxy = json.loads(body or b"null"), self.headers.get("Proxy-Authorization", "")
                asked = Asked(self.command, parts.path, query, token, kind, content, proxy)
                api.asked.append(asked)
                with contextlib.suppress(OSError):
                    self.give(handler(asked))

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 (names of http.server)

            def give(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for key, value in reply.headers.items():
                    self.send_header(key, value)
                if reply.chunks is None:
                    data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for chunk in reply.chunks:
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                if reply.hang:
                    api.ending.wait(20)
                self.close_connection = reply.cut or reply.hang
                if not self.close_connection:
                    self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def client(self, read_timeout: float = 5.0, token: Callable[[], str] = lambda: "t") -> Client:
        return Client(Access((self.url,), token), read_timeout)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def thing(name: str, version: int, **fields: Any) -> dict[str, Any]:
    """Return an object of this name at this resource version."""
    return {"metadata": {"name": name, "resourceVersion": str(version)}, **fields}


def listing(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    """Return a page of a list."""
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


def change(kind: str, item: dict[str, Any]) -> bytes:
    """Return a line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"
