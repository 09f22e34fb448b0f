"""The controller's loop on a server in memory."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from carp_operator.api import crd
from carp_operator.controller.budget import Budget
from carp_operator.controller.counts import Counts
from carp_operator.controller.events import Recorder
from carp_operator.controller.observer import Observer
from carp_operator.controller.parts import Parts
from carp_operator.controller.passwords import Passwords
from carp_operator.controller.probes import Probes
from carp_operator.controller.reconcile import Loop
from carp_operator.controller.store import Store
from carp_operator.kube.errors import KubeError, NotFound
from carp_operator.kube.watch import Synced

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A client and the server behind it, in memory; `fail` holds errors by (verb, name)."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.fail: dict[tuple[str, str], KubeError] = {}
        self.log: list[tuple[str, str]] = []
        self.version = 1
        self.lock = threading.Lock()
        for kind in crd.KINDS:
            body = crd.definition(kind)
            body["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
            self.put("customresourcedefinitions", body)
        self.put("namespaces", {"metadata": {"name": "kube-system"}})

    def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Store an object, its spec and its status each kept where the other is written."""
        name = body["metadata"]["name"]
        old = self.objects.get((plural, name), {"metadata": {"generation": 0}})
        self.version += 1
        meta = {**old["metadata"], **body["metadata"], "resourceVersion": str(self.version)}
        meta["uid"] = old["metadata"].get("uid", f"uid-{plural}-{name}")
        meta["generation"] = old["metadata"]["generation"] + (
            "spec" in body and body["spec"] != old.get("spec")
        )
        made = {**old, **body, "metadata": meta}
        self.objects[plural, name] = made
        return made

    def node(self, name: str, address: str) -> None:
        """Register a Node whose agent reports one interface."""
        ready = {"type": "Ready", "status": "True"}
        self.put("nodes", {"metadata": {"name": name}, "status": {"conditions": [ready]}})
        link = {"name": "eth0", "mac": "", "mtu": 1500, "carrier": True, "addresses": [address]}
        self.put("carpnodes", {"metadata": {"name": name}, "spec": {}, "status": {"interfaces": [link]}})

    def report(self, name: str) -> dict[str, Any]:
        """Let an agent confirm what it was told."""
        item = self.objects["carpnodes", name]
        mark = {"observedUID": item["metadata"]["uid"], "observedGeneration": item["metadata"]["generation"]}
        return self.put("carpnodes", {**item, "status": {**item["status"], **mark}})

    def vip(self, name: str, address: str) -> dict[str, Any]:
        """Apply a VirtualIP."""
        return self.put("virtualips", {"metadata": {"name": name}, "spec": {"addresses": [address]}})

    def _do(self, verb: str, plural: str, name: str) -> None:
        self.log.append((f"{verb} {plural}", name))
        error = self.fail.get((verb, name)) or self.fail.get((verb, "*"))
        if error is not None:
            raise error

    # --- the methods of Client ------------------------------------------------------------------------

    def get(self, resource: Any, name: str) -> dict[str, Any]:
        with self.lock:
            self._do("get", resource.plural, name)
            if (resource.plural, name) not in self.objects:
                raise NotFound(f"get {name}", "not found", status=404)
            return self.objects[resource.plural, name]

    def list(self, resource: Any) -> list[dict[str, Any]]:
        with self.lock:
            self._do("list", resource.plural, "")
            return [item for (plural, _), item in self.objects.items() if plural == resource.plural]

    def apply(self, resource: Any, body: dict[str, Any], manager: str, *, subresource: str = "") -> Any:
        with self.lock:
            self._do("status" if subresource else "apply", resource.plural, body["metadata"]["name"])
            return self.put(resource.plural, body)

    def apply_status(self, resource: Any, body: dict[str, Any], manager: str) -> Any:
        return self.apply(resource, body, manager, subresource="status")

    def create(self, resource: Any, body: dict[str, Any]) -> Any:
        with self.lock:
            self._do("create", resource.plural, body["metadata"]["name"])
            return self.put(resource.plural, body)

    def patch(self, resource: Any, name: str, body: dict[str, Any], *, manager: str = "") -> Any:
        with self.lock:
            self._do("patch", resource.plural, name)
            return self.put(resource.plural, {**body, "metadata": {**body.get("metadata", {}), "name": name}})

    def wrote(self) -> list[tuple[str, str]]:
        """Return what was written, in order."""
        with self.lock:
            return [each for each in self.log if each[0].split()[0] not in ("get", "list")]


class Feed:
    """Counts its starts."""

    def __init__(self) -> None:
        self.starts = 0
        self.running = False

    def start(self) -> None:
        self.starts += 1
        self.running = True


class Bench:
    """A loop on a server in memory."""

    def __init__(self, server: Server, rate: float = 1000.0, interfaces: str = "") -> None:
        client: Any = server
        self.server, self.feed, self.leading, self.counts = server, Feed(), True, Counts()
        self.store = Store(self._dirty)
        self.passwords = Passwords(client, "ns", self._dirty, self._relist)
        budget = Budget(rate, 1000, time.monotonic())
        feed: Any = self.feed
        self.parts = Parts(
            client,
            self.store,
            self.passwords,
            Observer(client, self.store),
            feed,
            budget,
            Recorder(client, budget, self.counts, lambda: self.leading),
            self.counts,
            lambda: self.leading,
        )
        self.loop = Loop(self.parts, resync=300.0, replace_after=300.0, interfaces=interfaces)
        self.probes = Probes(self.loop, self.parts, 300.0)

    def _dirty(self, soon: bool = True) -> None:
        self.loop.dirty(soon)

    def _relist(self) -> None:
        self.loop.relist()

    def settled(self) -> bool:
        """Whether a plan was made and nothing waits."""
        return self.probes.ready().good and self.loop.waiting() == 0


@contextmanager
def running(
    server: Server, *, synced: bool = True, leading: bool = True, interfaces: str = ""
) -> Iterator[Bench]:
    """Run a loop."""
    bench = Bench(server, interfaces=interfaces)
    bench.leading = leading
    if synced:
        bench.passwords.event(Synced(()))
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    try:
        yield bench
    finally:
        bench.loop.stop()
        thread.join(5)
        assert not thread.is_alive()


def cluster() -> Server:
    """Return two nodes and a VirtualIP."""
    server = Server()
    server.node("n1", "10.1.0.1/16")
    server.node("n2", "10.1.0.2/16")
    server.vip("web", "10.1.9.9")
    return server
