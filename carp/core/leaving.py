"""A planned handover: bow out until somebody answers, answer a little longer, let go (design.md rule 4)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.seal import newer

if TYPE_CHECKING:
    from carp.core.config import VhostConfig
    from carp.core.seal import Seal

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

    def __init__(self, now: float, purpose: Purpose, seal: Seal, *, release: bool = False) -> None:
        """``seal`` tells the times of our bow-outs; ``release``: let go even if nobody answers."""
        self.purpose = purpose
        self.release = release
        self._seal = seal
        self._first_bow_out: int | None = None
        self._give_up_at = now + PATIENCE
        self._next_at = now
        self._started = False
        self.answered_at: float | None = None

    def due(self) -> float:
        """Return when the next step is."""
        return self._next_at

    def answer(self, now: float, sealed_time: int | None = None) -> None:
        """Take note of an ordinary advert: if it answers us, no more bow-outs.

        A member that has heard a bow-out seals later than it; an older ``sealed_time`` was under way
        already, from a master that has yielded since. A foreign advert has none and counts.
        """
        self._note_first_bow_out()
        first = self._first_bow_out
        under_way = sealed_time is not None and first is not None and not newer(sealed_time, first)
        if self.answered_at is None and not under_way:
            self.answered_at = now
            self._next_at = now + LINGER

    def _note_first_bow_out(self) -> None:
        """Remember the time of the first bow-out: the last one sent, until the second goes out."""
        if self._first_bow_out is None:
            self._first_bow_out = self._seal.last

    def step(self, now: float) -> Step:
        """Return what is due at ``now`` and move on to the next step."""
        if now < self._next_at:
            return Step.WAIT
        if self._started:
            self._note_first_bow_out()
        self._started = True
        if self.answered_at is not None:
            return Step.LET_GO
        if now >= self._give_up_at:
            return Step.UNANSWERED
        # From now, not from when it was due: a late step must not be followed by a burst.
        self._next_at = min(now + REPEAT, self._give_up_at)
        return Step.BOW_OUT


def farewell(
    config: VhostConfig, leaving: Leaving | None, lapses_at: float
) -> tuple[tuple[ev.Effect, ...], bool]:
    """Return what a stop ends with, and whether it leaves the addresses to their lease.

    They are deleted where a successor holds them, or nothing else would take them away.
    """
    gone = leaving is not None and (leaving.release or leaving.answered_at is not None)
    last: tuple[ev.Effect, ...] = () if gone else (ev.Leave(lapses_at),)
    if config.manage and (gone or not config.fenced):
        last += (ev.Release(config.addresses),)
    if gone or config.scripts.on_exit:
        last += (ev.Script(up=False),)
    return last, config.fenced and not gone
