"""Tell the service manager how we are: systemd's notification protocol (sd_notify(3)), by hand.

Nothing here raises or waits: whoever holds addresses has better things to do than to wait for a manager.
"""

from __future__ import annotations

import os
import socket
import time
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

FEEDS_PER_INTERVAL: Final = 3
"""How often the watchdog is fed within its interval: sd_watchdog_enabled(3) asks for at least two."""


class Notifier:
    """Sends to the socket that ``NOTIFY_SOCKET`` names: a path, or ``@`` and an abstract name.

    Without that variable, or with one that names something else, it does nothing.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Look at the environment; open nothing but a local socket."""
        name = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name
        self._unsent: dict[str, str] = {}
        self._socket: socket.socket | None = None
        if name[:1] in ("@", "/"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ready(self, status: str = "") -> None:
        """Say that the start, or the reload, is complete."""
        self._unsent.pop("RELOADING", None)
        self._unsent.pop("MONOTONIC_USEC", None)
        self._send({"READY": "1"} | ({"STATUS": status} if status else {}))

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`."""
        self._send({"STATUS": text})

    def reloading(self) -> None:
        """Say that a reload began; `ready` ends it (``Type=notify-reload`` needs the time of the clock)."""
        self._unsent.pop("READY", None)
        self._send({"RELOADING": "1", "MONOTONIC_USEC": str(time.monotonic_ns() // 1000)})

    def stopping(self, status: str = "") -> None:
        """Say that the stop began."""
        self._unsent.clear()
        self._send({"STOPPING": "1"} | ({"STATUS": status} if status else {}))

    def watchdog(self) -> None:
        """Say that we run."""
        self._send({"WATCHDOG": "1"})

    def close(self) -> None:
        """Give the socket back; from now on nothing is sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, fields: Mapping[str, str]) -> None:
        """Send with all that could not be sent so far: a lost READY would get us killed."""
        if self._socket is None:
            return
        self._unsent |= {key: " ".join(value.split()) for key, value in fields.items()}
        message = "\n".join(f"{key}={value}" for key, value in self._unsent.items())
        try:
            self._socket.sendto(message.encode(errors="replace"), self._address)
        except OSError:
            return
        self._unsent.clear()


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return within how many seconds the manager wants to hear from this process; None: it does not care."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    # Bounded, so that what is no time of this protocol cannot overflow a float.
    return int(text) / 1e6 if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) else None


class Watchdog:
    """Feeds the manager's watchdog from the turns of the election loop, and from nothing else."""

    def __init__(self, notifier: Notifier, interval: float | None) -> None:
        """``interval`` is what `watchdog_interval` returned."""
        self._notifier = notifier
        self._pause = inf if interval is None else interval / FEEDS_PER_INTERVAL
        self._next = inf if interval is None else -inf

    def turned(self, now: float) -> None:
        """Take note that the loop has turned; ``now`` in seconds of the monotonic clock."""
        if now >= self._next:
            self._next = now + self._pause
            self._notifier.watchdog()
