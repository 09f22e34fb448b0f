"""The agent's process: two watches, one connection to carpd, one writer; see the modules of each."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from carp.threads import in_thread
from carp_operator.agent.carpd import Carpd
from carp_operator.agent.following import Following
from carp_operator.agent.metrics import Tally
from carp_operator.agent.pages import Pages
from carp_operator.agent.report import REASONS, Verdict, differs, status, urgent
from carp_operator.agent.settling import Settling
from carp_operator.agent.troubles import Troubles
from carp_operator.agent.view import View
from carp_operator.agent.wanted import keys_of
from carp_operator.agent.writing import Writing
from carp_operator.kube.resources import CARP_NODES, SECRETS
from carp_operator.kube.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.agent.view import Message
    from carp_operator.kube.client import Client, Object
    from carp_operator.kube.watch import Event

log: Final = logging.getLogger("carp.agent")
MANAGER: Final = "carp-agent"
GRACE: Final = 2.0
"""s for which carpd may be away before that is written: one that crashed is back in a tenth."""
CHATTER: Final = 30.0
"""s between writes that tell of foreign speakers only: anybody on the segment can make them up."""
LAST_WRITE: Final = 2.0
"""s that the last write may take."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the agent runs; each field is an option of `carp-agent`."""

    node: str
    namespace: str
    socket: str
    secret: str = "carp-keys"  # noqa: S105 (a Secret's name)
    metrics: str = ""
    stay: float = 13.0
    """s that it stays after SIGTERM while carpd hands over."""


class _Mark(NamedTuple):
    """Which object in which version had which status."""

    uid: str
    version: int
    status: object


def _mark(node: Object) -> _Mark:
    meta = node.get("metadata") or {}
    version = str(meta.get("resourceVersion"))
    return _Mark(str(meta.get("uid")), int(version) if version.isdigit() else 0, node.get("status"))


class Agent:
    """One node's agent."""

    def __init__(self, options: Options, watching: Client, writing: Client) -> None:
        """``watching`` is patient with a server that is silent, ``writing`` less so."""
        self._options = options
        self._writing = writing
        self._troubles = Troubles()
        self._tally = Tally(silent=self._silence)
        self._view = View(lost_at=time.monotonic())
        self._previous: Object = {}
        """The status that stands on the server, as far as we know."""
        self._mark = _mark({})
        """What we know it from: an object that was read, or the answer to our last write."""
        self._sending = False
        self._written_at = 0.0
        self._behind_since: float | None = None
        """Since when carpd has not answered to the newest spec."""
        self._stopping = asyncio.Event()
        self._gone = asyncio.Event()
        self._carpd = Carpd(options.socket, on_message=self._told, on_loss=self._lost)
        self._writer = Writing(self._compose, self._send, troubles=self._troubles, tally=self._tally)
        self._settling = Settling(
            self._view,
            self._carpd.ask,
            self._read_again,
            self._writer.poke,
            troubles=self._troubles,
            tally=self._tally,
        )
        node = Following("CarpNode", options.node, self._troubles, self._node_read)
        secret = Following("Secret", options.secret, self._troubles, self._secret_read)
        secrets = SECRETS.within(options.namespace)

        def take_secret(event: Event) -> None:
            secret.take(event)
            self._settling.looked()

        self._watchers = [
            Watcher(watching, CARP_NODES, self._here(node.take), field=f"metadata.name={options.node}"),
            Watcher(watching, secrets, self._here(take_secret), field=f"metadata.name={options.secret}"),
        ]

    def stop(self) -> None:
        """End soon; for a signal."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop`. Raises ConfigError and OSError when the pages cannot be served."""
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(0.0, self._writer.poke)
        pages = Pages(self._tally.text, lambda: self._view.unready(time.monotonic()))
        if self._options.metrics:
            await pages.start(self._options.metrics)
        for watcher in self._watchers:
            watcher.start()
        tasks = [asyncio.ensure_future(part.run()) for part in (self._carpd, self._settling, self._writer)]
        ending = asyncio.ensure_future(self._stopping.wait())
        done, _ = await asyncio.wait([*tasks, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that ends by itself has failed: better a fresh start than half an agent
        await self._leave()
        for watcher in self._watchers:
            watcher.stop(patience=0.1)
        for task in tasks:
            task.cancel()
        pages.close()

    async def _leave(self) -> None:
        """Stay while carpd hands over, so that the last status tells the outcome."""
        log.info("told to stop; staying until carpd is gone, at most %g s", self._options.stay)
        if self._view.connected:
            try:
                async with asyncio.timeout(self._options.stay):
                    await self._gone.wait()
            except TimeoutError:
                log.info("carpd goes on without us")
        await self._writer.finish(LAST_WRITE)

    # --- the API server --------------------------------------------------------------------------

    def _here(self, take: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return a sink that takes events in the loop's thread."""

        def sink(event: Event) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(take, event)

        return sink

    def _node_read(self, node: Object, listed: bool) -> None:  # noqa: FBT001 (the type of a callable)
        if listed or _mark(node).uid != self._mark.uid:
            self._believe(node)
        self._settling.read(node)
        self._compare()
        self._writer.poke()

    def _believe(self, node: Object) -> None:
        """Go on from the status that stands in an object that was read."""
        self._mark, self._previous = _mark(node), node.get("status") or {}

    def _compare(self) -> None:
        """Believe what was read last where somebody else has written the status since our last answer.

        Compared is what the server made of ours: an older definition prunes what it does not know.
        """
        node = self._settling.node
        if node is None or self._sending:
            return
        found, known = _mark(node), self._mark
        if found.version > known.version and (found.uid, found.status) != (known.uid, known.status):
            self._believe(node)
            self._writer.poke()

    def _secret_read(self, secret: Object, _listed: bool) -> None:  # noqa: FBT001 (likewise)
        self._settling.unlock(keys_of(secret))

    async def _read_again(self) -> Object:
        return await in_thread(lambda: self._writing.get(CARP_NODES, self._options.node))

    def _silence(self) -> float:
        return time.monotonic() - min(watcher.heard_at for watcher in self._watchers)

    # --- carpd -----------------------------------------------------------------------------------

    def _told(self, message: Message) -> None:
        fresh = not self._view.connected
        self._view.take(message, time.monotonic())
        self._tally.connected = True
        if fresh and self._view.connected:
            self._gone.clear()
            self._troubles.set("carpd", "")
            self._settling.connected()
        self._writer.poke()

    def _lost(self, problem: str) -> None:
        self._view.lose(problem, time.monotonic())
        self._tally.connected = False
        self._gone.set()
        self._troubles.set("carpd", self._view.problem)
        self._writer.poke()

    # --- the status ------------------------------------------------------------------------------

    def _compose(self) -> dict[str, Any] | None:
        """Return the status to write, None where nothing is worth it, or not yet."""
        node, view = self._settling.node, self._view
        if node is None or self._waits_for_carpd():
            return None
        away = not (view.connected or view.stopped or self._stopping.is_set())
        if away and self._waits_until(view.lost_at + GRACE):
            return None
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        found = status(node, self._previous, view, self._verdict(), now)
        if not differs(found, self._previous):
            return None
        if not urgent(found, self._previous) and self._waits_until(self._written_at + CHATTER):
            return None
        return found

    def _waits_for_carpd(self) -> bool:
        """Whether what becomes of the spec is about to be known; a disk that hangs must not hide the rest."""
        if not self._settling.pending:
            self._behind_since = None
            return False
        if self._behind_since is None:
            self._behind_since = time.monotonic()
        return self._waits_until(self._behind_since + GRACE)

    def _verdict(self) -> Verdict:
        found = self._settling.verdict
        if self._behind_since is None:
            return found
        return replace(found, reason="Pending", message=REASONS["Pending"])

    def _waits_until(self, moment: float) -> bool:
        """Whether a moment is still to come; then we are poked."""
        wait = moment - time.monotonic()
        if wait > 0:
            self._timer.cancel()
            self._timer = self._loop.call_later(wait, self._writer.poke)
        return wait > 0

    async def _send(self, found: dict[str, Any]) -> None:
        name = self._options.node
        self._sending = True
        try:
            answer = await in_thread(
                lambda: self._writing.patch(
                    CARP_NODES, name, {"status": found}, subresource="status", manager=MANAGER
                )
            )
            self._mark, self._previous, self._written_at = _mark(answer), found, time.monotonic()
        finally:
            self._sending = False
            self._compare()
