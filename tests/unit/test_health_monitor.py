from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from carp.core.health import Check, Flap, Tcp
from carp.core.health_monitor import CheckStatus, Health, Monitor, Verdict

CHECK = Check("web", Tcp(IPv4Address("127.0.0.1"), 80), rise=2, fall=3, demotion=50, flap=Flap(3, 10.0))
FLAPPING = "flapping, demoted until 10 s without a change; now"


def feed(monitor: Monitor, results: str, at: float = 0.0, step: float = 1.0) -> list[Verdict | None]:
    """Give a monitor results, + or -, one each ``step`` seconds; return its verdicts."""
    return [
        monitor.result(mark == "+", "fine" if mark == "+" else "broken", at + number * step)
        for number, mark in enumerate(results)
    ]


def test_nothing_is_known_at_first() -> None:
    """Before the first result there is no demotion."""
    monitor = Monitor(CHECK)
    assert (Health.UNKNOWN, 0, Verdict(0, "not checked yet")) == (
        monitor.health,
        monitor.amount,
        monitor.verdict(),
    )


def test_one_success_is_enough_at_first() -> None:
    """The first success brings a check up, whatever `rise` says, and is told once."""
    monitor = Monitor(CHECK)
    assert [Verdict(0, "fine"), None] == feed(monitor, "++")
    assert Health.UP is monitor.health


def test_the_first_failure_is_enough_at_first() -> None:
    """A check that fails at the start is down at once, whatever `fall` says; then `rise` brings it up."""
    monitor = Monitor(CHECK)
    assert [Verdict(50, "broken"), None, Verdict(0, "fine")] == feed(monitor, "-++")
    assert Health.UP is monitor.health


def test_a_first_failure_is_confirmed_by_fall() -> None:
    """It demotes, but has failed for good only after `fall` failures in a row."""
    monitor = Monitor(CHECK)
    failed = [feed(monitor, mark) and (monitor.amount, monitor.failed) for mark in "-+--"]
    assert [(50, False)] * 4 == failed
    feed(monitor, "-")
    assert monitor.failed
    feed(monitor, "+-")
    assert monitor.failed
    feed(monitor, "++")
    assert not monitor.failed
    feed(monitor, "---")
    assert monitor.failed


def test_fall_and_rise() -> None:
    """`fall` failures in a row demote, `rise` successes in a row end it; one in between counts anew."""
    monitor = Monitor(CHECK)
    up, down = Verdict(0, "fine"), Verdict(50, "broken")
    expected = [up, None, None, None, None, None, down, None, None, None, up]
    assert expected == feed(monitor, "+--+---+-++")


def test_flapping_stays_demoted_until_quiet() -> None:
    """After more changes than allowed a check that is up stays demoted, until one window without any."""
    monitor = Monitor(replace(CHECK, rise=1, fall=1))
    told = feed(monitor, "+-+-+")
    assert Verdict(50, f"{FLAPPING} up: fine") == told[-1]
    assert [None] * 9 == feed(monitor, "+++++++++", at=5)
    assert [Verdict(0, "fine")] == feed(monitor, "+", at=14)


def test_changes_while_flapping_are_no_news() -> None:
    """Ups and downs of a flapping check are not told, and each starts the quiet time anew."""
    monitor = Monitor(replace(CHECK, rise=1, fall=1))
    feed(monitor, "+-+-+")
    assert [None] * 4 == feed(monitor, "-+-+", at=5)
    assert [None] == feed(monitor, "+", at=17.9)
    assert (50, f"{FLAPPING} up: fine") == (monitor.amount, monitor.verdict().detail)
    assert [Verdict(0, "fine")] == feed(monitor, "+", at=18)


def test_flapping_can_end_down() -> None:
    """A check that is down when it has become quiet is simply down."""
    monitor = Monitor(replace(CHECK, rise=1, fall=1))
    feed(monitor, "+-+-+-")
    assert [Verdict(50, "broken")] == feed(monitor, "-", at=15)
    assert not monitor.flapping


def test_few_changes_are_not_flapping() -> None:
    """As many changes as allowed within a window, or more over a longer time, each count as they are."""
    monitor = Monitor(replace(CHECK, rise=1, fall=1))
    feed(monitor, "+-+-+-+-+-+-+", step=4)
    assert (0, False) == (monitor.amount, monitor.flapping)


def test_other_settings_keep_the_health() -> None:
    """Settings changed in place keep what is known; results in a row are counted anew."""
    monitor = Monitor(CHECK)
    feed(monitor, "+---+")
    monitor.reconfigure(replace(CHECK, demotion=70))
    assert (Health.DOWN, 70) == (monitor.health, monitor.amount)
    assert [None, Verdict(0, "fine")] == feed(monitor, "++")


def test_snapshot() -> None:
    """The status shows what is checked, what is known since when, and the results in a row."""
    monitor = Monitor(CHECK)
    feed(monitor, "---")
    feed(monitor, "-", at=9)
    expected = CheckStatus(
        name="web",
        target="tcp 127.0.0.1:80",
        health=Health.DOWN,
        amount=50,
        flapping=False,
        detail="broken",
        since=0.0,
        checked=9.0,
        successes=0,
        failures=4,
    )
    assert expected == monitor.snapshot()


@given(st.text("+-", max_size=60), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_verdicts_tell_everything(results: str, rise: int, fall: int, count: int) -> None:
    """Whatever comes, the last verdict's amount is the amount, and no two in a row say the same."""
    monitor = Monitor(replace(CHECK, rise=rise, fall=fall, flap=Flap(count, 7.0)))
    told, states = 0, [(False, Health.UNKNOWN)]
    for now, mark in enumerate(results):
        (verdict,) = feed(monitor, mark, at=now)
        if verdict is not None:
            told = verdict.amount
            states.append((monitor.flapping, monitor.health))
        assert monitor.amount == told
        assert monitor.health is not Health.DOWN or 50 == told
    assert all(before != after for before, after in pairwise(states))
