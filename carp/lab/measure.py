"""What a measurement says: answers lost, outages, and how long two nodes owned the address. Pure."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LATE_NS = 1_000_000_000
"""An answer later than this after its request counts as lost."""

_Answers = dict[int, set[str]]  # question -> the hardware addresses that answered it


@dataclass(frozen=True)
class Outage:
    """A run of lost requests."""

    start_ns: int  # arrival of the last answer before it
    duration_ms: float  # from there to the arrival of the first answer after it
    lost: int
    open: bool  # it had not ended when the measurement did


@dataclass(frozen=True)
class TwoOwners:
    """Stretches in which two hardware addresses answered the same question."""

    questions: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0


@dataclass(frozen=True)
class OwnerChange:
    """From `time_ns` on these hardware addresses answered (none: nobody did)."""

    time_ns: int
    owners: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """The figures of one stretch of time."""

    sent: int
    lost: int
    outages: tuple[Outage, ...]
    longest_gap_ms: float  # the longest time between two answers, lost requests or not
    two_owners: TwoOwners
    owners: tuple[OwnerChange, ...]

    @property
    def outage_ms(self) -> float:
        """The longest outage, 0 without any."""
        return max((outage.duration_ms for outage in self.outages), default=0.0)

    def to_json(self) -> dict[str, object]:
        """Return the figures as plain values, with the longest outage beside the list."""
        return {**asdict(self), "outage_ms": self.outage_ms}


@dataclass
class Samples:
    """Everything that was sent and heard; times are CLOCK_MONOTONIC nanoseconds.

    Requests and questions are in the order of sending; an answer time of 0 means none came.
    """

    sent: array[int] = field(default_factory=lambda: array("q"))
    answered: array[int] = field(default_factory=lambda: array("q"))
    asked: array[int] = field(default_factory=lambda: array("q"))
    macs: list[str] = field(default_factory=list)
    answer_question: array[int] = field(default_factory=lambda: array("q"))
    answer_mac: array[int] = field(default_factory=lambda: array("q"))

    def note_owner(self, question: int, mac: str) -> None:
        """Record that `mac` answered the question of this index."""
        if mac not in self.macs:
            self.macs.append(mac)
        self.answer_question.append(question)
        self.answer_mac.append(self.macs.index(mac))

    def dump(self) -> bytes:
        """Pack for `load`: one JSON line with the lengths, then the arrays."""
        arrays = self._arrays()
        head = json.dumps({"macs": self.macs, "lengths": [len(each) for each in arrays]})
        return head.encode() + b"\n" + b"".join(each.tobytes() for each in arrays)

    @classmethod
    def load(cls, data: bytes) -> Samples:
        """Unpack what `dump` made; raises ValueError for anything else."""
        line, _, body = data.partition(b"\n")
        head = json.loads(line)
        samples = cls(macs=head["macs"])
        at = 0
        for each, length in zip(samples._arrays(), head["lengths"], strict=True):
            end = at + length * each.itemsize
            each.frombytes(body[at:end])
            at = end
        return samples

    def summary(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        *,
        tolerance_ms: float = 0.0,
        answers: _Answers | None = None,
    ) -> Summary:
        """Work out the figures of the requests and questions sent in [start, end).

        Args:
            start_ns, end_ns: the stretch; None is the beginning or the end. An outage belongs to the
                stretch that its first lost request was sent in, wholly, so consecutive stretches add up.
            tolerance_ms: double answers with at most this much between them are one stretch.
            answers: what `answers_by_question` returned, to save working it out for many stretches.
        """
        low = 0 if start_ns is None else bisect_left(self.sent, start_ns)
        high = len(self.sent) if end_ns is None else bisect_left(self.sent, end_ns)
        first = 0 if start_ns is None else bisect_left(self.asked, start_ns)
        last = len(self.asked) if end_ns is None else bisect_left(self.asked, end_ns)
        answers = self.answers_by_question() if answers is None else answers
        return Summary(
            sent=high - low,
            lost=sum(not self._in_time(index) for index in range(low, high)),
            outages=tuple(self._outages(low, high)),
            longest_gap_ms=self._longest_gap(low, high),
            two_owners=self._two_owners(answers, first, last, tolerance_ms),
            owners=tuple(self._owner_changes(answers, first, last)),
        )

    def _arrays(self) -> tuple[array[int], ...]:
        return (self.sent, self.answered, self.asked, self.answer_question, self.answer_mac)

    def _in_time(self, index: int) -> bool:
        return 0 < self.answered[index] <= self.sent[index] + LATE_NS

    def _outages(self, low: int, high: int) -> Iterable[Outage]:
        index, total = low, len(self.sent)
        while low and index < high and not self._in_time(index) and not self._in_time(index - 1):
            index += 1  # the end of an outage that began before this stretch
        while index < high:
            if self._in_time(index):
                index += 1
                continue
            end = index
            while end < total and not self._in_time(end):
                end += 1
            start = self.answered[index - 1] if index else self.sent[index]
            until = self.answered[end] if end < total else self.sent[-1]
            yield Outage(start, (until - start) / 1e6, end - index, end == total)
            index = end

    def _longest_gap(self, low: int, high: int) -> float:
        times = sorted(self.answered[index] for index in range(low, high) if self._in_time(index))
        return max(((b - a) / 1e6 for a, b in pairwise(times)), default=0.0)

    def answers_by_question(self) -> _Answers:
        """Return who answered each question; unanswered ones are missing."""
        answers: _Answers = {}
        for question, mac in zip(self.answer_question, self.answer_mac, strict=True):
            answers.setdefault(question, set()).add(self.macs[mac])
        return answers

    def _two_owners(self, answers: _Answers, first: int, last: int, tolerance_ms: float) -> TwoOwners:
        double = [question for question in range(first, last) if len(answers.get(question, ())) > 1]
        stretches: list[list[int]] = []
        for question in double:
            start, end = self.asked[question], self._next_asked(question)
            if stretches and start - stretches[-1][1] <= tolerance_ms * 1e6:
                stretches[-1][1] = end
            else:
                stretches.append([start, end])
        lengths = [(end - start) / 1e9 for start, end in stretches]
        return TwoOwners(len(double), sum(lengths), max(lengths, default=0.0))

    def _next_asked(self, question: int) -> int:
        following = question + 1
        return self.asked[following] if following < len(self.asked) else self.asked[question]

    def _owner_changes(self, answers: _Answers, first: int, last: int) -> Iterable[OwnerChange]:
        """Yield each change; fewer than three unanswered questions in a row are no change."""
        current: tuple[str, ...] | None = None
        silent = 0
        for question in range(first, last):
            found = tuple(sorted(answers.get(question, ())))
            silent = 0 if found else silent + 1
            if not found and silent < 3 and current is not None:
                continue
            if found != current:
                current = found
                yield OwnerChange(self.asked[max(first, question - max(0, silent - 1))], found)
