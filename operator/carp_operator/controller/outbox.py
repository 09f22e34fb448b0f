"""Which write goes out next: the newest plan's, in its order, failed ones later. For one thread, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.errors import Conflict, Forbidden, KubeError, NotFound, Transient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp_operator.kube.resources import Resource

MOST: Final = 8
"""Writes at once."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""s until a failed write is tried again, at least and at most."""
HOLD: Final = 300.0
"""s that a write waits that was refused or had no effect: only somebody else can change that."""

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Write:
    """One write. ``verb``: apply, status (apply to the status), create or patch.

    ``about``: what else an answer depends on: the object as it was, and the served schemas.
    """

    resource: Resource
    name: str
    verb: str
    body: dict[str, Any]
    about: tuple[object, ...] = field(default=(), compare=False)

    @property
    def kind(self) -> str:
        """What it writes to, as metrics name it."""
        return self.resource.plural + ("/status" if self.verb == "status" else "")

    @property
    def key(self) -> Key:
        """Of two writes with the same key the later replaces the earlier."""
        return self.kind, self.name


@dataclass(slots=True)
class _Trouble:
    write: Write
    failures: int
    until: float
    refused: bool
    lasting: bool = False
    """The same write has the same answer, whatever becomes of the server."""

    def holds(self, write: Write, now: float) -> bool:
        """Whether a write has to wait for its time."""
        same = self.write.body == write.body and self.write.about == write.about
        return self.until > now and (same or not self.refused)


class Outbox:
    """What is to be written, under way, and held back."""

    def __init__(self) -> None:
        """Begin empty."""
        self._waiting: dict[Key, Write] = {}
        self._under_way: dict[Key, Write] = {}
        self._troubles: dict[Key, _Trouble] = {}

    def want(self, writes: Iterable[Write]) -> None:
        """Replace what waits by the writes of a newer plan, in their order."""
        self._waiting = {write.key: write for write in writes}
        known = self._waiting.keys() | self._under_way.keys()
        self._troubles = {key: t for key, t in self._troubles.items() if key in known}

    def __len__(self) -> int:
        return len(self._waiting.keys() | self._under_way.keys())

    @property
    def under_way(self) -> int:
        """How many have been sent and not answered."""
        return len(self._under_way)

    def due(self, now: float) -> tuple[Write | None, float | None]:
        """Return the next write, or None and when (monotonic) time brings one."""
        if len(self._under_way) >= MOST:
            return None, None
        wake: float | None = None
        for key, write in self._waiting.items():
            if key in self._under_way:
                continue
            trouble = self._troubles.get(key)
            if trouble is None or not trouble.holds(write, now):
                return write, None
            wake = trouble.until if wake is None else min(wake, trouble.until)
        return None, wake

    def sent(self, write: Write) -> None:
        """Take note that a write is under way."""
        self._under_way[write.key] = write

    def done(self, write: Write) -> None:
        """Take note of a success; a newer wish for the same object stays."""
        del self._under_way[write.key]
        self._troubles.pop(write.key, None)
        waiting = self._waiting.get(write.key)
        if waiting is not None and waiting.body == write.body:
            del self._waiting[write.key]

    def futile(self, write: Write, now: float) -> None:
        """Take note of a write that changed nothing although it should have."""
        del self._under_way[write.key]
        self._troubles[write.key] = _Trouble(write, 1, now + HOLD, refused=True, lasting=True)

    def failed(self, write: Write, error: KubeError, now: float) -> None:
        """Take note of a failure, and when to try again."""
        del self._under_way[write.key]
        before = self._troubles.get(write.key)
        failures = before.failures + 1 if before is not None else 1
        lasting = not isinstance(error, Forbidden | Transient | Conflict | NotFound)
        refused = lasting or isinstance(error, Forbidden)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 10))
        pause = HOLD if refused else max(pause, error.retry_after)
        self._troubles[write.key] = _Trouble(write, failures, now + pause, refused, lasting)

    def retry(self) -> None:
        """Let what failed not wait for its time any more: the server is back, or lets us do more.

        What is wrong in itself waits on, or each list that it asks for would send it again.
        """
        self._troubles = {key: trouble for key, trouble in self._troubles.items() if trouble.lasting}
