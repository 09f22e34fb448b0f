"""Write the status when it has changed: at once, at most once a second, the last one always."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.errors import KubeError, NotFound, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carp_operator.agent.metrics import Tally
    from carp_operator.agent.troubles import Troubles

PERIOD: Final = 1.0
"""s between two writes at least."""
LONGEST_SEARCH: Final = 3.0
LONGEST_PAUSE: Final = 30.0
"""s between two attempts at most, where nobody answers and where the server refuses."""


class Writing:
    """Asks for the status to write whenever it was poked, and writes it."""

    def __init__(
        self,
        compose: Callable[[], dict[str, Any] | None],
        send: Callable[[dict[str, Any]], Awaitable[None]],
        *,
        troubles: Troubles,
        tally: Tally,
    ) -> None:
        """``compose`` returns None where there is nothing to write; ``send`` raises KubeError."""
        self._compose = compose
        self._send = send
        self._troubles = troubles
        self._tally = tally
        self._poked = asyncio.Event()
        self._idle = asyncio.Event()
        self._failures = 0

    def poke(self) -> None:
        """Take note that something may have changed."""
        self._idle.clear()
        self._poked.set()

    async def finish(self, patience: float) -> None:
        """Wait until everything is written, for ``patience`` s at most."""
        self.poke()
        try:
            async with asyncio.timeout(patience):
                await self._idle.wait()
        except TimeoutError:
            return

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            if not self._poked.is_set():
                self._idle.set()
            await self._poked.wait()
            self._poked.clear()
            status = self._compose()
            if status is not None:
                await asyncio.sleep(await self._write(status))

    async def _write(self, status: dict[str, Any]) -> float:
        """Write, and return how long to wait before the next."""
        began = asyncio.get_running_loop().time()
        try:
            await self._send(status)
        except KubeError as error:
            self._tally.writes["failed"] += 1
            self._troubles.set("status", str(error))
            if isinstance(error, NotFound):
                # There is nothing to write to; a CarpNode that is made anew is read, which pokes us.
                self._failures = 0
                return PERIOD
            self.poke()
            return max(self._pause(error), error.retry_after)
        self._tally.writes["done"] += 1
        self._troubles.set("status", "")
        self._failures = 0
        return max(0.0, began + PERIOD - asyncio.get_running_loop().time())

    def _pause(self, error: KubeError) -> float:
        longest = LONGEST_SEARCH if isinstance(error, Unreachable) else LONGEST_PAUSE
        pause = min(longest, PERIOD * float(1 << min(self._failures, 10)))
        self._failures += 1
        return pause * random.uniform(1.0, 1.5)  # noqa: S311 (no secret)
