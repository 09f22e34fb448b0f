"""What health checks do to vhosts: demote, and where asked for, withdraw when all of them fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp import report
from carp.core import events as ev
from carp.core.config import WhenAllFail

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.core.health import Check
    from carp.core.health_monitor import CheckStatus
    from carp.engine import Engine
    from carp.health import Checks
    from carp.slots import Slot

ALL_FAIL = "all health checks fail"


class Care:
    """Keeps the checks of all vhosts in line with their settings. Without checks nothing is imported."""

    def __init__(self, engine: Engine, leaving: Callable[[str], bool] = lambda _: False) -> None:
        """Begin with no checks; ``leaving`` tells whether a vhost is being removed or replaced."""
        self._engine = engine
        self._leaving = leaving
        self._checks: Checks | None = None
        self._known: dict[str, tuple[Check, ...]] = {}
        self._failed: set[str] = set()
        """Vhosts all of whose checks fail, whatever their settings make of that."""

    def update(self) -> None:
        """Start, change and stop checks so that they are those of the vhosts in the engine.

        Whether a vhost is withdrawn is judged anew each time: its `whenAllFail` may have changed, or another
        slot stand in its place.
        """
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
            self._judge(name)
        self._known = wanted

    def _running(self) -> Checks:
        if self._checks is None:
            from carp.health import Checks  # noqa: PLC0415 (only who has checks pays)

            self._checks = Checks(self._ask)
        return self._checks

    def _drop(self, checks: Checks, name: str) -> None:
        """End a vhost's checks, and what they did to it."""
        checks.stop(name)
        self._failed.discard(name)
        slot = self._engine.slots.get(name)
        if slot is None:
            return
        for check in self._known[name]:
            self._engine.handle(slot, ev.Demote(check.reason, 0))
        self._judge(name)

    def _reporter(self, name: str) -> Callable[[str, int, str], None]:
        def tell(reason: str, amount: int, detail: str) -> None:
            slot = self._engine.slots.get(name)
            if slot is not None:
                report.verdict(name, reason, amount, detail)
                self._engine.handle(slot, ev.Demote(reason, amount))

        return tell

    def _all_failed(self, name: str) -> Callable[[bool], None]:
        def tell(failed: bool) -> None:  # noqa: FBT001 (the signature that Checks calls)
            if failed:
                self._failed.add(name)
            else:
                self._failed.discard(name)
            self._judge(name)

        return tell

    def _judge(self, name: str) -> None:
        """Withdraw a vhost or let it take part again, if its checks and settings now say so."""
        slot = self._engine.slots.get(name)
        # One that goes is stopping already, and must not be started again; its successor is judged by itself.
        if slot is None or self._leaving(name):
            return
        release = name in self._failed and slot.config.when_all_fail is WhenAllFail.RELEASE
        if release and not slot.withdrawn and self._can_ask(slot):
            report.withdrawn(name, ALL_FAIL)
            self._engine.withdraw(slot, ALL_FAIL)
        elif not release and slot.withdrawn == ALL_FAIL:
            report.restored(name, self._cause_of_return(name, slot.config))
            self._engine.restore(slot)

    def _can_ask(self, slot: Slot) -> bool:
        """Whether all its checks can say that they are well again; one of a gateway needs the interface.

        Without it a vhost holds nothing; withdrawn, it would not be put onto it when it comes up.
        """
        from carp.core.health import Gateway  # noqa: PLC0415 (only who has checks pays)

        checks = slot.config.health_checks
        return slot.port.segment is not None or not any(isinstance(c.target, Gateway) for c in checks)

    def _cause_of_return(self, name: str, config: VhostConfig) -> str:
        if not config.health_checks:
            return "it has no health checks any more"
        return "whenAllFail is Keep now" if name in self._failed else "a health check is up again"

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
