"""The one loop: what changed -> a snapshot -> a plan -> the writes that differ, within a budget.

Everything is decided in one thread; lists, plans and `carp-keys` happen in it, all other writes in those of
`writing`. Whatever fails is tried again as long as the newest plan still wants it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from carp_operator.controller.counts import failure
from carp_operator.controller.drafts import drafts
from carp_operator.controller.keys import used
from carp_operator.controller.outbox import HOLD
from carp_operator.controller.writing import Writing
from carp_operator.kube.errors import KubeError, Transient
from carp_operator.kube.resources import CARP_NODES, NODES, POOLS, VIRTUAL_IPS
from carp_operator.plan.model import Notice, Snapshot
from carp_operator.plan.planner import Cache, plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.api.objects import CarpNode
    from carp_operator.controller.parts import Parts
    from carp_operator.kube.resources import Resource
    from carp_operator.plan.model import KeyState, Plan

log: Final = logging.getLogger("carp.controller")
TOGETHER: Final = 0.03
"""s that a change waits for others to come with it; longer where plans take long."""
LONGEST_TOGETHER: Final = 1.0
LATER: Final = 1.0
"""s until a plan after a change that most probably is our own."""
SUSPENDED_PAUSE: Final = 2.0
LONGEST_SUSPENDED_PAUSE: Final = 30.0
"""s between lists while something is unknown; they grow while the server refuses the same again."""
NOT_TWICE: Final = 5.0
"""s between lists that a refused write asks for, at least."""
LONGEST_PAUSE: Final = 60.0
"""s between such lists, and between attempts to write a `carp-keys` that is refused, at most."""
LONGEST_WAIT: Final = 30.0
"""s between two turns at most, for the probe."""


class Loop:
    """The loop and what it knows; `dirty`, `heard` and `relist` may be called by any thread."""

    def __init__(self, parts: Parts, *, resync: float, replace_after: float, interfaces: str = "") -> None:
        """``resync`` and ``replace_after`` in s; ``interfaces``: those in use, as in a plan's snapshot."""
        self._parts = parts
        self._resync_every = resync
        self._replace_after = replace_after
        self._interfaces = interfaces
        self._writing = Writing(parts, self._poke, self._say)
        self._cache = Cache()
        self._keys_at: float | None = None
        """Epoch seconds when to try again to write `carp-keys`."""
        self._keys_pause = 0.0
        """s that a `carp-keys` waits whose write has failed; 0: it has not."""
        self._poked, self._stopped = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._due = 0.0
        """Monotonic time of the next plan."""
        self._together = TOGETHER
        self._resync_at = 0.0
        self._feed_stale = True
        self._last_list = float("-inf")
        self._suspended_pause = SUSPENDED_PAUSE
        self._suspended_by: tuple[str, ...] = ()
        self._doubt_until, self._doubt_pause = float("-inf"), NOT_TWICE
        self._schemas: Mapping[Resource, Mapping[str, Any] | None] = {}
        self._served = 0
        """Another number means that other schemas are served."""
        self._wake_at: float | None = None
        self._said: set[str] = set()
        self._outdated: dict[str, tuple[str, ...]] = {}
        self._led = False
        self.turned_at = self.planned_at = self.heard_at = time.monotonic()
        self.planned = False
        self.problem = ""
        """Why the last plan could not be made; empty when it could."""

    # --- for other threads ----------------------------------------------------------------------------

    def dirty(self, soon: bool = True) -> None:  # noqa: FBT001, FBT002 (what the store tells)
        """Plan again."""
        due = time.monotonic() + (self._together if soon else LATER)
        with self._lock:
            earlier = due < self._due
            self._due = min(self._due, due)
        # A standby has been due for long when it begins to lead.
        if soon or earlier:
            self._poked.set()

    def heard(self) -> None:
        """Take note of a word from the API server."""
        self.heard_at = time.monotonic()

    def relist(self, after: float = 0.0) -> None:
        """List everything in so many s, and watch anew: something may have been missed."""
        self._resync_at = min(self._resync_at, time.monotonic() + after)
        self._feed_stale = True
        self._poked.set()

    def stop(self) -> None:
        """End after the writes under way."""
        self._stopped.set()
        self._poked.set()

    def waiting(self) -> int:
        """Return how many writes wait or are under way."""
        return self._writing.waiting

    def suspended(self) -> tuple[str, ...]:
        """Return why there is no planning; empty when there is."""
        secrets = self._parts.passwords.problem
        own = (self.problem,) if self.problem else ()
        return (*self._parts.store.problems(), *((secrets,) if secrets else ()), *own)

    def _poke(self) -> None:
        self._poked.set()

    # --- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until stopped."""
        while not self._stopped.is_set():
            try:
                wake = self._turn()
            except Exception as error:
                # One turn's trouble must not end the process that everything else needs.
                log.exception("a turn of the loop failed")
                self.problem = f"internal error: {type(error).__name__}"
                wake = time.monotonic() + SUSPENDED_PAUSE
                self.dirty(soon=False)
            now = self.turned_at = time.monotonic()
            self._poked.wait(max(0.0, min(wake - now, LONGEST_WAIT)))
        self._writing.close()

    def _turn(self) -> float:
        """Do what is due; return the monotonic time of the next turn at the latest."""
        self._poked.clear()
        self._collect()
        leading = self._parts.leads()
        if leading and not self._led:
            # What the leader before us wrote last may not have reached us by events.
            self._resync_at = time.monotonic()
        wakes = [self._observe()]
        leading = leading and self._parts.leads()
        if leading != self._led:
            self._led = leading
            self._writing.cease()
            self.dirty()
        if not leading:
            self._parts.passwords.follow()
        elif not self._unknown():
            wakes.append(self._replan())
            wakes.append(self._writing.dispatch())
        return min(wakes)

    def _collect(self) -> None:
        """Take the answers to writes."""
        outcome = self._writing.collect()
        if outcome.heard:
            self.heard()
        if outcome.drained:
            self.dirty()  # the plan of the planned world shows whether all is done
        if outcome.doubtful:
            # Until the refused write is sent again only a list shows that it would be taken now.
            self._doubt_until = time.monotonic() + HOLD
            self._resync_at = min(self._resync_at, self._last_list + self._doubt_pause)

    def _unknown(self) -> bool:
        return bool(self._parts.store.problems() or self._parts.passwords.problem)

    def _observe(self) -> float:
        """List and judge where that is due."""
        store, observer, now = self._parts.store, self._parts.observer, time.monotonic()
        if observer.judge():
            self._resync_at = min(self._resync_at, self._last_list + NOT_TWICE)
        if now >= self._resync_at:
            self._resync()
        expiry = store.expire(time.monotonic())
        return self._resync_at if expiry is None else min(self._resync_at, expiry)

    def _resync(self) -> None:
        known = self._parts.observer.resync()
        now = self._last_list = time.monotonic()
        self._parts.counts.resyncs["done" if known else "failed"] += 1
        pause = self._pause(self._parts.store.problems())
        doubted = now < self._doubt_until
        self._doubt_pause = min(LONGEST_PAUSE, 2 * self._doubt_pause) if doubted else NOT_TWICE
        again = min(self._resync_every, self._doubt_pause) if doubted else self._resync_every
        self._resync_at = now + (again if known else pause)
        if not known:
            self._feed_stale = True
            return
        self.heard()
        self._writing.retry()
        schemas = self._parts.observer.schemas
        if self._parts.observer.moved or schemas != self._schemas:
            self._schemas, self._served = schemas, self._served + 1
            self._doubt_until, self._doubt_pause = now, NOT_TWICE
        self.dirty()
        if self._feed_stale or self._parts.observer.moved or not self._parts.feed.running:
            self._feed_stale = self._parts.observer.moved = False
            self._parts.feed.start()

    def _pause(self, problems: tuple[str, ...]) -> float:
        """Say what is unknown after a list, and return for how long to wait before the next."""
        self._say("list", "; ".join(problems))
        # A definition that comes, or a server that is back, is noticed soon: to ask for it costs little.
        same = problems == self._suspended_by and self._parts.observer.refused
        self._suspended_by = problems
        longer = min(LONGEST_SUSPENDED_PAUSE, 2 * self._suspended_pause)
        self._suspended_pause = longer if same else SUSPENDED_PAUSE
        return self._suspended_pause

    def _say(self, about: str, problem: str) -> None:
        """Log a problem once."""
        if problem and f"{about} {problem}" not in self._said:
            if len(self._said) > 1000:
                self._said.clear()
            self._said.add(f"{about} {problem}")
            log.warning("%s", problem)

    # --- plan -----------------------------------------------------------------------------------------

    def _replan(self) -> float:
        """Plan if that is due; return when it is due again."""
        now = time.monotonic()
        with self._lock:
            due = self._due <= now
            if due:
                self._due = float("inf")
        if due or (self._wake_at is not None and time.time() >= self._wake_at):
            self._plan()
        wake = float("inf") if self._wake_at is None else time.monotonic() + self._wake_at - time.time()
        return min(wake, self._due)

    def _plan(self) -> None:
        store, pods = self._parts.store, self._parts.pods
        carpnodes, vips = store.objects(CARP_NODES), store.objects(VIRTUAL_IPS)
        began = time.monotonic()
        try:
            cluster = self._parts.observer.identify()
            keys = self._name_keys(carpnodes)
        except KubeError as error:
            self._trouble(str(error))
            return
        nodes = store.objects(NODES)
        snapshot = Snapshot(
            cluster=cluster,
            vips=vips,
            pools=store.objects(POOLS),
            nodes=nodes,
            carpnodes=carpnodes,
            keys=keys,
            now=time.time(),
            replace_after=self._replace_after,
            interfaces=self._interfaces,
            agents=None if pods is None else pods.agents(nodes),
        )
        made = plan(snapshot, self._cache)
        took = time.monotonic() - began
        self._parts.counts.plans.observe(took)
        self._together = min(LONGEST_TOGETHER, max(TOGETHER, 2 * took))
        self._want(made, snapshot)
        self.planned_at, self.planned, self.problem = time.monotonic(), True, ""
        if made.settled:
            self._parts.passwords.drop(made.keys_in_use)
            self._keys_at = self._keys_at or (time.time() if self._parts.passwords.unsaved else None)
        self._wake_at = min((at for at in (made.wake_at, self._keys_at) if at is not None), default=None)

    def _trouble(self, problem: str) -> None:
        self._say("plan", problem)
        self.problem, self._wake_at = problem, time.time() + SUSPENDED_PAUSE

    def _name_keys(self, carpnodes: Mapping[str, CarpNode]) -> Mapping[str, KeyState]:
        """Return the passwords' names, of those that stand in `carp-keys`. Raises KubeError."""
        passwords, vips = self._parts.passwords, self._parts.store.objects(VIRTUAL_IPS)
        told = {name for carp in carpnodes.values() for name in used(carp.vhosts)}
        states = passwords.states(vips, told)
        self._save_keys()
        return passwords.saved(states)

    def _save_keys(self) -> None:
        """Write `carp-keys` where it differs and the budget allows."""
        if not self._parts.passwords.unsaved:
            self._keys_at, self._keys_pause = None, 0.0
            return
        if self._keys_pause and self._keys_at is not None and time.time() < self._keys_at:
            return
        self._keys_at = None
        if pause := self._parts.budget.take(time.monotonic()):
            self._keys_at = time.time() + pause
            return
        try:
            self._parts.passwords.save()
            self._keys_pause = 0.0
            self._parts.counts.wrote("secrets", "done")
        except KubeError as error:
            self._parts.counts.wrote("secrets", failure(error))
            self._say("keys", str(error))
            longer = 0.0 if isinstance(error, Transient) else min(LONGEST_PAUSE, 2 * self._keys_pause)
            self._keys_pause = longer or SUSPENDED_PAUSE
            self._keys_at = time.time() + max(self._keys_pause, error.retry_after)

    def _want(self, made: Plan, snapshot: Snapshot) -> None:
        """Turn a plan into what waits to be written."""
        absent = self._parts.store.absent()
        draft = drafts(made, snapshot, self._parts.observer.schemas, absent, self._served)
        owners = [vip for name, vip in sorted(snapshot.vips.items()) if name not in absent]
        secrets = self._parts.passwords.missing(owners)
        self._writing.want([*draft.nodes, *secrets, *draft.statuses], made.notices, snapshot.carpnodes)
        for name, fields in sorted(draft.outdated.items()):
            if self._outdated.get(name) != fields:
                self._tell_outdated(name, fields)
        self._outdated = draft.outdated

    def _tell_outdated(self, vip: str, fields: tuple[str, ...]) -> None:
        text = f"the served CRD lacks {', '.join(fields)}: left out until you apply the CRDs of this version"
        self._say("schema", text)
        self._writing.tell(Notice("VirtualIP", vip, "SchemaOutdated", text, warning=True))
