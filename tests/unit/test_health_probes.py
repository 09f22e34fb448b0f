from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carp import health_probes as probes
from carp.core.health import Http, Tcp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

LOOPBACK = IPv4Address("127.0.0.1")
OK = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n"


def play(scene: Coroutine[Any, Any, None]) -> None:
    """Run a scene to its end within ten seconds."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await scene

    asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    """Wait for what sets no event."""
    while not condition():  # noqa: ASYNC110 (files and processes)
        await asyncio.sleep(0.002)


@asynccontextmanager
async def server(*answer: bytes, host: str = "127.0.0.1") -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve one answer to every request, in pieces; give the port and the requests."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            for piece in answer:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    listening = await asyncio.start_server(serve, host, 0)
    try:
        yield listening.sockets[0].getsockname()[1], requests
    finally:
        listening.close()
        await listening.wait_closed()


def page(port: int, **fields: Any) -> Http:
    """Return the target http://127.0.0.1:PORT/healthz."""
    return replace(Http("", False, LOOPBACK, port, "/healthz", f"localhost:{port}"), **fields)


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.mark.parametrize("address", [LOOPBACK, IPv6Address("::1")], ids=str)
def test_tcp_connects(address: IPv4Address | IPv6Address) -> None:
    """A listening port is connected to, in both families, and the connection is closed at once."""

    async def scene() -> None:
        closed = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            except ConnectionResetError:
                closed.set()
            writer.close()

        listening = await asyncio.start_server(serve, str(address), 0)
        port = listening.sockets[0].getsockname()[1]
        assert "connected" == await probes.tcp(Tcp(address, port))
        await closed.wait()
        listening.close()
        await listening.wait_closed()

    play(scene())


def test_tcp_leaves_nothing_in_time_wait() -> None:
    """Hundreds of checks leave no connection behind that holds on to a port."""

    async def scene() -> None:
        async with server(OK) as (port, _):
            for _ in range(100):
                await probes.tcp(Tcp(LOOPBACK, port))
            assert [] == _waiting(port)

    play(scene())


def test_a_closed_port_is_refused() -> None:
    """Nobody listening is an error of the operating system."""
    with pytest.raises(ConnectionRefusedError):
        play(probes.tcp(Tcp(LOOPBACK, free_port())))  # type: ignore[arg-type]


def test_a_connection_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that the kernel also chose for our own end connects to itself, with nobody listening."""
    port = free_port()
    made = socket.socket

    def bound(*arguments: Any) -> socket.socket:
        sock = made(*arguments)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        return sock

    async def scene() -> None:
        monkeypatch.setattr(socket, "socket", bound)
        with pytest.raises(ConnectionRefusedError):
            await probes.tcp(Tcp(LOOPBACK, port))
        monkeypatch.undo()

    play(scene())


def test_http_asks_and_reads_the_status() -> None:
    """The request names path and host, and the status is what counts."""

    async def scene() -> None:
        async with server(OK) as (port, requests):
            assert "status 204" == await probes.http(page(port))
            lines = requests[0].split(b"\r\n")
            assert [b"GET /healthz HTTP/1.1", f"Host: localhost:{port}".encode()] == lines[:2]
            assert b"Connection: close" in lines

    play(scene())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((b"HT", b"TP/1.0 ", b"399 x\r\n"), "status 399"),
        ((b"HTTP/1.1 200\r\n\r\n",), "status 200"),
        ((b"HTTP/1.1 500 no\r\n\r\n",), "status 500 is not between 200 and 399"),
        ((b"HTTP/1.1 400 \r\n\r\n",), "status 400 is not between 200 and 399"),
        ((), "closed without an answer"),
        ((b"SSH-2.0-x\r\n",), "answers, but not by HTTP"),
        ((b"HTTP/1.1 20\r\n",), "answers, but not by HTTP"),
        ((b"x" * 100_000,), "answers, but not by HTTP"),
        ((b"HTTP/1.1 200 cut",), "status 200"),
    ],
)
def test_http_answers(answer: tuple[bytes, ...], expected: str) -> None:
    """Only a status line of HTTP with an expected code is healthy; everything else is said."""

    async def scene() -> None:
        async with server(*answer) as (port, _):
            try:
                got = await probes.http(page(port))
            except probes.ProbeError as error:
                got = str(error)
            assert expected == got

    play(scene())


def test_cancelling_closes_the_connection() -> None:
    """A run that is cancelled while the server keeps silent leaves no descriptor open."""

    async def scene() -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            before = _descriptors()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await probes.http(page(silent.getsockname()[1]))
            assert before == _descriptors()

    play(scene())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("true",), "exit code 0"),
        (("sh", "-c", "echo much; echo more >&2; cat; exit 3"), "exit code 3"),
        (("sh", "-c", "kill -TERM $$"), "ended by signal 15"),
        (("sh", "-c", "kill -PIPE $$; exit 4"), "ended by signal 13"),
    ],
)
def test_programs(command: tuple[str, ...], expected: str) -> None:
    """The exit code decides; input is empty, output goes nowhere, signals work as in a shell."""

    async def scene() -> None:
        try:
            got = await probes.run(probes.Process(command))
        except probes.ProbeError as error:
            got = str(error)
        assert expected == got

    play(scene())


def test_a_missing_program() -> None:
    """A program that is not there is an error that says so."""

    async def scene() -> None:
        with pytest.raises(FileNotFoundError):
            probes.Process(("/nonexistent/check",))

    play(scene())


@pytest.mark.parametrize("end", ["wait", "exit 0"])
def test_a_program_is_killed_with_what_it_started(end: str, tmp_path: Path) -> None:
    """Cancelled or ended, a program leaves nobody of its process group running, and no zombie."""
    pids = tmp_path / "pids"

    async def scene() -> None:
        process = probes.Process(("sh", "-c", f"sleep 60 & echo $! > {pids}; {end}"))
        running = asyncio.ensure_future(probes.run(process))
        await asyncio.sleep(0)  # a task that is cancelled before it begins kills nobody
        await until(lambda: pids.exists() and pids.read_text())
        if end == "wait":
            running.cancel()
        await asyncio.wait([running])
        left = int(pids.read_text())
        await until(lambda: not _runs(left))
        await process.ended
        assert not _exists(process._pid)

    play(scene())


def test_killing_an_ended_program_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process group's number may be somebody else's by then."""
    killed: list[int] = []

    async def scene() -> None:
        process = probes.Process(("true",))
        await probes.run(process)
        monkeypatch.setattr(os, "killpg", lambda group, _: killed.append(group))
        process.kill()

    play(scene())
    assert [] == killed


def test_tls_is_loaded_for_https_only() -> None:
    """Neither the module nor a plain check reads certificates: the settings are made on demand."""
    code = "import sys; sys.modules['ssl'] = None\nimport carp.health, carp.health_probes\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def _runs(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _exists(pid: int) -> bool:
    """Whether there is a process or zombie of this number."""
    return Path(f"/proc/{pid}").exists()


def _waiting(port: int) -> list[str]:
    """Return the kernel's connections to a port of this host that are in TIME_WAIT."""
    table = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return [line for line in table if line.split()[2:4] == [f"0100007F:{port:04X}", "06"]]


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
