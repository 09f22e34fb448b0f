"""A timer that is late by microseconds, where asyncio's own is late by milliseconds (libraries.md)."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from typing import Final

_ITIMERSPEC: Final = struct.Struct("@qqqq")
_ABSOLUTE: Final = 1
_NONBLOCK: Final = os.O_NONBLOCK | os.O_CLOEXEC
_libc: Final = ctypes.CDLL(None, use_errno=True)
"""`os.timerfd_create` exists from Python 3.13 only."""


class SystemClock:
    """The machine's clocks; see `carp.ports.Clock`."""

    now = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


class Timer:
    """One-shot timerfd on the monotonic clock; readable once its time has come."""

    def __init__(self) -> None:
        """Make the timer, not armed. Raises OSError where the kernel has no timerfd."""
        self._fd: int = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._fd

    def arm(self, at: float) -> None:
        """Fire at ``at`` seconds of the monotonic clock, at once if that is past."""
        nanoseconds = max(1, int(at * 1e9))
        spec = _ITIMERSPEC.pack(0, 0, nanoseconds // 10**9, nanoseconds % 10**9)
        if _libc.timerfd_settime(self._fd, _ABSOLUTE, spec, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Take note that it fired."""
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)
