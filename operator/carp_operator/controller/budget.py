"""How many requests that change something may go out: a token bucket."""

from __future__ import annotations

import threading


class Budget:
    """``rate`` tokens a second, at most ``burst`` saved up. May be used by several threads."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        """Begin full."""
        self.rate = rate
        self.burst = burst
        self.waited = 0
        """How often somebody had to wait."""
        self._tokens = float(burst)
        self._at = now
        self._lock = threading.Lock()

    def take(self, now: float, spare: float = 0.0) -> float:
        """Take a token and return 0, or return for how many s there is none.

        ``spare`` tokens are left to those who are in a greater hurry.
        """
        with self._lock:
            self._fill(now)
            if self._tokens >= 1 + spare:
                self._tokens -= 1
                return 0.0
            self.waited += 1
            return (1 + spare - self._tokens) / self.rate

    def _fill(self, now: float) -> None:
        self._tokens = min(float(self.burst), self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
