"""The invariants about adverts and masters, one checker each, and `Checks`, which is told what happens.

The checkers of addresses are in simulation_holders.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from carp.core.seal import newer
from carp.core.transitions import Cause, State
from simulation_facts import Facts
from simulation_holders import (
    BoundedOverlap,
    HandoverLosesNothing,
    NoStaleAddress,
    OneHolder,
    SomebodyIsMaster,
)
from simulation_host import Host
from simulation_world import MAX_DELAY

if TYPE_CHECKING:
    from carp.core import events as ev
    from carp.core.auth import Address
    from carp.core.errors import DropReason
    from carp.core.wire import Advert
    from simulation_world import Node, Packet, World


class SealedTimesIncrease:
    """The sealed times of one sender strictly increase, across restarts too.

    By serial arithmetic, so only as long as all clocks of the cluster are within 97 days.
    """

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self.enabled = True
        self._facts = facts
        self._last: dict[int, int] = {}

    def sent(self, host: Host, advert: Advert) -> None:
        """Compare with the sender's last."""
        time = advert.counter >> 32
        last = self._last.get(host.index)
        if self.enabled and last is not None and not newer(time, last):
            self._facts.fail(f"(7) {host.name} sealed {time} after {last}")
        self._last[host.index] = time

    def state_lost(self, host: Host) -> None:
        """Start over with a disk that was wiped."""
        self._last.pop(host.index, None)


class NobodyLockedOut:
    """In a settled, calm cluster no advert of a member is dropped, whatever clocks and disks did before."""

    def __init__(self, facts: Facts) -> None:
        """Off until `watch`."""
        self._facts = facts
        self.watching = False

    def dropped(self, host: Host, packet: Packet, reason: DropReason) -> None:
        """Accept duplicates of nothing: the network is calm."""
        if self.watching:
            sender = self._facts.world.network.nodes[packet.sender].name
            self._facts.fail(
                f"(7) {host.name} drops an advert of {sender} as {reason} long after the last fault"
            )


class OneLivingMaster:
    """Two living members that hear each other are never both master for longer than a packet's way.

    Each advert lost between them adds the time to the next. This is what the three steps of a change of
    authentication keep true.
    """

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self._facts = facts

    def changed(self, host: Host) -> None:
        """Watch a new master beside any other."""
        world = self._facts.world
        for other in world.network.nodes:
            if other is not host and isinstance(other, Host) and _is_plain_master(other):
                pair = host.index, other.index
                reigns = _reign(host), _reign(other)
                world.at(world.now + 1.0, self._check, host, other, world.now, self._facts.lost(pair), reigns)

    def _check(self, one: Host, other: Host, since: float, lost: int, reigns: tuple[float, float]) -> None:
        facts = self._facts
        world = facts.world
        if not (_is_plain_master(one) and _is_plain_master(other)) or not world.network.connected(one, other):
            return
        if reigns != (_reign(one), _reign(other)) or one.send_error or other.send_error:
            return
        start = max(since, facts.disturbed_at)
        # The takeover's advert, one more after a fault, and each that was lost.
        missed = facts.lost((one.index, other.index)) - lost + 1
        allowed = 2 * MAX_DELAY + missed * facts.lifetime / 4
        if world.now - start > allowed:
            length = world.now - start
            facts.fail(
                f"(8) {one.name} and {other.name} are both master for {length:.2f} s and hear each other"
            )
        world.at(world.now + 0.25, self._check, one, other, since, lost, reigns)


def _reign(host: Host) -> float:
    return -1.0 if host.process is None else host.process.vhost.since


def _is_plain_master(host: Host) -> bool:
    process = host.process
    if process is None or host.stopped or process.vhost.state is not State.MASTER:
        return False
    return process.vhost.snapshot().leaving is None


class Checks:
    """All checkers of one run."""

    def __init__(self, world: World) -> None:
        """Become the world's checks."""
        self.facts = Facts(world)
        self.one_holder = OneHolder(self.facts)
        self.no_stale = NoStaleAddress(self.facts)
        self.overlap = BoundedOverlap(self.facts)
        self.somebody = SomebodyIsMaster(self.facts)
        self.handover = HandoverLosesNothing(self.facts)
        self.seals = SealedTimesIncrease(self.facts)
        self.locked_out = NobodyLockedOut(self.facts)
        self.one_master = OneLivingMaster(self.facts)
        world.checks = self

    def address_on(self, node: Node, address: Address) -> None:
        """An address appeared in a kernel."""
        if _is_shared(node, address):
            self.one_holder.address_on(node)
            self.overlap.address_on(node)
            self.somebody.look()

    def address_off(self, node: Node, address: Address) -> None:
        """An address disappeared from a kernel."""
        if _is_shared(node, address):
            self.one_holder.address_off(node)
            self.overlap.address_off(node)
            self.handover.address_off(node)
            self.somebody.look()

    def changed(self, host: Host, change: ev.Changed) -> None:
        """A vhost changed its state."""
        if change.new is State.MASTER:
            self.facts.causes[host.index] = change.cause
            self.facts.claims(host)
            self.one_master.changed(host)
        if change.cause in (Cause.CLAIM_FAILED, Cause.LEASE_LAPSED):
            self._silenced_others(host)

    def _silenced_others(self, host: Host) -> None:
        """Let a member's first failure after a fault disturb: others have waited for it."""
        facts = self.facts
        last = facts.failed_claims.get(host.index, 0.0) - facts.cluster_dead_time
        if last < facts.fault_at:
            facts.disturbed_at = facts.world.now
        facts.failed_claims[host.index] = facts.world.now + facts.cluster_dead_time

    def disturbed(self, *, fault: bool = True, cut: bool = False) -> None:
        """A fault began or ended, or a planned change; ``cut``: it changes who hears whom."""
        facts = self.facts
        facts.disturbed_at = facts.world.now
        if fault:
            facts.fault_at = facts.world.now
        if cut:
            facts.cut_at = facts.world.now
        self.somebody.look()

    def sent(self, host: Host, advert: Advert) -> None:
        """An advert left."""
        now = self.facts.world.now
        times = self.facts.sent.setdefault(host.index, deque(maxlen=64))
        if not times or times[-1] != now:
            times.append(now)
        self.seals.sent(host, advert)

    def heard(self, host: Host, packet: Packet) -> None:
        """An advert was believed."""
        self.facts.adverts_heard += 1
        pair = host.index, packet.sender
        heard = self.facts.heard
        if packet.sent_at > heard.get(pair, 0.0):
            heard[pair] = packet.sent_at
            lost = self.facts.world.network.lost.get((packet.sender, host.index), 0)
            self.facts.lost_until_heard[pair] = lost

    def dropped(self, host: Host, packet: Packet, reason: DropReason) -> None:
        """An advert was not believed."""
        self.facts.drops[reason] += 1
        self.locked_out.dropped(host, packet, reason)

    def turn_ended(self, host: Host) -> None:
        """A process waits again."""
        self.no_stale.turn_ended(host)

    def settled(self) -> None:
        """Long after the last fault: exactly one holder, who is the one master."""
        holders = self.facts.holders()
        if len(holders) != 1:
            self.facts.fail(
                f"(1) the settled cluster has {len(holders)} holders: {[h.name for h in holders]}"
            )


def _is_shared(node: Node, address: Address) -> bool:
    return not isinstance(node, Host) or address == node.config.addresses[0].ip
