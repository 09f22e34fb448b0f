"""A client of carpd's control socket: one line of JSON asks, one line answers; blocking, with a limit."""

from __future__ import annotations

import json
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import CarpError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SOCKET: Final = "/run/carp/carpd.sock"
"""Where carpd listens unless told otherwise."""
VERSION: Final = 1
PATIENCE: Final = 5.0
"""s that carpd may take to answer."""
_READ: Final = 1 << 16


class NoAnswerError(CarpError):
    """Nobody answers on the socket, or no longer."""


class RefusedError(CarpError):
    """carpd answers that it will not do that; the text is its own."""


class Client:
    """One connection to carpd; `NoAnswerError` whenever it does not answer."""

    def __init__(self, path: str, patience: float = PATIENCE) -> None:
        """Connect. ``patience`` is how many seconds each answer may take."""
        self._path = path
        self._patience = patience
        self._buffer = bytearray()
        self._asked = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(patience)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise NoAnswerError(self._problem(error)) from None

    def _problem(self, error: OSError) -> str:
        match error:
            case FileNotFoundError() | ConnectionRefusedError() | NotADirectoryError():
                return f"no carpd answers at {self._path}: is `carp daemon` running? (--socket PATH)"
            case PermissionError():
                return f"{self._path}: not permitted: run this as root or as carpd's --socket-uid"
            case TimeoutError() | BlockingIOError():
                return f"carpd at {self._path} has not answered within {self._patience:g} s"
            case ConnectionError():
                return f"carpd at {self._path} has closed the connection: did it stop?"
        return f"{self._path}: {error.strerror or error}"

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """Return the answer to one request; events that come before it are dropped. Raises RefusedError."""
        self._asked += 1
        request = {"v": VERSION, "id": self._asked, "op": op, **fields}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise NoAnswerError(self._problem(error)) from None
        end = time.monotonic() + self._patience
        while True:
            answer = self.receive(max(end - time.monotonic(), 0.0))
            if answer is None:
                raise NoAnswerError(self._problem(TimeoutError()))
            if answer.get("id") == self._asked:
                return answer

    def receive(self, timeout: float) -> dict[str, Any] | None:
        """Return the next message, or None when none is whole within ``timeout`` seconds.

        Raises RefusedError where it says that something was refused.
        """
        end = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = max(end - time.monotonic(), 0.0)
            if not select.select([self._socket], [], [], left)[0]:
                return None
            try:
                data = self._socket.recv(_READ)
            except OSError as error:
                raise NoAnswerError(self._problem(error)) from None
            if not data:
                raise NoAnswerError(self._problem(ConnectionResetError()))
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return self._message(bytes(line))

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict) or message.get("v") != VERSION:
            raise NoAnswerError(f"what answers at {self._path} is no carpd of this version")
        if message.get("ok") is False:
            raise RefusedError(str(message.get("error")))
        return message

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.close()
