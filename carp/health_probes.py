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
from typing import TYPE_CHECKING, Final

from carp.core.errors import CarpError

if TYPE_CHECKING:
    import ssl

    from carp.core.auth import Address
    from carp.core.health import Http, Tcp

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


async def http(target: Http) -> str:
    """Ask by GET and look at the status line only."""
    sock = await _connect(target.address, target.port)
    try:
        sock.send(_request(target))  # a fresh socket's buffer takes it whole
        line = await _status_line(sock)
    finally:
        sock.close()
    return _judge(target, line)


async def https(target: Http, context: ssl.SSLContext) -> str:
    """Do the same over TLS; the certificate has to be for the Host header's name unless that is off."""
    sock = await _connect(target.address, target.port)
    # From here on the socket is the transport's, also when the handshake fails or is cancelled.
    reader, writer = await asyncio.open_connection(
        sock=sock, ssl=context, server_hostname=_without_port(target.host), limit=_MAX_LINE
    )
    try:
        writer.write(_request(target))
        line = b""
        while b"\n" not in line and len(line) < _MAX_LINE and (more := await reader.read(_MAX_LINE)):
            line += more
    finally:
        # Not a polite close: that one waits for the other side.
        writer.transport.abort()
    return _judge(target, line)


def tls_context(*, insecure: bool) -> ssl.SSLContext:
    """Return a client's TLS settings. Reads the system's certificates, some 10 ms: call it in a thread."""
    import ssl  # noqa: PLC0415 (only who checks by https pays)

    context = ssl.create_default_context()
    if insecure:
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
        await _writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if not error and sock.getsockname() == sock.getpeername():
        # Nobody listens on a port of the ephemeral range, and the kernel chose the same for our own end.
        error = errno.ECONNREFUSED
    if error:
        raise OSError(error, os.strerror(error))


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(sock.fileno(), _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(sock.fileno())


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _status_line(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    line = b""
    while b"\n" not in line and len(line) < _MAX_LINE and (more := await loop.sock_recv(sock, _MAX_LINE)):
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
