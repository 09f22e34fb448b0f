"""One list-watch loop: what stands on the server now, and every change from then on, whatever happens to it.

`ListWatch` decides and does no I/O; `Watcher` is the thread that asks. After a failure everything is listed
again, never only watched on: an etcd that was restored has run backwards, and a watch from a resource version
that it has not reached yet would stay silent without an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from carp_operator.kube.client import PAGE, selected
from carp_operator.kube.errors import Gone, KubeError, Silent, Transient, Unreachable, from_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carp_operator.kube.client import Client, Object, Query, Stream
    from carp_operator.kube.resources import Resource

log: Final = logging.getLogger("carp.kube")
WATCH_TIME: Final = 300
"""s after which the server ends a watch, so that watches move to servers that came back."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""s between attempts at most, where the server answers and refuses."""
LONGEST_SEARCH: Final = 3.0
"""s between attempts at most, where nobody answers: a refused connection costs nobody anything, and who waits
half a minute follows a server that came back half a minute late."""
SHORT_LIVED: Final = 1.0
"""s; a watch that ended sooner and brought nothing counts as failed."""
MAX_LINE: Final = 8 << 20
"""Bytes of one change; etcd holds 1.5 MiB an object."""


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything there is, now; what was known before and is not in here is not there any more."""

    items: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Upsert:
    """An object as it is now."""

    item: Object


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object as it was when it was deleted, or left the selection."""

    item: Object


@dataclass(frozen=True, slots=True)
class Lost:
    """From now on nothing is known to be true, until the next `Synced`; told once for each new reason."""

    reason: str


Event: TypeAlias = Synced | Upsert | Deleted | Lost


class ListWatch:
    """What to ask next, what an answer means, and how long to wait after a failure."""

    def __init__(self, resource: Resource, *, field: str = "", label: str = "") -> None:
        """Begin with a list."""
        self.request = f"watch {resource}"
        self._selection: Query = selected(field, label)
        self._version = ""
        """Resource version up to which everything is known; empty: list."""
        self._more = ""
        self._items: list[Object] = []
        self._failures = 0
        self._failed_as: type[KubeError] | None = None
        self._reason = ""

    @property
    def listing(self) -> bool:
        """Whether a list is due, else a watch."""
        return not self._version

    @property
    def query(self) -> Query:
        """What to ask with."""
        if self.listing:
            following = {"continue": self._more} if self._more else {}
            return self._selection | {"limit": str(PAGE)} | following
        return self._selection | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(WATCH_TIME),
        }

    def page(self, body: Object) -> list[Event]:
        """Take a page of a list. Raises Unreachable for what is none."""
        metadata, items = body.get("metadata"), body.get("items")
        version = metadata.get("resourceVersion") if isinstance(metadata, dict) else None
        if not version or not isinstance(items, list | None):
            raise Unreachable(self.request, "the answer is no list: is this an API server?")
        assert isinstance(metadata, dict)  # noqa: S101 (it has a version)
        self._items += items or []
        self._more = str(metadata.get("continue") or "")
        if self._more:
            return []
        found, self._items = tuple(self._items), []
        self._version = str(version)
        self._reason = ""
        return [Synced(found)]

    def line(self, text: bytes) -> list[Event]:
        """Take one line of a watch. Raises KubeError for one that ends it."""
        try:
            change: Any = json.loads(text)
            kind, item = change["type"], change["object"]
        except (ValueError, KeyError, TypeError):
            raise Unreachable(self.request, "garbage, or a change cut in the middle") from None
        if kind == "ERROR":
            raise from_status(self.request, item)
        version = str(item.get("metadata", {}).get("resourceVersion", ""))
        if kind == "BOOKMARK" and _before(version, self._version):
            raise Gone(self.request, "the server's versions have run backwards")
        self._version = version or self._version
        self._failures = 0
        match kind:
            case "ADDED" | "MODIFIED":
                return [Upsert(item)]
            case "DELETED":
                return [Deleted(item)]
        return []

    def ended(self, lived: float, lines: int) -> None:
        """Take the end of a watch after so many s and lines. Raises Transient for a short one."""
        if lived < SHORT_LIVED and not lines:
            raise Transient(self.request, "the server ends each watch at once")
        self._failures = 0

    def failed(self, error: KubeError, chance: float) -> tuple[list[Event], float]:
        """Return what to tell, and for how many s to wait; ``chance`` (0-1) spreads clients out."""
        if isinstance(error, Silent):
            # Whether the server is there shows when the watch is opened anew; a restored one has cut us off.
            return [], 0.0
        self._version, self._more, self._items = "", "", []
        # Who just came back may refuse for a moment; that must not wait as long as the outage has made us.
        self._failures = self._failures + 1 if type(error) is self._failed_as else 1
        self._failed_as = type(error)
        if isinstance(error, Gone) and self._failures == 1:
            return [], 0.0
        longest = LONGEST_SEARCH if isinstance(error, Unreachable) else LONGEST_PAUSE
        pause = min(longest, FIRST_PAUSE * 2 ** min(self._failures - 1, 10)) * (0.5 + chance / 2)
        news: list[Event] = [] if str(error) == self._reason else [Lost(str(error))]
        self._reason = str(error)
        return news, max(pause, error.retry_after)


def _before(version: str, other: str) -> bool:
    """Whether a resource version is older; since Kubernetes 1.35 they are promised to be numbers."""
    return version.isdigit() and other.isdigit() and int(version) < int(other)


class Watcher:
    """A thread that follows one kind of objects; each event goes to ``sink``, in that thread and in order."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        sink: Callable[[Event], None],
        *,
        field: str = "",
        label: str = "",
    ) -> None:
        """Begin nothing yet; ``field`` and ``label`` are selectors."""
        self._client = client
        self._resource = resource
        self._sink = sink
        self._logic = ListWatch(resource, field=field, label=label)
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {resource.plural}", daemon=True)
        self.heard_at = time.monotonic()
        """Monotonic time of the last word from the server; a minute ago at most while all is well."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience: float = 1.0) -> None:
        """End; a request that hangs for ``patience`` s is left to itself. No event comes afterwards."""
        self._stopped.set()
        stream = self._stream
        if stream is not None:
            stream.interrupt()
        self._thread.join(patience)

    def _run(self) -> None:
        while not self._stopped.is_set():
            failure = self._attempt()
            if failure is not None:
                news, pause = self._logic.failed(failure, random.random())  # noqa: S311
                with contextlib.suppress(
                    Exception
                ):  # who fails to hear of a loss is told everything after it
                    self._tell(news)
                self._stopped.wait(pause)

    def _attempt(self) -> KubeError | None:
        """Do one step, and return why it failed; also who is told may fail, which must not end the thread."""
        try:
            self._step()
        except KubeError as error:
            return error
        except Exception as error:
            log.exception("watch of %s", self._resource)
            return Transient(self._logic.request, repr(error))
        return None

    def _step(self) -> None:
        if self._logic.listing:
            body = self._client.page(self._resource, self._logic.query)
            self.heard_at = time.monotonic()
            self._tell(self._logic.page(body))
            return
        began, lines = time.monotonic(), 0
        self._stream = stream = self._client.watch(self._resource, self._logic.query)
        try:
            if self._stopped.is_set():
                return
            self.heard_at = time.monotonic()
            for line in _lines(stream, self._logic.request):
                self.heard_at = time.monotonic()
                lines += 1
                self._tell(self._logic.line(line))
                if self._stopped.is_set():
                    return
        finally:
            self._stream = None
            stream.close()
        self._logic.ended(time.monotonic() - began, lines)

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if not self._stopped.is_set():
                self._sink(event)


def _lines(stream: Stream, request: str) -> Iterator[bytes]:
    """Yield whole lines. Raises Unreachable, also where the last one is cut."""
    buffer = bytearray()
    for chunk in stream.chunks():
        buffer += chunk
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end])
            del buffer[: end + 1]
            if line.strip():
                yield line
        if len(buffer) > MAX_LINE:
            raise Unreachable(request, f"a change of more than {MAX_LINE >> 20} MiB")
    if buffer.strip():
        raise Unreachable(request, "garbage, or a change cut in the middle")
