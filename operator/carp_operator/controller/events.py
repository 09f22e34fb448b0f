"""Events that a person reads with ``kubectl describe``: written beside the loop, the same one counted up.

Core/v1 Events of cluster-scoped objects are accepted in the namespace `default` only.
"""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp_operator.controller.counts import failure
from carp_operator.kube.errors import KubeError, NotFound
from carp_operator.kube.resources import EVENTS, GROUP, VERSION
from carp_operator.plan.status import stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.controller.budget import Budget
    from carp_operator.controller.counts import Counts
    from carp_operator.kube.client import Client
    from carp_operator.plan.model import Notice

log: Final = logging.getLogger("carp.controller")
COMPONENT: Final = "carp-controller"
SAME: Final = 3600.0
"""s within which the same Event is counted up."""
MOST: Final = 1000
"""Events that may wait; further ones are left out."""
_MESSAGE: Final = 1024
"""Characters that the API server takes."""


@dataclass(slots=True)
class _Posted:
    name: str
    count: int
    first: float


class Recorder:
    """Takes notices and posts them as Events, in a thread of its own."""

    def __init__(self, client: Client, budget: Budget, counts: Counts, allowed: Callable[[], bool]) -> None:
        """Begin nothing yet; ``allowed`` says whether we may write: a standby does not."""
        self._client = client
        self._budget = budget
        self._counts = counts
        self._allowed = allowed
        self._resource = EVENTS.within("default")
        self._queue: queue.Queue[tuple[Notice, str]] = queue.Queue(MOST)
        self._posted: dict[tuple[str, ...], _Posted] = {}
        self._refused = ""
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def tell(self, notice: Notice, uid: str) -> None:
        """Post a notice about the object with this uid, some time; never waits."""
        try:
            self._queue.put_nowait((notice, uid))
        except queue.Full:
            self._counts.wrote("events", "dropped")

    def _run(self) -> None:
        while True:
            notice, uid = self._queue.get()
            # What the loop writes is in a greater hurry.
            while pause := self._budget.take(time.monotonic(), self._budget.burst / 4):
                time.sleep(pause)
            if not self._allowed():
                continue
            try:
                self._post(notice, uid, time.time())
                self._counts.wrote("events", "done")
            except KubeError as error:
                self._counts.wrote("events", failure(error))
                if error.problem != self._refused:
                    self._refused = error.problem
                    log.warning("an Event cannot be written: %s", error)

    def _post(self, notice: Notice, uid: str, now: float) -> None:
        key = notice.kind, uid, notice.reason, notice.message
        self._posted = {k: p for k, p in self._posted.items() if now - p.first < SAME}
        known = self._posted.get(key)
        if known is not None:
            body = {"count": known.count + 1, "lastTimestamp": stamp(now)}
            try:
                self._client.patch(self._resource, known.name, body, manager=COMPONENT)
            except NotFound:
                del self._posted[key]  # it has expired, or somebody has cleaned up
            else:
                known.count += 1
                return
        name = f"{notice.name[:200]}.{secrets.token_hex(8)}"
        self._client.create(self._resource, event(notice, uid, name, now))
        self._posted[key] = _Posted(name, 1, now)


def event(notice: Notice, uid: str, name: str, now: float) -> dict[str, object]:
    """Return the Event for a notice."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": "default"},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": notice.kind,
            "name": notice.name,
            "uid": uid,
        },
        "reason": notice.reason,
        "message": notice.message[:_MESSAGE],
        "type": "Warning" if notice.warning else "Normal",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
        "count": 1,
        "firstTimestamp": stamp(now),
        "lastTimestamp": stamp(now),
    }
