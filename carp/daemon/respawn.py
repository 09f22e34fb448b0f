"""A tiny parent that starts a crashed carpd again at once, from memory, with nothing to load.

The kernel still holds the leases for a second or two: a carpd that is back by then resumes as master, and
nobody notices (design.md rule 3, resuming). A container runtime takes that second by itself.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import pickle
import signal
import struct
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

log: Final = logging.getLogger("carp.respawn")
PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
FINAL: Final = frozenset({0, 2})
"""Exit codes after which starting again is pointless: a wanted stop, bad input."""
STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
FREE_CRASHES: Final = 30
"""Crashes within `WINDOW` that are answered at once; more are a fault that restarts do not mend."""
WINDOW: Final = 60.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1
_HALF: Final = 8 << 20
"""Bytes kept at most; only those that are used take memory."""
_HEADER: Final = struct.Struct("=QQL")
_T = TypeVar("_T")


class Kept(Generic[_T]):
    """A value that a child leaves to the next one, in memory that it shares with its parent.

    Nothing of it is on a disk: it may hold passwords. A crash in the middle of `put` leaves the old value.
    """

    def __init__(self) -> None:
        """Keep nothing yet; to be made before the first child."""
        self._map = mmap.mmap(-1, _HEADER.size + 2 * _HALF)

    def put(self, value: _T) -> None:
        """Keep this instead. Too large a value is not kept, which is logged, and nor is the old one."""
        data = pickle.dumps(value)
        if len(data) > _HALF:
            log.error("%d bytes of settings are too many to outlive a crash", len(data))
            data = b""
        used, _, _ = _HEADER.unpack(self._map[: _HEADER.size])
        start = _HEADER.size if used > _HEADER.size else _HEADER.size + _HALF
        self._map[start : start + len(data)] = data
        self._map[: _HEADER.size] = _HEADER.pack(start, len(data), zlib.crc32(data))

    def get(self) -> _T | None:
        """Return what was kept last; None where nothing is."""
        start, length, check = _HEADER.unpack(self._map[: _HEADER.size])
        data = self._map[start : start + length]
        if not data or zlib.crc32(data) != check:
            return None
        value: _T = pickle.loads(data)  # noqa: S301 (written by ourselves, into memory that nobody else has)
        return value


def supervise(work: Callable[[], int]) -> int:
    """Run ``work`` in a child until it ends for good; return its exit code.

    Signals are passed on. A child that crashes is started again within some milliseconds; after 30 crashes
    in a minute after pauses that double up to 5 s. When the parent dies, the child hands over.
    """
    watched = PASSED_ON | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    pause = 0.0
    crashes: deque[float] = deque(maxlen=FREE_CRASHES)
    while True:
        began = time.monotonic()
        child = _start(work, watched)
        code, told_to_stop = _attend(child, watched)
        if code in FINAL:
            return code
        if told_to_stop:
            # The signal met a child that was dead, or too young for a handler: a stop all the same.
            return 0
        now = time.monotonic()
        lived = now - began
        often = len(crashes) == FREE_CRASHES and now - crashes[0] < WINDOW
        pause = min(max(FIRST_PAUSE, pause * 2), LONGEST_PAUSE) if often else 0.0
        crashes.append(now)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        log.error("carpd ended by %s after %.1f s: starting it again in %.2f s", how, lived, pause)
        if pause and _told_to_stop(pause):
            return 0


def _start(work: Callable[[], int], watched: frozenset[signal.Signals]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(0)
        if "WATCHDOG_PID" in os.environ:
            os.environ["WATCHDOG_PID"] = str(os.getpid())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)
        code = work()
    except BaseException:
        log.exception("carpd")
    finally:
        os._exit(code)


def _attend(child: int, watched: frozenset[signal.Signals]) -> tuple[int, bool]:
    """Pass signals on until the child has ended.

    Return its exit code, negative for a signal, and whether it had been told to stop.
    """
    told_to_stop = False
    while True:
        number = signal.sigwait(watched)
        if number != signal.SIGCHLD:
            told_to_stop |= number in STOPS
            os.kill(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), told_to_stop


def _told_to_stop(seconds: float) -> bool:
    """Wait; whether a signal to end came meanwhile."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if signal.sigtimedwait(STOPS, left) is not None:
            return True
    return False
