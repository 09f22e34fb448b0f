"""Carries out what a plan wants: in threads, within the budget, and says what became of it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from carp_operator.controller.counts import failure
from carp_operator.controller.outbox import MOST, Outbox, Write
from carp_operator.controller.passwords import MANAGER
from carp_operator.kube.errors import Fatal, Forbidden, KubeError, NotFound, Transient
from carp_operator.kube.resources import CARP_NODES, SECRETS, VIRTUAL_IPS
from carp_operator.plan.model import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from carp_operator.api.objects import CarpNode
    from carp_operator.controller.outbox import Key
    from carp_operator.controller.parts import Parts
    from carp_operator.kube.client import Object

log: Final = logging.getLogger("carp.controller")
_TERMINATING: Final = "definition is terminating"
"""What the API server says of an object whose CRD is being deleted."""
_REMEMBERED: Final = 4
"""Specs of a CarpNode that we know as our own."""
_WRITTEN: Final = {"VirtualIP": "virtualips/status", "CarpNode": "carpnodes"}
"""Kind that a notice is about -> the write that it belongs to."""


class Outcome(NamedTuple):
    """What the answers to writes mean; ``doubtful``: the served definitions may have changed."""

    heard: bool
    drained: bool
    doubtful: bool


class _Answer(NamedTuple):
    """What became of a write; ``known``: the object's resource version in the store when it was sent."""

    write: Write
    known: int
    result: Object | KubeError


class Writing:
    """The writes; for the loop's thread."""

    def __init__(self, parts: Parts, answered: Callable[[], None], say: Callable[[str, str], None]) -> None:
        """``answered`` is called by other threads when there is something to `collect`; ``say`` logs once."""
        self._parts = parts
        self._answered = answered
        self._say = say
        self._outbox = Outbox()
        self._pool = ThreadPoolExecutor(MOST, thread_name_prefix="write")
        self._closed = threading.Event()
        self._answers: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._notices: dict[Key, list[Notice]] = {}
        """What to tell once a write, not sent yet, is done."""
        self._sent: dict[Key, list[Notice]] = {}
        """The same of writes under way."""
        self._tried: dict[str, deque[Any]] = {}
        """CarpNode -> the vhosts that we sent last: a watch may show them before the answer comes."""
        self._told: dict[str, CarpNode] = {}
        """CarpNodes as our last write of them was answered."""

    @property
    def waiting(self) -> int:
        """How many writes wait or are under way."""
        return len(self._outbox)

    def want(
        self, writes: Sequence[Write], notices: Iterable[Notice], carpnodes: Mapping[str, CarpNode]
    ) -> None:
        """Replace what waits by the writes of a newer plan; each notice is told when its write is done."""
        self._outbox.want(writes)
        found: defaultdict[Key, list[Notice]] = defaultdict(list)
        for notice in (*notices, *self._edited(writes, carpnodes)):
            found[_WRITTEN[notice.kind], notice.name].append(notice)
        self._notices = dict(found)

    def cease(self) -> None:
        """Want nothing any more."""
        self._outbox.want(())

    def retry(self) -> None:
        """Try again at once what failed."""
        self._outbox.retry()

    def close(self) -> None:
        """Send nothing more, and wait for what is under way."""
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def tell(self, notice: Notice) -> None:
        """Post a notice about an object that is there."""
        kind = VIRTUAL_IPS if notice.kind == "VirtualIP" else CARP_NODES
        about = self._parts.store.objects(kind).get(notice.name)
        if about is not None:
            self._parts.recorder.tell(notice, about.uid)

    def dispatch(self) -> float:
        """Send what is due and allowed; return when (monotonic) there is more."""
        while True:
            now = time.monotonic()
            write, wake = self._outbox.due(now)
            if write is None:
                return float("inf") if wake is None else wake
            if pause := self._parts.budget.take(now):
                return now + pause
            self._outbox.sent(write)
            # The next plan may be made of a store that the write's event has reached before its answer.
            self._sent[write.key] = self._notices.pop(write.key, [])
            self._pool.submit(self._send, write)

    def collect(self) -> Outcome:
        """Take the answers to writes."""
        heard = doubtful = False
        while True:
            try:
                write, known, result = self._answers.get_nowait()
            except queue.Empty:
                return Outcome(heard, heard and not len(self._outbox), doubtful)
            notices = self._sent.pop(write.key, [])
            if isinstance(result, KubeError):
                doubtful = self._failed(write, result) or doubtful
                continue
            heard = True
            if self._succeeded(write, known, result):
                for notice in notices:
                    self.tell(notice)

    def _edited(self, writes: Sequence[Write], carpnodes: Mapping[str, CarpNode]) -> list[Notice]:
        """Return what to tell of CarpNodes that somebody else changed after our last write."""
        found = []
        planned = {write.name for write in writes if write.resource == CARP_NODES}
        for name, carp in carpnodes.items():
            told = self._told.get(name)
            if name not in planned:
                self._told[name] = carp
            elif list(carp.vhosts) in self._tried.get(name, ()):
                continue
            elif told is not None and told.uid == carp.uid and told.generation < carp.generation:
                # Without the generation, so that a fight is one Event that is counted up.
                text = "somebody changed the spec; it was put right"
                found.append(Notice("CarpNode", name, "SpecRestored", text, warning=True))
        for name in self._told.keys() - carpnodes.keys():
            del self._told[name]
            self._tried.pop(name, None)
        return found

    def _send(self, write: Write) -> None:
        """Write; in a thread of the pool."""
        known = self._parts.store.version(write.resource, write.name)
        what = f"{write.verb} {write.kind} {write.name}"
        result: Object | KubeError
        if self._closed.is_set() or not self._parts.leads():
            result = Transient(what, "this replica may not write any more")
        else:
            if write.resource == CARP_NODES:
                tried = self._tried.setdefault(write.name, deque(maxlen=_REMEMBERED))
                tried.append(write.body["spec"].get("vhosts", []))
            try:
                result = self._request(write)
            except KubeError as error:
                result = error
            except Exception as error:
                log.exception("%s", what)
                result = Transient(what, type(error).__name__)
        self._answers.put(_Answer(write, known, result))
        self._answered()

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

    def _succeeded(self, write: Write, known: int, answer: Object) -> bool:
        """Take the object as it is now; whether the write had an effect."""
        self._parts.counts.wrote(write.kind, "done")
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

    def _failed(self, write: Write, error: KubeError) -> bool:
        """Take a failure; whether the definitions may have changed, or be gone."""
        self._parts.counts.wrote(write.kind, failure(error))
        self._outbox.failed(write, error, time.monotonic())
        missing = isinstance(error, NotFound)
        if isinstance(error, Fatal | Forbidden):
            self._say("refused", str(error))
        elif not (missing and write.resource == VIRTUAL_IPS):
            log.debug("%s", error)
        going = isinstance(error, Forbidden) and _TERMINATING in str(error)
        return isinstance(error, Fatal) or going or (missing and write.resource == CARP_NODES)
