"""carpd: vhosts from a file and from the control socket, in one engine that outlives both."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from carp import __version__
from carp.changes import Changes, breathe
from carp.core import events as ev
from carp.core.errors import ConfigError, ConfigErrors
from carp.core.schema import parse_vhost
from carp.daemon.configfile import load
from carp.daemon.control import VERSION, Control, RequestError
from carp.daemon.status import segment_status, vhost_status
from carp.daemon.store import Settings, Store
from carp.report import Reporter
from carp.run import Process, RunOptions, require_capabilities

if TYPE_CHECKING:
    from carp.changes import Outcome
    from carp.core.config import VhostConfig
    from carp.core.vhost import Vhost
    from carp.daemon.control import Client
    from carp.slots import Slot

log: Final = logging.getLogger("carp.daemon")
FILE: Final = "file"
SOCKET: Final = "socket"
MAINTENANCE: Final = "maintenance"
MAINTENANCE_DEMOTION: Final = 240
COALESCE: Final = 0.05
"""s that changes wait for others before a watcher is told."""


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """How carpd runs; each field is an option of `carp daemon`."""

    config: str
    state_dir: str
    socket: str
    socket_uid: int | None = None
    socket_gid: int | None = None
    release: bool = False


def serve(configs: list[VhostConfig], options: DaemonOptions) -> int:
    """Run carpd until it is told to stop. Raises NoPrivilegeError and BusyError, and OSError."""
    require_capabilities()
    return asyncio.run(Service(options, configs).main())


class Watcher(Reporter):
    """Logs, and tells the service which vhost has something new to show."""

    def __init__(self) -> None:
        """Begin without a service."""
        super().__init__()
        self.service: Service | None = None

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        """Log it and pass it on."""
        super().saw(vhost, effect)
        if self.service is not None:
            self.service.noticed(vhost.config.name, stopped=isinstance(effect, ev.Stopped))


class Service(Process):
    """The daemon's process."""

    def __init__(self, options: DaemonOptions, configs: list[VhostConfig]) -> None:
        """Take the vhosts of the file, already read. Raises BusyError when the state folder is in use."""
        watcher = Watcher()
        super().__init__(RunOptions(options.state_dir, release=options.release), watcher)
        watcher.service = self
        self._daemon = options
        self._configs = configs
        self._store = Store(options.state_dir)
        self._settings = Settings()
        self._persisted = True
        self._file_problem = ""
        self._news: dict[Client, set[str]] = {}
        self._applying = asyncio.Lock()
        self._telling = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Start with the file's vhosts and those that were accepted over the socket before."""
        async with self._applying:
            self._changes = Changes(self.engine, self.memory)
            self._settings = self._store.load() or Settings()
            if self._store.problem:
                log.warning("state: %s", self._store.problem)
            self._report(await self._changes.apply(FILE, self._configs))
            configs, errors = await self._parse(self._settings.vhosts)
            for error in errors:
                log.error("stored settings: %s", error)
            self._report(await self._changes.apply(SOCKET, configs))
            self._stand_back()
        daemon = self._daemon
        self._control = Control(daemon.socket, self._operation, uid=daemon.socket_uid, gid=daemon.socket_gid)
        try:
            await self._control.start()
        except OSError as error:
            log.error("no control socket at %s: %s", daemon.socket, error)  # noqa: TRY400 (not a bug)

    async def end(self) -> None:
        """Close the socket and the state folder."""
        await self._control.close()
        self._store.close()

    def reload(self) -> None:
        """Read the file again, soon; a bad one changes nothing and says so."""
        task = asyncio.get_running_loop().create_task(self._reload())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reload(self) -> None:
        if not self._daemon.config:
            return
        async with self._applying:
            try:
                configs, notes = await asyncio.to_thread(load, self._daemon.config)
            except ConfigErrors as errors:
                self._file_problem = str(errors)
                for error in errors.errors:
                    log.error("%s: %s", self._daemon.config, error)  # noqa: TRY400 (not a bug)
                log.error("%s: nothing changed", self._daemon.config)  # noqa: TRY400 (not a bug)
                return
            self._file_problem = ""
            for note in notes:
                log.warning("%s", note)
            self._report(await self._changes.apply(FILE, configs))
            self._stand_back()

    def _report(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.problem:
                log.error("%s: %s: %s", outcome.name, outcome.result, outcome.problem)
            elif outcome.result != "unchanged":
                log.info("%s: %s", outcome.name, outcome.result)

    async def _parse(
        self, items: tuple[dict[str, Any], ...] | list[Any]
    ) -> tuple[list[VhostConfig], list[ConfigError]]:
        configs: list[VhostConfig] = []
        errors: list[ConfigError] = []
        for index, item in enumerate(items):
            await breathe()
            try:
                configs.append(parse_vhost(item, path=f"vhosts[{index}]"))
            except ConfigErrors as found:
                errors += found.errors
        return configs, errors

    # --- operations ------------------------------------------------------------------------------

    def _operation(self, op: str, request: dict[str, Any], client: Client) -> Any:
        simple = {
            "hello": self._hello,
            "status": self._status,
            "drops": self._drops,
            "reload": self._reloaded,
        }
        if op in simple:
            return simple[op]()
        match op:
            case "apply":
                return self._apply_in_turn(request)
            case "watch":
                return self._watch(request, client)
            case "handover":
                return self._hand_over(self._slot(request))
            case "demote" | "undemote":
                return self._demote(self._slot(request), request, undo=op == "undemote")
            case "maintenance":
                return self._maintain(request)
        known = ", ".join(
            sorted([*simple, "apply", "demote", "handover", "maintenance", "undemote", "watch"])
        )
        msg = f"op: {op!r} is not one of {known}"
        raise RequestError(msg)

    def _slot(self, request: dict[str, Any]) -> Slot:
        name = request.get("name")
        slot = self.engine.slots.get(name) if isinstance(name, str) else None
        if slot is None:
            msg = (
                f"name: {name!r} is no vhost here; there are {', '.join(sorted(self.engine.slots)) or 'none'}"
            )
            raise RequestError(msg)
        return slot

    def _hello(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uid": self._settings.uid,
            "generation": self._settings.generation,
            "cluster": self._settings.cluster,
            "persisted": self._persisted,
            "maintenance": self._settings.maintenance,
            "problems": [p for p in (self._store.problem, self._file_problem) if p],
        }

    def _status(self) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        return {
            "daemon": self._hello(),
            "vhosts": [self._one(slot, now) for slot in self.engine.slots.values()],
            "interfaces": [segment_status(segment) for segment in self.engine.segments()],
        }

    def _one(self, slot: Slot, now: float) -> dict[str, Any]:
        return vhost_status(slot, self._changes.owner(slot.config.name), now)

    def _drops(self) -> dict[str, Any]:
        return {
            "vhosts": {name: dict(s.member.vhost.drops) for name, s in self.engine.slots.items()},
            "interfaces": {segment.name: dict(segment.drops) for segment in self.engine.segments()},
        }

    async def _reloaded(self) -> dict[str, Any]:
        await self._reload()
        if self._file_problem:
            raise RequestError(self._file_problem)
        return {}

    async def _apply_in_turn(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._applying:
            return await self._apply(request)

    async def _apply(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a whole wanted set; what is wrong with one vhost keeps only that one as it was."""
        items = request.get("vhosts")
        uid, generation, cluster = (request.get(key) for key in ("uid", "generation", "cluster"))
        if not isinstance(items, list):
            msg = "vhosts: a list is required"
            raise RequestError(msg)
        if not (isinstance(uid, str) and isinstance(generation, int) and isinstance(cluster, str)):
            msg = "uid, generation and cluster: which object these settings come from is required"
            raise RequestError(msg)
        held = self._settings
        if cluster != held.cluster:
            held = Settings(maintenance=held.maintenance)
        if uid == held.uid and generation < held.generation:
            msg = f"generation: {generation} is older than {held.generation} of the same object"
            raise RequestError(msg)
        configs, errors = await self._parse(items)
        broken = {item.get("name") for item in items if isinstance(item, dict)} - {c.name for c in configs}
        outcomes = await self._changes.apply(SOCKET, configs, keep=[n for n in broken if isinstance(n, str)])
        self._report([o for o in outcomes if o.problem or o.result != "unchanged"])
        kept = [item for item in held.vhosts if item.get("name") in broken]
        accepted = tuple([item for item in items if item.get("name") not in broken] + kept)
        wanted = Settings(accepted, uid, generation, cluster, held.maintenance)
        await self._persist(wanted)
        self._stand_back()
        return {
            "outcomes": [{"name": o.name, "result": o.result, "problem": o.problem} for o in outcomes],
            "errors": [str(error) for error in errors],
            "persisted": self._persisted,
            "problem": self._store.problem,
            "generation": generation if self._persisted else None,
        }

    async def _persist(self, wanted: Settings) -> None:
        """Write settings in a thread: a slow disk must not stop the election."""
        if wanted == self._settings and self._persisted:
            return
        self._settings = wanted
        self._persisted = await asyncio.to_thread(self._store.save, wanted)
        if not self._persisted:
            log.error("settings not stored: %s; going on in memory", self._store.problem)

    def _hand_over(self, slot: Slot) -> dict[str, Any]:
        state = slot.member.vhost.state.value
        if state != "MASTER":
            msg = f"name: {slot.config.name!r} is {state} here; only a master hands over"
            raise RequestError(msg)
        self.engine.handle(slot, ev.StepDown())
        return {"state": "handing over"}

    def _demote(self, slot: Slot, request: dict[str, Any], *, undo: bool) -> dict[str, Any]:
        reason, amount = request.get("reason"), 0 if undo else request.get("amount")
        if not isinstance(reason, str) or not reason or reason == MAINTENANCE or reason.startswith("health:"):
            msg = f"reason: {reason!r} is empty or reserved; give a word of your own"
            raise RequestError(msg)
        if not isinstance(amount, int) or not 0 <= amount <= 254:
            msg = f"amount: {amount!r} is not between 0 and 254"
            raise RequestError(msg)
        self.engine.handle(slot, ev.Demote(reason, amount))
        return {"demotion": slot.member.vhost.demotion}

    async def _maintain(self, request: dict[str, Any]) -> dict[str, Any]:
        on = request.get("on")
        if not isinstance(on, bool):
            msg = f"on: {on!r} is neither true nor false"
            raise RequestError(msg)
        await self._persist(replace(self._settings, maintenance=on))
        self._stand_back()
        return {"maintenance": on, "persisted": self._persisted}

    def _stand_back(self) -> None:
        """Bring every vhost's demotion in line with the maintenance mode."""
        amount = MAINTENANCE_DEMOTION if self._settings.maintenance else 0
        for slot in self.engine.slots.values():
            if slot.member.vhost.demotions.get(MAINTENANCE, 0) != amount:
                self.engine.handle(slot, ev.Demote(MAINTENANCE, amount))

    # --- watchers --------------------------------------------------------------------------------

    def _watch(self, request: dict[str, Any], client: Client) -> dict[str, Any]:
        self._news[client] = set()
        client.on_close = lambda: self._forget(client)
        client.on_drain = self._tell_soon
        return {"event": "snapshot", **self._status(), "watch": request.get("id")}

    def _forget(self, client: Client) -> None:
        self._news.pop(client, None)

    def noticed(self, name: str, *, stopped: bool) -> None:
        """Take note that a vhost has something new to show; never within a turn of the engine itself."""
        loop = asyncio.get_running_loop()
        if stopped:
            loop.call_soon(self._changes.stopped, name)
        for news in self._news.values():
            news.add(name)
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
        for client, names in self._news.items():
            if client.paused or not names:
                continue
            slots = [(name, self.engine.slots.get(name)) for name in sorted(names)]
            names.clear()
            client.send(
                {
                    "v": VERSION,
                    "event": "changes",
                    "vhosts": [self._one(slot, now) for _, slot in slots if slot is not None],
                    "gone": [name for name, slot in slots if slot is None],
                }
            )
