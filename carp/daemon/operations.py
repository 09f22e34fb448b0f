"""The operations of the control socket: a request in, the fields of its answer out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp.core import events as ev
from carp.core.reader import NAME
from carp.daemon.configfile import too_many
from carp.daemon.control import VERSION, RequestError
from carp.daemon.status import link_status, segment_status, vhost_status
from carp.daemon.store import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.daemon.control import Client
    from carp.daemon.service import Service
    from carp.slots import Slot

MAINTENANCE: Final = "maintenance"
COALESCE: Final = 0.05
"""s that changes wait for others before a watcher is told."""
_RESERVED: Final = "health:"
MAX_REASONS: Final = 16
"""Reasons for which a vhost can be demoted by hand at a time."""
MAX_NAMES: Final = 1024
"""Names kept for a watcher that does not read; with more it is told everything instead."""


@dataclass(slots=True)
class _News:
    """What a watcher has not been told yet.

    Vhosts by name; whether the host's interfaces changed; whether carpd itself has something new to say; and
    whether it was too much to remember, so that everything is news.
    """

    names: set[str] = field(default_factory=set)
    host: bool = False
    daemon: bool = False
    all: bool = False


class Operations:
    """Carries out requests on a service, and tells watchers what is new."""

    def __init__(self, service: Service) -> None:
        """``service`` does what is more than looking."""
        self._service = service
        self._news: dict[Client, _News] = {}
        self._telling = False

    def carry_out(self, op: str, request: dict[str, Any], client: Client) -> Any:
        """Return the answer's fields, or a coroutine of them. Raises RequestError."""
        operations: dict[str, Callable[[], Any]] = {
            "hello": self._service.about,
            "status": self.status,
            "drops": self._drops,
            "metrics": lambda: {"text": "".join(self._service.metrics_text())},
            "reload": self._reload,
            "apply": lambda: self._apply(request),
            "watch": lambda: self._watch(request, client),
            "handover": lambda: self._hand_over(self._slot(request)),
            "demote": lambda: self._demote(self._slot(request), request, undo=False),
            "undemote": lambda: self._demote(self._slot(request), request, undo=True),
            "maintenance": lambda: self._maintain(request),
        }
        if op not in operations:
            msg = f"op: {op!r} is not one of {', '.join(sorted(operations))}"
            raise RequestError(msg)
        return operations[op]()

    def _slot(self, request: dict[str, Any]) -> Slot:
        slots, name = self._service.engine.slots, request.get("name")
        slot = slots.get(name) if isinstance(name, str) else None
        if slot is None:
            msg = f"name: {name!r} is no vhost here; there are {', '.join(sorted(slots)) or 'none'}"
            raise RequestError(msg)
        return slot

    def status(self) -> dict[str, Any]:
        """Return everything there is to show."""
        now = asyncio.get_running_loop().time()
        engine = self._service.engine
        return {
            "daemon": self._service.about(),
            "vhosts": [self._one(slot, now) for slot in engine.slots.values()],
            "interfaces": self._interfaces(now),
            "links": self._links(),
        }

    def _interfaces(self, now: float) -> list[dict[str, Any]]:
        engine, foreign = self._service.engine, self._service.foreign
        return [
            segment_status(segment, engine.links.link(segment.ifindex), foreign.shown(segment.name, now))
            for segment in engine.segments()
        ]

    def _links(self) -> list[dict[str, Any]]:
        return [link_status(link) for link in self._service.engine.links.shown()]

    def _one(self, slot: Slot, now: float) -> dict[str, Any]:
        name = slot.config.name
        return vhost_status(slot, self._service.changes.owner(name), now, self._service.care.statuses(name))

    def _drops(self) -> dict[str, Any]:
        engine = self._service.engine
        return {
            "vhosts": {name: dict(slot.member.vhost.drops) for name, slot in engine.slots.items()},
            "interfaces": {segment.name: dict(segment.drops) for segment in engine.segments()},
        }

    async def _reload(self) -> dict[str, Any]:
        problem = await self._service.read_file()
        if problem:
            raise RequestError(problem)
        return {}

    def _hand_over(self, slot: Slot) -> dict[str, Any]:
        state = slot.member.vhost.state.value
        if state != "MASTER":
            msg = f"name: {slot.config.name!r} is {state} here; only a master hands over"
            raise RequestError(msg)
        self._service.engine.handle(slot, ev.StepDown())
        return {"state": "handing over"}

    def _apply(self, request: dict[str, Any]) -> Any:
        """Check that it is a set of settings, and of which object."""
        uid, generation, cluster = (request.get(key) for key in ("uid", "generation", "cluster"))
        vhosts = request.get("vhosts")
        if not isinstance(vhosts, list):
            msg = "vhosts: a list is required"
            raise RequestError(msg)
        excess = too_many(len(vhosts))
        if excess is not None:
            raise RequestError(str(excess))
        if not (isinstance(uid, str) and isinstance(generation, int) and isinstance(cluster, str)):
            msg = "uid, generation and cluster: which object these settings come from is required"
            raise RequestError(msg)
        restored, forget = (request.get(key) is True for key in ("restored", "forget"))
        if forget and vhosts:
            msg = "forget: goes with an empty list of vhosts"
            raise RequestError(msg)
        told = Settings((), uid, generation, cluster)
        return self._service.take_settings(vhosts, told, restored=restored, forget=forget)

    def _demote(self, slot: Slot, request: dict[str, Any], *, undo: bool) -> dict[str, Any]:
        reason, amount = self._reason(slot, request), 0 if undo else request.get("amount")
        if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= 254:
            msg = f"amount: {_short(amount)} is not between 0 and 254"
            raise RequestError(msg)
        by_hand = [r for r in slot.member.vhost.demotions if r != MAINTENANCE and not r.startswith(_RESERVED)]
        given = set(by_hand) - {standing for standing, _ in slot.config.demotions}
        if amount and reason not in given and len(given) >= MAX_REASONS:
            msg = f"reason: {reason!r} would be one more than the {MAX_REASONS} at a time; undemote another"
            raise RequestError(msg)
        self._service.engine.handle(slot, ev.Demote(reason, amount))
        self.noticed(slot.config.name)
        return {"demotion": slot.member.vhost.demotion}

    def _reason(self, slot: Slot, request: dict[str, Any]) -> str:
        """Return a reason that whoever asks may use. Raises RequestError."""
        reason, name = request.get("reason"), slot.config.name
        if not isinstance(reason, str) or not reason or reason == MAINTENANCE or reason.startswith(_RESERVED):
            msg = f"reason: {_short(reason)} is empty or reserved; give a word of your own"
            raise RequestError(msg)
        if not NAME.fullmatch(reason):
            msg = f"reason: {_short(reason)} is no word: 1 to 63 letters, digits, '-', '_' or '.'"
            raise RequestError(msg)
        if reason in dict(slot.config.demotions):
            msg = f"reason: {reason!r} stands in the settings of vhost {name!r}: change it there"
            raise RequestError(msg)
        return reason

    async def _maintain(self, request: dict[str, Any]) -> dict[str, Any]:
        on = request.get("on")
        if not isinstance(on, bool):
            msg = f"on: {on!r} is neither true nor false"
            raise RequestError(msg)
        persisted = await self._service.set_maintenance(on=on)
        return {"maintenance": on, "persisted": persisted}

    # --- watchers --------------------------------------------------------------------------------

    def _watch(self, request: dict[str, Any], client: Client) -> dict[str, Any]:
        self._news[client] = _News()
        client.on_close = lambda: self._forget(client)
        client.on_drain = self._tell_soon
        return {"event": "snapshot", **self.status(), "watch": request.get("id")}

    def _forget(self, client: Client) -> None:
        self._news.pop(client, None)

    def noticed(self, name: str) -> None:
        """Take note that a vhost has something new to show."""
        for news in self._news.values():
            news.names.add(name)
            if len(news.names) > MAX_NAMES:
                news.names, news.all = set(), True
        if self._news:
            self._tell_soon()

    def host_changed(self) -> None:
        """Take note that interfaces of the host, or who else speaks there, are not what they were."""
        for news in self._news.values():
            news.host = True
        if self._news:
            self._tell_soon()

    def daemon_changed(self) -> None:
        """Take note that carpd has something new to say of itself."""
        for news in self._news.values():
            news.daemon = True
        if self._news:
            self._tell_soon()

    def _tell_soon(self) -> None:
        if not self._telling:
            self._telling = True
            asyncio.get_running_loop().call_later(COALESCE, self._tell)

    def _tell(self) -> None:
        """Tell each watcher that reads what is new since it was told; for others it adds up, by name."""
        self._telling = False
        now = asyncio.get_running_loop().time()
        for client, news in self._news.items():
            if client.paused or not (news.names or news.host or news.daemon or news.all):
                continue
            self._news[client] = _News()
            if news.all:
                client.send({"v": VERSION, "event": "snapshot", **self.status(), "gone": []})
                continue
            slots = [(name, self._service.engine.slots.get(name)) for name in sorted(news.names)]
            shown = [self._one(slot, now) for _, slot in slots if slot is not None]
            gone = [name for name, slot in slots if slot is None]
            host = {"interfaces": self._interfaces(now), "links": self._links()} if news.host else {}
            told = {"daemon": self._service.about(), "vhosts": shown, "gone": gone, **host}
            client.send({"v": VERSION, "event": "changes", **told})


def _short(value: object) -> str:
    """Return what was given, for a refusal: whoever sends a megabyte does not get it back."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
