"""A cluster in a world, and everything that can be done to it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.config import (
    Credentials,
    Interface,
    Preempt,
    PreemptMode,
    SealMode,
    VhostConfig,
)
from carp.core.timing import GUARD, KERNEL_LAG, Timing, skew_seconds
from simulation_checks import Checks
from simulation_foreign import Foreign, OpenBsd
from simulation_host import Host, Trip
from simulation_process import Process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.config import Vip
    from simulation_world import World

VHID: Final = 42
VIP: Final = IPv4Interface("10.98.0.100/32")
VIP6: Final = IPv6Interface("fd00::100/128")
PASSWORD: Final = b"love"
DAY: Final = 86400.0
SERIAL_DAYS: Final = 97
"""Days within which sealed times compare."""
STALLS: Final = (0.03, 0.1, 0.3, 0.6, 1.0, 1.5, 1.9, 2.1, 3.0, 4.5, 8.0)
"""s; around each bound of the fence."""
SETTLE: Final = 20.0


def make_config(
    *,
    skew: int = 0,
    base: int = 1,
    ratio: int = 3,
    seal: SealMode = SealMode.SEALED,
    preempt: PreemptMode = PreemptMode.NEVER,
    addresses: tuple[Vip, ...] = (VIP,),
) -> VhostConfig:
    """Return the settings of a member."""
    after = 5.0 if preempt is PreemptMode.AFTER else 0.0
    return VhostConfig(
        name="vip", vhid=VHID, interface=Interface(name="eth0"), sign=Credentials(addresses, PASSWORD),
        seal=seal, timing=Timing(base, skew, ratio), preempt=Preempt(preempt, after),
    )  # fmt: skip


class Cluster:
    """Hosts of ours, foreign speakers, and the faults between them."""

    def __init__(self, world: World, configs: Sequence[VhostConfig]) -> None:
        """Put one host per config into the world, powered on but without a process."""
        self.world = world
        self.checks = Checks(world)
        self.hosts: list[Host] = []
        self.foreign: list[Foreign] = []
        for index, config in enumerate(configs):
            # Third octets differ, so that orders of addresses by host byte order show.
            v4 = IPv4Address(f"10.98.{world.rng.randrange(4)}.{index + 1}")
            v6 = IPv6Address(f"fd00::{index + 1:x}")
            sources = (v4, v6) if 6 in config.families else (v4,)
            host = Host(world, index, config, sources)
            self.hosts.append(host)
            world.network.nodes.append(host)
        self.measure()

    def measure(self, more: Sequence[Timing] = ()) -> None:
        """Tell the checkers the bounds that follow from all settings in use, old and coming ones included."""
        facts = self.checks.facts
        timings = [*(host.config.timing for host in self.hosts), *more]
        facts.settle = max(facts.settle, SETTLE)
        for timing in timings:
            slow = timing.ratio * timing.advbase + skew_seconds(255) + GUARD
            facts.cluster_dead_time = max(facts.cluster_dead_time, slow, timing.dead_time())
            facts.lifetime = max(facts.lifetime, timing.lifetime())
        fastest = min(
            t.ratio * t.advbase + GUARD if t.advbase else t.ratio * skew_seconds(t.advskew) for t in timings
        )
        longest = max(t.lifetime() for t in timings)
        facts.overlap_bound = max(facts.overlap_bound, longest + KERNEL_LAG - fastest)

    def add(self, foreign: Foreign) -> None:
        """Put a foreign speaker into the world."""
        self.foreign.append(foreign)
        self.world.network.nodes.append(foreign)
        self.checks.facts.settle = 40.0
        self.checks.somebody.foreign_slack = 12.0

    # --- processes -----------------------------------------------------------------------------------

    def start(self, host: Host) -> None:
        """Start the daemon unless it runs."""
        if host.process is None:
            self.checks.disturbed(fault=False)
            process = host.process = Process(host)
            process.start()

    def start_all(self, within: float = 1.0) -> None:
        """Start everything at random moments."""
        for host in self.hosts:
            self.world.at(self.world.now + self.world.rng.random() * within, self.start, host)
        for foreign in self.foreign:
            if not foreign.powered:
                self.world.at(self.world.now + self.world.rng.random() * within, foreign.power_on)

    def order(self, host: Host, event: ev.Event) -> None:
        """Send a signal or a command; handovers are watched."""
        if host.process is None:
            return
        match event:
            case ev.Stop(release):
                self.checks.handover.begins(host, release=release)
            case ev.StepDown():
                self.checks.handover.begins(host, release=False)
            case ev.Demote(amount=amount) if amount > host.process.vhost.demotion:
                self.checks.handover.begins(host, release=False)
            case ev.Reconfigure():
                self.checks.disturbed(fault=False)
        host.process.order(event)

    def reconfigure(self, host: Host, config: VhostConfig) -> None:
        """Give a running host new settings; it writes them to disk when it takes them over."""
        self.measure([config.timing])
        self.order(host, ev.Reconfigure(config))

    def master(self) -> Host | None:
        """Return one that holds the address."""
        return next((host for host in self.hosts if host.holds), None)

    # --- faults --------------------------------------------------------------------------------------

    def kill(self, host: Host, *, where: str | None = None, count: int = 1) -> None:
        """Kill now, or in the ``count``-th call of a kind ("" for any)."""
        if host.process is None:
            return
        if where is None:
            host.kill()
        else:
            host.trip = Trip(count, where, kill=True)

    def stop(self, host: Host, seconds: float, *, where: str | None = None, count: int = 1) -> None:
        """Stop the process between turns, or in a call."""
        if host.process is None:
            return
        if where is None:
            host.stop_between_turns(seconds)
        else:
            host.trip = Trip(count, where, kill=False, seconds=seconds)

    def set_link(self, host: Host, *, up: bool) -> None:
        """Pull or plug the cable."""
        if host.link == up:
            return
        host.link = up
        self.world.say(host.name, "link up" if up else "link down")
        self.checks.disturbed(cut=True)
        if host.process is not None:
            host.process.link_changed()

    def block(self, pairs: set[tuple[int, int]]) -> None:
        """Let exactly these (from, to) pairs not hear each other."""
        self.world.network.blocked = pairs
        self.world.say("network", f"blocked {sorted(pairs)}" if pairs else "whole")
        self.checks.disturbed(cut=True)

    def set_send_error(self, host: Host, problem: str) -> None:
        """Let sends fail, or no longer."""
        host.send_error = problem
        self.world.say(host.name, problem or "can send again")
        self.checks.disturbed(cut=True)

    def set_kernel_error(self, host: Host, *, broken: bool) -> None:
        """Let the kernel refuse addresses, or no longer."""
        host.kernel_error = broken
        self.world.say(host.name, "kernel refuses" if broken else "kernel obeys again")
        self.checks.disturbed(cut=True)

    def step_clock(self, host: Host, days: float = 20.0) -> None:
        """Set the time of day to anything within some days of the right one."""
        host.wall_offset = self.world.rng.uniform(-days, days) * DAY
        if days > SERIAL_DAYS / 2:
            self.checks.seals.enabled = False
        self.world.say(host.name, f"time of day is off by {host.wall_offset / DAY:.2f} days")

    def lose_state(self, host: Host) -> None:
        """Wipe the disk of a host without a process."""
        if host.process is None:
            host.stored = None
            self.checks.seals.state_lost(host)
            self.checks.disturbed(cut=True)
            self.world.say(host.name, "state lost")

    def heal(self) -> None:
        """End every fault and start everything that does not run."""
        self.world.network.calm()
        self.block(set())
        for host in self.hosts:
            host.trip = None
            self.set_link(host, up=True)
            self.set_send_error(host, "")
            self.set_kernel_error(host, broken=False)
            if host.process is not None:
                for reason in list(host.process.vhost.demotions):
                    self.order(host, ev.Demote(reason, 0))
        for foreign in self.foreign:
            foreign.demotion = 0
        self.start_all()

    def settle(self) -> None:
        """Let the healed cluster come to rest, then hold it to what a cluster at rest does."""
        self.heal()
        self.world.run_until(self.world.now + max(STALLS) + self.checks.facts.settle + 10.0)
        self.checks.settled()
        self.checks.locked_out.watching = True
        self.world.run_until(self.world.now + 10.0)
        self.checks.locked_out.watching = False

    def restartable(self) -> list[Host]:
        """List hosts without a process."""
        return [host for host in self.hosts if host.process is None]


def with_skew(config: VhostConfig, skew: int) -> VhostConfig:
    """Return the settings with another skew."""
    return replace(config, timing=replace(config.timing, advskew=skew))


def shut_down(foreign: Foreign) -> None:
    """Take a foreign speaker away, politely where its dialect knows how."""
    if isinstance(foreign, OpenBsd):
        foreign.shut_down()
    else:
        foreign.lose_power()
