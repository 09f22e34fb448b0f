"""The machine of one health check: results in, demotion out. Without I/O and clock."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carp.core.health import Check


class Health(enum.StrEnum):
    """What is known of a check's target."""

    UNKNOWN = "unknown"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check now says: the demotion (0: none) and why, for people."""

    amount: int
    detail: str


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """One check at one moment, for the status. Times are of the monotonic clock, None: not yet."""

    name: str
    target: str
    health: Health
    amount: int
    flapping: bool
    detail: str
    since: float | None
    checked: float | None
    successes: int
    failures: int
    """Results in a row; one of both is 0."""


class Monitor:
    """Judges the results of one check: rise and fall, and flap damping.

    Until the first result nothing is known, which is no demotion. The first result decides at once, or a node
    that fails would count as well after each start; from then on `rise` and `fall` do. A flapping check stays
    demoted until there was no change for one window.
    """

    def __init__(self, check: Check) -> None:
        """Begin with nothing known."""
        self.check = check
        self.health = Health.UNKNOWN
        self.flapping = False
        self._flips: deque[float] = deque(maxlen=check.flap.count + 1)
        self._since: float | None = None
        self._checked: float | None = None
        self._detail = "not checked yet"
        self._successes = self._failures = 0
        self._confirmed = False

    def reconfigure(self, check: Check) -> None:
        """Take over other settings of the same check; its health stays until results say something else."""
        self.check = check
        self._flips = deque(self._flips, check.flap.count + 1)
        self._successes = self._failures = 0

    @property
    def amount(self) -> int:
        """The demotion now, 0 for none."""
        return self.check.demotion if self.flapping or self.health is Health.DOWN else 0

    @property
    def failed(self) -> bool:
        """Whether it demotes for more than a first result: after that only, ``fall`` failures confirm it.

        A handover too many costs nothing; an address that nobody holds does.
        """
        return self.flapping or (self.health is Health.DOWN and self._confirmed)

    def result(self, ok: bool, detail: str, now: float) -> Verdict | None:  # noqa: FBT001 (what it is about)
        """Take in one result; return the new verdict, None when it is the old one."""
        before = self._said()
        self._detail, self._checked = detail, now
        self._successes, self._failures = (self._successes + 1, 0) if ok else (0, self._failures + 1)
        if self.health is not Health.UP and self._successes >= self._needed():
            self._turn(Health.UP, now)
        elif self.health is not Health.DOWN and self._failures >= self._needed(down=True):
            self._turn(Health.DOWN, now)
        self._confirmed = self.health is Health.DOWN and (
            self._confirmed or self._failures >= self.check.fall
        )
        self._damp(now)
        return None if before == self._said() else self.verdict()

    def _said(self) -> object:
        # While it flaps, its ups and downs are no news.
        return self.flapping or self.health

    def _needed(self, *, down: bool = False) -> int:
        if self.health is Health.UNKNOWN:
            return 1
        return self.check.fall if down else self.check.rise

    def _turn(self, health: Health, now: float) -> None:
        if self.health is not Health.UNKNOWN:
            self._flips.append(now)
        self.health, self._since = health, now

    def _damp(self, now: float) -> None:
        while self._flips and now - self._flips[0] >= self.check.flap.window:
            self._flips.popleft()
        if len(self._flips) > self.check.flap.count:
            self.flapping = True
        elif not self._flips:
            self.flapping = False

    def verdict(self) -> Verdict:
        """Return what the check says now."""
        return Verdict(self.amount, self._text())

    def _text(self) -> str:
        if not self.flapping:
            return self._detail
        window = f"{self.check.flap.window:g} s"
        return f"flapping, demoted until {window} without a change; now {self.health}: {self._detail}"

    def snapshot(self) -> CheckStatus:
        """Return everything that a status shows."""
        return CheckStatus(
            name=self.check.name,
            target=str(self.check.target),
            health=self.health,
            amount=self.amount,
            flapping=self.flapping,
            detail=self._text(),
            since=self._since,
            checked=self._checked,
            successes=self._successes,
            failures=self._failures,
        )
