"""The one loop: what changed -> a snapshot -> a plan -> the writes that differ, within a budget.

Everything is decided in one thread; lists, plans and `carp-keys` happen in it, all other writes in a few
others. Whatever fails is tried again as long as the newest plan still wants it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, NamedTuple

from carp_operator.controller.counts import failure
from carp_operator.controller.drafts import drafts
from carp_operator.controller.keys import used
from carp_operator.controller.outbox import MOST, Outbox, Write
from carp_operator.controller.passwords import MANAGER
from carp_operator.kube.errors import Fatal, Forbidden, KubeError, NotFound, Transient
from carp_operator.kube.resources import CARP_NODES, NODES, POOLS, SECRETS, VIRTUAL_IPS
from carp_operator.plan.model import Notice, Snapshot
from carp_operator.plan.planner import Cache, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.api.objects import CarpNode
    from carp_operator.controller.parts import Parts
    from carp_operator.kube.client import Object
    from carp_operator.plan.model import KeyState, Plan

log: Final = logging.getLogger("carp.controller")
TOGETHER: Final = 0.03
"""s that a change waits for others to come with it."""
SUSPENDED_PAUSE: Final = 2.0
"""s between lists while something is unknown."""
NOT_TWICE: Final = 5.0
"""s between lists that a refused write asks for."""
LONGEST_WAIT: Final = 30.0
"""s between two turns at most, for the probe."""


class _Answer(NamedTuple):
    """What became of a write; ``known``: the object's resource version in the store when it was sent."""

    write: Write
    known: int
    result: Object | KubeError


class Loop:
    """The loop and what it knows; `poke`, `dirty` and `relist` may be called by any thread."""

    def __init__(self, parts: Parts, *, resync: float, replace_after: float) -> None:
        """``resync`` and ``replace_after`` in s."""
        self._parts = parts
        self._resync_every = resync
        self._replace_after = replace_after
        self._outbox = Outbox()
        self._cache = Cache()
        self._keys_at: float | None = None
        """Epoch seconds when to try again to write `carp-keys`."""
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._poked, self._stopped = threading.Event(), threading.Event()
        self._dirty = True
        self._resync_at = 0.0
        self._feed_stale = True
        self._last_list = float("-inf")
        self._wake_at: float | None = None
        self._notices: dict[str, tuple[Notice, ...]] = {}
        """Object -> what to tell once its write, not sent yet, is done."""
        self._sent: dict[str, tuple[Notice, ...]] = {}
        """The same of writes under way."""
        self._told: dict[str, CarpNode] = {}
        """CarpNodes as our last write of them was answered."""
        self._said: set[str] = set()
        self._outdated: dict[str, tuple[str, ...]] = {}
        self._pool = ThreadPoolExecutor(MOST, thread_name_prefix="write")
        self._led = False
        self.turned_at = self.planned_at = self.heard_at = time.monotonic()
        self.planned = False
        self.problem = ""
        """Why the last plan could not be made; empty when it could."""

    # --- for other threads ----------------------------------------------------------------------------

    def dirty(self) -> None:
        """Plan again, soon."""
        self._dirty = True
        self._poked.set()

    def poke(self) -> None:
        """Look again whether there is something to do."""
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
        return len(self._outbox)

    def suspended(self) -> tuple[str, ...]:
        """Return why there is no planning; empty when there is."""
        secrets = self._parts.passwords.problem
        own = (self.problem,) if self.problem else ()
        return (*self._parts.store.problems(), *((secrets,) if secrets else ()), *own)

    # --- the loop -------------------------------------------------------------------------------------

    def run(self) -> None:
        """Turn until stopped."""
        while not self._stopped.is_set():
            try:
                wake = self._turn()
            except Exception as error:
                # One turn's trouble must not end the process that everything else needs.
                log.exception("a turn of the loop failed")
                self.problem, self._dirty = f"internal error: {type(error).__name__}", True
                wake = time.monotonic() + SUSPENDED_PAUSE
            now = self.turned_at = time.monotonic()
            self._poked.wait(max(0.0, min(wake - now, LONGEST_WAIT)))
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _turn(self) -> float:
        """Do what is due; return the monotonic time of the next turn at the latest."""
        self._poked.clear()
        self._collect()
        wakes = [self._observe()]
        leading = self._parts.leads()
        if leading != self._led:
            self._led, self._dirty = leading, True
            self._outbox.want(())
        if not leading:
            self._parts.passwords.follow()
        elif not self._unknown():
            wakes.append(self._replan())
            wakes.append(self._dispatch())
        return min(wakes)

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
        self._say("list", "; ".join(self._parts.store.problems()))
        self._resync_at = now + (self._resync_every if known else SUSPENDED_PAUSE)
        if not known:
            self._feed_stale = True
            return
        self.heard()
        self._outbox.retry()
        self._dirty = True
        if self._feed_stale or self._parts.observer.moved or not self._parts.feed.running:
            self._feed_stale = self._parts.observer.moved = False
            self._parts.feed.start()

    def _say(self, about: str, problem: str) -> None:
        """Log a problem once."""
        if problem and f"{about} {problem}" not in self._said:
            if len(self._said) > 1000:
                self._said.clear()
            self._said.add(f"{about} {problem}")
            log.warning("%s", problem)

    # --- plan -----------------------------------------------------------------------------------------

    def _replan(self) -> float:
        """Plan if something changed; return when time alone changes the plan."""
        due = self._wake_at is not None and time.time() >= self._wake_at
        if self._dirty or due:
            self._stopped.wait(TOGETHER)
            self._collect()
            self._dirty = False
            self._plan()
        if self._wake_at is None:
            return float("inf")
        return time.monotonic() + self._wake_at - time.time()

    def _plan(self) -> None:
        store = self._parts.store
        carpnodes, vips = store.objects(CARP_NODES), store.objects(VIRTUAL_IPS)
        began = time.monotonic()
        try:
            cluster = self._parts.observer.identify()
            keys = self._name_keys(carpnodes)
        except KubeError as error:
            self._trouble(str(error))
            return
        snapshot = Snapshot(
            cluster=cluster,
            vips=vips,
            pools=store.objects(POOLS),
            nodes=store.objects(NODES),
            carpnodes=carpnodes,
            keys=keys,
            now=time.time(),
            replace_after=self._replace_after,
        )
        made = plan(snapshot, self._cache)
        self._parts.counts.plans.observe(time.monotonic() - began)
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
        """Write `carp-keys` where it differs and the budget allows. Raises Transient."""
        self._keys_at = None
        if not self._parts.passwords.unsaved:
            return
        if pause := self._parts.budget.take(time.monotonic()):
            self._keys_at = time.time() + pause
            return
        try:
            self._parts.passwords.save()
            self._parts.counts.wrote("secrets", "done")
        except KubeError as error:
            self._parts.counts.wrote("secrets", failure(error))
            if isinstance(error, Transient):
                raise
            self._say("keys", str(error))
            self._keys_at = time.time() + SUSPENDED_PAUSE

    def _want(self, made: Plan, snapshot: Snapshot) -> None:
        """Turn a plan into what waits to be written."""
        absent = self._parts.store.absent()
        draft = drafts(made, snapshot, self._parts.observer.schemas, absent)
        owners = [vip for name, vip in sorted(snapshot.vips.items()) if name not in absent]
        self._outbox.want([*draft.nodes, *self._parts.passwords.missing(owners), *draft.statuses])
        self._notices = {}
        for notice in (*made.notices, *self._edited(draft.nodes, snapshot)):
            self._notices[notice.name] = (*self._notices.get(notice.name, ()), notice)
        for name, fields in sorted(draft.outdated.items()):
            if self._outdated.get(name) != fields:
                self._tell_outdated(name, fields)
        self._outdated = draft.outdated

    def _edited(self, writes: Sequence[Write], snapshot: Snapshot) -> list[Notice]:
        """Return what to tell of CarpNodes that somebody else changed after our last write."""
        found = []
        planned = {write.name for write in writes}
        for name, carp in snapshot.carpnodes.items():
            told = self._told.get(name)
            if name not in planned:
                self._told[name] = carp
            elif told is not None and told.uid == carp.uid and told.generation < carp.generation:
                text = f"somebody changed the spec (generation {carp.generation}); it was put right"
                found.append(Notice("CarpNode", name, "SpecRestored", text, warning=True))
        return found

    def _tell_outdated(self, vip: str, fields: tuple[str, ...]) -> None:
        text = f"the served CRD lacks {', '.join(fields)}: left out until you apply the CRDs of this version"
        self._say("schema", text)
        self._tell(Notice("VirtualIP", vip, "SchemaOutdated", text, warning=True))

    def _tell(self, notice: Notice) -> None:
        kind = VIRTUAL_IPS if notice.kind == "VirtualIP" else CARP_NODES
        about = self._parts.store.objects(kind).get(notice.name)
        if about is not None:
            self._parts.recorder.tell(notice, about.uid)

    # --- write ----------------------------------------------------------------------------------------

    def _dispatch(self) -> float:
        """Send what is due and allowed; return when there is more."""
        while not self._stopped.is_set():
            now = time.monotonic()
            write, wake = self._outbox.due(now)
            if write is None:
                return float("inf") if wake is None else wake
            if pause := self._parts.budget.take(now):
                return now + pause
            self._submit(write)
        return float("inf")

    def _submit(self, write: Write) -> None:
        self._outbox.sent(write)
        # The next plan may be made of a store that the write's event has reached before its answer.
        self._sent[write.name] = self._notices.pop(write.name, ())
        self._pool.submit(self._send, write)

    def _send(self, write: Write) -> None:
        """Write; in a thread of the pool."""
        known = self._parts.store.version(write.resource, write.name)
        try:
            if not self._parts.leads():
                raise Transient(f"{write.verb} {write.kind} {write.name}", "another replica leads")  # noqa: TRY301
            answer: Object | KubeError = self._request(write)
        except KubeError as error:
            answer = error
        except Exception as error:
            log.exception("%s %s", write.kind, write.name)
            answer = Transient(f"{write.verb} {write.kind} {write.name}", type(error).__name__)
        self._answers.put(_Answer(write, known, answer))
        self._poked.set()

    def _request(self, write: Write) -> Object:
        client, body = self._parts.client, write.body
        match write.verb:
            case "apply":
                return client.apply(write.resource, body, MANAGER)
            case "status":
                return client.apply_status(write.resource, body, MANAGER)
            case "create":
                return client.create(write.resource, body)
        return client.patch(write.resource, write.name, body, manager=MANAGER)

    def _collect(self) -> None:
        """Take the answers to writes."""
        while True:
            try:
                write, known, result = self._answers.get_nowait()
            except queue.Empty:
                return
            notices = self._sent.pop(write.name, ())
            if isinstance(result, KubeError):
                self._failed(write, result)
            elif self._succeeded(write, known, result):
                for notice in notices:
                    self._tell(notice)
            if not len(self._outbox):
                self._dirty = True  # the plan of the planned world shows whether all is done

    def _succeeded(self, write: Write, known: int, answer: Object) -> bool:
        """Take the object as it is now; whether the write had an effect."""
        self._parts.counts.wrote(write.kind, "done")
        self.heard()
        if write.resource.plural == SECRETS.plural:
            self._parts.passwords.took(answer)
            self._outbox.done(write)
            return True
        value = self._parts.store.put(write.resource, answer)
        if answer["metadata"].get("resourceVersion") == str(known):
            self._outbox.futile(write, time.monotonic())
            self._say("futile", f"{write.verb} {write.kind} {write.name}: changes nothing")
            return False
        self._outbox.done(write)
        if write.resource == CARP_NODES:
            self._told[write.name] = value
        return True

    def _failed(self, write: Write, error: KubeError) -> None:
        self._parts.counts.wrote(write.kind, failure(error))
        now = time.monotonic()
        self._outbox.failed(write, error, now)
        if isinstance(error, Fatal) or (isinstance(error, NotFound) and write.resource == CARP_NODES):
            # The definitions may have changed, or be gone.
            self._resync_at = min(self._resync_at, max(now, self._last_list + NOT_TWICE))
        if isinstance(error, NotFound) and write.resource == VIRTUAL_IPS:
            return  # deleted meanwhile: its event is on the way
        if isinstance(error, Fatal | Forbidden):
            self._say("refused", str(error))
        else:
            log.debug("%s", error)
