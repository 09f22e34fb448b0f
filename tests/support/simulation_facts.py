"""What the checkers of a simulation need to know: who held what when, and which adverts arrived."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from simulation_world import Violation

if TYPE_CHECKING:
    from carp.core.errors import DropReason
    from carp.core.transitions import Cause
    from simulation_world import Node, World


class Facts:
    """What several checkers need to know: who held what when, and which adverts arrived."""

    def __init__(self, world: World) -> None:
        """``fault_at``: when the last fault began or ended; ``disturbed_at``: or an order was carried out."""
        self.world = world
        self.disturbed_at = world.now
        self.fault_at = world.now
        self.cut_at = -1e9
        self.sent: dict[int, deque[float]] = {}
        self.heard: dict[tuple[int, int], float] = {}
        self.lost_until_heard: dict[tuple[int, int], int] = {}
        self._lost_before_claim: dict[int, dict[tuple[int, int], int]] = {}
        self.drops: Counter[DropReason] = Counter()
        self.adverts_heard = 0
        self.causes: dict[int, Cause] = {}
        self.failed_claims: dict[int, float] = {}
        """When a member whose claim failed waits for the next as others do."""
        self.settle = 20.0
        self.cluster_dead_time = 0.0
        self.lifetime = 1
        self.overlap_bound = 0.0
        self.all_ours = True

    def adverts_missed(self, sender: Node, receiver: Node) -> int:
        """Count the sendings that the network has lost since the last one that the receiver believed."""
        pair = receiver.index, sender.index
        last = self.heard.get(pair, -1e9)
        unheard = sum(1 for at in self.sent.get(sender.index, ()) if at > last + 1e-9)
        lost = self.world.network.lost.get((sender.index, receiver.index), 0) - self.lost_until_heard.get(
            pair, 0
        )
        return min(unheard, lost)

    def lost(self, pair: tuple[int, int]) -> int:
        """Count the adverts that the network has lost between two, both ways."""
        lost = self.world.network.lost
        return lost.get(pair, 0) + lost.get((pair[1], pair[0]), 0)

    def claims(self, node: Node) -> None:
        """Take note that a member is about to send its takeover advert."""
        self._lost_before_claim[node.index] = dict(self.world.network.lost)

    def lost_before_claim(self, node: Node, other: Node) -> int:
        """Count the adverts lost between a member and another before its last takeover."""
        lost = self._lost_before_claim.get(node.index, {})
        pair = node.index, other.index
        return lost.get(pair, 0) + lost.get((pair[1], pair[0]), 0)

    def holders(self) -> list[Node]:
        """List who has the address."""
        return [n for n in self.world.network.nodes if getattr(n, "holds", False)]

    def fail(self, text: str) -> None:
        """Raise a Violation."""
        self.world.say("CHECK", text)
        raise Violation(text)
