"""Since when no pod of the DaemonSet is Ready on a node: an agent that is gone writes nothing itself.

Whether pods can be read holds up nothing: without them nobody is told of an agent that is gone, no more.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp_operator.api.codec import epoch
from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from carp_operator.kube.client import Object
    from carp_operator.kube.watch import Event

log: Final = logging.getLogger("carp.controller")
SELECTOR: Final = "app.kubernetes.io/name=carp-operator,app.kubernetes.io/component=node"
KEEP: Final = 300.0
"""s that what was read counts after the watch was lost: a server that starts refuses for a moment, too, and
a status that changes to and fro helps nobody."""


@dataclass(frozen=True, slots=True)
class _Pod:
    node: str
    created: float
    since: float
    """Epoch seconds since when it is not Ready, 0: it is. One that is to go is so until its time is over."""


class Pods:
    """What is known of the pods; `event` is called by the watcher's thread, the rest by the loop's."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Know nothing; ``changed`` is called when `agents` answers something else."""
        self._changed = changed
        self._lock = threading.Lock()
        self._pods: dict[str, _Pod] = {}
        self._since: dict[str, float] = {}
        """Node -> what `agents` answers. Pods come and go where none of them ever gets Ready."""
        self._lost: float | None = None
        """Monotonic time since when the watch is lost."""
        self._said: set[str] = set()

    def event(self, event: Event) -> None:
        """Take what the watcher tells."""
        with self._lock:
            before = bool(self._pods), self._since
            match event:
                case Synced(items):
                    self._lost = None
                    self._pods = {item["metadata"]["name"]: _pod(item) for item in items}
                case Upsert(item):
                    self._pods[item["metadata"]["name"]] = _pod(item)
                case Deleted(item):
                    self._pods.pop(item["metadata"]["name"], None)
                case Lost(reason):
                    self._lose(reason)
                    return
            self._judge()
            news = before != (bool(self._pods), self._since)
        if news:
            self._changed()

    def agents(self, nodes: Collection[str]) -> Mapping[str, float] | None:
        """Return for each node since when no Ready pod is there, in epoch seconds, 0: one is; None: unknown.

        No pod on any node says nothing: agents may run otherwise.
        """
        with self._lock:
            lost = self._lost is not None and time.monotonic() - self._lost > KEEP
            if lost or not self._pods:
                return None
            now = time.time()
            found = {node: self._since.get(node, now) for node in nodes}
            # A pod may be heard of before its Node; a Node that is gone is forgotten with its pods.
            placed = {pod.node for pod in self._pods.values()}
            self._since = {node: since for node, since in self._since.items() if node in placed} | found
            return found

    def _lose(self, reason: str) -> None:
        if self._lost is None:
            self._lost = time.monotonic()
        if reason not in self._said and len(self._said) < 100:
            self._said.add(reason)
            log.warning("no status tells of an agent that is gone: %s", reason)

    def _judge(self) -> None:
        """Note of each node that has a pod, or had one, since when it has no Ready one."""
        newest: dict[str, float] = {}
        for pod in sorted(self._pods.values(), key=lambda pod: pod.created):
            if newest.get(pod.node) != 0.0:
                newest[pod.node] = pod.since
        now, found = time.time(), {}
        for node in self._since.keys() | newest.keys():
            since = newest.get(node, now)
            found[node] = min(since, self._since.get(node) or since)
        self._since = found


def _pod(item: Object) -> _Pod:
    meta, status = item["metadata"], item.get("status") or {}
    ready: Object = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), {})
    created = epoch(meta.get("creationTimestamp") or "") or time.time()
    if ready.get("status") == "True":
        since = epoch(meta.get("deletionTimestamp") or "")
    else:
        since = epoch(ready.get("lastTransitionTime") or "") or created
    return _Pod((item.get("spec") or {}).get("nodeName") or "", created, since)
