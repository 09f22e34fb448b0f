"""Who of several replicas plans and writes: a Lease in their namespace.

A holder that cannot renew stops by its own clock before another may take over by its: no clock is compared
with another machine's.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.errors import KubeError, NotFound
from carp_operator.kube.resources import LEASES

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.kube.client import Client, Object

log: Final = logging.getLogger("carp.controller")
NAME: Final = "carp-controller"
DURATION: Final = 15.0
"""s without a renewal until another may take over."""
DEADLINE: Final = 10.0
"""s without a renewal until the holder stops."""
PERIOD: Final = 2.0
"""s between renewals, and between looks at another's."""


class Lease:
    """Takes the Lease when it is free, and keeps it. ``changed`` is called when we win or lose it."""

    def __init__(self, client: Client, namespace: str, identity: str, changed: Callable[[], None]) -> None:
        """``identity`` is unique among the replicas, such as the pod's name."""
        self._client = client
        self._resource = LEASES.within(namespace)
        self._identity = identity
        self._changed = changed
        self._until = 0.0
        self._seen: tuple[object, ...] = ()
        self._seen_at = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._refused = ""
        self.holder = ""
        """Who holds it, as last read."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def leads(self) -> bool:
        """Whether we may plan and write now."""
        return time.monotonic() < self._until

    def stop(self) -> None:
        """Give it up, so that another need not wait."""
        self._stopped.set()
        self._thread.join(0.6)

    def _run(self) -> None:
        led = False
        while not self._stopped.is_set():
            self._attempt()
            if led != self.leads():
                led = not led
                log.info("leading" if led else "not leading any more: %s holds the Lease", *self._other(led))
                self._changed()
            self._stopped.wait(PERIOD)
        if self.leads():
            self._until = 0.0
            self._release()

    def _other(self, led: bool) -> tuple[str, ...]:  # noqa: FBT001 (the one question of its caller)
        return () if led else (self.holder or "nobody",)

    def _attempt(self) -> None:
        began = time.monotonic()
        try:
            if self._take(began):
                self._until = began + DEADLINE
                self.holder = self._identity
            self._refused = ""
        except KubeError as error:
            if error.problem != self._refused:
                self._refused = error.problem
                log.warning("the Lease cannot be renewed: %s", error)

    def _take(self, now: float) -> bool:
        """Take or renew it if it is ours, free or left; whether we have it."""
        try:
            lease = self._client.get(self._resource, NAME)
        except NotFound:
            self._client.create(self._resource, self._body(None, 0))
            return True
        spec = lease.get("spec") or {}
        mark = spec.get("holderIdentity"), spec.get("renewTime"), lease["metadata"].get("resourceVersion")
        if mark != self._seen:
            self._seen, self._seen_at = mark, now
        holder = spec.get("holderIdentity") or ""
        self.holder = holder
        changes = int(spec.get("leaseTransitions") or 0)
        if holder not in ("", self._identity):
            if now - self._seen_at < float(spec.get("leaseDurationSeconds") or DURATION):
                return False
            changes += 1
        self._client.patch(self._resource, NAME, self._body(lease, changes), manager=NAME)
        return True

    def _release(self) -> None:
        try:
            lease = self._client.get(self._resource, NAME)
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                version = lease["metadata"]["resourceVersion"]
                body = {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}}
                self._client.patch(self._resource, NAME, body, manager=NAME)
        except KubeError:
            return  # it runs out by itself

    def _body(self, lease: Object | None, changes: int) -> Object:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": now,
            "leaseTransitions": changes,
        }
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
        if lease is None:
            head: Object = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
            return {**head, "metadata": {"name": NAME}, "spec": spec}
        # The version makes it fail where another replica was faster.
        return {"metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]}, "spec": spec}
