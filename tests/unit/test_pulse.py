"""When the loop wakes up, and what passes for a stall (carp.pulse)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.timing import Timing
from carp.pulse import LATE, Pulse

if TYPE_CHECKING:
    from collections.abc import Iterator

MASTER: Any = SimpleNamespace(deadline=lambda: 103.0, backup=None)


def _backup(*, silent: bool) -> Any:
    return SimpleNamespace(deadline=lambda: 103.0, backup=SimpleNamespace(silent=lambda _now: silent))


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    """A pulse that was awake at 100 s."""
    made = Pulse()
    made.stall(100.0)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("vhosts", "armed_at"),
    [
        ([], 100.5),
        ([MASTER], 100.55),
        ([MASTER, _backup(silent=False)], 100.55),
        ([_backup(silent=False), _backup(silent=True), MASTER], 100.125),
        ([SimpleNamespace(deadline=lambda: 100.1, backup=None), _backup(silent=True)], 100.1),
    ],
)
def test_wakes_at_the_deadline_or_to_see_that_it_runs(
    pulse: Pulse, vhosts: list[Any], armed_at: float
) -> None:
    """Every 0.55 s, and every 0.125 s while a backup hears no master."""
    pulse.rearm(100.0, vhosts)
    assert armed_at == pytest.approx(pulse._armed_at)
    assert [False, True] == [pulse.is_due(armed_at - 0.001), pulse.is_due(armed_at + 0.001)]
    assert [False, True] == [pulse.is_late(armed_at + LATE - 0.001), pulse.is_late(armed_at + LATE + 0.001)]


@pytest.mark.parametrize(("silent", "delay"), [(False, 0.05), (True, 0.475)])
def test_a_delay_is_no_stall_while_a_backup_counts_down(pulse: Pulse, silent: bool, delay: float) -> None:
    """0.6 s without a turn are one, the sleep included: with short sleeps delays may be longer."""
    pulse.rearm(100.0, [_backup(silent=silent)])
    wakes_up = pulse._armed_at
    assert 0.0 == pulse.stall(wakes_up + delay - 0.01)
    pulse.stall(100.0)
    assert wakes_up + delay + 0.01 - 100.0 == pytest.approx(pulse.stall(wakes_up + delay + 0.01))


@pytest.mark.parametrize(("silent", "later"), [(False, 0.55), (True, 0.125)])
def test_packets_are_a_sign_of_life_too(pulse: Pulse, silent: bool, later: float) -> None:
    """They put off the wake-up that is near, but no deadline."""
    pulse.rearm(100.0, [_backup(silent=silent)])
    now = pulse._armed_at - 0.01
    pulse.woken(now)
    assert now + later == pytest.approx(pulse._armed_at)
    pulse.hurry(now + 0.05)
    pulse.woken(now + 0.04)
    assert now + 0.05 == pytest.approx(pulse._armed_at)
    pulse.hurry(now + 0.06)
    assert now + 0.05 == pytest.approx(pulse._armed_at)


def test_short_dead_times_make_it_impatient(pulse: Pulse) -> None:
    """A third of the shortest dead time is what the loop may be silent for."""
    pulse.tune([Timing(1, 0, 3), Timing(0, 26, 3)])
    patience = Timing(0, 26, 3).dead_time() / 3
    pulse.rearm(100.0, [MASTER])
    assert 100.0 + 1.1 * patience == pytest.approx(pulse._armed_at)
    assert 0.0 == pulse.stall(100.0 + 1.15 * patience)
    pulse.stall(100.0)
    assert 1.25 * patience == pytest.approx(pulse.stall(100.0 + 1.25 * patience))
