"""A planned handover (design.md rule 4)."""

from __future__ import annotations

import pytest

from carp.core.leaving import LINGER, PATIENCE, REPEAT, Leaving, Purpose, Step
from carp.core.seal import Seal


def test_bows_out_at_once_and_every_tenth_of_a_second() -> None:
    """The first bow-out is due at once, the next 0.1 s after the one before, until patience ends."""
    leaving = Leaving(10.0, Purpose.STOP, Seal())
    times = []
    while (step := leaving.step(now := leaving.due())) is Step.BOW_OUT:
        times.append(round(now - 10.0, 6))
    assert [round(n * REPEAT, 6) for n in range(15)] == times[:15]
    assert Step.UNANSWERED is step
    assert pytest.approx(10.0 + PATIENCE) == now


def test_nothing_is_due_in_between() -> None:
    """Before its time no step is taken."""
    leaving = Leaving(10.0, Purpose.STOP, Seal())
    assert Step.BOW_OUT is leaving.step(10.0)
    assert Step.WAIT is leaving.step(10.05)


def test_a_late_step_is_not_followed_by_a_burst() -> None:
    """After a pause of ours the next bow-out is 0.1 s later, not at once several times."""
    leaving = Leaving(10.0, Purpose.STOP, Seal())
    leaving.step(10.0)
    assert Step.BOW_OUT is leaving.step(10.95)
    assert pytest.approx(11.05) == leaving.due()


def test_an_answer_ends_the_bow_outs_and_lingers() -> None:
    """After the successor's first advert we stay 0.1 s more, and further adverts do not prolong it."""
    leaving = Leaving(10.0, Purpose.STEP_DOWN, Seal())
    leaving.step(10.0)
    leaving.answer(10.02)
    leaving.answer(10.09)
    assert pytest.approx(10.02 + LINGER) == leaving.due()
    assert Step.WAIT is leaving.step(10.11)
    assert Step.LET_GO is leaving.step(leaving.due())


@pytest.mark.parametrize(("sealed_time", "answers"), [(99, False), (100, False), (101, True), (None, True)])
@pytest.mark.parametrize("bow_outs", [1, 2])
def test_an_advert_older_than_the_first_bow_out_is_no_answer(
    sealed_time: int | None, answers: bool, bow_outs: int
) -> None:
    """It was under way already, from a master that has yielded since; a foreign one always counts."""
    seal = Seal(last=50)
    leaving = Leaving(10.0, Purpose.STOP, seal)
    for number in range(bow_outs):
        assert Step.BOW_OUT is leaving.step(leaving.due())
        seal.last = 100 + number
    leaving.answer(10.2, sealed_time)
    assert answers == (leaving.answered_at is not None)
