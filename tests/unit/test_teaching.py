"""Bow-outs of a backup that teach the master something (carp.core.teaching)."""

from __future__ import annotations

import pytest

from carp.core import events as ev
from carp.core.teaching import FRESH, TEACH_EVERY, Teacher
from carp.core.transitions import Cause


@pytest.mark.parametrize("cause", [Cause.LEASE_LAPSED, Cause.LINK_DOWN])
def test_a_master_that_fell_silent_says_so_once(cause: Cause) -> None:
    """The first master that it hears afterwards is told, and only that one."""
    teacher = Teacher()
    teacher.let_go(cause)
    assert (ev.Send(bow_out=True, until=5 + FRESH),) == teacher.heard(5, sealed_only=True)
    assert () == teacher.heard(6, sealed_only=True)


@pytest.mark.parametrize("cause", [Cause.BETTER_MASTER, Cause.STOPPED])
def test_who_was_heard_says_nothing(cause: Cause) -> None:
    """A master that yielded or bowed out has said what there was to say."""
    teacher = Teacher()
    teacher.let_go(cause)
    assert () == teacher.heard(5, sealed_only=True)


def test_among_foreign_speakers_it_says_nothing() -> None:
    """Their backups would take the bow-out for their master's and claim."""
    teacher = Teacher()
    teacher.let_go(Cause.LEASE_LAPSED)
    assert () == teacher.heard(5, sealed_only=False)
    assert () == teacher.heard(6, sealed_only=True)


def test_a_refused_seal_is_answered_at_most_once_a_second() -> None:
    """However many adverts are refused."""
    teacher = Teacher()
    said = [now for now in (0.0, 0.5, TEACH_EVERY, 1.5, 2 * TEACH_EVERY) if teacher.refused(now)]
    assert [0.0, 1.0, 2.0] == said
