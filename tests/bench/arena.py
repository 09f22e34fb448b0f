"""A LAN with members of one kind on it and a client that measures; several of them side by side."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from carp.lab.client import Prober
from carp.lab.errors import LabError
from carp.lab.network import Lan
from contenders import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from contenders import Contender, Load

_T = TypeVar("_T")
_abort = threading.Event()


class AbortedError(Exception):
    """The benchmark was told to end."""


def pause(seconds: float) -> None:
    """Wait. Raises AbortedError when everything shall end."""
    if _abort.wait(seconds):
        raise AbortedError


def some(seconds: float) -> float:
    """Return a random part of this time, so that faults fall on every phase."""
    return random.random() * seconds


def side_by_side(jobs: Mapping[str, Callable[[], _T]]) -> dict[str, _T]:
    """Run all jobs at once, each with its own LAN, and return their results by name.

    The first failure, or Ctrl-C, ends the others, which take their LANs away before this returns.
    """
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        try:
            _first_failure(list(futures.values()))
            return {name: future.result() for name, future in futures.items()}
        except BaseException:
            _abort.set()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            raise


def _first_failure(futures: list) -> None:  # type: ignore[type-arg]
    raise NotImplementedError
