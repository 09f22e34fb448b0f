"""kopf's part: settings that were measured, how it connects, and that it only fills the store."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

import pytest

from carp_operator.controller import feed as module
from carp_operator.controller.feed import Feed, settings
from carp_operator.controller.store import KINDS, Store
from carp_operator.kube.access import Access
from carp_operator.kube.resources import NODES


def feed(*servers: str, token: str = "", **access: Any) -> tuple[Feed, Store, list[str]]:
    """Return a feed that does not run, its store, and what it calls."""
    store, calls = Store(lambda _: None), list[str]()
    made = Access(servers, lambda: token, **access)
    return Feed(made, store, lambda: calls.append("heard"), lambda: calls.append("ended")), store, calls


def test_settings() -> None:
    """Kopf writes nothing, watches no definitions, and holds its workers few and short-lived."""
    made = settings()
    assert (False, True, True) == (made.posting.enabled, made.scanning.disabled, made.peering.standalone)
    assert (20, 0.05) == (made.queueing.worker_limit, made.queueing.idle_timeout)
    assert 300 == made.watching.server_timeout
    assert [1, 1, 2, 3, 5, 5, 5, 5] == made.networking.error_backoffs


def test_first_server_that_answers_is_used() -> None:
    """Of several API servers the first that can be reached is taken; a single one without asking."""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as gone:
        good, bad = (f"https://127.0.0.1:{each.getsockname()[1]}" for each in (taken, gone))
        gone.close()
        assert good == feed(bad, good)[0]._server()
        assert bad == feed(bad)[0]._server()


def test_login() -> None:
    """Kopf gets token and certificates as our own client has them, asked anew each time."""
    made = feed("https://a:1", token="t", authority="/ca")[0]._login()
    assert ("https://a:1", "t", "/ca", None) == (made.server, made.token, made.ca_path, made.certificate_path)
    made = feed("https://a:1", certificate="/c", key="/k", verify=False)[0]._login()
    assert (None, "/c", "/k", True) == (
        made.token,
        made.certificate_path,
        made.private_key_path,
        made.insecure,
    )


def test_handlers_fill_the_store() -> None:
    """An event puts or deletes an object; after the end of a run its late events count no more."""
    made, store, calls = feed("https://a:1")
    stop = threading.Event()
    handle = made._handler(NODES, stop)
    item = {"metadata": {"name": "n1", "uid": "u", "resourceVersion": "1"}}
    asyncio.run(handle(event={"type": None, "object": item}))
    assert {"n1"} == store.objects(NODES).keys()
    asyncio.run(handle(event={"type": "DELETED", "object": item}))
    assert {} == store.objects(NODES)
    stop.set()
    asyncio.run(handle(event={"type": "ADDED", "object": item}))
    assert {} == store.objects(NODES)
    assert ["heard", "heard"] == calls


def test_every_kind_has_one_event_handler_and_no_other() -> None:
    """Only events are handled: no finalizers, no annotations, no Secrets."""
    registry = feed("https://a:1")[0]._registry(threading.Event())
    watched = registry._watching.get_all_handlers()
    assert {kind.plural for kind in KINDS} == {str(handler.id) for handler in watched}
    assert [] == [*registry._changing.get_all_handlers(), *registry._spawning.get_all_handlers()]


@pytest.mark.parametrize("asked", [False, True])
def test_end_of_kopf_is_told(monkeypatch: pytest.MonkeyPatch, asked: bool) -> None:
    """Where kopf ends by itself somebody is told, to begin anew; not where it was asked to end."""

    async def operator(**_: Any) -> None:
        raise RuntimeError("the stream broke")

    monkeypatch.setattr(module.kopf, "operator", operator)
    made, _, calls = feed("http://127.0.0.1:1")
    stop = threading.Event()
    if asked:
        stop.set()
    made._run(stop)
    assert ([] if asked else ["ended"]) == calls


def test_a_watcher_that_died_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on without it, and only kopf's log says so."""

    async def operator(**_: Any) -> None:
        logging.getLogger("kopf.x").error("Watcher for nodes has failed: %s", "404")
        logging.getLogger("kopf.x").error("something else")

    monkeypatch.setattr(module.kopf, "operator", operator)
    made, _, calls = feed("http://127.0.0.1:1")
    made._run(threading.Event())
    assert ["ended", "ended"] == calls
    assert [] == [h for h in logging.getLogger("kopf").handlers if isinstance(h, module._Deaths)]
