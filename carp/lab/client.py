"""The measuring client: start the probe in a node, watch it, read its result."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Self

from carp.lab.errors import LabError
from carp.lab.measure import OwnerChange, Samples, Summary
from carp.lab.node import INTERFACE, Node, kill

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_UNDER_WAY_NS = 20_000_000


@dataclass(frozen=True)
class Mark:
    """Something that was done at this time (CLOCK_MONOTONIC nanoseconds)."""

    time_ns: int
    label: str


@dataclass(frozen=True)
class Status:
    """How things stand now, at most 50 ms old."""

    time_ns: int = 0
    sent: int = 0
    answered: int = 0
    last_answer_ns: int = 0
    owners: frozenset[str] = frozenset()  # hardware addresses


@dataclass(frozen=True)
class Result:
    """A finished measurement."""

    samples: Samples
    marks: tuple[Mark, ...]

    @property
    def summary(self) -> Summary:
        """The figures of the whole measurement."""
        return self.samples.summary()

    def per_mark(self, *, tolerance_ms: float = 0.0) -> list[tuple[Mark, Summary]]:
        """Return the figures of the time from each mark to the next (or the end).

        What was under way when the fault struck belongs to it: the borders are 20 ms before the marks.
        """
        starts = [mark.time_ns - _UNDER_WAY_NS for mark in self.marks]
        ends: list[int | None] = [*starts[1:], None] if starts else []
        answers = self.samples.answers_by_question()
        return [
            (mark, self.samples.summary(start, end, tolerance_ms=tolerance_ms, answers=answers))
            for mark, start, end in zip(self.marks, starts, ends, strict=True)
        ]


class Prober:
    """Ask an address for an answer every `interval_ms`, and who owns it every `arp_ms`.

    Use as a context manager; `stop` ends the measurement and returns the `Result`. Times of marks and of
    the probe's records come from the same clock.
    """

    def __init__(self, node: Node, address: str, *, interval_ms: float = 1.0, arp_ms: float = 5.0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="carp-lab-")
        self._file = Path(self._folder.name) / "samples"
        self._marks: list[Mark] = []
        self._changed = threading.Condition()
        self._ended = False
        self.status = Status()
        self.history: list[OwnerChange] = []
        self._silences: list[list[int]] = []
        argv = [address, INTERFACE, str(interval_ms), str(arp_ms), str(self._file)]
        self.process = node.popen_module("carp.lab.probe", argv, stdin=PIPE, stdout=PIPE)
        self._reader = threading.Thread(target=self._read, name="prober", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        self._await(lambda: self.status.sent > 0, 10.0, "the probe did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            kill(self.process)
        self._reader.join()
        self._folder.cleanup()

    def mark(self, label: str) -> Mark:
        """Note that something happens now."""
        mark = Mark(time.monotonic_ns(), label)
        self._marks.append(mark)
        return mark

    def wait_answering(self, timeout: float) -> None:
        """Wait for an answer that arrives after this call; raises LabError after `timeout` seconds."""
        start = time.monotonic_ns()
        self._await(lambda: self.status.last_answer_ns > start, timeout, "no answer")

    def wait_owner(self, who: str | Node, timeout: float) -> None:
        """Wait until this node (or hardware address) alone owns the address; raises LabError."""
        mac = who if isinstance(who, str) else who.mac
        self._await(lambda: self.status.owners == {mac}, timeout, f"{who} is not the owner")

    def wait_settled(self, timeout: float, *, unlike: str | None = None) -> str:
        """Wait until exactly one node owns the address and return its hardware address.

        Args:
            timeout: seconds, then LabError.
            unlike: the owner must be another than this hardware address.
        """
        self._await(
            lambda: len(self.status.owners) == 1 and unlike not in self.status.owners,
            timeout,
            "no single owner",
        )
        return next(iter(self.status.owners))

    def silences(self, longer_ns: int) -> list[tuple[int, int]]:
        """Return the stretches without an answer so far (start, end), as seen every 50 ms."""
        return [(start, end) for start, end in self._silences if end - start > longer_ns]

    def stop(self) -> Result:
        """End the measurement (takes up to a second: the last answers may be late) and read it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.wait(timeout=10) != 0:
            msg = f"the probe failed with exit code {self.process.returncode}"
            raise LabError(msg)
        return Result(Samples.load(self._file.read_bytes()), tuple(self._marks))

    def _read(self) -> None:
        for line in self.process.stdout or ():
            raw = json.loads(line)
            status = Status(raw["t"], raw["sent"], raw["answered"], raw["last"], frozenset(raw["owners"]))
            with self._changed:
                if status.owners != self.status.owners or not self.history:
                    self.history.append(OwnerChange(status.time_ns, tuple(sorted(status.owners))))
                if status.last_answer_ns == self.status.last_answer_ns and self._silences:
                    self._silences[-1][1] = status.time_ns
                else:
                    self._silences.append([status.last_answer_ns or status.time_ns, status.time_ns])
                self.status = status
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _await(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._ended, timeout)
            if not condition():
                state = "the probe has ended" if self._ended else f"within {timeout:g} s"
                msg = f"{what}: {state} (owners: {', '.join(sorted(self.status.owners)) or 'none'})"
                raise LabError(msg)
