"""Lists of everything, and what is believed of what vanished."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from carp_operator.api import crd
from carp_operator.controller.observer import Observer
from carp_operator.controller.store import Store
from carp_operator.kube.access import Access
from carp_operator.kube.client import Client
from carp_operator.kube.errors import NotFound
from carp_operator.kube.resources import VIRTUAL_IPS
from fakeapi import Asked, FakeApi, Reply, listing

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/"


class Server:
    """An API server with definitions and VirtualIPs; `status` is what it answers instead."""

    def __init__(self) -> None:
        self.uids = {f"{kind.plural}.{crd.GROUP}": f"crd-{kind.plural}" for kind in crd.KINDS}
        self.terminating: set[str] = set()
        self.vips: list[dict[str, Any]] = []
        self.status = 0
        self.forbidden: set[str] = set()

    def __call__(self, asked: Asked) -> Reply:
        if self.status:
            return Reply(self.status, {"message": "out of order"})
        if asked.path.startswith(CRDS):
            return self._definition(asked.path.removeprefix(CRDS))
        if asked.path.endswith("/namespaces/kube-system"):
            return Reply(body={"metadata": {"uid": "cluster"}})
        if any(asked.path.endswith(f"v1alpha1{end}") for end in self.forbidden):
            return Reply(403, {"message": "no"})
        return Reply(body=listing(9, *(self.vips if asked.path.endswith("/virtualips") else ())))

    def _definition(self, name: str) -> Reply:
        if name not in self.uids:
            return Reply(404, {"message": "not found"})
        kind = next(kind for kind in crd.KINDS if name.startswith(f"{kind.plural}."))
        body = crd.definition(kind)
        body["metadata"]["uid"] = self.uids[name]
        body["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
        if name in self.terminating:
            body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        return Reply(body=body)


def vip(name: str, version: int = 1) -> dict[str, Any]:
    """Return a raw VirtualIP."""
    meta = {"name": name, "resourceVersion": str(version), "uid": f"uid-{name}"}
    return {"metadata": meta, "spec": {"addresses": ["10.1.1.1"]}}


NAME = "virtualips.carp.vip"


def test_everything_is_listed() -> None:
    """After a resync every kind is known, with the schemas that are served."""
    server, store = Server(), Store(lambda _: None)
    server.vips = [vip("a")]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        assert observer.resync()
        assert "cluster" == observer.identify() == observer.identify()
    assert () == store.problems()
    assert {"a"} == store.objects(VIRTUAL_IPS).keys()
    assert all(schema is not None for schema in observer.schemas.values())
    assert not observer.moved


def test_missing_definition_makes_its_kind_unknown() -> None:
    """Without a definition there is no knowing what there was; the other kinds are known."""
    server, store = Server(), Store(lambda _: None)
    del server.uids[NAME]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        assert not observer.resync()
        assert not observer.refused
        asked = len(api.asked)
        assert not observer.resync()
        assert asked + 1 == len(api.asked)
    (problem,) = store.problems()
    assert "virtualips: the CustomResourceDefinition virtualips.carp.vip does not exist" in problem


def test_failed_list_makes_its_kind_unknown() -> None:
    """An error of the server is no empty list."""
    server, store = Server(), Store(lambda _: None)
    server.vips = [vip("a")]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        observer.resync()
        server.status = 500
        assert not observer.resync()
    assert 4 == len(store.problems())
    assert {"a"} == store.objects(VIRTUAL_IPS).keys()


def test_only_what_is_unknown_is_listed_again() -> None:
    """All the rest follows once nothing is missing any more: it may have changed meanwhile."""
    server, store = Server(), Store(lambda _: None)
    server.forbidden.add("/virtualippools")
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        assert not observer.resync()
        assert observer.refused
        first = len(api.asked)
        assert not observer.resync()
        assert ["virtualippools.carp.vip", "virtualippools"] == [
            asked.path.rpartition("/")[2] for asked in api.asked[first:]
        ]
        server.forbidden.clear()
        server.vips = [vip("late")]
        assert observer.resync()
        assert not observer.refused
    assert {"late"} == store.objects(VIRTUAL_IPS).keys()


def test_server_that_is_away_is_asked_once() -> None:
    """Where nobody answers all kinds are unknown for the same reason."""
    store = Store(lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = Client(Access((f"http://127.0.0.1:{port}",), lambda: ""))
    assert not Observer(client, store).resync()
    assert 4 == len(store.problems())
    assert 1 == len({problem.partition(": ")[2] for problem in store.problems()})


def test_deletion_is_believed_while_the_definition_stands() -> None:
    """A VirtualIP that vanished alone was deleted."""
    server, store = Server(), Store(lambda _: None)
    server.vips = [vip("a"), vip("b")]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        observer.resync()
        assert not observer.judge()
        store.delete(VIRTUAL_IPS, vip("a", 2))
        assert not observer.judge()
        assert {"b"} == store.objects(VIRTUAL_IPS).keys()
        server.vips = []
        assert observer.resync()
    assert {} == store.objects(VIRTUAL_IPS)


@pytest.mark.parametrize("how", ["gone", "terminating", "error"])
def test_deletion_with_the_definition_is_not_believed(how: str) -> None:
    """What vanished with its definition stays, and nothing is known until the definition is back."""
    server, store = Server(), Store(lambda _: None)
    server.vips = [vip("a")]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        observer.resync()
        store.delete(VIRTUAL_IPS, vip("a", 2))
        if how == "gone":
            del server.uids[NAME]
        elif how == "terminating":
            server.terminating.add(NAME)
        else:
            server.status = 503
        assert observer.judge()
    assert 1 == len(store.problems())
    assert {"a"} == store.objects(VIRTUAL_IPS).keys()


def test_new_definition_keeps_what_it_has_not_brought_back() -> None:
    """After a definition was replaced, VirtualIPs that are not applied again yet are kept for a time."""
    server, store = Server(), Store(lambda _: None)
    server.vips = [vip("a"), vip("b")]
    with FakeApi(server) as api:
        observer = Observer(api.client(), store)
        observer.resync()
        store.delete(VIRTUAL_IPS, vip("a", 2))
        server.uids[NAME] = "another"
        server.vips = [vip("b", 3)]
        assert observer.judge()
        assert observer.resync()
        assert observer.moved
        assert not observer.judge()
        assert {"a"} == store.absent()
        assert observer.resync()
    assert {"a", "b"} == store.objects(VIRTUAL_IPS).keys()
    assert store.expire(0.0) is not None


def test_cluster_is_not_known_without_an_answer() -> None:
    """The cluster's uid is an error until it could be read."""
    with FakeApi(lambda _: Reply(404, {"message": "no"})) as api, pytest.raises(NotFound):
        Observer(api.client(), Store(lambda _: None)).identify()
