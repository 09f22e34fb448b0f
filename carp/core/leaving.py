"""A planned handover: bow out until somebody answers, answer a little longer, let go (design.md rule 4)."""

from __future__ import annotations

import enum
from typing import Final

REPEAT: Final = 0.1
"""s between bow-outs."""
PATIENCE: Final = 1.5
"""s until nobody is going to answer."""
LINGER: Final = 0.1
"""s for which we go on answering after the successor's advert, while caches turn to it."""


class Purpose(enum.Enum):
    """Why a master goes."""

    STOP = "stop"
    STEP_DOWN = "step-down"
    DEMOTION = "demotion"


class Step(enum.Enum):
    """What is due."""

    WAIT = 0
    BOW_OUT = 1
    LET_GO = 2
    UNANSWERED = 3


class Leaving:
    """One handover. Times in seconds of the monotonic clock."""

    def __init__(self, now: float, purpose: Purpose, *, release: bool = False) -> None:
        """``release``: let go even if nobody answers."""
        self.purpose = purpose
        self.release = release
        self._give_up_at = now + PATIENCE
        self._next_at = now
        self.answered_at: float | None = None

    def due(self) -> float:
        """Return when the next step is."""
        return self._next_at

    def answer(self, now: float) -> None:
        """Take note that a successor advertised: no more bow-outs."""
        if self.answered_at is None:
            self.answered_at = now
            self._next_at = now + LINGER

    def step(self, now: float) -> Step:
        """Return what is due at ``now`` and move on to the next step."""
        if now < self._next_at:
            return Step.WAIT
        if self.answered_at is not None:
            return Step.LET_GO
        if now >= self._give_up_at:
            return Step.UNANSWERED
        # From now, not from when it was due: a late step must not be followed by a burst.
        self._next_at = min(now + REPEAT, self._give_up_at)
        return Step.BOW_OUT
