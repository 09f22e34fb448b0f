from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carp.core import events as ev
from carp.core.config import Credentials
from carp.core.leaving import Leaving, Step
from carp.core.master import Master
from carp.core.seal import Seal
from carp.core.timing import Timing
from carp.core.vhost import Vhost
from simulation_cluster import VIP, Cluster, make_config
from simulation_host import Trip
from simulation_ports import Port
from simulation_runs import run_once
from simulation_scenarios import SCENARIOS
from simulation_world import EPOCH, MAX_DELAY, Violation, World

if TYPE_CHECKING:
    from carp.core.config import VhostConfig
    from simulation_host import Host

RUNS = {"kills": 70, "handovers": 70, "rotation": 40, "quiet": 1}
"""Runs per scenario where 40 are not right."""
MASTER = 0
"""The member that is master once a cluster has settled."""


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_invariants_hold_in_random_runs(scenario: str) -> None:
    """No invariant breaks in some dozens of random runs of each scenario."""
    for seed in range(RUNS.get(scenario, 40)):
        outcome = run_once(scenario, seed)
        text = "\n".join((*outcome.trace[-40:], f"--scenario {scenario} --seed {seed}: {outcome.failure}"))
        assert outcome.failure == "", text


def test_a_seed_repeats_its_run() -> None:
    """The same seed gives the same run, to the last line of its trace."""
    traces = []
    for _ in range(2):
        world = World(11, traced=True)
        SCENARIOS["kills"](world)
        traces.append(list(world.trace))
    assert traces[0] == traces[1]


def settled(count: int = 3, *, seed: int = 1, configs: list[VhostConfig] | None = None) -> Cluster:
    """Return a cluster at rest whose first member is master."""
    world = World(seed, traced=True)
    cluster = Cluster(world, configs or [make_config(skew=10 * i) for i in range(count)])
    for host in cluster.hosts:
        cluster.start(host)
        world.run_until(world.now + 2.5)
    return cluster


def run(cluster: Cluster, seconds: float) -> None:
    """Let time pass."""
    cluster.world.run_until(cluster.world.now + seconds)


def holders(cluster: Cluster) -> list[Host]:
    """List the hosts that have the address."""
    return [host for host in cluster.hosts if host.holds]


# --- a fault in every call --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order", [None, ev.Stop(), ev.Stop(release=True), ev.StepDown(), ev.Demote("test", 20)], ids=str
)
def test_a_master_killed_in_any_call_is_succeeded(order: ev.Event | None) -> None:
    """Killed before or after any of its next calls, in a handover or not: one holder in the end."""
    for count in range(1, 40):
        cluster = settled(seed=count)
        master = cluster.hosts[MASTER]
        if order is not None:
            cluster.order(master, order)
        cluster.kill(master, where="", count=count)
        run(cluster, 8.0)
        assert 1 == len(holders(cluster)), "\n".join(cluster.world.trace)


@pytest.mark.parametrize("where", ["now", "wall", "send", "hold", "renew", "release", "announce"])
@pytest.mark.parametrize("seconds", [0.3, 1.9, 2.1, 8.0])
def test_a_master_stopped_in_any_call_never_overlaps(where: str, seconds: float) -> None:
    """Stopped before or after a call for less or more than its lease: no overlap, one holder in the end."""
    for count in range(1, 9):
        cluster = settled(seed=count)
        cluster.stop(cluster.hosts[MASTER], seconds, where=where, count=count)
        run(cluster, 30.0)
        assert 1 == len(holders(cluster)), "\n".join(cluster.world.trace)
        assert cluster.checks.overlap.longest <= 0.002


def test_a_claimant_killed_in_any_call_is_succeeded() -> None:
    """A backup killed before or after any call of its takeover leaves one holder to the others."""
    for count in range(1, 30):
        cluster = settled(seed=count)
        cluster.kill(cluster.hosts[MASTER])
        cluster.kill(cluster.hosts[1], where="", count=count)
        run(cluster, 12.0)
        assert 1 == len(holders(cluster)), "\n".join(cluster.world.trace)


def test_a_killed_master_restarted_within_its_lease_resumes_it() -> None:
    """A daemon back within a second finds its lease, stays master, and the address never leaves."""
    for milliseconds in range(0, 1000, 50):
        cluster = settled(seed=milliseconds)
        master = cluster.hosts[MASTER]
        cluster.kill(master)
        run(cluster, milliseconds / 1000)
        assert [master] == holders(cluster)
        cluster.start(master)
        run(cluster, 10.0)
        assert [master] == holders(cluster)


def test_a_daemon_stopped_while_it_starts_does_not_resume_a_lease_that_is_over() -> None:
    """Stopped in any of its first calls until a successor has claimed, it comes back as a backup."""
    for count in range(1, 12):
        cluster = settled(seed=count)
        master = cluster.hosts[MASTER]
        cluster.kill(master)
        master.trip = Trip(count, "", kill=False, seconds=5.0)
        cluster.start(master)
        run(cluster, 20.0)
        assert 1 == len(holders(cluster)), "\n".join(cluster.world.trace)
        assert cluster.checks.overlap.longest <= 0.002


# --- each checker can fail --------------------------------------------------------------------------


def test_one_holder_sees_two() -> None:
    """(1) fails where two members hold the address for good."""
    cluster = settled(2)
    cluster.hosts[1].kernel.set([VIP], None, 112)
    with pytest.raises(Violation, match=r"^\(1\) n1 and n0|^\(1\) n0 and n1|^\(2\)"):
        run(cluster, 60.0)


def test_one_holder_sees_members_that_do_not_share_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """(1) fails where members have different passwords."""
    configs = [make_config(), make_config(skew=10)]
    configs[1] = replace(configs[1], sign=Credentials((VIP,), b"other"))
    monkeypatch.setattr("simulation_checks.OneLivingMaster.changed", lambda *_: None)
    monkeypatch.setattr("simulation_world.Network.probe", lambda *_: False)
    cluster = settled(configs=configs)
    with pytest.raises(Violation, match=r"^\(1\)"):
        run(cluster, 60.0)


def test_no_stale_address_sees_a_backup_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """(2) fails where a handed-over address is not deleted."""
    cluster = settled()
    monkeypatch.setattr(Port, "release", lambda *_: None)
    cluster.order(cluster.hosts[MASTER], ev.StepDown())
    with pytest.raises(Violation, match=r"^\(2\) n0 is BACKUP and still has an address"):
        run(cluster, 5.0)


def test_bounded_overlap_sees_a_lifetime_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """(3) fails where the kernel keeps a killed master's address for two seconds more."""
    monkeypatch.setattr(Timing, "lifetime", lambda _self: 5)
    cluster = settled()
    cluster.checks.facts.overlap_bound = 0.0
    cluster.kill(cluster.hosts[MASTER])
    with pytest.raises(Violation, match=r"^\(3\) n0 and n1"):
        run(cluster, 10.0)


def test_bounded_overlap_sees_a_fence_without_an_age_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """(3) fails where the age of the last renewal does not count: a stopped master takes it all back."""
    advertise = Master.advertise
    monkeypatch.setattr(Vhost, "renewed", lambda self, at, lifetime: setattr(self, "lapses_at", at + 60.0))
    monkeypatch.setattr(Master, "advertise", lambda self, now, _lapses_at: advertise(self, now, now))
    cluster = settled()
    cluster.world.network.max_delay = MAX_DELAY
    cluster.stop(cluster.hosts[MASTER], 8.0)
    with pytest.raises(Violation, match=r"^\(3\) n1 and n0"):
        run(cluster, 20.0)


def test_somebody_is_master_sees_a_backup_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """(4) fails where backups do not claim in time."""
    monkeypatch.setattr(Vhost, "dead_time", lambda _self: 60.0)
    cluster = settled()
    cluster.kill(cluster.hosts[MASTER])
    with pytest.raises(Violation, match=r"^\(4\)"):
        run(cluster, 20.0)


def test_handover_sees_an_address_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """(5) fails where a master lets go before anybody has answered."""
    cluster = settled(1)
    cluster.order(cluster.hosts[MASTER], ev.StepDown())
    monkeypatch.setattr(Leaving, "step", lambda *_: Step.LET_GO)
    with pytest.raises(Violation, match=r"^\(5\)"):
        run(cluster, 5.0)


def test_an_exception_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    """(6) fails where a packet raises."""
    cluster = settled()

    def fail(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(Vhost, "_hear", fail)
    with pytest.raises(Violation, match=r"^\(6\) n[12] raised ValueError"):
        run(cluster, 5.0)


def test_sealed_times_sees_one_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """(7) fails where a sender repeats a time."""
    cluster = settled()
    monkeypatch.setattr(Seal, "next", lambda *_: 7)
    with pytest.raises(Violation, match=r"^\(7\) n0 sealed 7 after"):
        run(cluster, 5.0)


def test_nobody_locked_out_sees_a_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    """(7) fails where a member's adverts are dropped in a cluster at rest."""
    cluster = settled()
    cluster.checks.locked_out.watching = True
    monkeypatch.setattr(Seal, "accept", lambda *_: False)
    with pytest.raises(Violation, match=r"^\(7\) n[12] drops an advert of n0 as replay"):
        run(cluster, 5.0)


def test_one_living_master_sees_a_change_of_password_in_one_step() -> None:
    """(8) fails where a member signs with a new password that the others do not accept yet."""
    cluster = settled()
    config = cluster.hosts[MASTER].config
    cluster.reconfigure(cluster.hosts[MASTER], replace(config, sign=Credentials((VIP,), b"new")))
    with pytest.raises(Violation, match=r"^\(8\) n1 and n0 are both master"):
        run(cluster, 10.0)


def test_a_run_starts_at_its_epoch() -> None:
    """Virtual time does not start at zero, as no monotonic clock does."""
    assert EPOCH == World(1).now
