"""The invariants about addresses: one checker each, its sentence first.

The exceptions that the checkers make are those that design.md rule 3 states under "What zero means", and
nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from carp.core.transitions import Cause, State
from carp.netlink import PROTO_CEDED
from carp.runner import FRESH
from simulation_host import Host
from simulation_world import MAX_DELAY, QUIET_DELAY

if TYPE_CHECKING:
    from simulation_facts import Facts
    from simulation_world import Node

TINY: Final = 0.002
"""s; what clocks that drift by 200 ppm make of a few seconds."""
CEDED_OVERLAP: Final = 2.15
KERNEL_TAIL: Final = 1.15
JITTER: Final = 0.08
STAGGER: Final = 0.255
LEASE_TAIL: Final = 1.2
MAX_LOST_IN_A_ROW: Final = 3
"""Takeover adverts that a second claimant misses, one after the other, at 5 % loss."""
HANDOVER: Final = 1.6
"""s until an unanswered bow-out is given up."""


class OneHolder:
    """At most one member of a partition holds the address once the cluster has settled."""

    def __init__(self, facts: Facts) -> None:
        """Nobody holds anything yet."""
        self._facts = facts
        self._since: dict[tuple[int, int], float] = {}

    def address_on(self, node: Node) -> None:
        """Begin to watch each pair of holders."""
        facts = self._facts
        for other in facts.holders():
            if other is not node:
                pair = min(node.index, other.index), max(node.index, other.index)
                self._since[pair] = facts.world.now
                facts.world.at(facts.world.now + facts.settle, self._check, node, other, pair)

    def address_off(self, node: Node) -> None:
        """Forget its pairs."""
        self._since = {pair: t for pair, t in self._since.items() if node.index not in pair}

    def _check(self, one: Node, other: Node, pair: tuple[int, int]) -> None:
        facts = self._facts
        start = self._since.get(pair)
        if start is None:
            return
        start = max(start, facts.disturbed_at)
        if facts.world.now - start < facts.settle - 1e-6 or not facts.world.network.connected(one, other):
            facts.world.at(max(start + facts.settle, facts.world.now + 1.0), self._check, one, other, pair)
        else:
            facts.fail(
                f"(1) {one.name} and {other.name} both hold the address, "
                f"{facts.settle:.1f} s after the last fault"
            )


class NoStaleAddress:
    """An address is finite, and a process that is not master has none."""

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self._facts = facts

    def turn_ended(self, host: Host) -> None:
        """Look at the kernel after each turn of the process."""
        process = host.process
        if process is None or not host.kernel.leases:
            return
        vhost = process.vhost
        if not vhost.config.fenced:
            return
        if any(lease.lifetime is None for lease in host.kernel.leases.values()):
            self._facts.fail(f"(2) {host.name} holds an address for ever")
        # A stop that nobody answered leaves the address to the fence on purpose (design.md rule 4).
        # Nor can a process that has never had a link do anything about what its forerunner left.
        idle = vhost.stopped or not process.port.was_attached
        if vhost.state is not State.MASTER and not idle and host.holds_ours:
            self._facts.fail(f"(2) {host.name} is {vhost.state} and still has an address")


class Overlap(NamedTuple):
    """Two holders at once: since when, for how long at most, and why.

    ``lost``: adverts lost between them before, where each one more excuses more; ``twins``: neither knew
    of the other when it claimed.
    """

    start: float
    allowed: float
    lost: int | None
    twins: bool
    why: str


class BoundedOverlap:
    """After a kill or a stall two of ours never overlap on a timeout, and at most 2.15 s in a bow-out.

    Each advert lost just before adds L/4; packets between two that live add their delay. Two that claim
    within a packet's delay overlap by that delay, by L/4 more for each advert lost meanwhile, and until a
    lease ends if one of them is killed or stopped right then. One that is stopped between a look at the
    clock and what follows acts on old knowledge until the other's answer arrives. A takeover from a
    living master (preemption, demotion) may overlap by L + 1.15 s. A first claim whose every probe was
    answered too late or never is bounded by the lease only.
    """

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self._facts = facts
        self.enabled = True
        self._claimed_at: dict[int, float] = {}
        self._open: dict[tuple[int, int], Overlap] = {}
        self.longest = 0.0

    def address_on(self, node: Node) -> None:
        """Note who had the address before, and what excuses there are."""
        facts = self._facts
        self._claimed_at[node.index] = facts.world.now
        for other in facts.holders():
            if other is node or not isinstance(node, Host) or not isinstance(other, Host):
                continue
            if facts.world.network.connected(node, other):
                self._open[other.index, node.index] = self._begin(other, node)

    def _begin(self, old: Host, new: Host) -> Overlap:
        facts = self._facts
        delay = facts.world.network.max_delay
        cause = facts.causes.get(new.index)
        missed = facts.adverts_missed(old, new)
        allowed = facts.overlap_bound + missed * facts.lifetime / 4
        ways = 0
        if cause is Cause.BOW_OUT or any(x.proto == PROTO_CEDED for x in old.kernel.leases.values()):
            allowed, ways = max(allowed, CEDED_OVERLAP), 1
        if cause in (Cause.PREEMPTED, Cause.PEER_DEMOTED, Cause.PEER_TOO_SLOW):
            allowed, ways = max(allowed, facts.lifetime + KERNEL_TAIL), 1
        if cause is Cause.FIRST_CLAIM and new.process is not None and new.process.port.probes_lost:
            allowed += facts.lifetime + KERNEL_TAIL
        twins = self._twins(old, new)
        if facts.world.now - new.resumed_in_call_at < FRESH:
            ways = 2
        elif twins:
            ways = 1
        lost = facts.lost_before_claim(new, old) if ways else None
        return Overlap(
            facts.world.now, allowed + ways * delay, lost, twins, f"{cause}, {missed} adverts missed"
        )

    def _twins(self, old: Node, new: Node) -> bool:
        """Whether the later claimed before the earlier's takeover could be heard: under way or lost."""
        claims = self._claimed_at.get(old.index, 0.0), self._claimed_at.get(new.index, 0.0)
        unheard = self._facts.heard.get((new.index, old.index), 0.0) < claims[0]
        lost = MAX_LOST_IN_A_ROW if self._facts.world.network.max_delay > QUIET_DELAY else 0
        longest = self._facts.world.network.max_delay + lost * self._facts.lifetime / 4
        return claims[1] - claims[0] <= longest and (unheard or claims[1] == claims[0])

    def address_off(self, node: Node) -> None:
        """Measure the overlaps that end."""
        facts = self._facts
        for pair in [p for p in self._open if node.index in p]:
            overlap = self._open.pop(pair)
            allowed = overlap.allowed
            if overlap.lost is not None:
                allowed += (facts.lost(pair) - overlap.lost) * facts.lifetime / 4
            if overlap.twins and facts.fault_at >= self._claimed_at.get(pair[0], 0.0):
                allowed += facts.lifetime + KERNEL_TAIL
            if facts.cut_at < overlap.start - facts.cluster_dead_time - 4.0:
                self._judge(pair, facts.world.now - overlap.start, allowed, overlap.why)

    def _judge(self, pair: tuple[int, int], length: float, allowed: float, why: str) -> None:
        self.longest = max(self.longest, length)
        if self.enabled and length > allowed + TINY:
            old, new = (self._facts.world.network.nodes[index].name for index in pair)
            self._facts.fail(
                f"(3) {old} and {new} both held the address for {length:.3f} s, not {allowed:.3f} ({why})"
            )


class SomebodyIsMaster:
    """A connected healthy member is never without a holder that it hears for longer than the bound.

    The bound: the longest dead time, plus jitter, stagger, a packet's delay, and the 1.2 s by which an
    answered probe defers a first claim; it counts from the last fault. A member whose claim failed waits
    one dead time more.
    """

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self._facts = facts
        self._since: dict[int, float] = {}
        self._planned_for = 0.0
        self.foreign_slack = 0.0

    def bound(self) -> float:
        """Return the seconds for which nobody may hold the address."""
        own = self._facts.cluster_dead_time + JITTER + STAGGER + MAX_DELAY + LEASE_TAIL
        return own + self.foreign_slack + TINY

    def look(self) -> None:
        """Note who is without a holder in reach, and look again when that lasts too long."""
        facts = self._facts
        world = facts.world
        holders = facts.holders()
        for node in world.network.nodes:
            covered = any(h is node or world.network.reaches(h, node) for h in holders)
            if covered:
                self._since.pop(node.index, None)
            else:
                self._since.setdefault(node.index, world.now)
        if self._since and self._planned_for <= world.now:
            self._planned_for = world.now + self.bound() + 1e-6
            world.at(self._planned_for, self._check)

    def _check(self) -> None:
        facts = self._facts
        world = facts.world
        again = world.now + 1e9
        for index, since in self._since.items():
            node = world.network.nodes[index]
            if not isinstance(node, Host) or not _is_healthy(node):
                continue
            start = max(since, facts.disturbed_at, facts.failed_claims.get(index, 0.0))
            if world.now - start > self.bound():
                facts.fail(
                    f"(4) {node.name} is healthy and nobody holds the address for {world.now - start:.3f} s"
                )
            again = min(again, start + self.bound() + 1e-6)
        self._planned_for = max(again, world.now + 0.01) if again < world.now + 1e8 else 0.0
        if self._planned_for:
            world.at(self._planned_for, self._check)


def _is_healthy(host: Host) -> bool:
    process = host.process
    able = process is not None and host.link and not (host.stopped or host.send_error or host.kernel_error)
    return (
        able
        and process is not None
        and not process.vhost.stopped
        and process.vhost.snapshot().leaving is None
    )


class HandoverLosesNothing:
    """A bow-out with a hearer leaves no instant without a holder, and one without a hearer drops nothing."""

    def __init__(self, facts: Facts) -> None:
        """See Facts."""
        self._facts = facts
        self.enabled = True
        self._began_at = -1e9
        self._window = 0.0

    def begins(self, host: Host, *, release: bool) -> None:
        """Watch a handover of a master that holds the address."""
        facts = self._facts
        process = host.process
        if (
            process is None
            or process.vhost.state is not State.MASTER
            or not host.holds
            or facts.holders() != [host]
        ):
            return
        self._began_at = facts.world.now
        # Unanswered and told to delete, a stopping master does so after 1.5 s.
        self._window = 1.5 - TINY if release else HANDOVER + facts.lifetime - 0.2

    def address_off(self, node: Node) -> None:
        """Be there when the last holder goes."""
        facts = self._facts
        since = facts.world.now - self._began_at
        if self.enabled and facts.fault_at <= self._began_at and since < self._window and not facts.holders():
            facts.fail(f"(5) nobody holds the address {since:.3f} s after the bow-out began")
