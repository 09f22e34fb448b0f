"""Who is better placed (carp-protocol.md sections 5.2, 6)."""

from __future__ import annotations

import pytest

from carp.core.election import Standing, compare
from pair import config, plain

BETTER, TIE, WORSE = Standing.BETTER, Standing.TIE, Standing.WORSE


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        ((1, 0, 0), (1, 0, 0), TIE),
        ((1, 0, 0), (1, 1, 0), WORSE),
        ((1, 1, 0), (1, 0, 0), BETTER),
        ((1, 255, 0), (2, 0, 0), WORSE),
        ((2, 0, 0), (1, 255, 0), BETTER),
        ((0, 255, 0), (1, 0, 0), WORSE),
        ((1, 0, 0), (255, 255, 0), WORSE),
    ],
)
def test_without_demotion_the_shorter_interval_is_better(
    own: tuple[int, int, int], theirs: tuple[int, int, int], expected: Standing
) -> None:
    """Both bytes zero: interval against interval, as in every implementation."""
    assert expected is compare(own, plain(config(), *theirs))


@pytest.mark.parametrize(
    ("own", "theirs", "expected"),
    [
        # theirs < ours: theirs is better whatever the intervals (5.2, last line).
        ((1, 0, 2), (1, 100, 1), BETTER),
        ((1, 0, 1), (2, 0, 0), BETTER),
        ((1, 100, 1), (1, 0, 0), BETTER),
        # theirs > ours: we stay even with a longer interval.
        ((1, 100, 0), (1, 0, 1), WORSE),
        ((1, 0, 0), (1, 0, 1), WORSE),
        ((2, 0, 1), (1, 0, 255), WORSE),
        # Equal demotions: the ordinary comparison.
        ((1, 0, 5), (1, 0, 5), TIE),
        ((1, 0, 5), (1, 1, 5), WORSE),
        ((1, 1, 5), (1, 0, 5), BETTER),
    ],
)
def test_demotion_goes_before_the_interval(
    own: tuple[int, int, int], theirs: tuple[int, int, int], expected: Standing
) -> None:
    """As soon as byte 4 of either side is set OpenBSD's rule goes first: the lower is better."""
    assert expected is compare(own, plain(config(), *theirs))
