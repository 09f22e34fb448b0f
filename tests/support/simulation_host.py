"""A machine: clocks that drift and step, a kernel that removes addresses late, a disk, faults in any call.

The process that runs on it is in simulation_process. The kernel and the disk outlive the process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp.netlink import PROTO_CEDED, PROTO_HELD
from simulation_world import EPOCH, Packet, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.auth import Address
    from carp.core.config import VhostConfig, Vip
    from simulation_process import Process

EARLIEST: Final = -0.02
LATEST: Final = 1.15
"""s after its lifetime in which the kernel removes an address (design.md rule 3)."""
WALL_EPOCH: Final = 1_700_000_000.0


class Killed(BaseException):
    """SIGKILL: nothing after this line of the process happens."""


@dataclass(slots=True)
class Lease:
    """One address in a kernel. ``removed_at`` in virtual seconds, ``since`` of the machine's clock."""

    proto: int
    lifetime: int | None
    since: float
    removed_at: float
    alarm_at: float = math.inf


@dataclass(slots=True)
class Trip:
    """A fault that waits for a call: the ``count``-th from now, of one kind or of any."""

    count: int
    where: str
    kill: bool
    seconds: float = 0.0


@dataclass(slots=True)
class Stored:
    """What a process left on disk: whose lease, and the seal's times."""

    proof: tuple[Any, ...]
    reserved: int | None
    newest: int | None
    floors: dict[bytes, int]
    wall: float


class Kernel:
    """The addresses of one machine."""

    def __init__(self, host: Host) -> None:
        """Without addresses."""
        self._host = host
        self._world = host.world
        self.leases: dict[Address, Lease] = {}

    def set(self, vips: Sequence[Vip], lifetime: int | None, proto: int) -> None:
        """Add or refresh, as RTM_NEWADDR with REPLACE does: one that is missing comes back."""
        host, world = self._host, self._world
        for vip in vips:
            if lifetime is None:
                removed_at = math.inf
            else:
                late = EARLIEST + (LATEST - EARLIEST) * world.rng.random()
                removed_at = world.now + (lifetime + late) / host.rate
            lease = self.leases.get(vip.ip)
            if lease is not None:
                lease.proto, lease.lifetime, lease.since = proto, lifetime, host.local()
                lease.removed_at = removed_at
                self._plan(vip.ip, lease)
                continue
            lease = self.leases[vip.ip] = Lease(proto, lifetime, host.local(), removed_at)
            self._plan(vip.ip, lease)
            world.say(host.name, f"+ {vip.ip}")
            world.checks.address_on(host, vip.ip)

    def _plan(self, address: Address, lease: Lease) -> None:
        """Plan a look at a lease; one that is early only looks again."""
        if lease.removed_at < lease.alarm_at:
            lease.alarm_at = lease.removed_at
            self._world.at(lease.alarm_at, self._expire, address, lease, lease.alarm_at)

    def _expire(self, address: Address, lease: Lease, alarm: float) -> None:
        if lease.alarm_at != alarm or self.leases.get(address) is not lease:
            return
        lease.alarm_at = math.inf
        if lease.removed_at > self._world.now:
            self._plan(address, lease)
        else:
            self.delete(address, "expired")

    def delete(self, address: Address, why: str) -> None:
        """Take an address away and tell whoever listens."""
        lease = self.leases.pop(address, None)
        if lease is None:
            return
        self._world.say(self._host.name, f"- {address} ({why})")
        self._world.checks.address_off(self._host, address)
        process = self._host.process
        if process is not None:
            process.kernel_said(address)

    def reported(self, address: Address) -> tuple[int, int] | None:
        """Return (proto, seconds left rounded up, 0 when over) as a dump shows them."""
        lease = self.leases.get(address)
        if lease is None or lease.lifetime is None:
            return None
        gone = int(self._host.local() - lease.since)
        return lease.proto, max(0, lease.lifetime - gone)


class Host:
    """One machine of the cluster. The source address decides ties."""

    def __init__(self, world: World, index: int, config: VhostConfig, sources: tuple[Address, ...]) -> None:
        """``config`` is what a process that starts here finds on disk."""
        self.world = world
        self.index = index
        self.name = f"n{index}"
        self.config = config
        self.sources = sources
        self.link = True
        self.send_error = ""
        self.kernel_error = False
        self.kernel = Kernel(self)
        self.stored: Stored | None = None
        self.process: Process | None = None
        self.stopped = False
        self.resumed_in_call_at = -math.inf
        self._stopped_local = 0.0
        self.trip: Trip | None = None
        self.rate = 1.0 + world.rng.uniform(-200e-6, 200e-6)
        self._offset = world.rng.uniform(0, 1e5)
        self.wall_offset = 0.0

    # --- clocks ----------------------------------------------------------------------------------

    def local(self) -> float:
        """Return the machine's monotonic time."""
        return self._offset + (self.world.now - EPOCH) * self.rate

    def virtual(self, local: float) -> float:
        """Return the virtual time of a monotonic one, a little later rather than earlier."""
        return EPOCH + (local - self._offset) / self.rate + 1e-8

    def wall(self) -> float:
        """Return the machine's idea of the time of day."""
        return WALL_EPOCH + self.wall_offset + self.local() - self._offset

    # --- faults ----------------------------------------------------------------------------------

    def boundary(self, where: str) -> None:
        """Let a fault that waits for this call happen. Raises Killed."""
        trip = self.trip
        if trip is None or (trip.where and trip.where != where):
            return
        trip.count -= 1
        if trip.count > 0:
            return
        self.trip = None
        if trip.kill:
            self.kill(f"in {where}")
            raise Killed
        self.pause(trip.seconds, where)

    def pause(self, seconds: float, where: str) -> None:
        """SIGSTOP inside a call: the world goes on, then the call does."""
        process = self.process
        self._stop(f"in {where}, {seconds:.2f} s")
        self.world.run_until(self.world.now + seconds)
        if self.process is not process:
            raise Killed
        self._cont()
        self.resumed_in_call_at = self.world.now

    def stop_between_turns(self, seconds: float) -> None:
        """SIGSTOP while the process sleeps."""
        if self.process is None or self.stopped:
            return
        self._stop(f"asleep, {seconds:.2f} s")
        self.world.at(self.world.now + seconds, self._wake, self.process)

    def _wake(self, process: Process) -> None:
        if self.process is process:
            self._cont()
            process.wake()

    def _stop(self, where: str) -> None:
        self.stopped = True
        self._stopped_local = self.local()
        self.world.say(self.name, f"SIGSTOP {where}")
        self.world.checks.disturbed()

    def _cont(self) -> None:
        self.stopped = False
        if self.process is not None:
            self.process.was_stopped(self._stopped_local, self.local())
        self.world.say(self.name, "SIGCONT")
        self.world.checks.disturbed()

    def kill(self, why: str = "") -> None:
        """SIGKILL: the process is gone, its kernel is not."""
        if self.process is not None:
            self.world.say(self.name, f"SIGKILL {why}")
            self.gone()

    def gone(self, *, fault: bool = True) -> None:
        """Take note that there is no process any more; ``fault`` false: it has ended itself."""
        self.process = None
        self.stopped = False
        self.trip = None
        self.world.checks.disturbed(fault=fault)

    def lose_power(self) -> None:
        """Lose process and addresses."""
        self.kill("power lost")
        for address in list(self.kernel.leases):
            self.kernel.delete(address, "power lost")

    # --- the network's view ------------------------------------------------------------------------

    def receive(self, packet: Packet) -> None:
        """Queue a packet for the process; without one nobody reads it."""
        if self.process is not None:
            self.process.arrived(packet)

    def answers_for(self, address: Address) -> bool:
        """Whether the kernel answers ARP or ND: also when the process is dead."""
        return address in self.kernel.leases

    def answered(self, address: Address, mac: bytes) -> None:
        """Queue the answer to a probe."""
        if self.process is not None:
            self.process.told(address, mac)

    @property
    def holds(self) -> bool:
        """Whether the kernel has the address that all members share."""
        return self.config.addresses[0].ip in self.kernel.leases

    @property
    def holds_ours(self) -> bool:
        """Whether the kernel has any address with a mark of ours."""
        return any(lease.proto in (PROTO_HELD, PROTO_CEDED) for lease in self.kernel.leases.values())
