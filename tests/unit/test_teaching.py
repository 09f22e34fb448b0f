"""Bow-outs of a backup that teach the master something (carp.core.teaching)."""

from __future__ import annotations

from carp.core.teaching import TEACH_EVERY, Teacher


def test_a_refused_seal_is_answered_at_most_once_a_second() -> None:
    """However many adverts are refused."""
    teacher = Teacher()
    said = [now for now in (0.0, 0.5, TEACH_EVERY, 1.5, 2 * TEACH_EVERY) if teacher.refused(now)]
    assert [0.0, 1.0, 2.0] == said
