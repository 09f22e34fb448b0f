"""What the real runner and vhost get on a simulated machine: each call may be stopped, or the last one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.core import events as ev
from carp.core import wire
from carp.core.vhost import Vhost
from carp.netlink import PROTO_CEDED, PROTO_HELD
from simulation_world import Packet, Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip
    from carp.core.seal import Seal
    from carp.core.transitions import Cause
    from simulation_host import Host
    from simulation_process import Process


class Clock:
    """The machine's clocks, with a fault before and after each look."""

    def __init__(self, host: Host) -> None:
        """``host`` owns the clocks."""
        self._host = host

    def now(self) -> float:
        """Return the monotonic time."""
        host = self._host
        if host.trip is None:
            return host.local()
        host.boundary("now")
        time = host.local()
        host.boundary("now")
        return time

    def wall(self) -> float:
        """Return the time of day."""
        host = self._host
        if host.trip is None:
            return host.wall()
        host.boundary("wall")
        time = host.wall()
        host.boundary("wall")
        return time


class Port:
    """The way to the simulated interface and kernel; every call may be the last."""

    ifindex = 2

    def __init__(self, process: Process) -> None:
        """Without interface until attached."""
        self.attached = self.was_attached = False
        self.probes_lost = 0
        self._process = process
        self._host = process.host
        self._world = process.host.world

    def send(self, packets: Sequence[tuple[Address, bytes]]) -> str | None:
        """Multicast each packet."""
        host = self._host
        if not self.attached:
            return "no interface"
        host.boundary("send")
        if host.send_error or not host.link:
            return host.send_error or "link is down"
        world = self._world
        for source, payload in packets:
            advert = wire.unpack(payload)
            if not isinstance(advert, wire.Advert):
                msg = f"(6) {host.name} sent a packet that nobody accepts: {advert}"
                raise Violation(msg)
            world.checks.sent(host, advert)
            world.network.multicast(host, Packet(advert, source, host.index, world.now))
        host.boundary("send")
        return None

    def hold(self, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool = False) -> str | None:
        """Add or refresh addresses."""
        host = self._host
        host.boundary("hold")
        if not self.attached or host.kernel_error:
            return "refused"
        host.kernel.set(vips, lifetime, PROTO_CEDED if ceded else PROTO_HELD)
        host.boundary("hold")
        return None

    def release(self, vips: Sequence[Vip]) -> None:
        """Delete addresses."""
        if self.attached:
            self._host.boundary("release")
            for vip in vips:
                self._host.kernel.delete(vip.ip, "deleted")
            self._host.boundary("release")

    def announce(self, vips: Sequence[Vip]) -> None:
        """Cost nothing: who holds an address is looked up in the kernels."""
        self._host.boundary("announce")

    def probe(self, vips: Sequence[Vip]) -> None:
        """Ask all kernels in reach."""
        self._host.boundary("probe")
        if self.attached:
            lost = [self._world.network.probe(self._host, vip.ip) for vip in vips]
            self.probes_lost = self.probes_lost + 1 if any(lost) else 0
        self._host.boundary("probe")

    def remember(self) -> None:
        """Write the seal's floor to the disk."""
        self._process.remember()

    def script(self, *, up: bool) -> None:
        """Run none."""
        self._host.boundary("script")


class Renewals:
    """The kernel as the runner sees it."""

    def __init__(self, host: Host) -> None:
        """``host`` owns the kernel."""
        self._host = host

    def renew(self, leases: Sequence[tuple[int, Sequence[Vip], int]]) -> set[int]:
        """Renew all, or refuse all."""
        host = self._host
        host.boundary("renew")
        if host.kernel_error:
            return set(range(len(leases)))
        for _, vips, lifetime in leases:
            host.kernel.set(vips, lifetime, PROTO_HELD)
        host.boundary("renew")
        return set()


class Watched(Vhost):
    """The real vhost; its changes of state are traced and checked as it makes them."""

    def __init__(self, host: Host, seal: Seal) -> None:
        """``host`` is whose vhost it is."""
        super().__init__(host.config, chance=host.world.rng.random, seal=seal, now=host.local())
        self._host = host

    def _change(self, cause: Cause, now: float, peer: str | None = None) -> ev.Changed:
        change = super()._change(cause, now, peer)
        host = self._host
        whom = f" ({peer})" if peer else ""
        host.world.say(host.name, f"{change.old} -> {change.new} by {cause}{whom}")
        host.world.checks.changed(host, change)
        return change


class Watcher:
    """Passes on what a vhost reports."""

    def __init__(self, host: Host) -> None:
        """``host`` is whose vhost it is."""
        self._host = host

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        """Trace notices; a change of state is seen before its effects, by `Watched`."""
        if isinstance(effect, ev.Notice):
            self._host.world.say(self._host.name, f"notice {effect.code}: {effect.text}")

    def send_failed(self, vhost: Vhost, problem: str) -> None:
        """Trace it."""
        self._host.world.say(self._host.name, f"advert not sent: {problem}")
