"""The list-watch loop against a real API server that is killed, stopped, compacted, restored, and renewed."""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Any

import pytest

from apifix import _running
from carp_operator.kube import client as client_module
from carp_operator.kube.access import Access
from carp_operator.kube.client import Client
from carp_operator.kube.resources import Resource
from carp_operator.kube.watch import Deleted, Event, Lost, Synced, Upsert, Watcher
from controlargs import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controlplane import ControlPlane

pytestmark = pytest.mark.root
MAPS = Resource("", "v1", "configmaps", "default")
PATH = MAPS.path()


@pytest.fixture(scope="module")
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Yield a control plane that these tests may break."""
    with _running(request.config, tmp_path_factory) as made:
        yield made


class Followed:
    """A watcher of the ConfigMaps labelled for this test, and what it has told."""

    def __init__(self, plane: ControlPlane, *, token: str = "", read_timeout: float = 70.0) -> None:
        self.plane = plane
        self.token = token or plane.token("default", "default")
        self.events: queue.Queue[Event] = queue.Queue()
        url = f"https://{plane.node.address}:{PORT}"
        access = Access((url,), lambda: self.token, authority=str(plane.ca))
        client = Client(access, read_timeout)
        self.watcher = Watcher(client, MAPS, self.events.put, label="test=watch")

    def start(self) -> Followed:
        """Start it inside the control plane's namespace, which its thread then stays in."""
        self.plane.node.run_in(self.watcher.start)
        return self

    def next(self, kind: type[Event], seconds: float = 20.0) -> Any:
        """Wait for an event of a kind; others are passed over."""
        end = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.0, end - time.monotonic()))
            if isinstance(event, kind):
                return event

    def learn(self, name: str, seconds: float = 20.0) -> None:
        """Wait until an object of this name is told, by a list or as a change."""
        end = time.monotonic() + seconds
        while True:
            event = self.events.get(timeout=max(0.0, end - time.monotonic()))
            items = {Synced: lambda e: e.items, Upsert: lambda e: (e.item,)}.get(type(event), lambda _: ())(
                event
            )
            if name in {item["metadata"]["name"] for item in items}:
                return

    def names(self) -> set[str]:
        """Wait for the next whole list and return its names."""
        return {item["metadata"]["name"] for item in self.next(Synced).items}


@pytest.fixture
def followed(plane: ControlPlane) -> Iterator[Followed]:
    """Yield a running watcher of a user that may read ConfigMaps, after its first list."""
    if not plane.admin.exists("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/viewer"):
        plane.kubectl(
            "create", "clusterrolebinding", "viewer", "--clusterrole=view", "--serviceaccount=default:default"
        )
    made = Followed(plane).start()
    try:
        made.next(Synced)
        yield made
    finally:
        made.watcher.stop()
        plane.kubectl("delete", "configmaps", "--selector=test=watch")


def put(plane: ControlPlane, name: str, value: str = "1") -> None:
    """Make or change an object that is followed."""
    metadata = {"name": name, "labels": {"test": "watch"}}
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}
    plane.admin.apply(f"{PATH}/{name}", body, "test", force=True)


def test_changes(plane: ControlPlane, followed: Followed) -> None:
    """Made, changed, deleted: each is told, by the watch and not by the next list."""
    began = time.monotonic()
    put(plane, "a")
    assert "a" == followed.next(Upsert).item["metadata"]["name"]
    assert time.monotonic() - began < 5
    put(plane, "a", "2")
    assert {"a": "2"} == followed.next(Upsert).item["data"]
    plane.admin.delete(f"{PATH}/a")
    assert "a" == followed.next(Deleted).item["metadata"]["name"]


def test_pages(plane: ControlPlane, followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in many pages is told once, whole."""
    for number in range(7):
        put(plane, f"page-{number}")
    monkeypatch.setattr("carp_operator.kube.watch.PAGE", 3)
    other = Followed(plane).start()
    assert {f"page-{number}" for number in range(7)} == other.names()
    other.watcher.stop()
    monkeypatch.setattr(client_module, "PAGE", 3)
    client = followed.watcher._client
    assert 7 == len(plane.node.run_in(lambda: client.list(MAPS, label="test=watch")))


def test_killed(plane: ControlPlane, followed: Followed) -> None:
    """A killed server is told once; when it is back, so is what changed meanwhile, within 5 s."""
    plane.stop_api()
    assert "watch configmaps in default" in followed.next(Lost).reason
    plane.start_api()
    put(plane, "late")
    followed.learn("late", 5.0)


def test_stands_still(plane: ControlPlane, followed: Followed) -> None:
    """A server that stands still with its connections open is noticed: by silence, then by no new watch."""
    other = Followed(plane, read_timeout=3.0).start()
    other.next(Synced)
    plane.pause_api()
    try:
        began = time.monotonic()
        assert "imed out" in other.next(Lost).reason
        assert time.monotonic() - began < 10
    finally:
        plane.resume_api()
    put(plane, "after")
    other.learn("after")
    other.watcher.stop()
    followed.learn("after")


def test_expired(plane: ControlPlane, followed: Followed) -> None:
    """A version that etcd has compacted is answered by 410, and everything is listed anew without a loss."""
    put(plane, "before")
    followed.next(Upsert)
    plane.stop_api()
    plane.start_api()  # its cache begins now, so version 1 is older than all it has
    other = Followed(plane)
    other.watcher._logic._version = "1"
    other.start()
    first = other.events.get(timeout=10)
    other.watcher.stop()
    assert isinstance(first, Synced)
    assert "before" in {item["metadata"]["name"] for item in first.items}


def test_restored(plane: ControlPlane, followed: Followed) -> None:
    """After etcd was restored versions run backwards; the restored state is told, and what follows."""
    put(plane, "kept")
    snapshot = plane.snapshot()
    for number in range(5):
        put(plane, f"forgotten-{number}")
    plane.restore(snapshot)
    names = followed.names()
    while any(name.startswith("forgotten") for name in names):
        names = followed.names()
    assert {"kept"} == names
    put(plane, "new")
    followed.learn("new")


def test_token_refused(plane: ControlPlane, followed: Followed) -> None:
    """A token that is no longer believed is told; the renewed one is used by itself."""
    put(plane, "seen")
    followed.learn("seen")  # the watch is open: what is still to be asked would have the good one
    good, followed.token = followed.token, "nonsense"
    plane.stop_api()
    plane.start_api()
    while "HTTP 401" not in followed.next(Lost).reason:
        pass
    followed.token = good
    assert {"seen"} == followed.names()


def test_forbidden(plane: ControlPlane) -> None:
    """What may not be read is told with the server's words; nothing is told of an empty list."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    plane.admin.create("/api/v1/namespaces/default/serviceaccounts", account)
    other = Followed(plane, token=plane.token("default", "nobody")).start()
    event = other.events.get(timeout=10)
    other.watcher.stop()
    assert isinstance(event, Lost)
    assert "HTTP 403: configmaps is forbidden" in event.reason


def test_many_servers(plane: ControlPlane, followed: Followed) -> None:
    """With an address first that nobody has, the second one is used."""
    urls = ("https://127.0.0.1:1", f"https://{plane.node.address}:{PORT}")
    access = Access(urls, lambda: followed.token, authority=str(plane.ca))
    assert [] == plane.node.run_in(lambda: Client(access).list(MAPS, label="test=watch"))
