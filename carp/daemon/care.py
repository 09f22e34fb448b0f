"""What health checks do to vhosts: demote, and where asked for, withdraw when all of them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.core import events as ev
from carp.core.config import WhenAllFail

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.health import Check
    from carp.core.health_monitor import CheckStatus
    from carp.engine import Engine
    from carp.health import Checks

ALL_FAIL = "all health checks fail"


class Care:
    """Keeps the checks of all vhosts in line with their settings. Without checks nothing is imported."""

    def __init__(self, engine: Engine) -> None:
        """Begin with no checks."""
        self._engine = engine
        self._checks: Checks | None = None
        self._known: dict[str, tuple[Check, ...]] = {}

    def update(self) -> None:
        """Start, change and stop checks so that they are those of the vhosts in the engine."""
        wanted = {n: s.config.health_checks for n, s in self._engine.slots.items() if s.config.health_checks}
        if not wanted and self._checks is None:
            return
        checks = self._running()
        for name in [name for name in self._known if name not in wanted]:
            self._drop(checks, name)
        for name, settings in wanted.items():
            if name not in self._known:
                checks.start(name, settings, self._reporter(name), self._all_failed(name))
            elif self._known[name] != settings:
                checks.update(name, settings)
        self._known = wanted

    def _running(self) -> Checks:
        if self._checks is None:
            from carp.health import Checks  # noqa: PLC0415 (only who has checks pays)

            self._checks = Checks(self._ask)
        return self._checks

    def _drop(self, checks: Checks, name: str) -> None:
        """End a vhost's checks, and what they did to it."""
        checks.stop(name)
        slot = self._engine.slots.get(name)
        if slot is None:
            return
        for check in self._known[name]:
            self._engine.handle(slot, ev.Demote(check.reason, 0))
        if slot.withdrawn == ALL_FAIL:
            self._engine.restore(slot)

    def _reporter(self, name: str) -> Callable[[str, int, str], None]:
        def report(reason: str, amount: int, _detail: str) -> None:
            slot = self._engine.slots.get(name)
            if slot is not None:
                self._engine.handle(slot, ev.Demote(reason, amount))

        return report

    def _all_failed(self, name: str) -> Callable[[bool], None]:
        def tell(failed: bool) -> None:  # noqa: FBT001 (the signature that Checks calls)
            slot = self._engine.slots.get(name)
            if slot is None:
                return
            if failed and slot.config.when_all_fail is WhenAllFail.RELEASE:
                self._engine.withdraw(slot, ALL_FAIL)
            elif not failed and slot.withdrawn == ALL_FAIL:
                self._engine.restore(slot)

        return tell

    async def _ask(self, name: str, address: Address) -> bool:
        slot = self._engine.slots.get(name)
        segment = None if slot is None else slot.port.segment
        return segment is not None and await self._engine.ask(segment, address)

    def statuses(self, name: str) -> list[CheckStatus]:
        """Return the state of a vhost's checks."""
        return [] if self._checks is None else self._checks.snapshot(name)

    async def close(self) -> None:
        """End all checks."""
        if self._checks is not None:
            await self._checks.close()
