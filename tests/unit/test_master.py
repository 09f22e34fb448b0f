"""A master: adverts, renewals, announcements, two masters, handovers (5.2; design.md rules 3 and 4)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from carp.core import events as ev
from carp.core.transitions import Cause, State
from pair import Station, Wire, config, master, plain, sealed

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
THEM = "10.1.1.2"
ORDINARY, BOW_OUT = ev.Send(), ev.Send(bow_out=True)


def _gaps(times: list[float]) -> list[float]:
    return [round(later - earlier, 6) for earlier, later in pairwise(times)]


def _kinds(effects: tuple[ev.Effect, ...]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def _cause(effects: tuple[ev.Effect, ...]) -> str:
    return next(effect.cause.value for effect in effects if isinstance(effect, ev.Changed))


@pytest.mark.parametrize(
    ("fields", "period"),
    [
        ({}, 0.5),
        ({"fencing": "Off"}, 1.0),
        ({"fencing": "Off", "advskew": 100}, 1.390625),
        ({"advbase": 0, "advskew": 26}, 0.101562),
    ],
)
def test_adverts_leave_at_their_period(fields: dict[str, Any], period: float) -> None:
    """Every interval, at least every L/4 with a fence; never later, at most a tenth earlier."""
    line, station = master(config(**fields))
    line.run(20 * period)
    gaps = _gaps([at for at, _ in station.sent])
    assert len(gaps) >= 18
    assert all(0.9 * period - 1e-6 <= gap <= period + 1e-6 for gap in gaps)
    assert 0.97 * period < sum(gaps[10:]) / len(gaps[10:])


def test_each_renewal_follows_an_advert() -> None:
    """Send, then renew, at least every L/4."""
    line, station = master(config())
    line.run(5.0)
    effects = [effect for _, effect in station.done if isinstance(effect, ev.Send | ev.Renew)]
    assert {(ORDINARY, ev.Renew())} == set(zip(effects[::2], effects[1::2], strict=True))
    assert max(_gaps(station.times(ev.Renew))) <= 0.5


def test_renewals_are_no_more_frequent_than_needed() -> None:
    """At 100 ms between adverts the lease of 1 s is renewed at least every 0.25 s, not ten times a second."""
    line, station = master(config(advbase=0, advskew=26))
    line.run(10.0)
    gaps = _gaps(station.times(ev.Renew))
    assert 0.15 < sum(gaps) / len(gaps)
    assert max(gaps) <= 0.25


def test_without_a_fence_nothing_is_renewed() -> None:
    """Fencing Off sends adverts only."""
    line, station = master(config(fencing="Off"))
    line.run(5.0)
    assert [] == station.times(ev.Renew)
    assert station.vhost.holds


@pytest.mark.parametrize(
    ("announce", "expected"),
    [
        ({}, [0.0, 1.0, 2.0, 3.0, 4.0, 64.0, 124.0]),
        ({"count": 2, "interval": "500ms", "refresh": "0s"}, [0.0, 0.5]),
        ({"count": 1, "refresh": "50s"}, [0.0, 50.0, 100.0]),
    ],
)
def test_announcements(announce: dict[str, Any], expected: list[float]) -> None:
    """So many rounds at a takeover, then one each refresh, none with refresh 0."""
    line = Wire()
    station = line.add(config(announce=announce), "10.1.1.1")
    line.run_until(lambda: station.state is MASTER)
    start = line.now
    line.run(130.0)
    assert expected == [round(at - start, 3) for at in station.times(ev.Announce)]


def test_a_takeover_has_its_order() -> None:
    """Advert, addresses, announcements, script (rule 4); the state is the new one already."""
    line = Wire()
    station = line.add(config(), "10.1.1.1")
    line.run_until(lambda: station.state is MASTER)
    effects = tuple(e for at, e in station.done if at == line.now)
    assert ["Changed", "Send", "Hold", "Announce", "Script"] == _kinds(effects)
    assert ev.Script(up=True) == effects[-1]


def test_scripts_instead_of_addresses() -> None:
    """With the addresses left to the up script it runs after the advert, the rounds when it is done."""
    line = Wire()
    settings = config(manageAddresses=False, scripts={"up": "/up"})
    station = line.add(settings, "10.1.1.1")
    line.run_until(lambda: station.state is MASTER)
    effects = tuple(e for at, e in station.done if at == line.now)
    assert ["Changed", "Send", "Script"] == _kinds(effects)
    assert (ev.Announce(),) == line.give(station, ev.ScriptEnded())


def test_nobodys_addresses() -> None:
    """With neither addresses nor up script of ours the host is expected to have them: announce at once."""
    line = Wire()
    station = line.add(config(manageAddresses=False), "10.1.1.1")
    line.run_until(lambda: station.state is MASTER)
    assert [] == station.times(ev.Hold)
    assert 1 == len(station.times(ev.Announce))


def test_the_end_of_a_script_says_nothing_where_addresses_are_ours() -> None:
    """Our own addresses were announced when they were added."""
    line, station = master(config())
    assert () == line.give(station, ev.ScriptEnded())


# --- two masters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ((1, 0, 0), "better-master"),
        ((0, 255, 0), "better-master"),
        ((1, 101, 0), None),
        ((2, 0, 0), None),
        ((1, 100, 0), "tie-lost"),
    ],
)
def test_a_master_hears_another(heard: tuple[int, int, int], expected: str | None) -> None:
    """5.2: to a shorter interval it yields, to a longer one it does not, to a foreign equal one it does."""
    settings = config(advskew=100)
    line, station = master(settings)
    line.hear(station, plain(settings, *heard), THEM)
    assert ([(BACKUP, expected)] if expected else []) == station.changes()


@pytest.mark.parametrize(
    ("heard", "ours", "yields"),
    [
        ((1, 200, 1), 2, True),
        ((1, 0, 3), 2, False),
        ((1, 0, 255), 0, False),
        ((3, 0, 0), 1, True),
        ((1, 1, 2), 2, True),
        ((1, 200, 2), 2, False),
    ],
)
def test_demotion_goes_before_the_interval(heard: tuple[int, int, int], ours: int, yields: bool) -> None:
    """OpenBSD's rule as soon as byte 4 of either side is set: the lower demotion stays."""
    settings = config(advskew=100)
    line = Wire()
    station = line.add(settings, "10.1.1.1")
    line.give(station, ev.Demote("test", ours))
    line.run_until(lambda: station.state is MASTER)
    line.hear(station, plain(settings, *heard), THEM)
    assert yields == (station.state is BACKUP)


def test_yielding_gives_the_addresses_up() -> None:
    """One last advert, for the winner to announce again, then addresses and down script; peer is named."""
    settings = config(advskew=100)
    line, station = master(settings)
    effects = line.hear(station, plain(settings), THEM)
    assert ["Send", "Changed", "Release", "Script"] == _kinds(effects)
    assert ev.Changed(MASTER, BACKUP, Cause.BETTER_MASTER, THEM) == effects[1]
    assert (ev.Release(settings.addresses), ev.Script(up=False)) == effects[-2:]
    assert not station.vhost.holds


def test_winning_announces_again() -> None:
    """A worse master is answered by an advert at once and a new series: caches may have turned to it."""
    line, station = master(config())
    line.run(30.0)
    station.forget()
    effects = line.hear(station, plain(config(), 1, 1), THEM)
    assert ["Send", "Announce"] == [kind for kind in _kinds(effects) if kind != "Renew"]
    line.run(4.5)
    assert 5 == len(station.times(ev.Announce))


def test_winning_during_a_series_announces_at_once() -> None:
    """The next round may be a second away, and the other has turned caches just now."""
    line, station = master(config())
    line.run(0.4)
    station.forget()
    assert ev.Announce() in line.hear(station, plain(config(), 1, 1), THEM)
    line.run(0.1)
    assert ev.Announce() not in line.hear(station, plain(config(), 1, 1), THEM)
    line.run(0.11)
    assert 2 == len(station.times(ev.Announce))


def test_a_worse_master_that_goes_on_causes_no_flood() -> None:
    """The first are answered quickly, then once a second."""
    line, station = master(config())
    for _ in range(200):
        line.run(0.1)
        line.hear(station, plain(config(), 1, 1), THEM)
    assert 20 <= len(station.times(ev.Announce)) <= 28


def test_ours_against_ours_the_lower_source_stays() -> None:
    """Equal intervals of two of ours: both settle at once on the lower address, whoever hears first."""
    for first, second in (("10.1.1.1", "10.1.2.0"), ("10.1.2.0", "10.1.1.1")):
        line = Wire()
        one, two = (line.add(config(), source) for source in (first, second))
        one.deaf = two.deaf = True
        line.run_until(lambda one=one, two=two: one.state is two.state is MASTER)  # type: ignore[misc]
        one.deaf = two.deaf = False
        line.run(1.0)
        stays, goes = (one, two) if first == "10.1.1.1" else (two, one)
        assert (MASTER, BACKUP) == (stays.state, goes.state)


def test_a_foreign_equal_comes_back_late_and_once_only() -> None:
    """After yielding to a foreign equal 0.5-1.5 s are added to the dead time, not to those that follow."""
    line, station = master(config(), chance=lambda: 0.5)
    line.hear(station, plain(config()), THEM)
    assert pytest.approx(3.2 + 1.0) == station.vhost.deadline() - line.now
    line.run(1.0)
    line.hear(station, plain(config(), 1, 1), THEM)
    assert pytest.approx(3.2) == station.vhost.deadline() - line.now


def test_a_tie_over_ipv6_alone_is_settled_after_a_second() -> None:
    """With both families the IPv4 source decides; if only IPv6 arrives, it does."""
    settings = config(addresses=["10.1.1.252", "2001:db8::252"])
    line, station = master(settings, "10.1.1.1", "2001:db8::9")
    for expected in ([], [], [(BACKUP, "tie-lost")]):
        line.hear(station, sealed(settings, "2001:db8::1", line.stamp() + 1), "2001:db8::1")
        assert expected == station.changes()
        line.run(0.5)


def test_ipv4_adverts_keep_ipv6_from_deciding() -> None:
    """As long as the other's IPv4 adverts arrive, whatever they say, IPv6 ties decide nothing."""
    settings = config(addresses=["10.1.1.252", "2001:db8::252"])
    line, station = master(settings, "10.1.1.1", "2001:db8::9")
    for _ in range(6):
        line.hear(station, sealed(settings, "2001:db8::1", line.stamp() + 1), "2001:db8::1")
        line.hear(station, sealed(settings, THEM, line.stamp() + 2), THEM)
        line.run(0.5)
    assert [] == station.changes()


# --- the fence --------------------------------------------------------------------------------------


def test_a_lapsed_master_is_a_backup_before_anything_else() -> None:
    """When the last renewal is older than L, a tick sends nothing: release and down script."""
    line, station = master(config())
    line.now += 2.01
    effects = station.vhost.tick(line.now)
    assert ["Changed", "Release", "Script"] == _kinds(tuple(effects))
    assert "lease-lapsed" == _cause(tuple(effects))
    assert pytest.approx(3.2) == station.vhost.deadline() - line.now


@pytest.mark.parametrize(("late", "lapses"), [(1.99, False), (2.01, True)])
def test_a_lease_is_judged_when_an_advert_is_heard(late: float, lapses: bool) -> None:
    """A lapsed master answers nobody, however bad the other is."""
    line, station = master(config())
    line.now += late
    effects = line.hear(station, plain(config(), 1, 100), THEM)
    assert lapses == (ORDINARY not in effects)
    assert ([(BACKUP, "lease-lapsed")] if lapses else []) == station.changes()


@pytest.mark.parametrize(("event", "late"), [(ev.LeaseLapsed(), 0.0), (ev.Stalled(), 2.01)])
def test_what_the_runner_finds_lapsed(event: ev.Event, late: float) -> None:
    """A lapse reported, or seen after a stall, makes it a backup."""
    line, station = master(config())
    line.now += late
    line.give(station, event)
    assert [(BACKUP, "lease-lapsed")] == station.changes()


def test_a_stall_within_the_lease_changes_nothing() -> None:
    """A master that slept for less than L is one still."""
    line, station = master(config())
    line.now += 1.5
    assert () == line.give(station, ev.Stalled())
    assert MASTER is station.state


def test_a_failed_claim_tells_the_others_to_go_ahead() -> None:
    """The address could not be added: a bow-out for whoever heard the takeover's advert, then backup."""
    line, station = master(config())
    effects = line.give(station, ev.ClaimFailed("address 10.1.1.252/32: Permission denied"))
    assert ["Send", "Changed", "Release", "Script"] == _kinds(effects)
    assert (line.now, (255, 255, 0)) == station.sent[0]
    assert [(BACKUP, "claim-failed")] == station.changes()
    assert "address 10.1.1.252/32: Permission denied" == station.vhost.snapshot().reason


def test_a_failed_claim_waits_for_others() -> None:
    """It waits two dead times for the next try, and does not preempt for ten."""
    settings = config(preempt={"mode": "Always"})
    line, station = master(settings)
    line.give(station, ev.ClaimFailed("x"))
    failed_at = line.now
    assert pytest.approx(6.4) == station.vhost.deadline() - line.now
    while station.state is BACKUP:
        line.hear(station, plain(settings, 1, 100), THEM)
        line.run(1.0)
    assert 32.0 <= line.now - failed_at <= 34.0


def test_a_lost_address_is_put_back() -> None:
    """Somebody deleted it: advert, address, announcement."""
    line, station = master(config())
    effects = line.give(station, ev.AddressGone(station.vhost.config.addresses[0].ip))
    assert (ORDINARY, ev.Hold(), ev.Announce()) == effects


def test_what_is_not_ours_is_not_put_back() -> None:
    """An address that scripts manage, or one that we are giving up, stays away."""
    line, station = master(config(manageAddresses=False))
    gone = ev.AddressGone(station.vhost.config.addresses[0].ip)
    assert () == line.give(station, gone)
    line, station = master(config())
    line.give(station, ev.StepDown())
    assert () == line.give(station, gone)


def test_lost_link_lets_go_at_once() -> None:
    """No bow-out can leave: addresses and script, state INIT with the reason."""
    line, station = master(config())
    effects = line.give(station, ev.LinkDown("interface eth0 has no carrier"))
    assert ["Changed", "Release", "Script"] == _kinds(effects)
    assert (INIT, "interface eth0 has no carrier") == (station.state, station.vhost.reason)


# --- planned handovers ------------------------------------------------------------------------------


def _pair(*, first: dict[str, Any] | None = None, **second: Any) -> tuple[Wire, Station, Station]:
    """Return a master and its backup (skew 10)."""
    line = Wire()
    one = line.add(config(**(first or {})), "10.1.1.1")
    line.run_until(lambda: one.state is MASTER)
    two = line.add(config(**({"advskew": 10} | second)), THEM)
    line.run(1.2)
    one.forget()
    two.forget()
    return line, one, two


def test_a_stop_hands_over_without_a_gap() -> None:
    """Cede and bow-out; the successor holds the address before the old master deletes it 0.1 s later."""
    line, one, two = _pair()
    start = line.now
    line.give(one, ev.Stop())
    assert [ev.Cede(), BOW_OUT] == [effect for _, effect in one.done]
    line.run(2.0)
    assert [(MASTER, "bow-out")] == two.changes()
    (held,), (released,) = two.times(ev.Hold), one.times(ev.Release)
    assert pytest.approx(start + 0.01) == held
    assert pytest.approx(held + 0.1) == released
    assert [(start, (255, 255, 255))] == one.sent
    assert [(INIT, "stopped")] == one.changes()
    done = tuple(effect for _, effect in one.done if not isinstance(effect, ev.Dropped))
    assert ["Cede", "Send", "Release", "Script", "Changed", "Stopped"] == _kinds(done)
    assert one.vhost.stopped


def test_nothing_happens_before_its_time() -> None:
    """A tick too early sends nothing, neither an advert nor a bow-out."""
    line, station = master(config())
    assert () == tuple(station.vhost.tick(line.now))
    line.give(station, ev.StepDown())
    assert () == tuple(station.vhost.tick(line.now + 0.05))


def test_stepping_down_stays_backup_for_a_dead_time() -> None:
    """SIGUSR2: byte 4 is our demotion, and even with preempt Always it does not come straight back."""
    line, one, two = _pair(first={"preempt": {"mode": "Always"}})
    start = line.now
    line.give(one, ev.StepDown())
    line.run(0.5)
    assert [(BACKUP, "handed-over")] == one.changes()
    assert [(start, (255, 255, 0))] == one.sent
    line.run(2.6)
    assert (BACKUP, MASTER) == (one.state, two.state)
    line.run(1.5)
    assert [(BACKUP, "handed-over"), (MASTER, "preempted")] == one.changes()


def test_a_growing_demotion_hands_over() -> None:
    """Bow-outs carry the new demotion; afterwards the demoted member stays backup."""
    line, one, two = _pair()
    start = line.now
    line.give(one, ev.Demote("health", 50))
    line.run(10.0)
    assert [(BACKUP, "handed-over")] == one.changes()
    assert [(start, (255, 255, 50))] == one.sent
    assert (BACKUP, MASTER) == (one.state, two.state)


def test_a_shrinking_demotion_is_told_at_once() -> None:
    """The next advert, with the lower demotion, leaves at once; nothing is handed over."""
    line, station = master(config())
    line.give(station, ev.Demote("health", 50))
    line.run(2.0)
    station.forget()
    line.give(station, ev.Demote("health", 0))
    assert [(line.now, (1, 0, 0))] == station.sent
    assert [] == station.changes()


def test_an_unanswered_demotion_keeps_the_address() -> None:
    """Bow-outs for 1.5 s, then an ordinary advert that shows the demotion, a fresh lease and a notice."""
    line, station = master(config())
    start = line.now
    line.give(station, ev.Demote("health", 50))
    line.run(1.45)
    assert [(255, 255, 50)] * 15 == [header for _, header in station.sent]
    assert [0.1] * 14 == _gaps([at for at, _ in station.sent])
    assert len(station.times(ev.Cede)) == len(station.sent)
    line.run(0.1)
    at, header = station.sent[-1]
    assert pytest.approx(start + 1.5) == at
    assert (1, 50, 50) == header
    (notice,) = [e for _, e in station.done if isinstance(e, ev.Notice)]
    assert ("unanswered", "nobody answered the bow-out (demotion): staying master") == (
        notice.code,
        notice.text,
    )
    assert [] == station.changes()
    line.run(20.0)
    assert MASTER is station.state


def test_an_unanswered_step_down_keeps_the_address() -> None:
    """SIGUSR2 of a lone member drops nothing."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    line.run(20.0)
    assert [] == station.changes()


def test_an_unanswered_stop_leaves_the_address_to_the_fence() -> None:
    """One ordinary advert and a fresh lifetime instead of deleting, so that a restart loses nothing."""
    line, station = master(config())
    line.give(station, ev.Stop())
    line.run(2.0)
    assert [] == station.times(ev.Release)
    effects = [effect for _, effect in station.done if not isinstance(effect, ev.Cede | ev.Send)]
    assert ["Leave", "Script", "Changed", "Stopped"] == _kinds(tuple(effects))
    leave = effects[0]
    assert isinstance(leave, ev.Leave)
    assert line.now - 0.5 < leave.expires < line.now + 1.0
    assert (1, 0, 0) == station.sent[-1][1]


@pytest.mark.parametrize(
    ("fields", "release", "expected"),
    [
        ({}, True, ["Release", "Script", "Changed", "Stopped"]),
        ({"scripts": {"onExit": False}}, False, ["Leave", "Changed", "Stopped"]),
        ({"scripts": {"onExit": False}}, True, ["Release", "Script", "Changed", "Stopped"]),
        ({"fencing": "Off"}, False, ["Leave", "Release", "Script", "Changed", "Stopped"]),
        ({"manageAddresses": False}, False, ["Leave", "Script", "Changed", "Stopped"]),
        ({"manageAddresses": False}, True, ["Script", "Changed", "Stopped"]),
    ],
)
def test_ends_of_an_unanswered_stop(fields: dict[str, Any], release: bool, expected: list[str]) -> None:
    """--release deletes; without a fence nothing would take the address away, so it is deleted too."""
    line, station = master(config(**fields))
    line.give(station, ev.Stop(release=release))
    line.run(2.0)
    effects = tuple(e for _, e in station.done if not isinstance(e, ev.Cede | ev.Send))
    assert expected == _kinds(effects)
    assert ("Leave" in expected and station.vhost.config.fenced) == station.vhost.left_lease


def test_a_stop_that_is_to_release_after_all() -> None:
    """A second order to stop, in the middle of the first, changes what becomes of the addresses."""
    line, station = master(config())
    line.give(station, ev.Stop())
    line.run(0.5)
    assert () == line.give(station, ev.Stop(release=True))
    assert () == line.give(station, ev.Stop())
    line.run(2.0)
    assert 1 == len(station.times(ev.Release))
    assert not station.vhost.left_lease


def test_without_a_fence_nothing_is_ceded() -> None:
    """With scripts or fencing Off the bow-out leaves alone."""
    line, station = master(config(fencing="Off"))
    assert (BOW_OUT,) == line.give(station, ev.StepDown())


def test_a_leaving_master_answers_nothing_and_announces_nothing() -> None:
    """No ordinary advert, no announcement between bow-outs; a bow-out of somebody else is no answer."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    assert () == line.hear(station, plain(config(), 255, 255), THEM)
    line.run(1.3)
    assert [] == station.times(ev.Announce)
    assert {(255, 255, 0)} == {header for _, header in station.sent}


def test_any_ordinary_advert_is_the_answer() -> None:
    """Whatever it compares like: no more bow-outs, and 0.1 s later we let go."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    line.run(0.05)
    heard_at = line.now
    assert () == line.hear(station, plain(config(), 200, 0), THEM)
    line.run(1.0)
    assert 1 == len(station.sent)
    assert [pytest.approx(heard_at + 0.1)] == station.times(ev.Release)


def test_a_bow_out_is_answered_with_an_advert() -> None:
    """A master tells a leaving one that it is there, and announces: caches may name the one that leaves."""
    line, station = master(config())
    line.run(10.2)
    effects = line.hear(station, plain(config(), 255, 255), THEM)
    assert ORDINARY == effects[0]
    assert ev.Announce() in effects


def test_a_stop_in_the_middle_of_a_step_down_goes_on_as_a_stop() -> None:
    """Before an answer bow-outs start over with byte 4 at 255; orders that say less change nothing."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    line.run(0.25)
    assert (ev.Cede(), BOW_OUT) == line.give(station, ev.Stop())
    assert (255, 255, 255) == station.sent[-1][1]
    assert () == line.give(station, ev.StepDown())
    assert () == line.give(station, ev.Stop())
    line.run(2.0)
    assert station.vhost.stopped


def test_a_stop_after_the_answer_does_not_bow_out_again() -> None:
    """The successor is there: only the 0.1 s are waited for."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    line.hear(station, plain(config()), THEM)
    assert () == line.give(station, ev.Stop())
    line.run(0.2)
    assert station.vhost.stopped
    assert 1 == len(station.sent)


def test_a_lapse_in_the_middle_of_a_stop_ends_it() -> None:
    """A master that lost its lease while it stops deletes and is done."""
    line, station = master(config())
    line.give(station, ev.Stop())
    line.now += 1.01
    effects = tuple(station.vhost.tick(line.now))
    assert ["Changed", "Release", "Script", "Changed", "Stopped"] == _kinds(effects)
    assert (INIT, True) == (station.state, station.vhost.stopped)


def test_a_lost_link_in_the_middle_of_a_stop_ends_it() -> None:
    """Nobody can answer any more."""
    line, station = master(config())
    line.give(station, ev.Stop())
    effects = line.give(station, ev.LinkDown("interface eth0 does not exist"))
    assert ["Changed", "Release", "Script", "Stopped"] == _kinds(effects)


def test_a_demotion_during_a_handover_does_not_start_another() -> None:
    """The bow-outs under way carry it."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    assert () == line.give(station, ev.Demote("health", 9))
    line.run(0.1)
    assert (255, 255, 9) == station.sent[-1][1]
    assert () == line.give(station, ev.Demote("health", 0))
