"""Bring a running engine to a wanted set of vhosts: add, change in place, replace by handover, remove.

Several sources (a file, the socket) each own their vhosts; none can touch another's. A vhost that goes is
handed over first; one whose vhid or interface changes is handed over and started anew.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.state import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carp.core.config import VhostConfig
    from carp.engine import Engine
    from carp.slots import Slot
    from carp.state import Memory

log: Final = logging.getLogger("carp.changes")


async def breathe() -> None:
    """Let everything that is due run: long work goes in small steps between adverts."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one vhost: added, changed, unchanged, replaced, removed or refused (with a problem)."""

    name: str
    result: str
    problem: str = ""


class Changes:
    """The wanted sets of all sources, and the steps still under way."""

    def __init__(self, engine: Engine, memory: Callable[[VhostConfig], Memory | None]) -> None:
        """``memory`` opens the runtime state of a new vhost."""
        self._engine = engine
        self._memory = memory
        self._owners: dict[str, str] = {}
        self._leaving: dict[str, VhostConfig | None] = {}
        """Vhosts that are being handed over, and what comes in their place."""
        self._left = asyncio.Event()

    def owner(self, name: str) -> str:
        """Return the source that a vhost belongs to."""
        return self._owners.get(name, "")

    async def apply(
        self, source: str, configs: Sequence[VhostConfig], *, keep: Iterable[str] = ()
    ) -> list[Outcome]:
        """Make ``configs`` the whole wanted set of a source; vhosts named in ``keep`` stay as they are.

        The same set again changes nothing and sends nothing. The election gets its turn between vhosts.
        """
        outcomes = []
        wanted = set(keep)
        for config in configs:
            await breathe()
            problem = self._clash(source, config)
            if problem:
                outcomes.append(Outcome(config.name, "refused", problem))
                wanted.add(config.name)
            else:
                wanted.add(config.name)
                outcomes.append(self._try(source, config))
        for name in [n for n, owner in self._owners.items() if owner == source and n not in wanted]:
            await breathe()
            self._remove(name)
            outcomes.append(Outcome(name, "removed"))
        if any(outcome.result == "added" for outcome in outcomes):
            self._engine.plan_settle()
        return outcomes

    def _clash(self, source: str, config: VhostConfig) -> str:
        """Return why a vhost cannot be taken beside those of other sources."""
        owner = self._owners.get(config.name, source)
        if owner != source:
            return f"name: {config.name!r} belongs to the {owner}"
        own = {vip.ip for vip in config.addresses}
        for slot in self._engine.slots.values():
            other = slot.config
            if other.name == config.name or self._owners.get(other.name) == source:
                continue
            if other.vhid == config.vhid and other.interface == config.interface:
                return f"vhid: {config.vhid} on {config.interface} belongs to vhost {other.name!r}"
            for vip in other.addresses:
                if vip.ip in own:
                    return f"addresses: {vip.ip} belongs to vhost {other.name!r}"
        # A vhost that does not run yet waits for such an address, with the reason.
        taken = [ip for ip in own if ip not in self._engine.links.own and self._engine.links.elsewhere(ip)]
        if taken and config.name in self._engine.slots:
            return f"addresses: another carp process on this host has {min(taken, key=str)}"
        return ""

    def _try(self, source: str, config: VhostConfig) -> Outcome:
        try:
            return Outcome(config.name, self._put(source, config))
        except BusyError as error:
            return Outcome(config.name, "refused", str(error))

    def _put(self, source: str, config: VhostConfig) -> str:
        slot = self._engine.slots.get(config.name)
        if slot is None:
            self._engine.add(config, self._memory(config))
            self._owners[config.name] = source
            return "added"
        self._owners[config.name] = source
        if config.name in self._leaving:
            self._leaving[config.name] = config
            return "replaced"
        if config == slot.config:
            return "unchanged"
        if (config.vhid, config.interface, config.manage) == (
            slot.config.vhid,
            slot.config.interface,
            slot.config.manage,
        ):
            self._engine.reconfigure(slot, config)
            return "changed"
        self._hand_over(slot, config)
        return "replaced"

    def _remove(self, name: str) -> None:
        del self._owners[name]
        slot = self._engine.slots.get(name)
        if slot is not None:
            self._hand_over(slot, None)

    def _hand_over(self, slot: Slot, successor: VhostConfig | None) -> None:
        name = slot.config.name
        started = name in self._leaving
        self._leaving[name] = successor
        if not started:
            self._engine.handle(slot, ev.Stop(release=True))

    def stopped(self, name: str) -> None:
        """Take note that a vhost has stopped: forget it, or start what comes in its place.

        Not to be called from within an event of the engine.
        """
        slot = self._engine.slots.get(name)
        if name not in self._leaving:
            if slot is not None and slot.withdrawn:
                slot.member.vhost.reason = slot.withdrawn
            elif slot is not None:
                self._engine.restore(slot)
            return
        successor = self._leaving.pop(name)
        self._left.set()
        old = self._engine.slots[name]
        self._engine.forget(old)
        if successor is not None:
            self._succeed(old, successor)

    async def quiet(self, patience: float) -> bool:
        """Wait until nothing is being handed over, at most ``patience`` s; whether that is so."""
        try:
            async with asyncio.timeout(patience):
                while self._leaving:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True

    def _succeed(self, old: Slot, successor: VhostConfig) -> None:
        try:
            new = self._engine.add(successor, self._memory(successor))
        except BusyError as error:
            # Whoever locked it in this moment has it now; the next set that is given tries again.
            log.error("%s", error)  # noqa: TRY400 (not a bug)
            del self._owners[successor.name]
            return
        # What demotes this node demotes it under any vhid.
        new.member.vhost.demotions.update(old.member.vhost.demotions)
        self._engine.plan_settle()
