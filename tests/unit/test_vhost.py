"""The machine of one vhost: links, orders, changes of settings, two real members on a wire."""

from __future__ import annotations

from typing import Any

import pytest

from carp.core import events as ev
from carp.core.errors import DropReason, MisuseError
from carp.core.timing import MAX_DEMOTION
from carp.core.transitions import State
from carp.core.vhost import Vhost
from pair import DEFAULTS, Station, Wire, address, backup, config, master, plain, sealed

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT
US, THEM = "10.1.1.1", "10.1.1.2"


def _kinds(effects: tuple[ev.Effect, ...]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def _new(**fields: Any) -> tuple[Wire, Station]:
    """Return a vhost in INIT on a wire."""
    line = Wire()
    station = Station(Vhost(config(**fields), chance=lambda: 0.0, now=line.now))
    line.stations.append(station)
    return line, station


# --- two members ------------------------------------------------------------------------------------


def test_the_better_of_two_becomes_master_and_the_other_waits() -> None:
    """Started together, the smaller skew claims; the other never does while adverts come."""
    line = Wire()
    second = line.add(config(advskew=100), THEM)
    first = line.add(config(advskew=0), US)
    line.run(60.0)
    assert (MASTER, BACKUP) == (first.state, second.state)
    assert [(BACKUP, "link-up")] == second.changes()


def test_a_killed_master_is_replaced_after_the_dead_time() -> None:
    """Counted from its last advert; two of ours never overlap with the lease of 2 s + 1.15 s."""
    line = Wire()
    first = line.add(config(), US)
    line.run(10.0)
    second = line.add(config(advskew=10), THEM)
    line.run(10.0)
    line.kill(first)
    last = first.sent[-1][0]
    line.run_until(lambda: second.state is MASTER)
    assert pytest.approx(last + 3.2 + 10 / 256, abs=1e-4) == line.now
    assert line.now - first.vhost.lapses_at > 1.15


def test_a_better_member_comes_back_without_preempt() -> None:
    """With preempt Never the master stays, however good the newcomer is."""
    line = Wire()
    one = line.add(config(advskew=100), THEM)
    line.run(10.0)
    two = line.add(config(advskew=0), US)
    line.run(60.0)
    assert (MASTER, BACKUP) == (one.state, two.state)


def test_a_better_member_takes_over_with_preempt() -> None:
    """With Always it does, and the worse one yields on its first advert: one change each."""
    line = Wire()
    one = line.add(config(advskew=100), THEM)
    line.run(10.0)
    one.forget()
    two = line.add(config(advskew=0, preempt={"mode": "Always"}), US)
    line.run(60.0)
    assert [(BACKUP, "better-master")] == one.changes()
    assert [(BACKUP, "link-up"), (MASTER, "preempted")] == two.changes()


def test_several_backups_take_over_one_after_the_other() -> None:
    """At a bow-out only the best placed becomes master; the others hear it in time."""
    line = Wire()
    stations = [line.add(config(advskew=skew), f"10.1.1.{skew + 1}") for skew in (0, 10, 20, 30)]
    line.run(10.0)
    line.give(stations[0], ev.Stop())
    line.run(10.0)
    assert [INIT, MASTER, BACKUP, BACKUP] == [station.state for station in stations]
    assert [(BACKUP, "link-up")] == stations[2].changes() == stations[3].changes()


def test_both_families_are_one_election() -> None:
    """A dual-stack vhost has one state; its stop and takeover work in both families."""
    settings = config(addresses=["10.1.1.252", "2001:db8::252"])
    line = Wire()
    one = line.add(settings, US, "2001:db8::1")
    line.run(10.0)
    two = line.add(settings, THEM, "2001:db8::2")
    line.run(10.0)
    assert (MASTER, BACKUP) == (one.state, two.state)
    seen = two.vhost.snapshot().master
    assert seen is not None
    assert {address(US), address("2001:db8::1")} == set(seen.sources)
    line.give(one, ev.Stop())
    line.run(1.0)
    assert (INIT, MASTER) == (one.state, two.state)


def test_an_added_address_rolled_out_node_by_node() -> None:
    """Accept both, sign new, drop old, one member after the other: never a second master (section 9)."""
    old = {"addresses": ["10.1.1.252"], "password": "love"}
    new = {"addresses": ["10.1.1.252", "10.1.1.253"], "password": "hate"}
    line = Wire()
    one, two = line.add(config(**old), US), line.add(config(**old, advskew=10), THEM)
    line.run(10.0)
    for step in ({**old, "accept": [new]}, {**new, "accept": [old]}, new):
        for station, skew in ((two, 10), (one, 0)):
            line.give(station, ev.Reconfigure(config(**step, advskew=skew)))
            line.run(10.0)
            assert (MASTER, BACKUP) == (one.state, two.state)


def test_a_master_whose_seal_lags_is_taught_while_we_listen() -> None:
    """An old seal is dropped as a replay, and answered by a bow-out so that the master seals later."""
    line, station = backup(config())
    ahead = line.stamp() + 10 * 24 * 3600 * 256
    line.hear(station, plain(config(password="hate")), THEM)
    station.vhost.signer.seal.newest = ahead
    station.forget()
    dropped = ev.Dropped(DropReason.REPLAY)
    effects = line.hear(station, sealed(config(), THEM, line.stamp()), THEM)
    assert ["Dropped", "Send"] == _kinds(effects)
    assert [(line.now, (255, 255, 0))] == station.sent
    assert (dropped,) == line.hear(station, sealed(config(), THEM, line.stamp()), THEM)
    line.run(1.0)
    assert 2 == len(line.hear(station, sealed(config(), THEM, line.stamp()), THEM))
    line.hear(station, sealed(config(), THEM, ahead + 99), THEM)
    assert (dropped,) == line.hear(station, sealed(config(), THEM, line.stamp()), THEM)


# --- links ------------------------------------------------------------------------------------------


def test_a_vhost_begins_waiting_for_its_link() -> None:
    """INIT with nothing planned and the reason `starting`; adverts are dropped as inactive."""
    line, station = _new()
    assert (INIT, "starting", float("inf")) == (
        station.state,
        station.vhost.reason,
        station.vhost.deadline(),
    )
    assert () == tuple(station.vhost.tick(line.now))
    assert (ev.Dropped(DropReason.INACTIVE),) == line.hear(station, plain(config()), THEM)
    assert {DropReason.INACTIVE: 1} == station.vhost.snapshot().drops


def test_link_up_starts_listening_never_mastership() -> None:
    """INIT -> BACKUP; the down script runs once at the start."""
    line, station = _new()
    effects = line.give(station, ev.LinkUp((address(US),)))
    assert ["Changed", "Script"] == _kinds(effects)
    assert ev.Script(up=False) == effects[1]
    assert (BACKUP, "", True) == (station.state, station.vhost.reason, station.vhost.listening)
    line.give(station, ev.LinkDown("interface eth0 is down"))
    assert ["Changed"] == _kinds(line.give(station, ev.LinkUp((address(US),))))


def test_neutral_starts_without_the_down_script() -> None:
    """As with ucarp -n."""
    line, station = _new(scripts={"neutral": True})
    assert ["Changed"] == _kinds(line.give(station, ev.LinkUp((address(US),))))


def test_a_changed_source_is_taken_over_in_place() -> None:
    """Another address of the interface: no change of state, adverts leave from the new one."""
    line, station = master(config())
    assert () == line.give(station, ev.LinkUp((address("10.1.1.7"),)))
    assert (MASTER, (address("10.1.1.7"),)) == (station.state, station.vhost.sources)


def test_a_backup_without_link_waits() -> None:
    """BACKUP -> INIT with the reason; a second report only changes the reason."""
    line, station = backup(config())
    assert ["Changed"] == _kinds(line.give(station, ev.LinkDown("interface eth0 has no carrier")))
    assert (ev.Notice("waiting", "interface eth0 does not exist"),) == line.give(
        station, ev.LinkDown("interface eth0 does not exist")
    )
    assert () == line.give(station, ev.LinkDown("interface eth0 does not exist"))
    assert (INIT, "interface eth0 does not exist") == (station.state, station.vhost.reason)


def test_a_proven_lease_resumes_mastership() -> None:
    """At once: advert, renewal, announcement, the up script alone. It lapses when the old lease does."""
    line, station = _new()
    effects = line.give(station, ev.Resume((address(US),), line.now + 0.5))
    assert ["Changed", "Send", "Renew", "Announce", "Script"] == _kinds(effects)
    assert ev.Script(up=True) == effects[-1]
    assert [(MASTER, "lease-resumed")] == station.changes()
    assert pytest.approx(line.now + 2.0) == station.vhost.lapses_at
    line2, other = _new()
    other.vhost.handle(ev.Resume((address(US),), line2.now + 0.5), line2.now)
    assert pytest.approx(line2.now + 0.5) == other.vhost.lapses_at
    assert "Release" in _kinds(tuple(other.vhost.tick(line2.now + 0.51)))


def test_resuming_needs_init() -> None:
    """Anything else is our own mistake."""
    line, station = backup(config())
    with pytest.raises(MisuseError, match="no transition from BACKUP by lease-resumed"):
        line.give(station, ev.Resume((address(US),), line.now + 0.5))


# --- orders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [INIT, BACKUP])
def test_a_stop_without_addresses_is_done_at_once(state: State) -> None:
    """Nothing to hand over; afterwards nothing starts it again."""
    line, station = _new() if state is INIT else backup(config())
    expected = ["Stopped"] if state is INIT else ["Changed", "Stopped"]
    assert expected == _kinds(line.give(station, ev.Stop()))
    assert () == line.give(station, ev.Stop())
    assert () == line.give(station, ev.LinkUp((address(US),)))
    assert (INIT, True) == (station.state, station.vhost.stopped)


@pytest.mark.parametrize(
    "event",
    [
        ev.StepDown(),
        ev.LeaseLapsed(),
        ev.ClaimFailed("x"),
        ev.AddressGone(address("10.1.1.252")),
        ev.ScriptEnded(),
    ],
)
def test_what_concerns_masters_only(event: ev.Event) -> None:
    """A backup ignores it, as ucarp ignores SIGUSR2."""
    line, station = backup(config())
    assert () == line.give(station, event)
    assert BACKUP is station.state


@pytest.mark.parametrize("event", [ev.Stalled(), ev.Answered(address("10.1.1.252"), bytes(6))])
def test_what_means_nothing_in_init(event: ev.Event) -> None:
    """Without a link there is nothing to stall, nor a probe to answer."""
    line, station = _new()
    assert () == line.give(station, event)


def test_demotions_add_up_to_254() -> None:
    """255 in byte 4 is for a bow-out that stops; each reason counts once; 0 removes it."""
    line, station = _new()
    line.give(station, ev.Demote("a", 100))
    line.give(station, ev.Demote("b", 50))
    line.give(station, ev.Demote("a", 30))
    assert 80 == station.vhost.demotion
    line.give(station, ev.Demote("b", 255))
    assert MAX_DEMOTION == 254 == station.vhost.demotion
    line.give(station, ev.Demote("b", 0))
    assert {"a": 30} == station.vhost.snapshot().demotions
    assert () == line.give(station, ev.Demote("c", 0))


@pytest.mark.parametrize(
    ("advskew", "demotion", "expected"),
    [(0, 0, (1, 0, 0)), (10, 20, (1, 30, 20)), (10, 250, (1, 240, 250)), (250, 1, (1, 250, 1))],
)
def test_demotion_goes_into_byte_4_and_skew(
    advskew: int, demotion: int, expected: tuple[int, int, int]
) -> None:
    """So that OpenBSD and everybody else see it (section 6); the skew is clamped at 240."""
    line, station = _new(advskew=advskew)
    line.give(station, ev.Demote("a", demotion))
    assert expected == station.vhost.header()


def test_a_bow_outs_byte_4() -> None:
    """255 when its sender stops, else the demotion."""
    _, station = master(config())
    assert (255, 255, 0) == station.vhost.header(bow_out=True)
    station.vhost.handle(ev.Stop(), 200.0)
    assert (255, 255, 255) == station.vhost.header(bow_out=True)
    assert (1, 0, 0) == station.vhost.header()


# --- changes of settings ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [master, backup])
def test_equal_settings_change_nothing(make: Any) -> None:
    """No effect at all."""
    line, station = make(config())
    assert () == line.give(station, ev.Reconfigure(config()))


def test_another_vhid_is_another_vhost() -> None:
    """That is our own mistake."""
    line, station = backup(config())
    with pytest.raises(MisuseError, match="vhid 42 cannot become 43 in place"):
        line.give(station, ev.Reconfigure(config(vhid=43)))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"advskew": 5}, []),
        ({}, {"addresses": ["10.1.1.252", "10.1.1.253"]}, ["Send", "Hold", "Announce"]),
        ({"addresses": ["10.1.1.252", "10.1.1.253"]}, {}, ["Release"]),
        ({}, {"addresses": ["10.1.1.253"]}, ["Release", "Send", "Hold", "Announce"]),
        ({}, {"addresses": ["10.1.1.252/24"]}, ["Release", "Send", "Hold", "Announce"]),
        ({}, {"fencing": "Off"}, ["Send", "Hold", "Announce"]),
        ({"fencing": "Off"}, {}, ["Send", "Hold", "Announce"]),
        ({}, {"manageAddresses": False}, []),
        ({"manageAddresses": False}, {}, ["Send", "Hold", "Announce"]),
        ({"manageAddresses": False}, {"manageAddresses": False, "addresses": ["10.1.1.253"]}, []),
    ],
)
def test_a_master_changes_what_it_holds_by_the_difference(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    """Removed addresses are released, added ones held and announced, the rest is not touched."""
    line, station = master(config(**before))
    assert expected == _kinds(line.give(station, ev.Reconfigure(config(**after))))
    line.run(10.0)
    assert MASTER is station.state


def test_a_shorter_lifetime_holds_from_now_on() -> None:
    """Others take over sooner from now on: the kernel's lease, and ours, must end sooner, too."""
    line, station = master(config(deadRatio=60))
    line.run(4.0)
    assert station.vhost.lapses_at > line.now + 30
    assert ["Send", "Hold"] == _kinds(line.give(station, ev.Reconfigure(config(deadRatio=3))))
    assert station.vhost.lapses_at <= line.now + 2.0
    assert [] == _kinds(line.give(station, ev.Reconfigure(config(deadRatio=60))))
    line.run(10.0)
    assert MASTER is station.state


def test_a_shorter_lifetime_holds_from_now_on_beside_a_new_address() -> None:
    """Also where the advert that goes with that does not leave, so that nothing is held anew."""
    line, station = master(config(deadRatio=60))
    line.run(4.0)
    new = config(deadRatio=3, addresses=["10.1.1.252", "10.1.1.253"])
    assert ["Send", "Hold", "Announce"] == _kinds(station.vhost.handle(ev.Reconfigure(new), line.now))
    assert station.vhost.lapses_at <= line.now + 2.0


def test_new_addresses_in_the_middle_of_a_handover() -> None:
    """No ordinary advert: the successor would yield to it. Held and announced only if nobody takes over."""
    new = ev.Reconfigure(config(addresses=["10.1.1.252", "10.1.1.253"]))
    line, station = master(config())
    line.give(station, ev.StepDown())
    line.hear(station, plain(config()), THEM)
    assert () == line.give(station, new)
    line.run(1.0)
    assert (BACKUP, []) == (station.state, station.times(ev.Hold))
    line, station = master(config())
    line.give(station, ev.StepDown())
    station.forget()
    assert () == line.give(station, new)
    line.run(2.0)
    assert (MASTER, 1, 1) == (station.state, len(station.times(ev.Hold)), len(station.times(ev.Announce)))


def test_why_a_claim_failed_is_forgotten_when_somebody_else_is_master() -> None:
    """What was in the way then may be long gone."""
    line, station = master(config())
    line.give(station, ev.ClaimFailed("cannot send"))
    assert "cannot send" == station.vhost.reason
    line.hear(station, plain(config()), THEM)
    assert "" == station.vhost.reason


@pytest.mark.parametrize("field", [{"fencing": "Off"}, {"manageAddresses": False}])
def test_without_a_fence_there_is_no_lease_to_lapse(field: dict[str, Any]) -> None:
    """A master whose fence was switched off stays master without renewals."""
    line, station = master(config())
    line.give(station, ev.Reconfigure(config(**field)))
    assert not station.vhost.has_lease
    station.forget()
    line.run(10.0)
    assert [] == station.changes()
    assert [] == station.times(ev.Renew)


def test_new_timing_holds_from_the_next_advert() -> None:
    """A master changes its period in place."""
    line, station = master(config(fencing="Off"))
    line.run(5.0)
    line.give(station, ev.Reconfigure(config(fencing="Off", advbase=5)))
    station.forget()
    line.run(30.0)
    assert {(5, 0, 0)} == {header for _, header in station.sent}
    assert 7 >= len(station.sent)


# --- what can be asked ------------------------------------------------------------------------------


def test_a_snapshot_shows_the_state_and_no_secret() -> None:
    """Name, vhid, state, since when, transitions, header, demotions, the master heard, drops."""
    line, station = backup(config(advskew=7))
    line.hear(station, plain(config(), 1, 3), THEM)
    line.hear(station, plain(config(password="hate")), THEM)
    line.give(station, ev.Demote("health", 2))
    shown = station.vhost.snapshot()
    assert ("ingress", 42, BACKUP, line.now, "", 1, (1, 9, 2)) == (
        shown.name,
        shown.vhid,
        shown.state,
        shown.since,
        shown.reason,
        shown.transitions,
        shown.header,
    )
    assert shown.master is not None
    assert ((address(THEM),), 3, False) == (shown.master.sources, shown.master.advskew, shown.master.sealed)
    assert ({"health": 2}, {DropReason.HMAC: 1}, None, None) == (
        shown.demotions,
        shown.drops,
        shown.conflict,
        shown.leaving,
    )
    assert str(DEFAULTS["password"]) not in repr(shown)


def test_a_snapshot_shows_a_handover() -> None:
    """`leaving` names its purpose."""
    line, station = master(config())
    line.give(station, ev.StepDown())
    assert "step-down" == station.vhost.snapshot().leaving


def test_renewals_of_who_is_no_master_mean_nothing() -> None:
    """A lease belongs to a master; letting go forgets it."""
    line, station = backup(config())
    station.vhost.renewed(line.now, 2)
    assert not station.vhost.has_lease
    line.run_until(lambda: station.state is MASTER)
    assert station.vhost.has_lease
    assert station.vhost.holds
    line.give(station, ev.LeaseLapsed())
    assert not station.vhost.has_lease
    assert not station.vhost.holds
