"""What a run does to a cluster: each scenario is a function that takes a world and returns at its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.config import Credentials, PreemptMode, SealMode
from simulation_cluster import PASSWORD, STALLS, VHID, VIP, VIP6, Cluster, make_config, shut_down, with_skew
from simulation_foreign import Foreign, FreeBsd, OpenBsd, Ucarp
from simulation_host import Trip

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address

    from carp.core.config import VhostConfig
    from simulation_host import Host
    from simulation_world import World

CALLS: Final = (
    "",
    "",
    "",
    "now",
    "wall",
    "send",
    "hold",
    "renew",
    "release",
    "announce",
    "probe",
    "disk",
    "inventory",
)
APART: Final = 4.5
"""s between two faults of one host where the bounds of a single fault are checked."""
TIMINGS: Final = ((1, 3), (1, 3), (1, 3), (1, 2), (1, 5), (2, 2), (2, 3))
"""(base, ratio)."""


class Storm:
    """Calls ``act`` again and again at random moments."""

    def __init__(
        self, world: World, act: Callable[[], None], gap: tuple[float, float], seconds: float
    ) -> None:
        """``gap``: s between two calls, at least and at most; for ``seconds`` from now."""
        self._world = world
        self._act = act
        self._gap = gap
        self._until = world.now + seconds
        self._next()
        world.run_until(self._until)

    def _next(self) -> None:
        at = self._world.now + self._world.rng.uniform(*self._gap)
        if at < self._until:
            self._world.at(at, self._strike)

    def _strike(self) -> None:
        self._act()
        self._next()


def _members(world: World, count: int, *, preempt: bool = True, timings: bool = True) -> list[VhostConfig]:
    rng = world.rng
    base, ratio = rng.choice(TIMINGS) if timings else (1, 3)
    step = rng.choice((0, 1, 10, 50))
    mode = rng.choice(list(PreemptMode)) if preempt else PreemptMode.NEVER
    seal = rng.choice(list(SealMode))
    addresses = rng.choice(((VIP,), (VIP,), (VIP, VIP6)))
    return [
        make_config(skew=i * step, base=base, ratio=ratio, preempt=mode, seal=seal, addresses=addresses)
        for i in range(count)
    ]


def _pick(cluster: Cluster, *, often_master: bool = True) -> Host:
    rng = cluster.world.rng
    master = cluster.master()
    return master if often_master and master is not None and rng.random() < 0.7 else rng.choice(cluster.hosts)


def _restart_later(cluster: Cluster, host: Host, latest: float = 8.0, *, faulty: bool = False) -> None:
    """Start a daemon again, now and then with a stop in one of its first calls."""
    world = cluster.world
    delay = world.rng.choice((0.05, 0.3, 1.0, latest)) * world.rng.uniform(0.2, 1.0)

    def again() -> None:
        if host.process is None:
            if faulty and world.rng.random() < 0.2:
                host.trip = Trip(world.rng.randint(1, 8), "", kill=False, seconds=world.rng.choice(STALLS))
            cluster.start(host)

    # A fault that waits for a call may come late.
    for extra in (delay, delay + 2.0):
        world.at(world.now + extra, again)


def _maybe_rough(cluster: Cluster) -> None:
    if cluster.world.rng.random() < 0.6:
        cluster.world.network.rough()


def _new_cluster(world: World, configs: list[VhostConfig]) -> Cluster:
    cluster = Cluster(world, configs)
    cluster.start_all()
    world.run_until(world.now + 15.0)
    _maybe_rough(cluster)
    return cluster


def quiet(world: World) -> None:
    """Nothing happens to three members for an hour."""
    cluster = Cluster(world, [make_config(skew=10 * i) for i in range(3)])
    cluster.start_all()
    world.run_until(world.now + 3600.0)
    cluster.checks.settled()


def kills(world: World) -> None:
    """Kill and stop processes, now or in any call, and start them again."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(2, 4)))
    free_at: dict[int, float] = {}

    def strike() -> None:
        host = _pick(cluster)
        if world.now < free_at.get(host.index, 0.0) or host.process is None:
            return
        where = None if rng.random() < 0.3 else rng.choice(CALLS)
        count = rng.randint(1, 12)
        host.trip = None
        if rng.random() < 0.5:
            cluster.kill(host, where=where, count=count)
            free_at[host.index] = world.now + APART
            _restart_later(cluster, host, faulty=True)
        else:
            seconds = rng.choice(STALLS) * rng.uniform(0.9, 1.1)
            cluster.stop(host, seconds, where=where, count=count)
            world.at(world.now + 2.0, _disarm, host)
            free_at[host.index] = world.now + 2.0 + seconds + APART

    Storm(world, strike, (1.0, 9.0), 240.0)
    cluster.settle()


def _disarm(host: Host) -> None:
    host.trip = None


def handovers(world: World) -> None:
    """Stop, step down and demote masters; now and then kill one in the middle."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(1, 4)))

    def strike() -> None:
        host = _pick(cluster)
        kind = rng.randrange(4)
        if kind == 0:
            cluster.order(host, ev.Stop(release=rng.random() < 0.3))
            _restart_later(cluster, host)
        elif kind == 1:
            cluster.order(host, ev.StepDown())
        else:
            cluster.order(host, ev.Demote(rng.choice("abc"), rng.choice((0, 0, 1, 20, 254))))
        if rng.random() < 0.2:
            cluster.kill(host, where="", count=rng.randint(1, 30))
            _restart_later(cluster, host)
        world.at(world.now + 2.0, _disarm, host)

    Storm(world, strike, (4.0, 12.0), 240.0)
    cluster.settle()


def partitions(world: World) -> None:
    """Cut the network in any way, pull cables, break sending and netlink."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(2, 5)))

    def strike() -> None:
        host = _pick(cluster)
        match rng.randrange(6):
            case 0:
                cluster.block(_cut(cluster))
            case 1:
                cluster.block(set())
            case 2:
                cluster.set_link(host, up=not host.link)
            case 3:
                cluster.set_send_error(host, rng.choice(("", "No buffer space available")))
            case 4:
                cluster.set_kernel_error(host, broken=rng.random() < 0.5)
            case 5:
                host.kernel.delete(VIP.ip, "somebody's hand")
                cluster.checks.disturbed()

    Storm(world, strike, (1.0, 15.0), 200.0)
    cluster.settle()


def _cut(cluster: Cluster) -> set[tuple[int, int]]:
    rng = cluster.world.rng
    everybody = [node.index for node in cluster.world.network.nodes]
    if rng.random() < 0.4:
        return {(a, b) for a in everybody for b in everybody if a != b and rng.random() < 0.3}
    side = {index: rng.random() < 0.5 for index in everybody}
    return {(a, b) for a in everybody for b in everybody if side[a] != side[b]}


def clocks(world: World) -> None:
    """Kill and restart members with wrong, stepping clocks and lost state."""
    rng = world.rng
    cluster = Cluster(world, _members(world, rng.randint(2, 4)))
    days = rng.choice((0.01, 1.0, 20.0, 40.0, 1000.0))
    for host in cluster.hosts:
        cluster.step_clock(host, days)
    cluster.start_all()
    world.run_until(world.now + 15.0)
    _maybe_rough(cluster)
    cluster.checks.overlap.enabled = False

    def strike() -> None:
        host = _pick(cluster)
        if rng.random() < 0.5:
            cluster.step_clock(host, days)
        if rng.random() < 0.6:
            cluster.kill(host)
            if rng.random() < 0.5:
                cluster.lose_state(host)
            _restart_later(cluster, host)

    Storm(world, strike, (2.0, 15.0), 200.0)
    cluster.settle()


def settings(world: World) -> None:
    """Change intervals and preemption at any time, in any order."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(2, 4), timings=False))

    def strike() -> None:
        host = _pick(cluster, often_master=False)
        config = host.config
        timing = replace(
            config.timing,
            advbase=rng.choice((1, 1, 2)),
            advskew=rng.randrange(255),
            ratio=rng.choice((3, 3, 4, 5)),
        )
        mode = rng.choice(list(PreemptMode))
        preempt = replace(config.preempt, mode=mode, after=4.0 if mode is PreemptMode.AFTER else 0.0)
        cluster.reconfigure(host, replace(config, timing=timing, preempt=preempt))
        if rng.random() < 0.2:
            cluster.kill(_pick(cluster))
            for each in cluster.restartable():
                _restart_later(cluster, each)

    Storm(world, strike, (1.0, 10.0), 200.0)
    cluster.settle()


def rotation(world: World) -> None:
    """Change password and addresses in the three steps of design.md section 9, with faults between."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(2, 4), timings=False))
    plan = _three_steps(cluster.hosts[0].config, rng.randint(1, 3))
    step = dict.fromkeys(range(len(cluster.hosts)), 0)
    target = 1

    def confirmed(host: Host) -> bool:
        return (host.config.sign, host.config.accept) == plan[target]

    def strike() -> None:
        nonlocal target
        behind = [host for host in cluster.hosts if not confirmed(host)]
        if not behind:
            target = min(target + 1, len(plan) - 1)
        elif rng.random() < 0.7:
            host = rng.choice(behind)
            sign, accept = plan[target]
            cluster.reconfigure(host, replace(host.config, sign=sign, accept=accept))
            step[host.index] = target
        elif rng.random() < 0.3:
            host = _pick(cluster)
            cluster.kill(host)
            _restart_later(cluster, host)

    Storm(world, strike, (0.3, 4.0), 240.0)
    cluster.heal()
    while any(not confirmed(host) for host in cluster.hosts):
        for host in cluster.hosts:
            sign, accept = plan[target]
            cluster.reconfigure(host, replace(host.config, sign=sign, accept=accept))
        world.run_until(world.now + 1.0)
    cluster.settle()


def _three_steps(config: VhostConfig, changes: int) -> list[tuple[Credentials, tuple[Credentials, ...]]]:
    """Return (sign, accept) of each step of several changes: accept both, sign with the new, drop the old."""
    plan: list[tuple[Credentials, tuple[Credentials, ...]]] = [(config.sign, ())]
    for number in range(changes):
        old = plan[-1][0]
        addresses = (
            tuple(a for a in old.addresses if a != VIP6) if VIP6 in old.addresses else (*old.addresses, VIP6)
        )
        new = Credentials(addresses if number % 2 else old.addresses, b"secret %d" % number)
        if number == 2:
            new = replace(new, password=old.password, addresses=addresses)
        plan += [(old, (new,)), (new, (old,)), (new, ())]
    return plan


def mixed(world: World) -> None:
    """Put ucarp, OpenBSD and FreeBSD beside one to three of ours; ties, kills and handovers."""
    rng = world.rng
    preempt = rng.random() < 0.5
    skews = rng.choice(((0, 0, 0, 0, 0), (0, 10, 20, 30, 40), (40, 30, 20, 10, 0), (0, 100, 0, 100, 200)))
    ours = rng.randint(1, 3)
    mode = PreemptMode.ALWAYS if preempt else PreemptMode.NEVER
    cluster = Cluster(
        world, [make_config(skew=skews[i], preempt=mode, seal=SealMode.INTEROPERABLE) for i in range(ours)]
    )
    dialect: type[Foreign] = rng.choice((Ucarp, OpenBsd, FreeBsd))
    for index in range(ours, ours + rng.randint(1, 2)):
        source: IPv4Address = VIP.ip + rng.randrange(1, 4) * 256 + index
        other = dialect(
            world, index, VIP, source, password=PASSWORD, vhid=VHID, skew=skews[index], preempt=preempt
        )
        cluster.add(other)
    cluster.start_all()
    world.run_until(world.now + 20.0)
    _maybe_rough(cluster)

    def strike() -> None:
        if rng.random() < 0.3:
            other = rng.choice(cluster.foreign)
            if other.powered:
                shut_down(other)
            else:
                cluster.checks.disturbed()
                other.power_on()
            return
        host = _pick(cluster)
        match rng.randrange(5):
            case 0:
                cluster.kill(host)
                _restart_later(cluster, host)
            case 1:
                cluster.order(host, ev.Stop())
                _restart_later(cluster, host)
            case 2:
                cluster.order(host, ev.StepDown())
            case 3:
                cluster.stop(host, rng.choice(STALLS))
            case 4:
                cluster.reconfigure(host, with_skew(host.config, rng.randrange(200)))

    cluster.checks.handover.enabled = False
    Storm(world, strike, (4.0, 14.0), 300.0)
    cluster.settle()


def storm(world: World) -> None:  # noqa: C901 (a table of faults)
    """Let everything happen at once; only what no combination of faults may break is checked."""
    rng = world.rng
    cluster = _new_cluster(world, _members(world, rng.randint(2, 5)))
    cluster.checks.overlap.enabled = cluster.checks.handover.enabled = False

    def strike() -> None:
        host = _pick(cluster)
        match rng.randrange(9):
            case 0 | 1:
                cluster.kill(host, where=rng.choice(CALLS), count=rng.randint(1, 20))
            case 2 | 3:
                cluster.stop(host, rng.choice(STALLS), where=rng.choice(CALLS), count=rng.randint(1, 20))
            case 4:
                cluster.order(host, rng.choice((ev.Stop(), ev.Stop(release=True), ev.StepDown())))
            case 5:
                cluster.order(host, ev.Demote("storm", rng.choice((0, 1, 240))))
            case 6:
                cluster.set_link(host, up=not host.link)
            case 7:
                cluster.block(_cut(cluster) if rng.random() < 0.5 else set())
            case 8:
                cluster.step_clock(host)
        for each in cluster.restartable():
            if rng.random() < 0.4:
                cluster.start(each)

    Storm(world, strike, (0.1, 4.0), 200.0)
    cluster.settle()


SCENARIOS: Final[dict[str, Callable[[World], None]]] = {
    each.__name__: each
    for each in (kills, handovers, partitions, clocks, settings, rotation, mixed, storm, quiet)
}
