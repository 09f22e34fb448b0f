"""Go to the background, and tell the one who waits in the foreground how it went.

ucarp's parent exits 0 whatever becomes of the child (carp-protocol.md section 9, B20). Ours waits until
the child is ready, or passes on its exit code; the child keeps the terminal for its messages until then.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

_FAILED: Final = 1


def in_background(work: Callable[[Callable[[], None]], int]) -> int:
    """Run ``work`` in a detached process; return 0 once it calls its argument, else its exit code.

    Only the caller's process returns. The detached one leads no session, so no terminal can become its own,
    and its folder is /: paths have to be absolute.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()
        if os.fork():
            os._exit(0)
        _detached(work, _Verdict(writer))
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        verdict = pipe.read(1)
    if not verdict:
        sys.stderr.write("carp: the process in the background ended before it had started\n")
        return _FAILED
    return verdict[0]


class _Verdict:
    """The one byte that the foreground waits for: our exit code, 0 for "ready"."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def give(self, code: int) -> None:
        """Send the byte, the first time only: later the descriptor is somebody else's."""
        if self._descriptor is None:
            return
        # The foreground may have been killed, which changes nothing for us.
        with suppress(BrokenPipeError):
            os.write(self._descriptor, bytes([code & 0xFF]))
        os.close(self._descriptor)
        self._descriptor = None


def _detached(work: Callable[[Callable[[], None]], int], verdict: _Verdict) -> NoReturn:
    """Do the work, report, and end the process without the foreground's clean-up."""
    code = _FAILED
    try:
        os.chdir("/")
        _point_to_null(0)
        code = work(lambda: _ready(verdict))
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else _FAILED
    except BaseException:  # noqa: BLE001 (the process ends here, and whoever waits wants to know why)
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    verdict.give(code)
    os._exit(code)


def _ready(verdict: _Verdict) -> None:
    """Let the foreground go, and the terminal with it."""
    for descriptor in (1, 2):
        _point_to_null(descriptor)
    verdict.give(0)


def _point_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, descriptor)
    os.close(null)
