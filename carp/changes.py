"""Bring a running engine to a wanted set of vhosts: add, change in place, replace by handover, remove.

Several sources (a file, the socket) each own their vhosts; none can touch another's. A vhost that goes is
handed over first; one whose vhid or interface changes is handed over and started anew. Where it is the vhid
alone and nobody takes over, the new one resumes the lease of the old.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.links import Place, resolve
from carp.state import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from carp.core.config import VhostConfig
    from carp.engine import Engine
    from carp.links import Inventory
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


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Settings that are wanted and cannot be had, and why."""

    config: VhostConfig
    problem: str


class Changes:
    """The wanted sets of all sources, and the steps still under way."""

    def __init__(
        self,
        engine: Engine,
        memory: Callable[[VhostConfig], Memory | None],
        settle: Callable[[str], None] | None = None,
    ) -> None:
        """``memory`` opens the runtime state of a new vhost.

        ``settle`` is called for one that is to go and stopped long ago, and has to call `stopped`.
        """
        self._engine = engine
        self._memory = memory
        self._settle = self.stopped if settle is None else settle
        self._owners: dict[str, str] = {}
        self._refused: dict[str, dict[str, _Refusal]] = {}
        """By source and name: what waits until nothing is in its way any more."""
        self._leaving: dict[str, VhostConfig | None] = {}
        """Vhosts that are being handed over, and what comes in their place."""
        self._left = asyncio.Event()
        self._inventory: Inventory | None = None
        """What the host has, as the set that is applied sees it."""

    def owner(self, name: str) -> str:
        """Return the source that a vhost belongs to."""
        return self._owners.get(name, "")

    def leaving(self, name: str) -> bool:
        """Whether a vhost is being handed over for good: nothing may let it take part again."""
        return name in self._leaving

    def refused(self, source: str) -> set[str]:
        """Return the names whose settings are wanted and not in force."""
        return set(self._refused.get(source, ()))

    def problems(self) -> list[str]:
        """Return why settings that are wanted are not in force."""
        return [
            f"{name}: {each.problem}" for refused in self._refused.values() for name, each in refused.items()
        ]

    async def apply(
        self, source: str, configs: Sequence[VhostConfig], *, keep: Iterable[str] = ()
    ) -> list[Outcome]:
        """Make ``configs`` the whole wanted set of a source; vhosts named in ``keep`` stay as they are.

        The same set again changes nothing and sends nothing. The election gets its turn between vhosts.
        What is refused waits for `retry`.
        """
        outcomes = []
        self._inventory = None
        wanted = set(keep)
        before = self._refused.get(source, {})
        self._refused[source] = {name: before[name] for name in wanted if name in before}
        for config in configs:
            await breathe()
            wanted.add(config.name)
            outcomes.append(self._try(source, config))
        for name in [n for n, owner in self._owners.items() if owner == source and n not in wanted]:
            await breathe()
            self._remove(name)
            outcomes.append(Outcome(name, "removed"))
        if any(outcome.result == "added" for outcome in outcomes):
            self._engine.plan_settle()
        return outcomes

    async def retry(self) -> list[tuple[str, Outcome]]:
        """Try again what was refused, and return what can be taken now, with its source.

        To be called when something may have gone that was in the way; not beside `apply`.
        """
        taken = []
        self._inventory = None
        for source, refused in list(self._refused.items()):
            for refusal in list(refused.values()):
                await breathe()
                outcome = self._try(source, refusal.config)
                if not outcome.problem:
                    taken.append((source, outcome))
        if any(outcome.result == "added" for _, outcome in taken):
            self._engine.plan_settle()
        return taken

    def _clash(self, source: str, config: VhostConfig) -> str:
        """Return why a vhost cannot be taken beside those of other sources."""
        owner = self._owners.get(config.name, source)
        if owner != source:
            return f"name: {config.name!r} belongs to the {owner}"
        slot = self._engine.slots.get(config.name)
        if slot is None or slot.config != config:
            rival = self._rival(source, config)
            if rival:
                return rival
        problem = "" if slot is None else self._obstacle(slot, config)
        if problem:
            return problem
        # A vhost that does not run yet waits for such an address, with the reason.
        own = {vip.ip for vip in config.addresses}
        taken = [ip for ip in own if ip not in self._engine.links.own and self._engine.links.elsewhere(ip)]
        if taken and slot is not None:
            return f"addresses: another carp process on this host has {min(taken, key=str)}"
        return ""

    def _obstacle(self, slot: Slot, new: VhostConfig) -> str:
        """Return why what runs where it is could not with new settings: then it goes on with the old ones."""
        old = slot.config
        if old == new or old.interface != new.interface:
            return ""
        found = self._resolve(slot, new)
        if isinstance(found, str):
            return found if isinstance(self._resolve(slot, old), Place) else ""
        return "" if self._moves(slot, new) else self._engine.listen(slot, new)

    def _resolve(self, slot: Slot, config: VhostConfig) -> Place | str:
        if self._inventory is None:
            self._inventory = self._engine.links.inventory()
        return resolve(config, self._inventory, slot.kept)

    def _moves(self, slot: Slot, new: VhostConfig) -> bool:
        """Whether new addresses belong to another interface than the one in use."""
        if new.interface.name or slot.port.segment is None:
            return False
        found = self._resolve(slot, new)
        return isinstance(found, Place) and found.ifindex != slot.port.segment.ifindex

    def _rival(self, source: str, config: VhostConfig) -> str:
        """Return what of a vhost belongs to one of another source, or to one that still has to let it go."""
        own = {vip.ip for vip in config.addresses}
        for other in self._rivals(source, config.name):
            shown = f"{other.name!r}{', which is handing over' if other.name in self._leaving else ''}"
            if other.vhid == config.vhid and other.interface == config.interface:
                return f"vhid: {config.vhid} on {config.interface} belongs to vhost {shown}"
            # On another interface a link-local address of IPv6 is another; selectors may mean the same one.
            names = {config.interface.name, other.interface.name}
            apart = len(names) == 2 and "" not in names
            for vip in other.addresses:
                if vip.ip in own and not (apart and vip.version == 6 and vip.ip.is_link_local):
                    return f"addresses: {vip.ip} belongs to vhost {shown}"
        return ""

    def _rivals(self, source: str, name: str) -> Iterator[VhostConfig]:
        """Yield the settings, in force or about to be, that another source's vhost must not touch."""
        for slot in self._engine.slots.values():
            other = slot.config
            if other.name == name or self._owners.get(other.name) == source:
                continue
            yield other
            successor = self._leaving.get(other.name)
            if successor is not None:
                yield successor

    def _try(self, source: str, config: VhostConfig) -> Outcome:
        problem, result = self._clash(source, config), "refused"
        if not problem:
            try:
                result = self._put(source, config)
            except BusyError as error:
                problem = str(error)
        refused = self._refused.setdefault(source, {})
        if problem:
            refused[config.name] = _Refusal(config, problem)
        else:
            refused.pop(config.name, None)
        return Outcome(config.name, result, problem)

    def _put(self, source: str, config: VhostConfig) -> str:
        slot = self._engine.slots.get(config.name)
        if slot is None:
            self._engine.add(config, self._memory(config))
            self._owners[config.name] = source
            return "added"
        self._owners[config.name] = source
        if config.name in self._leaving:
            self._hand_over(slot, config)
            return "replaced"
        if config == slot.config:
            return "unchanged"
        old = slot.config
        same = (config.vhid, config.interface, config.manage) == (old.vhid, old.interface, old.manage)
        if not same or self._moves(slot, config):
            self._hand_over(slot, config)
            return "replaced"
        self._engine.reconfigure(slot, config)
        return "changed"

    def _remove(self, name: str) -> None:
        del self._owners[name]
        slot = self._engine.slots.get(name)
        if slot is not None:
            self._hand_over(slot, None)

    def _hand_over(self, slot: Slot, successor: VhostConfig | None) -> None:
        name = slot.config.name
        started = name in self._leaving
        self._leaving[name] = successor
        stop = ev.Stop(release=not _continues(slot.config, successor))
        if started:
            if stop.release and not slot.member.vhost.stopped:
                self._engine.handle(slot, stop)
            return
        if slot.member.vhost.stopped:
            # Its checks have withdrawn it: it says that it has stopped only once, and did.
            asyncio.get_running_loop().call_soon(self._settle, name)
        else:
            self._engine.handle(slot, stop)

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
            # Whoever locked it in this moment has it now.
            log.error("%s", error)  # noqa: TRY400 (not a bug)
            source = self._owners.pop(successor.name)
            self._refused.setdefault(source, {})[successor.name] = _Refusal(successor, str(error))
            return
        if old.member.vhost.left_lease and _continues(old.config, successor):
            new.inherit(old)
        # What demotes this node demotes it under any vhid.
        new.member.vhost.demotions.update(old.member.vhost.demotions)
        self._engine.plan_settle()


def _continues(old: VhostConfig, new: VhostConfig | None) -> bool:
    """Whether what comes in the place of a vhost holds the same addresses in the same way."""
    if new is None or not (old.fenced and new.fenced):
        return False
    return (old.interface, set(old.addresses)) == (new.interface, set(new.addresses))
