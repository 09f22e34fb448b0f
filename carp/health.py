"""Health checks of many vhosts beside the election: when they run, and whom they tell.

Judging the results is `carp.core.health_monitor`'s work, asking the targets `carp.health_probes`'.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp import health_probes as probes
from carp.core.health import Exec, Gateway, Http, Tcp
from carp.core.health_monitor import Monitor
from carp.threads import in_thread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from carp.core.auth import Address
    from carp.core.health import Check, Target
    from carp.core.health_monitor import CheckStatus

log: Final = logging.getLogger("carp.health")
SPREAD: Final = 1.0
"""s within which a check runs for the first time, at random; the period if that is less."""
GRID: Final = 0.05
"""s; cheap checks run on this grid, so that hundreds share few wake-ups (design.md rule 8); those of a short
period on a finer one, a twentieth of it, or all would come in one row."""
STALL: Final = 0.1
"""s; a run that goes on for this much longer than its timeout shows that we stood still, not the target."""


@dataclass(slots=True, eq=False)
class _Vhost:
    """The checks of one vhost, and who hears of them."""

    name: str
    report: Callable[[str, int, str], None]
    all_failed: Callable[[bool], None]
    runs: dict[str, _Run] = field(default_factory=dict)
    failed: bool = False

    def count(self) -> None:
        """Say that all checks fail, for as long as they do, and when the first one is well again."""
        failed = bool(self.runs) and all(run.monitor.failed for run in self.runs.values())
        if failed or failed != self.failed:
            self.failed = failed
            self.all_failed(failed)


class Checks:
    """The health checks of many vhosts: each in a task of its own, never two runs of one at once."""

    def __init__(
        self, ask: Callable[[str, Address], Awaitable[bool]], chance: Callable[[], float] = random.random
    ) -> None:
        """``ask`` tells whether an address answers by ARP or ND on the segment of a vhost, given by name.

        It need not end when there is no answer: it is cancelled. ``chance`` gives phases, 0 to below 1.
        """
        self._ask = ask
        self._chance = chance
        self.tasks: set[asyncio.Task[None]] = set()
        self._vhosts: dict[str, _Vhost] = {}
        self._starting = asyncio.Lock()
        self._contexts: dict[bool, asyncio.Future[ssl.SSLContext]] = {}

    def start(
        self,
        name: str,
        checks: Sequence[Check],
        report: Callable[[str, int, str], None],
        all_failed: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """Run a vhost's checks from now on.

        ``report`` hears reason, demotion (0: none) and detail of each new verdict; ``all_failed`` hears
        true with each result while every check has failed `fall` times, and false when that ends. Both are
        called from the loop.
        """
        self._vhosts[name] = _Vhost(name, report, all_failed)
        self.update(name, checks)

    def update(self, name: str, checks: Sequence[Check]) -> None:
        """Change a vhost's checks in place.

        Unchanged ones go on undisturbed; one with other settings keeps its health until its next results
        say something else; the demotion of one that is gone ends.
        """
        vhost = self._vhosts[name]
        old, vhost.runs = vhost.runs, {}
        for check in checks:
            before = old.pop(check.name, None)
            vhost.runs[check.name] = self._placed(vhost, check, before)
        for gone in old.values():
            gone.stop()
            if gone.monitor.amount:
                vhost.report(gone.monitor.check.reason, 0, "the check was removed")
        vhost.count()

    def stop(self, name: str) -> None:
        """End a vhost's checks; nothing is reported any more."""
        vhost = self._vhosts.pop(name, None)
        for run in () if vhost is None else vhost.runs.values():
            run.stop()

    def snapshot(self, name: str) -> list[CheckStatus]:
        """Return the state of each check of a vhost; none when it is not known."""
        vhost = self._vhosts.get(name)
        return [] if vhost is None else [run.monitor.snapshot() for run in vhost.runs.values()]

    async def close(self) -> None:
        """End all checks and wait for them."""
        for name in list(self._vhosts):
            self.stop(name)
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _placed(self, vhost: _Vhost, check: Check, before: _Run | None) -> _Run:
        """Return the run of a check: the old one if nothing changed, else a new one that takes over."""
        if before is None:
            return _Run(self, vhost, Monitor(check), self._chance())
        monitor, amount = before.monitor, before.monitor.amount
        if monitor.check == check:
            return before
        before.stop()
        monitor.reconfigure(check)
        if monitor.amount != amount:
            vhost.report(check.reason, monitor.amount, monitor.verdict().detail)
        return _Run(self, vhost, monitor, self._chance())

    # --- what runs share --------------------------------------------------------------------------

    async def turn(self) -> None:
        """Wait until it is one's turn to start a program: that takes a ms of the loop, never two in a row."""
        async with self._starting:
            await asyncio.sleep(0)

    async def asked(self, vhost: str, address: Address) -> str:
        """Ask for an address on a vhost's segment. Raises ProbeError when there is no answer."""
        if not await self._ask(vhost, address):
            raise probes.ProbeError("does not answer")
        return "answers"

    async def context(self, *, insecure: bool) -> ssl.SSLContext:
        """Return the TLS settings, made once for all checks: each copy of the certificates takes a MiB."""
        if insecure not in self._contexts:
            making = in_thread(lambda: probes.tls_context(insecure=insecure))
            self._contexts[insecure] = asyncio.ensure_future(making)
        return await asyncio.shield(self._contexts[insecure])


class _Run:
    """One check that runs, again and again."""

    def __init__(self, checks: Checks, vhost: _Vhost, monitor: Monitor, phase: float) -> None:
        self.monitor = monitor
        self._checks = checks
        self._vhost = vhost
        self._process: probes.Process | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._repeat(phase))
        checks.tasks.add(self._task)
        self._task.add_done_callback(checks.tasks.discard)

    def stop(self) -> None:
        """End it; a program that runs is killed."""
        self._task.cancel()

    async def _repeat(self, phase: float) -> None:
        check = self.monitor.check
        period, grid = check.period, min(GRID, check.period / 20)
        costly = _is_costly(check.target)
        due = self._loop.time() + phase * min(period, SPREAD)
        while True:
            when = due if costly else math.ceil(due / grid) * grid
            await asyncio.sleep(when - self._loop.time())
            await self._once()
            late = self._loop.time() - due
            due += period * max(1, math.ceil(late / period))

    async def _once(self) -> None:
        """Run it, judge, and report. No error of ours ends a check."""
        check = self.monitor.check
        try:
            if isinstance(check.target, Exec):
                await self._checks.turn()
            begun = self._loop.time()
            ok, detail = await self._result(check)
            if self._loop.time() - begun > check.timeout + STALL:
                return
            verdict = self.monitor.result(ok, detail, self._loop.time())
            if verdict is not None:
                self._vhost.report(check.reason, verdict.amount, verdict.detail)
            self._vhost.count()
        except Exception:
            log.exception("%s: health check %s: internal error", self._vhost.name, check.name)

    async def _result(self, check: Check) -> tuple[bool, str]:
        try:
            async with asyncio.timeout(check.timeout):
                return True, await self._probe(check.target)
        except TimeoutError:
            return False, f"no answer within {check.timeout:g} s"
        except OSError as error:
            return False, error.strerror or str(error)
        except probes.ProbeError as error:
            return False, str(error)

    async def _probe(self, target: Target) -> str:
        match target:
            case Tcp():
                return await probes.tcp(target)
            case Http(secure=False):
                return await probes.http(target)
            case Http(insecure=insecure):
                return await probes.http(target, await self._checks.context(insecure=insecure))
            case Gateway(address):
                return await self._checks.asked(self._vhost.name, address)
            case Exec(command):
                return await self._execute(command)

    async def _execute(self, command: tuple[str, ...]) -> str:
        if self._process is not None and not self._process.ended.done():
            # It hangs in the kernel, say on a dead share: a failure each time, or there would be one only.
            raise probes.ProbeError("the program was killed and still hangs")
        self._process = probes.Process(command)
        return await probes.run(self._process)


def _is_costly(target: Target) -> bool:
    """Whether a run takes up to a ms of the loop, as programs and TLS do: those must not come in a row."""
    return isinstance(target, Exec) or (isinstance(target, Http) and target.secure)
