"""The story that the demo tells: what is done to the owner, what may come of it, and what did."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carp.lab.errors import LabError
from carp.lab.timeline import Event, Kind, Row, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carp.core.timing import Timing
    from carp.lab.client import Prober, Result
    from carp.lab.cluster import Member
    from carp.lab.measure import OwnerChange, Summary
    from carp.lab.network import Lan

CLIENT = "client"
DURATION = 45.0
"""About how long the whole story takes, in seconds."""

_POLL = 0.1
_SILENT_NS = 60_000_000  # the probe reports every 50 ms
_PATIENCE = 9.0  # on top of the longest dead time
_SLACK_MS = 30.0
_NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Bound:
    """What a fault may cost: an outage of a dead time or an advert's period, and a time with two owners."""

    dead_time: bool = False
    period: bool = False
    two_owners_s: float = 0.0


# A killed or cut-off owner is replaced after the dead time; by then the kernel has taken its address, except
# where the dead time is too short for that.
_TIMEOUT = Bound(dead_time=True)
# The old owner goes on answering until 100 ms after its successor's first advert, so nothing is lost.
_PLANNED = Bound(two_owners_s=0.3)
_QUIET = Bound()
# Behind a dead switch port a node cannot know; healed, the first advert heard settles it.
_REUNION = Bound(period=True, two_owners_s=0.3)


class Scenario:
    """Run the faults one after the other; `observe` is called about ten times a second meanwhile."""

    def __init__(
        self,
        lan: Lan,
        members: dict[str, Member],
        address: str,
        prober: Prober,
        observe: Callable[[Scenario], None],
    ) -> None:
        self._lan = lan
        self._members = members
        self._address = address
        self._patience = _PATIENCE + max(m.vhost.timing.dead_time() for m in members.values())
        self._prober = prober
        self._observe = observe
        self._start = prober.status.time_ns or time.monotonic_ns()
        self._bounds: list[tuple[Bound, str]] = []
        self._names = {member.node.mac: name for name, member in members.items()}
        self._open: dict[str, tuple[float, Kind]] = {}
        self._spans: list[Span] = []
        self.events: list[Event] = []

    @property
    def lanes(self) -> list[str]:
        """The members and the client."""
        return [*self._members, CLIENT]

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return (time.monotonic_ns() - self._start) / 1e9

    def run(self) -> None:
        """Tell the story.

        Raises:
            LabError: a daemon ended by itself, or nobody (or somebody else) owns the address for too long.
        """
        self._begin()
        for fault, reverse in (
            (self._kill, self._restart),
            (self._hand_over, None),
            (self._terminate, self._restart),
            (self._unplug, self._plug),
            (self._cut, self._mend),
        ):
            owner = self._owner()
            fault(owner)
            if reverse is not None:
                reverse(owner)

    def spans(self, changes: list[OwnerChange], summary: Summary | None = None) -> list[Span]:
        """Return everything to draw up to now; without a summary, what is known while it runs."""
        now = self.now
        running = [Span(name, start, now, kind) for name, (start, kind) in self._open.items()]
        return [*self._spans, *running, *self._owner_spans(changes, now), *self._client_spans(summary, now)]

    def rows(self, result: Result) -> list[Row]:
        """Return the closing table's rows from the finished measurement."""
        figures = result.per_mark(tolerance_ms=10.0)
        return [
            self._row(mark.label, summary, bound, self._members[successor].vhost.timing)
            for (mark, summary), (bound, successor) in zip(figures, self._bounds, strict=True)
        ]

    @staticmethod
    def _row(label: str, summary: Summary, bound: Bound, successor: Timing) -> Row:
        outage, two_owners = 0.0, bound.two_owners_s
        if bound.dead_time:
            outage = successor.dead_time() * 1000 + _SLACK_MS
            two_owners += successor.overlap_bound()
        if bound.period:
            outage = successor.advert_period() * 1000
            two_owners += successor.advert_period()
        return Row(
            fault=label,
            outage_ms=summary.outage_ms,
            lost=summary.lost,
            two_owners_s=summary.two_owners.longest_s,
            outage_bound_ms=outage,
            two_owners_bound_s=two_owners,
        )

    def _begin(self) -> None:
        name = next(iter(self._members.values())).vhost.name
        count = _NUMBERS[len(self._members)]
        self._tell(f"{count} nodes start, {name} is {self._address}; the client asks it every ms")
        for member in self._members.values():
            member.start()
            self._lane(member.name, Kind.READY)
        self._settle(None)
        self._tell(f"{self._owner().name} owns {self._address}")
        self._linger(2.0)

    def _kill(self, owner: Member) -> None:
        with self._fault(f"kill -9 of {owner.name}, the owner", _TIMEOUT, owner):
            owner.signal(signal.SIGKILL)
            self._lane(owner.name, Kind.DOWN)

    def _restart(self, member: Member) -> None:
        with self._fault(f"{member.name} comes back", _QUIET):
            member.start()
            self._lane(member.name, Kind.READY)
            self._linger(1.5)

    def _hand_over(self, owner: Member) -> None:
        with self._fault(f"{owner.name} is told to hand over (SIGUSR2)", _PLANNED, owner):
            owner.signal(signal.SIGUSR2)

    def _terminate(self, owner: Member) -> None:
        with self._fault(f"{owner.name} is stopped (SIGTERM)", _PLANNED, owner):
            owner.signal(signal.SIGTERM)
            self._until(owner.ended, f"{owner.name} does not end after SIGTERM")
            self._lane(owner.name, Kind.DOWN)

    def _unplug(self, owner: Member) -> None:
        with self._fault(f"cable of {owner.name} pulled", _TIMEOUT, owner):
            self._lan.unplug(owner.node)
            self._lane(owner.name, Kind.CUT)

    def _plug(self, member: Member) -> None:
        with self._fault(f"cable of {member.name} put back", _QUIET):
            self._lan.plug(member.node)
            self._lane(member.name, Kind.READY)

    def _cut(self, owner: Member) -> None:
        with self._fault(f"{owner.name} cut off behind the switch", _TIMEOUT, owner):
            self._lan.cut(owner.node)
            self._lane(owner.name, Kind.CUT)

    def _mend(self, member: Member) -> None:
        with self._fault(f"{member.name} connected again", _REUNION):
            self._lan.mend(member.node)
            self._lane(member.name, Kind.READY)
            self._linger(0.7)

    @contextmanager
    def _fault(self, text: str, bound: Bound, owner: Member | None = None) -> Iterator[None]:
        """Mark, do, and wait until one node owns the address; another than `owner` if that is given."""
        self._tell(text)
        self._prober.mark(text)
        yield
        self._settle(owner)
        successor = self._owner()
        self._bounds.append((bound, successor.name))
        if owner is not None:
            self._tell(f"{successor.name} owns {self._address}")
        self._linger(1.3)

    def _settle(self, unlike: Member | None) -> None:
        """Wait until exactly one member owns the address and answers."""

        def settled() -> bool:
            status = self._prober.status
            old = unlike.node.mac if unlike else None
            answering = status.time_ns - status.last_answer_ns < _SILENT_NS
            return answering and len(status.owners) == 1 and old not in status.owners

        wanted = f"one node other than {unlike.name}" if unlike else "one node"
        self._until(settled, f"{self._address} is not owned by {wanted} after {self._patience:.0f} s")

    def _until(self, condition: Callable[[], bool], problem: str) -> None:
        end = time.monotonic() + self._patience
        while not condition():
            if time.monotonic() > end:
                owners = sorted(self._names.get(mac, mac) for mac in self._prober.status.owners)
                raise LabError(f"{problem} (owners: {', '.join(owners) or 'none'})")
            self._pause()

    def _linger(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._pause()

    def _pause(self) -> None:
        for member in self._members.values():
            member.check()
        self._observe(self)
        time.sleep(_POLL)

    def _tell(self, text: str) -> None:
        self.events.append(Event(self.now, text))
        self._observe(self)

    def _owner(self) -> Member:
        owners = self._prober.status.owners
        names = [self._names[mac] for mac in owners if mac in self._names]
        if len(names) != 1:
            found = ", ".join(sorted(owners)) or "nobody"
            msg = f"{self._address} is owned by {found} instead of one of the nodes"
            raise LabError(msg)
        return self._members[names[0]]

    def _lane(self, name: str, kind: Kind) -> None:
        """From now on the lane of this node is of this kind."""
        now = self.now
        if name in self._open:
            start, before = self._open[name]
            self._spans.append(Span(name, start, now, before))
        self._open[name] = (now, kind)

    def _owner_spans(self, changes: list[OwnerChange], now: float) -> Iterator[Span]:
        ends = [self._seconds(change.time_ns) for change in changes[1:]]
        for change, end in zip(changes, [*ends, now], strict=False):
            for mac in change.owners:
                yield Span(self._names.get(mac, mac), self._seconds(change.time_ns), end, Kind.OWNER)

    def _client_spans(self, summary: Summary | None, now: float) -> Iterator[Span]:
        yield Span(CLIENT, 0.0, now, Kind.ANSWERED)
        if summary is None:
            for start, end in self._prober.silences(_SILENT_NS):
                yield Span(CLIENT, self._seconds(start), self._seconds(end), Kind.LOST)
            return
        for outage in summary.outages:
            start_s = self._seconds(outage.start_ns)
            yield Span(CLIENT, start_s, start_s + outage.duration_ms / 1000, Kind.LOST)

    def _seconds(self, time_ns: int) -> float:
        return max(0.0, (time_ns - self._start) / 1e9)
