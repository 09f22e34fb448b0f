"""The timer of the engine."""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING

import pytest

from carp.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def timer() -> Iterator[Timer]:
    """Yield a timer and close it."""
    made = Timer()
    yield made
    made.close()


def _fires(timer: Timer, within: float) -> float | None:
    """Return when it fired, None when not within so many seconds."""
    ready, _, _ = select.select([timer.fileno()], [], [], within)
    return time.monotonic() if ready else None


def test_fires_at_its_time(timer: Timer) -> None:
    """Not before the moment asked for."""
    at = time.monotonic() + 0.02
    timer.arm(at)
    fired = _fires(timer, 5.0)
    assert fired is not None
    assert at <= fired


@pytest.mark.parametrize("at", [0.0, -5.0, 1.0])
def test_a_moment_that_is_past_fires_at_once(timer: Timer, at: float) -> None:
    """Zero would disarm the kernel's timer, so the past is one nanosecond."""
    timer.arm(at)
    assert _fires(timer, 5.0) is not None


def test_a_new_moment_replaces_the_old(timer: Timer) -> None:
    """One shot: what was armed before is gone."""
    timer.arm(0.0)
    timer.arm(time.monotonic() + 3600)
    assert _fires(timer, 0.0) is None


def test_clearing_makes_it_wait_again(timer: Timer) -> None:
    """After it fired it is silent until armed; clearing a silent one is no error."""
    timer.arm(0.0)
    assert _fires(timer, 5.0) is not None
    timer.clear()
    assert _fires(timer, 0.0) is None
    timer.clear()


def test_a_closed_timer_reports_errors() -> None:
    """Arming after closing raises OSError."""
    timer = Timer()
    timer.close()
    with pytest.raises(OSError, match="timerfd_settime"):
        timer.arm(1.0)
