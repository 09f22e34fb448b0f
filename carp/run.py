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
from carp.netlink import Netlink, supports_proto
from carp.report import Reporter, describe
from carp.state import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.config import VhostConfig
    from carp.slots import Slot

log: Final = logging.getLogger("carp")
_CAPABILITIES: Final = {12: "CAP_NET_ADMIN", 13: "CAP_NET_RAW"}
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
    return asyncio.run(_Process(configs, options).main())


class _Process:
    def __init__(self, configs: Sequence[VhostConfig], options: RunOptions) -> None:
        self._configs = configs
        self._options = options
        self._stops = 0

    async def main(self) -> int:
        self._stop_wanted = asyncio.Event()
        self._hooks = Hooks(log)
        self._engine = engine = Engine(Reporter(), self._script)
        memories = [self._memory(config) for config in self._configs]
        for config, memory in zip(self._configs, memories, strict=True):
            engine.add(config, memory)
            if config.manage and not config.fenced:
                log.warning(
                    "fencing is off: if this process is killed, its addresses stay on this host",
                    extra={"fields": {"vhost": config.name, "event": "unfenced"}},
                )
        self._signals(asyncio.get_running_loop())
        # A collection of everything imported so far would stop the election for some 10 ms.
        gc.collect()
        gc.freeze()
        engine.settle()
        self._options.ready()
        await self._stop_wanted.wait()
        await engine.stop(release=self._options.release)
        await self._hooks.drain(_SCRIPT_PATIENCE)
        engine.close()
        return 0

    def _memory(self, config: VhostConfig) -> Memory | None:
        try:
            return Memory(self._options.state_dir, config)
        except OSError as error:
            log.warning(
                "%s: no runtime state in %s: %s; a restart will not resume",
                config.name,
                self._options.state_dir,
                error,
            )
            return None

    def _signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGUSR1, self._show)
        loop.add_signal_handler(signal.SIGUSR2, self._step_down)

    def _stop(self, name: str) -> None:
        self._stops += 1
        if self._stops > 1:
            log.warning("%s again: stopping at once", name)
            self._engine.abandon()
            return
        log.info("%s: handing over and stopping", name)
        self._stop_wanted.set()

    def _show(self) -> None:
        now = asyncio.get_running_loop().time()
        for slot in self._engine.slots.values():
            interface = "" if slot.port.segment is None else slot.port.segment.name
            text = describe(slot.member.vhost.snapshot(), interface, now)
            log.info("%s", text, extra={"fields": {"vhost": slot.config.name, "event": "status"}})

    def _step_down(self) -> None:
        for slot in self._engine.slots.values():
            self._engine.handle(slot, ev.StepDown())

    def _script(self, slot: Slot, *, up: bool) -> None:
        scripts = slot.config.scripts
        if not (scripts.up if up else scripts.down):
            return
        interface = slot.config.interface.name if slot.port.segment is None else slot.port.segment.name

        def ended(_succeeded: bool) -> None:  # noqa: FBT001 (the signature that hooks calls)
            if up:
                self._engine.handle(slot, ev.ScriptEnded())

        self._hooks.run(slot.config, interface, up=up, done=ended)
