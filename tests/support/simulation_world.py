"""Virtual time and a network that loses, repeats, delays and reorders what hosts send to each other."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from carp.core.listening import PROBE_SPACING

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.wire import Advert
    from simulation_checks import Checks

EPOCH: Final = 1000.0
"""Virtual seconds at which every run starts: a monotonic clock does not start at zero."""
MAX_DELAY: Final = 0.2
QUIET_DELAY: Final = 0.0002


class Violation(AssertionError):  # noqa: N818 (the word of the reports)
    """An invariant does not hold."""


class Packet(NamedTuple):
    """An advert on the wire; ``sent_at`` in virtual seconds."""

    advert: Advert
    source: Address
    sender: int
    sent_at: float


class Node(Protocol):
    """What the network knows of a host."""

    index: int
    name: str
    link: bool

    def receive(self, packet: Packet) -> None:
        """Take a packet from the wire."""

    def answers_for(self, address: Address) -> bool:
        """Whether the host's kernel answers ARP or ND for an address."""

    def answered(self, address: Address, mac: bytes) -> None:
        """Take the answer to a probe."""


class World:
    """One run: the clock, the events to come, the hosts, the network, one source of chance."""

    checks: Checks

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        """``traced``: remember what happens, for people."""
        self.now = EPOCH
        self.rng = random.Random(seed)
        self.traced = traced
        self.trace: deque[str] = deque(maxlen=2000)
        self.network = Network(self)
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()

    def at(self, time: float, do: Callable[..., None], *arguments: Any) -> None:
        """Plan a call; calls for the same time keep their order."""
        heapq.heappush(self._heap, (time, next(self._order), do, arguments))

    def run_until(self, time: float) -> None:
        """Let everything happen up to ``time``; a host that is stopped in a call does so inside an event."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            when, _, do, arguments = heapq.heappop(heap)
            self.now = max(self.now, when)
            do(*arguments)
        self.now = max(self.now, time)

    def say(self, who: str, text: str) -> None:
        """Add a line to the trace."""
        if self.traced:
            self.trace.append(f"{self.now - EPOCH:11.4f}  {who:<8} {text}")


class Network:
    """Joins the nodes. ``blocked`` holds (from, to) pairs of node indices that do not hear each other."""

    def __init__(self, world: World) -> None:
        """Start quiet: nothing is lost, everything takes 0.2 ms."""
        self.nodes: list[Node] = []
        self.blocked: set[tuple[int, int]] = set()
        self.loss = 0.0
        self.repeats = 0.0
        self.max_delay = QUIET_DELAY
        self.lost: dict[tuple[int, int], int] = {}
        self._world = world

    def rough(self) -> None:
        """Lose 5 %, repeat 3 %, delay up to 200 ms."""
        self.loss, self.repeats, self.max_delay = 0.05, 0.03, MAX_DELAY

    def calm(self) -> None:
        """Stop disturbing; what is under way still arrives late."""
        self.loss, self.repeats, self.max_delay = 0.0, 0.0, QUIET_DELAY

    @property
    def is_calm(self) -> bool:
        """Whether nothing is lost or late."""
        return self.max_delay == QUIET_DELAY

    def reaches(self, sender: Node, receiver: Node) -> bool:
        """Whether packets can go from one to the other."""
        return (
            sender.link
            and receiver.link
            and (not self.blocked or (sender.index, receiver.index) not in self.blocked)
        )

    def connected(self, one: Node, other: Node) -> bool:
        """Whether two nodes hear each other."""
        return self.reaches(one, other) and self.reaches(other, one)

    def multicast(self, sender: Node, packet: Packet) -> None:
        """Carry an advert to everybody in reach."""
        receivers = [n for n in self.nodes if n is not sender and self.reaches(sender, n)]
        world = self._world
        if self.is_calm:
            world.at(world.now + QUIET_DELAY, _deliver, receivers, packet)
            return
        for receiver in receivers:
            for _ in range(1 if world.rng.random() >= self.repeats else 2):
                if world.rng.random() < self.loss:
                    pair = sender.index, receiver.index
                    self.lost[pair] = self.lost.get(pair, 0) + 1
                    world.say(receiver.name, f"misses an advert of {sender.name}")
                else:
                    world.at(world.now + world.rng.random() * self.max_delay, _deliver, [receiver], packet)

    def probe(self, prober: Node, address: Address) -> bool:
        """Carry an ARP or ND probe and the answers to it; whether all that were due are lost or late."""
        world = self._world
        owed = in_time = 0
        for node in self.nodes:
            if node is prober or not self.connected(prober, node) or not node.answers_for(address):
                continue
            owed += 1
            if world.rng.random() >= 1 - (1 - self.loss) ** 2:
                delay = (world.rng.random() + world.rng.random()) * self.max_delay
                in_time += delay < PROBE_SPACING
                mac = bytes((2, 0, 0, 0, 0, node.index))
                world.at(world.now + delay, prober.answered, address, mac)
        return owed > 0 and in_time == 0


def _deliver(receivers: list[Node], packet: Packet) -> None:
    for receiver in receivers:
        if receiver.link:
            receiver.receive(packet)
