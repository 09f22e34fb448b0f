"""carpd: vhosts from a file and from the control socket, in one engine that outlives both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from carp import __version__
from carp.changes import Changes, breathe
from carp.core import events as ev
from carp.core.transitions import State
from carp.daemon import scrape
from carp.daemon.care import Care
from carp.daemon.configfile import watched
from carp.daemon.control import Control, RequestError
from carp.daemon.foreign import Foreign
from carp.daemon.metrics import NodeView, VipView
from carp.daemon.noticing import Counting, Noticing
from carp.daemon.notify import Notifier, Watchdog, watchdog_interval
from carp.daemon.operations import MAINTENANCE, Operations
from carp.daemon.rereading import Rereading
from carp.daemon.status import memory_problems, some
from carp.daemon.store import Keeper, Settings, Store
from carp.daemon.told import read_set
from carp.daemon.watchfile import Watch
from carp.run import Process, RunOptions, require_capabilities
from carp.scribe import FINISH
from carp.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from carp.changes import Outcome
    from carp.core.config import VhostConfig
    from carp.core.errors import DropReason
    from carp.daemon.told import Told
    from carp.daemon.watchfile import Marks
    from carp.rawsock import Packet

log: Final = logging.getLogger("carp.daemon")
FILE: Final = "file"
SOCKET: Final = "socket"
MAINTENANCE_DEMOTION: Final = 240
RELEASE: Final = 8.0
"""s that a handover may take before everything is deleted; whoever asked for that waits longer."""
RETRY_AFTER: Final = 5.0
"""s until settings that were refused, by us or by the disk, are tried again: the cause may have gone."""
MAX_PROBLEMS: Final = 64
"""Problems told; hundreds of vhosts on a full disk have one each."""


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
    keep: Callable[[list[VhostConfig]], None] | None = None
    """Told of each set of the file's that is in force: what a start after a crash begins with."""
    seen: Marks | None = None
    """What the file was like before it was read; where nobody knows, it is read again at once."""


def serve(configs: list[VhostConfig], options: DaemonOptions) -> int:
    """Run carpd until it is told to stop. Raises NoPrivilegeError, ConfigErrors, BusyError and OSError."""
    require_capabilities()
    return asyncio.run(Service(options, configs).main())


class Service(Process):
    """The daemon's process."""

    def __init__(self, options: DaemonOptions, configs: list[VhostConfig]) -> None:
        """Take the vhosts of the file, already read. Raises BusyError when the state folder is in use."""
        self._notifier = Notifier()
        # Scripts and checks must not be able to speak for us.
        os.environ.pop("NOTIFY_SOCKET", None)
        self.metrics = Counting(Noticing(self), Watchdog(self._notifier, watchdog_interval()))
        run_options = RunOptions(options.state_dir, release=options.release, ready=self._ready)
        super().__init__(run_options, self.metrics, self.metrics)
        self.foreign = Foreign()
        self._daemon = options
        self._configs = configs
        self._store = Store(options.state_dir)
        self._keeper = Keeper(self._store, self._changed)
        self._unstored: dict[str, dict[str, Any]] = {}
        """Settings that were refused to vhosts that run, by name; what is stored is what is in force."""
        self._demoted: dict[str, set[str]] = {}
        """By vhost: the reasons that its settings demote it for."""
        self._file = Rereading(options.config, self._take_file, self._changed)
        self._unread: list[str] = []
        """What is wrong with stored settings."""
        self._applying = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._scrape: scrape.Server | None = None
        self._watch: Watch | None = None

    async def begin(self) -> None:
        """Start with the file's vhosts and those that were accepted over the socket before."""
        self.changes = Changes(self.engine, self.memory, self._settled)
        self.care = Care(self.engine, self.changes.leaving)
        self._operations = Operations(self)
        self.engine.links.on_change = self._operations.host_changed
        async with self._applying:
            await self._keeper.load()
            told = await self._read_stored()
            # What was in force keeps name, vhid and addresses: a restart is no reason for another owner.
            out = set(self._keeper.settings.refused)
            await self._bring(SOCKET, [config for config in told.configs if config.name not in out])
            await self._bring(FILE, self._configs)
            if out:
                await self._bring(SOCKET, told.configs)
            self._align()
        self._retrying = asyncio.create_task(self._retry())
        await self._open()

    async def _read_stored(self) -> Told:
        told = await read_set(self._keeper.settings.vhosts)
        self._unread = [f"stored settings: {error}" for error in told.errors]
        for problem in self._unread:
            log.error("%s", problem)
        return told

    async def _recall(self) -> None:
        """Go on from settings that the disk refused at the start, if it has them now."""
        if await self._keeper.recall():
            log.info("the stored settings could be read after all")
            await self._bring(SOCKET, (await self._read_stored()).configs)
            self._align()
            stored = self._keeper.settings
            await self._store_set(stored, list(stored.vhosts))

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
            self._watch = Watch(watched(daemon.config), self.reload, daemon.seen)
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FINISH), self._applying:
                pass  # what was taken is on disk, unless that hangs
        self._retrying.cancel()
        await self.care.close()
        await self._control.close()
        self._store.close()

    # --- settings --------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the file again, soon."""
        if self._daemon.config:
            self._file.ask()

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def read_file(self) -> str:
        """Read the file again; a bad one changes nothing, and what is wrong with it is returned."""
        if not self._daemon.config:
            return "there is no file: carpd was started without --config"
        return await asyncio.shield(self._file.ask())

    async def _take_file(self, configs: list[VhostConfig]) -> None:
        async with self._applying:
            self._notifier.reloading()
            await self._bring(FILE, configs)
            if self._daemon.keep is not None:
                self._daemon.keep(configs)
            await self._take_freed()
            self._align()
            self._ready()

    async def _bring(
        self, source: str, configs: list[VhostConfig], *, keep: Iterable[str] = ()
    ) -> list[Outcome]:
        """Make these the vhosts of a source, and say what became of each."""
        outcomes = await self.changes.apply(source, configs, keep=keep)
        await self._log(outcomes)
        return outcomes

    async def _log(self, outcomes: list[Outcome]) -> None:
        for count, outcome in enumerate(outcomes, 1):
            if count % 50 == 0:
                await breathe()
            fields = {"fields": {"vhost": outcome.name, "event": outcome.result}}
            if outcome.problem:
                log.error("%s: %s", outcome.result, outcome.problem, extra=fields)
            elif outcome.result != "unchanged":
                log.info("%s", outcome.result, extra=fields)

    async def _take_freed(self) -> None:
        """Take what was refused and has nothing in its way any more."""
        taken = await self.changes.retry()
        await self._log([outcome for _, outcome in taken])
        names = [outcome.name for source, outcome in taken if source == SOCKET]
        if names:
            fresh = {name: self._unstored.pop(name) for name in names if name in self._unstored}
            settings = self._keeper.settings
            await self._store_set(settings, [fresh.get(item["name"], item) for item in settings.vhosts])

    async def _retry(self) -> None:
        while True:
            await asyncio.sleep(RETRY_AFTER)
            if self._store.unread or self.changes.problems():
                try:
                    await self._free()
                except Exception:
                    log.exception("cannot try refused settings again")

    async def _free(self) -> None:
        async with self._applying:
            await self._recall()
            await self._take_freed()
            self._align()

    async def _store_set(self, told: Settings, items: list[dict[str, Any]]) -> None:
        """Store a set as it is in force."""
        out = tuple(item["name"] for item in items if self.changes.owner(item["name"]) != SOCKET)
        await self._keeper.keep(replace(told, vhosts=tuple(items), refused=out))

    async def take_settings(
        self, items: list[Any], told: Settings, *, restored: bool, forget: bool
    ) -> dict[str, Any]:
        """Take a whole wanted set from the socket; what is wrong with one vhost keeps only that as it was.

        ``restored`` vouches that an older generation is the newest there is: the cluster's store went back.
        Raises RequestError.
        """
        async with self._applying:
            if not forget:
                await self._recall()
            held = self._keeper.settings
            if told.cluster != held.cluster:
                held = Settings(maintenance=held.maintenance)
            if told.uid == held.uid and told.generation < held.generation and not restored:
                msg = f"generation: {told.generation} is older than {held.generation} of the same object"
                raise RequestError(msg)
            given = await read_set(items, held.vhosts)
            outcomes = await self._bring(SOCKET, given.configs, keep=[item["name"] for item in given.kept])
            self._unread = []
            # Before the disk, which takes its time: who is not demoted yet would claim what is handed over.
            self._align()
            if forget:
                await self._forget(told)
            else:
                in_force = self._in_force(given)
                await self._store_set(replace(told, maintenance=held.maintenance), [*in_force, *given.kept])
            await self._take_freed()
            self._align()
            return {
                "outcomes": [{"name": o.name, "result": o.result, "problem": o.problem} for o in outcomes],
                "errors": given.errors,
                "kept": given.problems | {o.name: o.problem for o in outcomes if o.problem},
                "persisted": self._keeper.persisted,
                "problem": self._keeper.problem,
                "uid": told.uid,
                "generation": told.generation if self._keeper.persisted else None,
                "cluster": told.cluster,
            }

    def _in_force(self, given: Told) -> list[dict[str, Any]]:
        """Return the items to store: of a vhost that was refused and goes on, what it goes on with."""
        before = {item["name"]: item for item in self._keeper.settings.vhosts}
        running = {n for n in self.changes.refused(SOCKET) if self.changes.owner(n) == SOCKET and n in before}
        fresh = self._unstored | given.items
        self._unstored = {name: fresh[name] for name in running if name in fresh}
        return [before[name] if name in running else item for name, item in given.items.items()]

    async def _forget(self, told: Settings) -> None:
        """Leave nothing on disk, as soon as nothing is held: the node is to take part no more."""
        if await self.changes.quiet(RELEASE):
            await in_thread(self.engine.scribe.flush)  # or a late write would leave its file
            await self._keeper.forget(told)
        else:
            self._keeper.put_off(told, "forget: addresses are still being handed over")

    async def set_maintenance(self, *, on: bool) -> bool:
        """Stand back from all addresses, or no more; whether that will survive a restart."""
        async with self._applying:
            await self._recall()
            await self._keeper.keep(replace(self._keeper.settings, maintenance=on), self._align)
            return self._keeper.persisted

    def _align(self) -> None:
        """Bring demotions and health checks in line with the vhosts that there are now."""
        amount = MAINTENANCE_DEMOTION if self._keeper.settings.maintenance else 0
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
        settings = self._keeper.settings
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uid": settings.uid,
            "generation": settings.generation,
            "cluster": settings.cluster,
            "persisted": self._keeper.persisted,
            "maintenance": settings.maintenance,
            "problems": some(self._problems(), MAX_PROBLEMS),
        }

    def _problems(self) -> list[str]:
        now = asyncio.get_running_loop().time()
        found = [*self._keeper.problems(now), *self._file.problems(now), *self._unread]
        return [*found, *self.changes.problems(), *memory_problems(self.engine.slots.values())]

    def _changed(self) -> None:
        self._operations.daemon_changed()

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
        if self.changes.problems():
            self._soon(self._free())

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
        stale = bool(self._file.problem)
        return self.metrics.render(NodeView(vips, drops, stale, self._keeper.persisted))
