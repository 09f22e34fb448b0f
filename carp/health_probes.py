"""One run of a health check: connect, ask by HTTP, or run a program.

Each probe returns a few words for people, and raises ProbeError or OSError when the target does not answer
as it should. None has a time limit: whoever calls sets it, and cancels.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from carp.core.errors import CarpError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from carp.core.auth import Address
    from carp.core.health import Http, Tcp

    T = TypeVar("T")

# Close by RST: at ten checks a second TIME_WAIT would hold on to hundreds of ports.
_NO_LINGER: Final = struct.pack("@ii", 1, 0)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_MAX_LINE: Final = 512
_IN_PROGRESS: Final = (errno.EINPROGRESS, errno.EALREADY)


class ProbeError(CarpError):
    """The target answered, but not as it should."""


async def tcp(target: Tcp) -> str:
    """Connect, and close again at once."""
    (await _connect(target.address, target.port)).close()
    return "connected"


async def http(target: Http, context: ssl.SSLContext | None = None) -> str:
    """Ask by GET and look at the status line only; over TLS where there is a context.

    Sockets of our own all the way: asyncio keeps a buffer of 256 KiB for each TLS connection.
    """
    sock = await _connect(target.address, target.port)
    try:
        if context is None:
            sock.send(_request(target))  # a fresh socket's buffer takes it whole
            line = await _read_line(lambda: _receive(sock))
        else:
            name = _without_port(target.host)
            sock = secured = context.wrap_socket(sock, do_handshake_on_connect=False, server_hostname=name)
            await _patiently(secured, secured.do_handshake)
            await _patiently(secured, lambda: secured.send(_request(target)))
            line = await _read_line(lambda: _patiently(secured, lambda: secured.recv(_MAX_LINE)))
    finally:
        sock.close()
    return _judge(target, line)


def tls_context(*, insecure: bool) -> ssl.SSLContext:
    """Return a client's TLS settings. Reads the system's certificates, some 10 ms: call it in a thread."""
    import ssl  # noqa: PLC0415 (only who checks by https pays)

    if not insecure:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Process:
    """A running program in a process group of its own, without input and output.

    ``ended`` gets the exit code, or minus the signal. asyncio's own would start a thread for each program.
    """

    def __init__(self, command: tuple[str, ...]) -> None:
        """Start it. Raises OSError when there is no such program."""
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        self._pid = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
            ],
            setpgroup=0,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them, programs rely on them
        )
        try:
            self._watch = os.pidfd_open(self._pid)
        except OSError:
            self.kill()
            os.waitpid(self._pid, 0)
            raise
        self._loop.add_reader(self._watch, self._on_end)

    def kill(self) -> None:
        """Kill it and everything it started, if it still runs; its end shows later, in ``ended``."""
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.killpg(self._pid, signal.SIGKILL)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        # Before it is waited for: until then no other process group can have this number.
        self.kill()
        _, status = os.waitpid(self._pid, 0)
        self.ended.set_result(os.waitstatus_to_exitcode(status))


async def run(process: Process) -> str:
    """Wait for a program to exit with 0; kill it, and what it left behind, in any case."""
    try:
        code = await asyncio.shield(process.ended)
    finally:
        process.kill()
    if code:
        raise ProbeError(f"exit code {code}" if code > 0 else f"ended by signal {-code}")
    return "exit code 0"


async def _connect(address: Address, port: int) -> socket.socket:
    """Return a connected socket. `asyncio.open_connection` costs three times as much."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        await _connected(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, where: tuple[str, int]) -> None:
    error = sock.connect_ex(where)
    if error in _IN_PROGRESS:
        # On this host it is done by now, and asking again is cheaper than waiting for the loop.
        error = sock.connect_ex(where)
    if error in _IN_PROGRESS:
        await _ready(sock, write=True)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not error and sock.getsockname()[1] == where[1] and sock.getsockname() == sock.getpeername():
        # Nobody listens on a port of the ephemeral range, and the kernel chose the same for our own end.
        error = errno.ECONNREFUSED
    if error:
        raise OSError(error, os.strerror(error))


async def _ready(sock: socket.socket, *, write: bool = False) -> None:
    """Wait until a socket can be read from, or written to."""
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    ready: asyncio.Future[None] = loop.create_future()
    add(sock.fileno(), _wake, ready)
    try:
        await ready
    finally:
        remove(sock.fileno())


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _receive(sock: socket.socket) -> bytes:
    await _ready(sock)
    return sock.recv(_MAX_LINE)


async def _patiently(sock: ssl.SSLSocket, step: Callable[[], T]) -> T:
    """Repeat a step of TLS each time the socket is ready, until it does not have to wait."""
    import ssl  # noqa: PLC0415 (whoever has a context has loaded it)

    while True:
        try:
            return step()
        except ssl.SSLWantReadError:
            await _ready(sock)
        except ssl.SSLWantWriteError:
            await _ready(sock, write=True)


async def _read_line(receive: Callable[[], Awaitable[bytes]]) -> bytes:
    """Return what comes up to the first line's end, the end of everything, or far too much."""
    line = b""
    while b"\n" not in line and len(line) < _MAX_LINE:
        more = await receive()
        if not more:
            break
        line += more
    return line


def _request(target: Http) -> bytes:
    return (
        f"GET {target.target} HTTP/1.1\r\nHost: {target.host}\r\nUser-Agent: carp\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


def _judge(target: Http, line: bytes) -> str:
    match = _STATUS.match(line)
    if match is None:
        raise ProbeError("answers, but not by HTTP" if line else "closed without an answer")
    code = int(match[1])
    if not target.lowest <= code <= target.highest:
        raise ProbeError(f"status {code} is not between {target.lowest} and {target.highest}")
    return f"status {code}"


def _without_port(host: str) -> str:
    return host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]
