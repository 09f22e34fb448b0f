from __future__ import annotations

import pytest

from carp_operator.controller.budget import Budget


def test_burst_then_rate() -> None:
    """The saved-up tokens go at once, then one each tenth of a second; no more is ever saved."""
    budget = Budget(10, 3, 0.0)
    assert [0.0] * 3 == [budget.take(0.0) for _ in range(3)]
    assert pytest.approx(0.1) == budget.take(0.0)
    assert 0.0 == budget.take(0.1)
    assert pytest.approx(0.1) == budget.take(0.1)
    assert [0.0] * 3 == [budget.take(100.0) for _ in range(3)]
    assert budget.take(100.0) > 0
    assert 3 == budget.waited


def test_spare_tokens_are_for_others() -> None:
    """Who is in no hurry leaves some tokens to those who are."""
    budget = Budget(10, 3, 0.0)
    assert 0.0 == budget.take(0.0, 2)
    assert budget.take(0.0, 2) > 0
    assert 0.0 == budget.take(0.0)


def test_clock_that_stands_still_gives_nothing() -> None:
    """An earlier time, as from another thread, adds no tokens."""
    budget = Budget(10, 1, 5.0)
    assert 0.0 == budget.take(5.0)
    assert budget.take(4.0) > 0
