from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.errors import ConfigError
from carp.daemon import scrape
from carp.daemon.scrape import MAX_CONNECTIONS, Endpoint, Server, parse_address, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _render() -> Iterator[str]:
    yield "carp_up 1\n"
    yield 'carp_name{vip="ü"} 2\n'


BODY = "".join(_render()).encode()


@contextlib.asynccontextmanager
async def _serving(address: str = "127.0.0.1:0", render: Any = _render) -> AsyncIterator[Server]:
    server = await serve(address, render)
    try:
        yield server
    finally:
        await server.close()


async def _connect(server: Server) -> Streams:
    endpoint = server.endpoint
    if endpoint.path:
        return await asyncio.open_unix_connection(endpoint.path)
    return await asyncio.open_connection(endpoint.host, endpoint.port)


async def _exchange(server: Server, request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return the status line, the headers and the body."""
    reader, writer = await _connect(server)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return status, dict(line.split(": ", 1) for line in lines if line), body


def _run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:/{}"])
def test_metrics_are_served_everywhere(address: str, tmp_path: Path) -> None:
    """GET /metrics answers with the whole text, its type and length, over IPv4, IPv6 and a Unix socket."""

    async def test() -> None:
        async with _serving(address.replace("/{}", str(tmp_path / "s"))) as server:
            status, headers, body = await _exchange(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ("HTTP/1.1 200 OK", BODY) == (status, body)
        assert {
            "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
            "Content-Length": str(len(BODY)),
            "Connection": "close",
        } == headers

    _run(test)


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /metrics?name=x HTTP/1.0", "200 OK", BODY),
        ("HEAD /metrics HTTP/1.1", "200 OK", b""),
        ("GET /healthz HTTP/1.1", "200 OK", b"ok\n"),
        ("HEAD /healthz HTTP/1.1", "200 OK", b""),
        ("GET / HTTP/1.1", "404 Not Found", b"only /metrics and /healthz\n"),
        ("POST /nowhere HTTP/1.1", "404 Not Found", b"only /metrics and /healthz\n"),
        ("POST /metrics HTTP/1.1", "405 Method Not Allowed", b"only GET and HEAD\n"),
        ("GET /metrics HTTP/2.0", "400 Bad Request", b"no HTTP/1 request\n"),
        ("GET /metrics", "400 Bad Request", b"no HTTP/1 request\n"),
        ("\xff\x00", "400 Bad Request", b"no HTTP/1 request\n"),
    ],
)
def test_other_requests(request_line: str, status: str, body: bytes) -> None:
    """What is no scrape gets the status that HTTP has for it; HEAD gets no body but its length."""

    async def test() -> None:
        async with _serving() as server:
            got, headers, content = await _exchange(server, f"{request_line}\r\n\r\n".encode("latin-1"))
        assert (f"HTTP/1.1 {status}", body) == (got, content)
        assert "0" != headers["Content-Length"]
        assert ("GET, HEAD" if status.startswith("405") else None) == headers.get("Allow")

    _run(test)


def test_request_of_more_than_4_kib_is_refused() -> None:
    """A request that does not end within 4 KiB is answered with 431 and not read to its end."""

    async def test() -> None:
        async with _serving() as server:
            reader, writer = await _connect(server)
            writer.write(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 5000)
            assert (await reader.readline()).startswith(b"HTTP/1.1 431 ")
            writer.close()

    _run(test)


def test_slow_request_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not complete in time ends the connection without an answer."""
    monkeypatch.setattr(scrape, "REQUEST_TIME", 0.05)

    async def test() -> None:
        async with _serving() as server:
            assert ("", {}, b"") == await _exchange(server, b"GET /metrics HTTP/1.1\r\n")

    _run(test)


def test_reader_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that nobody takes ends the connection, and the next client is served."""
    monkeypatch.setattr(scrape, "ANSWER_TIME", 0.05)
    monkeypatch.setattr(scrape, "MAX_CONNECTIONS", 1)

    async def test() -> None:
        async with _serving(render=lambda: ["x" * 20_000_000]) as server:
            lazy = socket.create_connection((server.endpoint.host, server.endpoint.port))
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            status, _, _ = await _exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n")
            lazy.close()
        assert "HTTP/1.1 200 OK" == status

    _run(test)


def test_connections_above_the_limit_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """While 16 silent connections are open the next one waits; it is served when one of them is cut off."""
    monkeypatch.setattr(scrape, "REQUEST_TIME", 1.0)

    async def test() -> None:
        async with _serving() as server:
            silent = [await _connect(server) for _ in range(MAX_CONNECTIONS)]
            late = asyncio.create_task(_exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n"))
            done, _ = await asyncio.wait([late], timeout=0.2)
            assert (set(), True) == (done, server._slots.locked())
            status, _, _ = await late
            assert "HTTP/1.1 200 OK" == status
            for _, writer in silent:
                writer.close()

    _run(test)


def test_loop_turns_between_two_slices_and_pauses_between_two_scrapes() -> None:
    """Other callbacks run between two slices; the next text is made after nine times what this one took."""
    turns: list[str] = []
    times: list[float] = []

    async def test() -> None:
        loop = asyncio.get_running_loop()

        def render() -> Iterator[str]:
            times.append(loop.time())
            for item in ("a", "b", "c"):
                turns.append(item)
                loop.call_soon(turns.append, "turn")
                yield item
            busy_until = loop.time() + 0.01
            while loop.time() < busy_until:
                pass

        async with _serving(render=render) as server:
            for _ in range(2):
                await _exchange(server, b"GET /metrics HTTP/1.1\r\n\r\n")

    _run(test)
    assert ["a", "turn", "b", "turn", "c", "turn"] * 2 == turns
    assert times[1] - times[0] >= 0.01 * (1 + scrape.PAUSE)


def test_closing_cuts_connections_and_removes_the_socket(tmp_path: Path) -> None:
    """After close nothing listens, open connections end, and the path is free."""

    async def test() -> None:
        path = tmp_path / "s"
        server = await serve(f"unix:{path}", _render)
        reader, writer = await _connect(server)
        writer.write(b"GET /")
        await writer.drain()
        await server.close()
        # Reset where it was not accepted yet.
        with contextlib.suppress(ConnectionError):
            assert b"" == await reader.read()
        writer.close()
        assert not path.exists()

    _run(test)


def test_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    """A stale Unix socket is no obstacle; a socket in use and a file are, and stay."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))

    async def test() -> None:
        async with _serving(f"unix:{path}") as server:
            with pytest.raises(OSError, match="in use"):
                await serve(f"unix:{path}", _render)
            assert "HTTP/1.1 200 OK" == (await _exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n"))[0]
        path.write_text("mine")
        with pytest.raises(OSError, match="in use"):
            await serve(f"unix:{path}", _render)
        assert "mine" == path.read_text()

    _run(test)


def test_running_out_of_descriptors_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that cannot be accepted is accepted later."""
    monkeypatch.setattr(scrape, "NO_ACCEPT_PAUSE", 0.0)
    failures = [OSError(24, "Too many open files")] * 3

    async def test() -> None:
        loop = asyncio.get_running_loop()
        accept = loop.sock_accept

        async def flaky(listener: socket.socket) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return await accept(listener)

        monkeypatch.setattr(loop, "sock_accept", flaky)
        async with _serving() as server:
            assert "HTTP/1.1 200 OK" == (await _exchange(server, b"GET /healthz HTTP/1.1\r\n\r\n"))[0]

    _run(test)
    assert [] == failures


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:9105", Endpoint("127.0.0.1", 9105)),
        ("[::]:9105", Endpoint("::", 9105)),
        ("[2001:db8::0:1]:0", Endpoint("2001:db8::1", 0)),
        ("unix:/run/carp/metrics.sock", Endpoint("", 0, "/run/carp/metrics.sock")),
    ],
)
def test_addresses_are_read(text: str, endpoint: Endpoint) -> None:
    """An address and port, IPv6 in brackets, or the absolute path of a Unix socket."""
    assert endpoint == parse_address(text)
    assert endpoint == parse_address(str(endpoint))


@pytest.mark.parametrize(
    "text",
    ["", "9105", ":9105", "localhost:9105", "::1:9105", "[127.0.0.1]:1", "127.0.0.1:65536", "127.0.0.1:-1",
     "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:100000000", "[::1]", "unix:relative", "unix:"],
)  # fmt: skip
def test_wrong_addresses_are_named(text: str) -> None:
    """What is none is an error of one line that names the field and the value."""
    with pytest.raises(ConfigError) as error:
        parse_address(text, "metricsAddress")
    assert f"metricsAddress: {text!r} is not ADDRESS:PORT, [IPV6]:PORT or unix:/PATH" == str(error.value)


def test_wildcard_of_ipv6_takes_ipv4_too() -> None:
    """[::] listens for both families."""

    async def test() -> None:
        async with _serving("[::]:0") as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.endpoint.port)
            writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert (await reader.read()).endswith(b"ok\n")
            writer.close()

    _run(test)


def test_text_that_is_no_text_ends_no_scrape() -> None:
    """What cannot be encoded is replaced; everything else is there as ever."""

    async def test() -> None:
        async with _serving(render=lambda: ["a\ud800 1\n", *_render()]) as server:
            _, _, body = await _exchange(server, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"a? 1\n" + BODY == body

    _run(test)
