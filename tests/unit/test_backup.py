"""A backup: what makes it take over, and when (carp-protocol.md 5.3; design.md rule 4, section 5)."""

from __future__ import annotations

from typing import Any

import pytest

from carp.core import events as ev
from carp.core.backup import CLAIM_JITTER, JITTER, STAGGER
from carp.core.transitions import State
from pair import Station, Wire, backup, config, plain, sealed

MASTER, BACKUP = State.MASTER, State.BACKUP
THEM, THIRD = "10.1.1.2", "10.1.1.3"


def _waiting(
    *, heard: tuple[int, int, int] = (1, 0, 0), chance: float = 0.0, **fields: Any
) -> tuple[Wire, Station]:
    """Return a backup that has just heard a foreign master's advert."""
    settings = config(**fields)
    line, station = backup(settings, chance=lambda: chance)
    line.hear(station, plain(settings, *heard), THEM)
    return line, station


def _takes_over(line: Wire, station: Station, limit: float = 60.0) -> tuple[Any, str]:
    """Return after how many seconds it takes over and why."""
    seconds = line.run_until(lambda: station.state is MASTER, limit)
    return seconds, station.changes()[-1][1]


@pytest.mark.parametrize(
    ("fields", "dead_time"),
    [
        ({"advskew": 1}, 3.203906),
        ({"advskew": 100}, 3.590625),
        ({"advbase": 2, "deadRatio": 5, "advskew": 50}, 10.395312),
        ({"advbase": 0, "advskew": 30, "authentication": {"mode": "Sealed"}}, 0.351561),
    ],
)
def test_takes_over_after_exactly_the_dead_time(fields: dict[str, Any], dead_time: float) -> None:
    """Without an advert for the dead time the master counts as gone; never earlier."""
    settings = config(**fields)
    line, station = backup(settings)
    line.hear(station, sealed(settings, THEM, 1000, 1 if settings.timing.advbase else 0, 1), THEM)
    assert pytest.approx(dead_time, abs=1e-6) == station.vhost.deadline() - line.now
    assert (pytest.approx(dead_time, abs=1e-6), "dead-time") == _takes_over(line, station)


def test_each_advert_starts_the_dead_time_again() -> None:
    """As long as adverts come the backup waits."""
    line, station = _waiting(advskew=1)
    for _ in range(10):
        line.run(3.0)
        line.hear(station, plain(config()), THEM)
    assert BACKUP is station.state
    assert (pytest.approx(3.203906, abs=1e-6), "dead-time") == _takes_over(line, station)


def test_dead_time_is_from_our_own_settings() -> None:
    """Not from what the master advertises, as long as that is no reason to take over."""
    line, station = _waiting(heard=(3, 0, 0), advskew=1)
    assert (pytest.approx(3.203906, abs=1e-6), "dead-time") == _takes_over(line, station)


@pytest.mark.parametrize(
    ("heard", "own", "taken"),
    [
        ((3, 0, 0), {}, False),
        ((3, 1, 0), {}, True),
        ((4, 0, 0), {}, True),
        ((3, 100, 0), {"advskew": 100}, False),
        ((3, 101, 0), {"advskew": 100}, True),
        ((10, 0, 0), {"advbase": 2, "deadRatio": 5}, False),
        ((10, 1, 0), {"advbase": 2, "deadRatio": 5}, True),
    ],
)
def test_a_master_that_is_too_slow(heard: tuple[int, int, int], own: dict[str, Any], taken: bool) -> None:
    """5.3 line 3: ratio x base + own skew < their interval takes over at once, without preempt."""
    line, station = _waiting(heard=heard, **own)
    line.run(1.0)
    assert ([(MASTER, "peer-too-slow")] if taken else []) == station.changes()


@pytest.mark.parametrize(
    ("mode", "heard", "taken"),
    [
        ("Never", (1, 100, 0), False),
        ("Always", (1, 100, 0), True),
        ("Always", (1, 11, 0), True),
        ("Always", (1, 10, 0), False),
        ("Always", (1, 9, 0), False),
    ],
)
def test_preempt(mode: str, heard: tuple[int, int, int], taken: bool) -> None:
    """5.3 line 1: a shorter interval takes over if it may; an equal one never."""
    line, station = _waiting(heard=heard, advskew=10, preempt={"mode": mode})
    line.run(1.0)
    assert ([(MASTER, "preempted")] if taken else []) == station.changes()


def test_preempt_is_staggered_by_skew() -> None:
    """1 ms per unit of skew, so that the best of several comes first."""
    line, station = _waiting(heard=(1, 100, 0), advskew=50, preempt={"mode": "Always"})
    assert (pytest.approx(50 * STAGGER), "preempted") == _takes_over(line, station)


def test_a_planned_takeover_is_not_put_off_by_the_next_advert() -> None:
    """The stagger runs from the advert that gave the reason."""
    line, station = _waiting(heard=(1, 200, 0), advskew=100, preempt={"mode": "Always"})
    line.run(0.05)
    line.hear(station, plain(config(), 1, 200), THEM)
    assert (pytest.approx(0.05), "preempted") == _takes_over(line, station)


def test_nothing_happens_before_its_time() -> None:
    """A tick too early changes nothing."""
    line, station = _waiting(advskew=1)
    assert () == tuple(station.vhost.tick(line.now + 3.0))


def test_preempt_after_counts_from_the_first_worse_advert() -> None:
    """With After 10 s it waits for an advert at least 10 s after the first of a worse master."""
    line, station = _waiting(heard=(1, 100, 0), preempt={"mode": "After", "after": "10s"})
    for _ in range(9):
        line.run(1.0)
        line.hear(station, plain(config(), 1, 100), THEM)
    assert BACKUP is station.state
    line.run(1.0)
    line.hear(station, plain(config(), 1, 100), THEM)
    assert (0.0, "preempted") == _takes_over(line, station)


def test_preempt_after_starts_again_when_a_better_one_is_heard() -> None:
    """The wait belongs to an uninterrupted time of worse masters."""
    line, station = _waiting(heard=(1, 100, 0), advskew=10, preempt={"mode": "After", "after": "10s"})
    for second in range(15):
        line.run(1.0)
        line.hear(station, plain(config(), 1, 0 if second == 5 else 100), THEM)
    assert BACKUP is station.state


@pytest.mark.parametrize(
    ("heard", "ours", "taken"),
    [
        ((1, 0, 1), 0, True),
        ((1, 0, 3), 2, True),
        ((1, 0, 2), 2, False),
        ((1, 0, 1), 2, False),
        ((1, 0, 255), 254, True),
    ],
)
def test_a_master_demoted_more_than_we_are(heard: tuple[int, int, int], ours: int, taken: bool) -> None:
    """5.3 line 2, OpenBSD's rule: take over even without preempt and with a longer interval."""
    settings = config(advskew=100)
    line, station = backup(settings)
    line.give(station, ev.Demote("test", ours))
    line.hear(station, plain(settings, *heard), THEM)
    line.run(1.0)
    assert ([(MASTER, "peer-demoted")] if taken else []) == station.changes()


def test_preempt_needs_a_demotion_not_above_theirs() -> None:
    """5.3 line 1: a better interval does not preempt while we are demoted more."""
    settings = config(preempt={"mode": "Always"})
    line, station = backup(settings)
    line.give(station, ev.Demote("test", 2))
    line.hear(station, plain(settings, 1, 100, 1), THEM)
    line.run(1.0)
    assert [] == station.changes()


def test_a_bow_out_is_taken_over_at_once_and_staggered() -> None:
    """From the master heard last: 1 ms per unit of skew after its bow-out."""
    line, station = _waiting(advskew=50)
    line.run(0.5)
    line.hear(station, plain(config(), 255, 255, 255), THEM)
    assert (pytest.approx(50 * STAGGER), "bow-out") == _takes_over(line, station)


@pytest.mark.parametrize(("amount", "at"), [(200, 0.24), (5, 0.045)])
def test_a_takeover_that_is_planned_follows_our_demotion(amount: int, at: float) -> None:
    """Demoted after the bow-out: those who are less demoted go first all the same; and back again."""
    line, station = _waiting(advskew=40)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.run(0.03)
    line.give(station, ev.Demote("test", 200))
    line.give(station, ev.Demote("test", amount))
    assert (pytest.approx(at - 0.03), "bow-out") == _takes_over(line, station)


def test_a_takeover_that_is_planned_follows_a_new_skew() -> None:
    """As at a demotion."""
    line, station = _waiting(advskew=40)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.give(station, ev.Reconfigure(config(advskew=70)))
    assert (pytest.approx(0.07), "bow-out") == _takes_over(line, station)


def test_a_repeated_bow_out_does_not_delay_the_takeover() -> None:
    """The stagger runs from the first one."""
    line, station = _waiting(advskew=150)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.run(0.1)
    line.hear(station, plain(config(), 255, 255), THEM)
    assert (pytest.approx(0.05), "bow-out") == _takes_over(line, station)


def test_a_bow_out_of_somebody_else_is_not_heeded() -> None:
    """Only the master heard last can hand over."""
    line, station = _waiting(advskew=1)
    line.run(0.5)
    line.hear(station, plain(config(), 255, 255), THIRD)
    line.run(1.0)
    assert [] == station.changes()


def test_a_bow_out_of_the_master_before_is_not_heeded() -> None:
    """After the successor was heard, the old master's bow-out says nothing any more."""
    line, station = _waiting(advskew=1)
    line.hear(station, plain(config()), THIRD)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.run(1.0)
    assert [] == station.changes()


def test_a_bow_out_before_any_advert_is_not_heeded() -> None:
    """Who was never heard as master has nothing to hand over."""
    line, station = backup(config())
    line.hear(station, plain(config(), 255, 255), THEM)
    line.run(0.5)
    assert [] == station.changes()


def test_a_bow_out_is_no_advert() -> None:
    """It does not start the dead time again."""
    line, station = _waiting(advskew=1)
    line.run(1.0)
    line.hear(station, plain(config(), 255, 255), THIRD)
    assert (pytest.approx(2.203906, abs=1e-6), "dead-time") == _takes_over(line, station)


def test_an_advert_of_the_successor_cancels_our_takeover() -> None:
    """Another backup was faster: nobody follows it."""
    line, station = _waiting(advskew=100)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.run(0.05)
    line.hear(station, plain(config(), 1, 50), THIRD)
    line.run(1.0)
    assert [] == station.changes()


@pytest.mark.parametrize(
    ("theirs", "ours", "is_ours", "taken"),
    [(1, 2, True, False), (2, 2, True, True), (255, 2, True, True), (1, 2, False, True)],
)
def test_a_demoted_backup_lets_a_less_demoted_member_stay(
    theirs: int, ours: int, is_ours: bool, taken: bool
) -> None:
    """A member of ours that is demoted less than we are bows out for others; a foreign one cannot say."""
    settings = config(advskew=1)
    line, station = backup(settings)
    line.give(station, ev.Demote("test", ours))
    line.hear(station, sealed(settings, THEM, 1000), THEM)
    bow_out = sealed(settings, THEM, 1001, 255, 255, theirs) if is_ours else plain(settings, 255, 255, theirs)
    line.hear(station, bow_out, THEM)
    line.run(1.0)
    assert ([(MASTER, "bow-out")] if taken else []) == station.changes()


def test_no_jitter_where_nobody_has_our_interval() -> None:
    """With distinct skews the dead time is exact whatever chance says."""
    line, station = _waiting(advskew=10, chance=0.999)
    assert pytest.approx(3.239062, abs=1e-6) == station.vhost.deadline() - line.now


def test_no_jitter_where_only_the_master_has_our_interval() -> None:
    """A lone backup of an equal master has nobody to come in the way of, with either family."""
    settings = config(addresses=["10.1.1.252", "2001:db8::252"])
    line, station = backup(settings, "10.1.1.1", "2001:db8::1", chance=lambda: 0.999)
    for source in (THEM, "2001:db8::2", THEM, "2001:db8::2"):
        line.hear(station, plain(settings), source)
        assert pytest.approx(3.2, abs=1e-6) == station.vhost.deadline() - line.now


def test_jitter_where_another_backup_has_our_interval() -> None:
    """Somebody else was heard with our interval: up to 80 ms between us."""
    line, station = _waiting(chance=0.5)
    line.hear(station, plain(config()), THIRD)
    assert pytest.approx(3.2 + 0.5 * JITTER) == station.vhost.deadline() - line.now


def test_jitter_at_a_bow_out_where_somebody_has_our_interval() -> None:
    """Takeovers on the same advert are spread too."""
    line, station = _waiting(chance=0.5)
    line.hear(station, plain(config(), 255, 255), THEM)
    assert pytest.approx(0.5 * JITTER) == station.vhost.deadline() - line.now


def test_a_stall_starts_a_full_dead_time() -> None:
    """What came meanwhile was discarded unread, so nothing is known of the master."""
    line, station = _waiting(advskew=1)
    line.hear(station, plain(config(), 255, 255), THEM)
    line.now += 10.0
    line.give(station, ev.Stalled())
    assert (pytest.approx(3.203906, abs=1e-6), "dead-time") == _takes_over(line, station)


def test_a_stall_while_listening_starts_that_again() -> None:
    """Before the first claim it listens a whole time again."""
    line, station = backup(config())
    line.run(1.9)
    line.give(station, ev.Stalled())
    assert (pytest.approx(2.0), "first-claim") == _takes_over(line, station)


def test_a_demoted_backup_waits_longer() -> None:
    """Its dead time follows its demoted skew, so healthy members come first."""
    line, station = _waiting(advskew=1)
    line.give(station, ev.Demote("test", 99))
    assert (pytest.approx(3.2 + 100 / 256, abs=1e-5), "dead-time") == _takes_over(line, station)
    assert (1, 100, 99) == station.vhost.header()


def test_new_timing_counts_from_the_advert_heard_last() -> None:
    """A reconfiguration moves the end of the wait, not its beginning."""
    line, station = _waiting(advskew=1)
    line.run(1.0)
    line.give(station, ev.Reconfigure(config(advskew=1, deadRatio=5)))
    assert (pytest.approx(4.203906, abs=1e-6), "dead-time") == _takes_over(line, station)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 2.0),
        ({"advbase": 2}, 3.0),
        ({"advskew": 100}, 2.1),
        ({"authentication": {"mode": "Sealed"}}, 1.0),
        ({"authentication": {"mode": "Sealed"}, "advskew": 64}, 1.25 + 0.064),
        ({"firstClaimant": True}, 0.3),
        ({"firstClaimant": True, "advskew": 100}, 0.3),
    ],
)
def test_first_claim(fields: dict[str, Any], expected: float) -> None:
    """One interval among our own members, base + 1 s where members are unknown, 0.3 s if named first."""
    line, station = backup(config(**fields))
    assert station.vhost.listening
    seconds, cause = _takes_over(line, station)
    assert (pytest.approx(expected, abs=1e-6), "first-claim") == (seconds, cause)
    assert 3 == len(station.times(ev.Probe))


def test_first_claims_are_spread() -> None:
    """Members that start together differ by up to 10 ms, little enough for the best placed to be first."""
    line, station = backup(config(), chance=lambda: 0.5)
    assert (pytest.approx(2.0 + 0.5 * CLAIM_JITTER), "first-claim") == _takes_over(line, station)


def test_an_advert_ends_the_listening() -> None:
    """Whoever is master is waited for like by any backup; answers to probes matter no more."""
    line, station = _waiting(advskew=1)
    assert not station.vhost.listening
    assert () == line.give(station, ev.Answered(station.vhost.config.addresses[0].ip, bytes(6)))
    assert (pytest.approx(3.203906, abs=1e-6), "dead-time") == _takes_over(line, station)
    assert [] == station.times(ev.Probe)


def test_an_address_in_use_is_a_conflict() -> None:
    """Answered on and on without an advert: one notice that names address and MAC, and no claim."""
    line, station = backup(config())
    vip, mac = station.vhost.config.addresses[0].ip, b"\2\0\0\0\0\7"

    def answer(seconds: float) -> None:
        for _ in range(int(seconds / 0.05)):
            line.run(0.05)
            line.give(station, ev.Answered(vip, mac))

    answer(4.0)
    assert [] == station.times(ev.Notice)
    answer(6.0)
    (notice,) = [effect for _, effect in station.done if isinstance(effect, ev.Notice)]
    text = "10.1.1.252 is in use by 02:00:00:00:00:07, which sends no adverts of this vhid and password"
    assert ("conflict", text, True) == (notice.code, notice.text, notice.warning)
    assert (vip, mac) == station.vhost.snapshot().conflict
    assert BACKUP is station.state
    assert "first-claim" == _takes_over(line, station)[1]
    assert station.vhost.snapshot().conflict is None


def test_a_conflict_ends_when_a_master_is_heard() -> None:
    """That is said too: whoever watches would show the conflict for ever."""
    line, station = backup(config())
    vip, mac = station.vhost.config.addresses[0].ip, b"\2\0\0\0\0\7"
    for _ in range(200):
        line.run(0.05)
        line.give(station, ev.Answered(vip, mac))
    (notice,) = line.hear(station, plain(config(), 0, 1), THEM)
    assert ("conflict-over", f"{THEM} is master; the conflict is over", False) == (
        notice.code,
        notice.text,
        notice.warning,
    )
    assert station.vhost.snapshot().conflict is None
    assert () == line.hear(station, plain(config(), 0, 2), THEM)
