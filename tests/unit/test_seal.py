"""Times of sealed adverts (design.md section 6)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.core.seal import (
    HOUR,
    MAX_SOURCES,
    MODULUS,
    UNITS,
    WRITE_AHEAD,
    Seal,
    distance,
    from_wall,
    is_far,
    latest,
    newer,
)

TIME = st.integers(0, MODULUS - 1)
NOW = 1_700_000_000.0
STAMP = from_wall(NOW)
DAY = 24 * HOUR
FIRST, SECOND, THIRD, STRANGER = (bytes((10, 1, 1, last)) for last in (1, 2, 3, 9))


def test_unit_is_a_256th_of_a_second() -> None:
    """A wall clock in seconds becomes 1/256 s, modulo 2^32."""
    assert 256 == UNITS
    assert 3 * 256 + 128 == from_wall(3.5)
    assert 0 == from_wall(MODULUS / 256)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 0, True),
        (0, 1, False),
        (5, 5, False),
        (0, MODULUS - 1, True),
        (MODULUS - 1, 0, False),
        (MODULUS // 2 - 1, 0, True),
        (MODULUS // 2, 0, False),
    ],
)
def test_newer_is_serial_arithmetic(a: int, b: int, expected: bool) -> None:
    """Later means less than half the circle ahead, so the wrap after 194 days is no step back."""
    assert expected == newer(a, b)


def test_latest_ignores_what_never_was() -> None:
    """None counts as never."""
    assert 7 == latest(7, None, 3)
    assert 9 == latest(7, 9, None)


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=20))
def test_times_sent_strictly_increase_whatever_the_wall_clock_does(walls: list[float]) -> None:
    """Each time sent is later than the one before, also when the wall clock stands, steps or is years off."""
    seal = Seal()
    times = [seal.next(wall) for wall in walls]
    assert all(newer(later, earlier) for earlier, later in pairwise(times))


def test_time_sent_is_the_wall_clocks() -> None:
    """With a wall clock ahead of everything, its time is sent."""
    assert STAMP == Seal(last=STAMP - 5, newest=STAMP - 5).next(NOW)


def test_a_slow_clock_catches_up_with_what_was_heard() -> None:
    """A member whose clock is years behind sends one more than the newest time heard."""
    seal = Seal()
    assert seal.accept(SECOND, STAMP)
    assert (STAMP + 1) % MODULUS == seal.next(12.0)
    assert (STAMP + 2) % MODULUS == seal.next(12.0)


def test_replay_and_late_adverts_are_refused() -> None:
    """A time not newer than the last of its source is refused, also an older one that arrives late."""
    seal = Seal()
    assert seal.accept(SECOND, STAMP)
    assert not seal.accept(SECOND, STAMP)
    assert not seal.accept(SECOND, STAMP - 1)
    assert seal.accept(SECOND, STAMP + 1)


def test_sources_have_floors_of_their_own() -> None:
    """One source's time is no floor for another's within the hour."""
    seal = Seal()
    assert seal.accept(SECOND, STAMP)
    assert seal.accept(THIRD, STAMP - HOUR + 1)
    assert not seal.accept(SECOND, STAMP - HOUR + 1)


@pytest.mark.parametrize(("behind", "believed"), [(HOUR - 1, True), (HOUR, False), (30 * DAY, False)])
def test_an_unknown_source_is_believed_within_an_hour_of_the_newest(behind: int, believed: bool) -> None:
    """An old recording of a source never heard gains nothing once a newer time was heard."""
    seal = Seal(newest=STAMP)
    assert believed == seal.accept(STRANGER, (STAMP - behind) % MODULUS)


@pytest.mark.parametrize(("ahead", "believed"), [(1, True), (2 * HOUR, True), (90 * DAY, True)])
def test_silent_days_lock_nobody_out(ahead: int, believed: bool) -> None:
    """A member that comes back long after its floor is believed."""
    seal = Seal(newest=STAMP, floors={SECOND: STAMP})
    assert believed == seal.accept(SECOND, (STAMP + ahead) % MODULUS)


def test_a_reign_of_months_locks_nobody_out() -> None:
    """For 200 days one master sends and hears nobody; its backup believes it throughout."""
    master, backup = Seal(), Seal()
    wall = NOW
    assert master.accept(SECOND, backup.next(wall))
    for _ in range(200 * 24):
        wall += 3600.0
        assert backup.accept(FIRST, master.next(wall))
        assert backup.accept(FIRST, master.next(wall + 0.5))
    assert master.accept(SECOND, backup.next(wall))


def test_an_old_floor_counts_as_an_hour_before_the_newest() -> None:
    """After months without a word a floor could lie in what looks like the future; it does not count."""
    floor = (STAMP - 100 * DAY) % MODULUS
    assert newer(floor, STAMP)
    seal = Seal(newest=STAMP, floors={SECOND: floor})
    assert seal.accept(SECOND, STAMP + 1)


def test_lost_state_locks_nobody_out() -> None:
    """A member that lost its state and its clock is believed again after hearing one advert."""
    ours, theirs = Seal(), Seal()
    assert ours.accept(SECOND, STAMP)
    assert theirs.accept(FIRST, ours.next(NOW))
    assert ours.accept(SECOND, theirs.next(0.0))


def test_memory_is_bounded() -> None:
    """The source that was first heard is forgotten when there are 256; its floor is then the hour."""
    seal = Seal()
    for number in range(MAX_SOURCES + 1):
        assert seal.accept(number.to_bytes(4, "big"), STAMP + number)
    assert MAX_SOURCES == len(seal.floors)
    assert bytes(4) not in seal.floors
    assert not seal.accept(bytes(4), STAMP - HOUR)


def test_a_known_source_evicts_nobody() -> None:
    """With the memory full, a source in it only moves its own floor."""
    seal = Seal(floors={number.to_bytes(4, "big"): STAMP for number in range(MAX_SOURCES)}, newest=STAMP)
    assert seal.accept(bytes(4), STAMP + 1)
    assert MAX_SOURCES == len(seal.floors)


@given(st.floats(0, 4e9), TIME)
def test_floor_on_disk_runs_ahead(wall: float, newest: int) -> None:
    """After a reservation the floor is ten minutes ahead of whatever would be sent."""
    seal = Seal(newest=newest)
    reserved = seal.reserve(wall)
    assert reserved == seal.reserved
    assert WRITE_AHEAD == (reserved - latest(from_wall(wall), newest)) % MODULUS
    assert 600 * UNITS == WRITE_AHEAD


def test_a_restart_continues_behind_the_floor() -> None:
    """What is sent after a restart is later than everything sent before, even with the clock set back."""
    before = Seal()
    floor = before.reserve(NOW)
    sent = before.next(NOW + 599.0)
    after = Seal(last=floor, reserved=floor, newest=floor)
    assert newer(after.next(NOW - 1000.0), sent)


def test_a_clean_end_leaves_no_gap() -> None:
    """After an orderly end the floor is the last time sent; with nothing sent it stays."""
    seal = Seal()
    seal.reserve(NOW)
    seal.close()
    assert (from_wall(NOW) + WRITE_AHEAD) % MODULUS == seal.reserved
    sent = seal.next(NOW)
    seal.close()
    assert sent == seal.reserved


@given(TIME, st.integers(-(MODULUS // 2), MODULUS // 2 - 1))
def test_distance(time: int, units: int) -> None:
    """Signed, over the end of the numbers too, and of one mind with `newer`."""
    assert units == distance((time + units) % MODULUS, time)
    assert (units > 0) == newer((time + units) % MODULUS, time)


@pytest.mark.parametrize(
    ("drift", "far"), [(-61.0, True), (-59.0, False), (0.0, False), (659.0, False), (661.0, True)]
)
def test_a_crash_alone_is_no_wrong_clock(drift: float, far: bool) -> None:
    """It puts the times of a member ahead by what it had reserved; behind there is no such excuse."""
    assert far == is_far(drift)
