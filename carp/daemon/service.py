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
from carp.core.transitions import State
from carp.daemon import scrape
from carp.daemon.care import Care
from carp.daemon.configfile import claims, folder, load
from carp.daemon.control import Control, RequestError
from carp.daemon.foreign import Foreign
from carp.daemon.metrics import Metrics, NodeView, VipView
from carp.daemon.notify import Notifier, Watchdog, watchdog_interval
from carp.daemon.operations import MAINTENANCE, Operations
from carp.daemon.store import Settings, Store
from carp.daemon.watchfile import Watch
from carp.report import Reporter
from carp.run import Process, RunOptions, require_capabilities

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carp.changes import Outcome
    from carp.core.config import VhostConfig
    from carp.core.errors import DropReason
    from carp.core.vhost import Vhost
    from carp.rawsock import Packet

log: Final = logging.getLogger("carp.daemon")
FILE: Final = "file"
SOCKET: Final = "socket"
MAINTENANCE_DEMOTION: Final = 240
RELEASE: Final = 8.0
"""s that a handover may take before everything is deleted; whoever asked for that waits longer."""


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """How carpd runs; each field is an option of `carp daemon`."""

    config: str
    state_dir: str
    socket: str
    socket_uid: int | None = None
    socket_gid: int | None = None
    metrics: str = ""
    release: bool = False


def serve(configs: list[VhostConfig], options: DaemonOptions) -> int:
    """Run carpd until it is told to stop. Raises NoPrivilegeError and BusyError, and OSError."""
    require_capabilities()
    return asyncio.run(Service(options, configs).main())


def _problems(items: list[Any], broken: set[str], errors: list[ConfigError]) -> dict[str, str]:
    """Return by name what is wrong with the vhosts that have a name and no sound settings."""
    found = {}
    for index, item in enumerate(items):
        path = f"vhosts[{index}]"
        wrong = "; ".join(str(e).removeprefix(f"{path}.") for e in errors if e.field.startswith(path))
        name = item.get("name") if isinstance(item, dict) else None
        if wrong and isinstance(name, str) and name in broken:
            found[name] = wrong
    return found


class _Watcher(Reporter):
    """Logs, and tells the service which vhost has something new to show."""

    service: Service

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        super().saw(vhost, effect)
        self.service.noticed(vhost.config.name, stopped=isinstance(effect, ev.Stopped))

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        super().dropped(interface, vhid, packet, reason)
        self.service.dropped(interface, vhid, packet, reason)


class _Meter(Metrics):
    """Counts, and feeds the service manager's watchdog from the turns of the election."""

    def __init__(self, watcher: _Watcher, watchdog: Watchdog) -> None:
        super().__init__(watcher)
        self._watchdog = watchdog

    def turned(self, now: float) -> None:
        self._watchdog.turned(now)


class Service(Process):
    """The daemon's process."""

    def __init__(self, options: DaemonOptions, configs: list[VhostConfig]) -> None:
        """Take the vhosts of the file, already read. Raises BusyError when the state folder is in use."""
        watcher = _Watcher()
        watcher.service = self
        self._notifier = Notifier()
        # Scripts and checks must not be able to speak for us.
        os.environ.pop("NOTIFY_SOCKET", None)
        self.metrics = _Meter(watcher, Watchdog(self._notifier, watchdog_interval()))
        run_options = RunOptions(options.state_dir, release=options.release, ready=self._ready)
        super().__init__(run_options, self.metrics, self.metrics)
        self.foreign = Foreign()
        self._daemon = options
        self._configs = configs
        self._store = Store(options.state_dir)
        self._settings = Settings()
        self._persisted = True
        self._demoted: dict[str, set[str]] = {}
        """By vhost: the reasons that its settings demote it for."""
        self._file_problem = ""
        self._refused: dict[str, list[str]] = {}
        self._applying = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scrape: scrape.Server | None = None
        self._watch: Watch | None = None

    async def begin(self) -> None:
        """Start with the file's vhosts and those that were accepted over the socket before."""
        self.changes = Changes(self.engine, self.memory)
        self.care = Care(self.engine)
        self._operations = Operations(self)
        self.engine.links.on_change = self._operations.host_changed
        async with self._applying:
            stored: Settings | None = await asyncio.to_thread(self._store.load)
            self._settings = Settings() if stored is None else stored
            if self._store.problem:
                log.warning("state: %s", self._store.problem)
            await self._bring(FILE, self._configs)
            configs, _, errors = await self._parse(self._settings.vhosts)
            for error in errors:
                log.error("stored settings: %s", error)
            await self._bring(SOCKET, configs)
            self._align()
        await self._open()

    async def _open(self) -> None:
        """Open what others look in through; a vhost needs none of it."""
        daemon = self._daemon
        handler = self._operations.carry_out
        self._control = Control(daemon.socket, handler, uid=daemon.socket_uid, gid=daemon.socket_gid)
        try:
            await self._control.start()
        except OSError as error:
            log.error("no control socket at %s: %s", daemon.socket, error.strerror)  # noqa: TRY400 (not a bug)
        if daemon.config:
            self._watch = Watch([daemon.config, str(folder(daemon.config))], self.reload)
        if daemon.metrics:
            try:
                self._scrape = await scrape.serve(daemon.metrics, self.metrics_text)
            except OSError as error:
                log.error("no metrics at %s: %s", daemon.metrics, error.strerror)  # noqa: TRY400 (not a bug)

    def _ready(self) -> None:
        self._notifier.ready(self._summary())

    async def end(self) -> None:
        """Close everything but the engine."""
        self._notifier.stopping()
        if self._watch is not None:
            self._watch.stop()
        if self._scrape is not None:
            await self._scrape.close()
        await self.care.close()
        await self._control.close()
        self._store.close()

    # --- settings --------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the file again, soon."""
        task = asyncio.get_running_loop().create_task(self.read_file())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def read_file(self) -> str:
        """Read the file again; a bad one changes nothing, and what is wrong with it is returned."""
        if not self._daemon.config:
            return "there is no file: carpd was started without --config"
        async with self._applying:
            try:
                configs, notes = await asyncio.to_thread(load, self._daemon.config, named=True)
            except ConfigErrors as errors:
                self._file_problem = str(errors)
                for error in errors.errors:
                    log.error("%s", error)  # noqa: TRY400 (not a bug)
                log.error("%s: nothing changed", self._daemon.config)  # noqa: TRY400 (not a bug)
                return self._file_problem
            self._file_problem = ""
            for note in notes:
                log.warning("%s", note)
            self._notifier.reloading()
            await self._bring(FILE, configs)
            self._align()
            self._ready()
            return ""

    async def _bring(
        self, source: str, configs: list[VhostConfig], *, keep: Iterable[str] = ()
    ) -> list[Outcome]:
        """Make these the vhosts of a source, and say what became of each."""
        outcomes = await self.changes.apply(source, configs, keep=keep)
        self._refused[source] = [f"{o.name}: {o.problem}" for o in outcomes if o.problem]
        for outcome in outcomes:
            fields = {"fields": {"vhost": outcome.name, "event": outcome.result}}
            if outcome.problem:
                log.error("%s: %s", outcome.result, outcome.problem, extra=fields)
            elif outcome.result != "unchanged":
                log.info("%s", outcome.result, extra=fields)
        return outcomes

    async def _parse(
        self, items: tuple[dict[str, Any], ...] | list[Any]
    ) -> tuple[list[VhostConfig], list[dict[str, Any]], list[ConfigError]]:
        """Return the sound vhosts, the items that they stand in, and what is wrong with the others."""
        configs: list[VhostConfig] = []
        good: list[dict[str, Any]] = []
        errors: list[ConfigError] = []
        seen: dict[tuple[object, object], str] = {}
        for index, item in enumerate(items):
            await breathe()
            path = f"vhosts[{index}]"
            try:
                config = parse_vhost(item, path=path)
            except ConfigErrors as found:
                errors += found.errors
                continue
            taken = [(field, value, seen.get((scope, value))) for field, value, scope in claims(config)]
            clashes = [
                ConfigError(f"{path}.{field}", value, f"is already used by vhost {other}")
                for field, value, other in taken
                if other is not None
            ]
            if clashes:
                errors += clashes
                continue
            seen.update({(scope, value): config.name for _, value, scope in claims(config)})
            configs.append(config)
            good.append(item)
        return configs, good, errors

    async def take_settings(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take a whole wanted set from the socket. Raises RequestError for what is no such set."""
        uid, generation, cluster = (request.get(key) for key in ("uid", "generation", "cluster"))
        if not isinstance(request.get("vhosts"), list):
            msg = "vhosts: a list is required"
            raise RequestError(msg)
        if not (isinstance(uid, str) and isinstance(generation, int) and isinstance(cluster, str)):
            msg = "uid, generation and cluster: which object these settings come from is required"
            raise RequestError(msg)
        restored, forget = (request.get(key) is True for key in ("restored", "forget"))
        if forget and request["vhosts"]:
            msg = "forget: goes with an empty list of vhosts"
            raise RequestError(msg)
        async with self._applying:
            told = Settings((), uid, generation, cluster)
            return await self._take(request["vhosts"], told, restored=restored, forget=forget)

    async def _take(
        self, items: list[Any], told: Settings, *, restored: bool, forget: bool
    ) -> dict[str, Any]:
        """Apply; what is wrong with one vhost keeps only that one as it was.

        ``restored`` vouches that an older generation is the newest there is: the cluster's store went back.
        """
        held = self._settings
        if told.cluster != held.cluster:
            held = Settings(maintenance=held.maintenance)
        if told.uid == held.uid and told.generation < held.generation and not restored:
            msg = f"generation: {told.generation} is older than {held.generation} of the same object"
            raise RequestError(msg)
        configs, accepted, errors = await self._parse(items)
        named = {
            item["name"] for item in items if isinstance(item, dict) and isinstance(item.get("name"), str)
        }
        broken = named - {config.name for config in configs}
        kept = [item for item in held.vhosts if item["name"] in broken]
        outcomes = await self._bring(SOCKET, configs, keep=[item["name"] for item in kept])
        problems = _problems(items, broken, errors) | {o.name: o.problem for o in outcomes if o.problem}
        if forget:
            await self._forget(told)
        else:
            await self._persist(replace(told, vhosts=(*accepted, *kept), maintenance=held.maintenance))
        self._align()
        return {
            "outcomes": [{"name": o.name, "result": o.result, "problem": o.problem} for o in outcomes],
            "errors": [str(error) for error in errors],
            "kept": problems,
            "persisted": self._persisted,
            "problem": self._store.problem,
            "uid": told.uid,
            "generation": told.generation if self._persisted else None,
            "cluster": told.cluster,
        }

    async def _forget(self, told: Settings) -> None:
        """Leave nothing on disk, as soon as nothing is held: the node is to take part no more."""
        self._settings, self._persisted = told, False
        if await self.changes.quiet(RELEASE):
            self._persisted = await asyncio.to_thread(self._store.forget)
        else:
            self._store.problem = "forget: addresses are still being handed over"

    async def _persist(self, wanted: Settings) -> None:
        """Write settings in a thread: a slow disk must not stop the election."""
        if wanted == self._settings and self._persisted:
            return
        self._settings = wanted
        self._persisted = await asyncio.to_thread(self._store.save, wanted)
        if not self._persisted:
            log.error("settings not stored: %s; going on in memory", self._store.problem)

    async def set_maintenance(self, *, on: bool) -> bool:
        """Stand back from all addresses, or no more; whether that will survive a restart."""
        async with self._applying:
            await self._persist(replace(self._settings, maintenance=on))
            self._align()
            return self._persisted

    def _align(self) -> None:
        """Bring demotions and health checks in line with the vhosts that there are now."""
        amount = MAINTENANCE_DEMOTION if self._settings.maintenance else 0
        was, self._demoted = self._demoted, {}
        for slot in self.engine.slots.values():
            name, standing = slot.config.name, slot.config.demotions
            self._demoted[name] = {reason for reason, _ in standing}
            wanted = dict.fromkeys(was.get(name, ()), 0) | {MAINTENANCE: amount} | dict(standing)
            for reason, value in wanted.items():
                if slot.member.vhost.demotions.get(reason, 0) != value:
                    self.engine.handle(slot, ev.Demote(reason, value))
                    self._operations.noticed(name)
        self.care.update()

    # --- what is shown ---------------------------------------------------------------------------

    def about(self) -> dict[str, Any]:
        """Return what there is to say about the daemon itself."""
        refused = [problem for problems in self._refused.values() for problem in problems]
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uid": self._settings.uid,
            "generation": self._settings.generation,
            "cluster": self._settings.cluster,
            "persisted": self._persisted,
            "maintenance": self._settings.maintenance,
            "problems": [p for p in (self._store.problem, self._file_problem, *refused) if p],
        }

    def _summary(self) -> str:
        states = [slot.member.vhost.state for slot in self.engine.slots.values()]
        counts = (f"{states.count(s)} {s.value}" for s in State if s in states)
        return ", ".join(counts) or "no vhosts"

    def noticed(self, name: str, *, stopped: bool) -> None:
        """Take note that a vhost has something new to show; never acts within a turn of the engine."""
        if stopped:
            asyncio.get_running_loop().call_soon(self._settled, name)
        self._notifier.status(self._summary())
        self._operations.noticed(name)

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        """Take note of a packet that was not believed."""
        if self.foreign.note(interface, vhid, packet, reason, asyncio.get_running_loop().time()):
            self._operations.host_changed()

    def _settled(self, name: str) -> None:
        self.changes.stopped(name)
        if name not in self.engine.slots:
            self.metrics.forget(name)
        # Watchers may have been told of the end already, while the vhost was still there.
        self._operations.noticed(name)
        self._align()

    def metrics_text(self) -> Iterator[str]:
        """Yield the metrics in Prometheus' text format, piece by piece."""
        vips = [
            VipView(
                slot.member.vhost.snapshot(),
                "" if slot.port.segment is None else slot.port.segment.name,
                {c.name: c.amount == 0 for c in self.care.statuses(name) if c.checked is not None},
            )
            for name, slot in self.engine.slots.items()
        ]
        drops = {segment.name: segment.drops for segment in self.engine.segments()}
        stale = bool(self._file_problem)
        return self.metrics.render(NodeView(vips, drops, stale, self._persisted))
