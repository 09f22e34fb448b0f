"""Figures from samples."""

from __future__ import annotations

from array import array

import pytest

from carp.lab.measure import LATE_NS, Samples

MS = 1_000_000


def probes(answers: list[int]) -> Samples:
    """One request per ms from 1 ms on; each answered this many ms later, 0 for never."""
    sent = [(index + 1) * MS for index in range(len(answers))]
    answered = [time + late * MS if late else 0 for time, late in zip(sent, answers, strict=True)]
    return Samples(sent=array("q", sent), answered=array("q", answered))


def questions(owners: list[str]) -> Samples:
    """One question each 5 ms, answered by these letters."""
    samples = Samples(asked=array("q", [index * 5 * MS for index in range(len(owners))]))
    for index, letters in enumerate(owners):
        for letter in letters:
            samples.note_owner(index, letter)
    return samples


def test_all_answered() -> None:
    """Without a loss there is no outage."""
    summary = probes([1] * 10).summary()
    assert (10, 0, ()) == (summary.sent, summary.lost, summary.outages)
    assert 1.0 == summary.longest_gap_ms
    assert 0.0 == summary.outage_ms


def test_outage_is_from_answer_to_answer() -> None:
    """Three lost requests between answers: four milliseconds from the last answer to the next."""
    (outage,) = probes([1, 1, 0, 0, 0, 1]).summary().outages
    assert (3 * MS, 4.0, 3, False) == (outage.start_ns, outage.duration_ms, outage.lost, outage.open)


def test_open_outage() -> None:
    """An outage that the measurement did not see the end of says so."""
    (outage,) = probes([1, 0, 0]).summary().outages
    assert (True, 2) == (outage.open, outage.lost)


def test_never_answered() -> None:
    """An address that never answers is one outage over the whole time."""
    (outage,) = probes([0, 0, 0]).summary().outages
    assert (MS, 2.0, 3, True) == (outage.start_ns, outage.duration_ms, outage.lost, outage.open)


def test_a_late_answer_is_lost() -> None:
    """An answer after more than a second does not count."""
    late = LATE_NS // MS
    assert 0 == probes([1, late, 1]).summary().lost
    assert 1 == probes([1, late + 1, 1]).summary().lost


def test_outage_belongs_to_the_stretch_it_began_in() -> None:
    """An outage over a border is counted once, wholly, in the stretch of its first lost request."""
    samples = probes([1, 0, 0, 0, 1, 1])
    before, after = samples.summary(0, 4 * MS), samples.summary(4 * MS)
    assert [3] == [outage.lost for outage in before.outages]
    assert () == after.outages
    assert (2, 1) == (before.lost, after.lost)


def test_two_owners() -> None:
    """Questions that two answered count until the next question; neighbours are one stretch."""
    two = questions(["a", "ab", "ab", "b", "ab", "b"]).summary().two_owners
    assert 3 == two.questions
    assert pytest.approx(0.015) == two.total_s
    assert pytest.approx(0.010) == two.longest_s


def test_two_owners_with_tolerance() -> None:
    """With 5 ms of tolerance one single answer between does not divide a stretch."""
    two = questions(["a", "ab", "ab", "b", "ab", "b"]).summary(tolerance_ms=5).two_owners
    assert pytest.approx(0.020) == two.longest_s


def test_handover_is_not_two_owners() -> None:
    """One after the other is never two."""
    assert 0 == questions(["a", "a", "b", "b"]).summary().two_owners.questions


def test_owner_changes() -> None:
    """Each change is told once; two silent questions are a lost frame, three are nobody."""
    changes = questions(["a", "", "", "a", "b", "", "", "", "", "a"]).summary().owners
    assert [("a",), ("b",), (), ("a",)] == [change.owners for change in changes]
    assert [0, 20 * MS, 25 * MS, 45 * MS] == [change.time_ns for change in changes]


def test_dump_and_load() -> None:
    """What is saved is read back equal."""
    samples = probes([1, 0, 2])
    samples.asked = array("q", [1, 2])
    samples.note_owner(1, "02:00:00:00:00:01")
    assert samples == Samples.load(samples.dump())


def test_json() -> None:
    """The figures are plain values for machines."""
    assert 4.0 == probes([1, 1, 0, 0, 0, 1]).summary().to_json()["outage_ms"]
