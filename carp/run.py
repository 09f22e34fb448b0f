"""Run vhosts until told to stop: privileges, signals, start and end of the process."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from carp.core import events as ev
from carp.core.errors import CarpError
from carp.engine import Engine
from carp.hooks import Hooks
from carp.links import Inventory, find_link, resolve
from carp.meter import UNMETERED
from carp.netlink import Netlink, supports_proto
from carp.report import Reporter, describe
from carp.state import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.config import VhostConfig
    from carp.meter import Meter
    from carp.ports import Watcher
    from carp.slots import Slot

log: Final = logging.getLogger("carp")
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
ONE_REQUEST: Final = 0.3
"""s within which two signals to stop are the same request."""
_SCRIPT_PATIENCE: Final = 5.0
"""s that scripts may still take at the end."""


class NoPrivilegeError(CarpError):
    """A capability is missing; nothing was changed."""


class StartError(CarpError):
    """The host cannot run the vhosts as they are configured; nothing was changed."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run.

    ``release``: delete the addresses on stop even if nobody takes over. ``strict``: a vhost whose
    interface does not exist, or whose address is the host's own, is an error at start, not a wait.
    ``ready`` is called once all vhosts are started.
    """

    state_dir: str = "/run/carp"
    release: bool = False
    strict: bool = True
    ready: Callable[[], None] = lambda: None


def require_capabilities() -> None:
    """Raise NoPrivilegeError naming each capability that is missing."""
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    missing = [name for bit, name in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing:
        msg = f"no privilege: {' and '.join(missing)} missing; run as root or grant them to this process"
        raise NoPrivilegeError(msg)


def check_host(configs: Sequence[VhostConfig]) -> None:
    """Raise StartError where the host can never run a vhost as it is configured."""
    netlink = Netlink()
    try:
        inventory = Inventory(netlink.links(), netlink.addresses(), supports_proto(netlink))
    finally:
        netlink.close()
    for config in configs:
        link = find_link(config, inventory)
        place = link if isinstance(link, str) else resolve(config, inventory)
        if isinstance(place, str) and (isinstance(link, str) or place.startswith("address ")):
            raise StartError(place)


def run(configs: Sequence[VhostConfig], options: RunOptions) -> int:
    """Run until every vhost has stopped and return the exit code.

    Raises NoPrivilegeError, StartError and BusyError before anything is changed, OSError where the
    kernel lacks what we need.
    """
    require_capabilities()
    if options.strict:
        check_host(configs)
    return asyncio.run(_Fixed(configs, options).main())


class Process:
    """One engine from the first settings to the last handover: signals, scripts, memory."""

    def __init__(self, options: RunOptions, watcher: Watcher, meter: Meter = UNMETERED) -> None:
        """Open nothing yet."""
        self.options = options
        self._meter = meter
        self._watcher = watcher
        self._stopped_at = 0.0

    async def main(self) -> int:
        """Run until told to stop; return the exit code."""
        self.stop_wanted = asyncio.Event()
        self.hooks = Hooks(log)
        self.engine = Engine(self._watcher, self._script, self._meter)
        # Before anything holds an address: from here on a signal means a handover.
        self._signals(asyncio.get_running_loop())
        await self.begin()
        # What was imported so far stays: looking through it would stop the election for some 10 ms.
        gc.freeze()
        gc.enable()
        self.engine.settle()
        self.options.ready()
        await self.stop_wanted.wait()
        await self.engine.stop(release=self.options.release)
        await self.hooks.drain(_SCRIPT_PATIENCE)
        await self.end()
        self.engine.close()
        return 0

    async def begin(self) -> None:
        """Give the engine its vhosts."""

    async def end(self) -> None:
        """Close what `begin` opened, after the last handover."""

    def reload(self) -> None:
        """Do what SIGHUP asks for; without a file to read again that is to stop, as ucarp does."""
        self.stop("SIGHUP")

    def memory(self, config: VhostConfig) -> Memory | None:
        """Open the runtime state of a vhost. Raises BusyError when another process runs it."""
        if config.manage and not config.fenced:
            log.warning(
                "fencing is off: if this process is killed, its addresses stay on this host",
                extra={"fields": {"vhost": config.name, "event": "unfenced"}},
            )
        try:
            return Memory(self.options.state_dir, config)
        except OSError as error:
            folder = self.options.state_dir
            text = "%s: no runtime state in %s: %s; a restart will not resume"
            log.warning(text, config.name, folder, error)
            return None

    def _signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, self.stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        loop.add_signal_handler(signal.SIGUSR1, self._show)
        loop.add_signal_handler(signal.SIGUSR2, self._step_down)

    def stop(self, why: str) -> None:
        """Hand over and end; at once when asked again.

        A service manager may signal us and our parent, who passes it on: that is one request.
        """
        now = asyncio.get_running_loop().time()
        if self.stop_wanted.is_set():
            if now - self._stopped_at < ONE_REQUEST:
                return
            log.warning("%s again: stopping at once", why)
            self.engine.abandon()
            return
        self._stopped_at = now
        log.info("%s: handing over and stopping", why)
        self.stop_wanted.set()

    def _show(self) -> None:
        now = asyncio.get_running_loop().time()
        for slot in self.engine.slots.values():
            interface = "" if slot.port.segment is None else slot.port.segment.name
            text = describe(slot.member.vhost.snapshot(), interface, now)
            log.info("%s", text, extra={"fields": {"vhost": slot.config.name, "event": "status"}})

    def _step_down(self) -> None:
        for slot in self.engine.slots.values():
            self.engine.handle(slot, ev.StepDown())

    def _script(self, slot: Slot, *, up: bool) -> None:
        scripts = slot.config.scripts
        if not (scripts.up if up else scripts.down):
            return
        interface = slot.config.interface.name if slot.port.segment is None else slot.port.segment.name

        def ended(_succeeded: bool) -> None:  # noqa: FBT001 (the signature that hooks calls)
            if up:
                self.engine.handle(slot, ev.ScriptEnded())

        self.hooks.run(slot.config, interface, up=up, done=ended)


class _Fixed(Process):
    """A process whose vhosts are known from the start."""

    def __init__(self, configs: Sequence[VhostConfig], options: RunOptions) -> None:
        super().__init__(options, Reporter())
        self._configs = configs

    async def begin(self) -> None:
        memories = [self.memory(config) for config in self._configs]
        for config, memory in zip(self._configs, memories, strict=True):
            self.engine.add(config, memory)
