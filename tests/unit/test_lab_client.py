"""Figures by mark."""

from __future__ import annotations

from array import array

from carp.lab.client import Mark, Result
from carp.lab.measure import Samples

MS = 1_000_000


def result(lost: set[int], marks: dict[int, str]) -> Result:
    """One request per ms for 200 ms, all answered but these; marks by their ms."""
    sent = array("q", [index * MS for index in range(200)])
    answered = array("q", [0 if index in lost else index * MS + 50_000 for index in range(200)])
    return Result(
        Samples(sent=sent, answered=answered), tuple(Mark(at * MS, text) for at, text in marks.items())
    )


def test_each_mark_has_its_own_figures() -> None:
    """Losses count for the mark before them, up to the next one."""
    measured = result({60, 61, 150}, {50: "first", 100: "second"})
    assert [("first", 2), ("second", 1)] == [
        (mark.label, figures.lost) for mark, figures in measured.per_mark()
    ]
    assert 3 == measured.summary.lost


def test_a_request_under_way_belongs_to_the_fault() -> None:
    """A request sent a few ms before the mark and lost by the fault does not hide the outage."""
    measured = result(set(range(95, 120)), {50: "first", 100: "second"})
    first, second = (figures for _, figures in measured.per_mark())
    assert (0, 25) == (first.lost, second.lost)
    assert 1 == len(second.outages)


def test_without_marks() -> None:
    """Nothing was marked: there is only the whole."""
    assert [] == result(set(), {}).per_mark()
