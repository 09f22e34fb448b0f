"""Log lines about what lasts: one when it begins or changes, one when it is over."""

from __future__ import annotations

import logging
from typing import Final

log: Final = logging.getLogger("carp.agent")


class Troubles:
    """What is wrong now, by subject."""

    def __init__(self) -> None:
        """Begin with nothing wrong."""
        self._now: dict[str, str] = {}

    def set(self, subject: str, problem: str) -> None:
        """Say that something is wrong, unless the same was said last; an empty problem: it is over."""
        before = self._now.get(subject, "")
        if problem == before:
            return
        self._now[subject] = problem
        if problem:
            log.warning("%s: %s", subject, problem)
        else:
            log.info("%s: fine again", subject)
