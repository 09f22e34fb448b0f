"""The list-watch loop: its decisions by table, and the thread against a server that misbehaves."""

from __future__ import annotations

import queue
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.kube import watch
from carp_operator.kube.errors import Forbidden, Gone, KubeError, Transient, Unreachable
from carp_operator.kube.resources import NODES
from carp_operator.kube.watch import Deleted, Event, ListWatch, Lost, Synced, Upsert, Watcher
from fakeapi import Asked, FakeApi, Reply, change, listing, thing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


DECISIONS = ("test_first_retry", "test_backoff", "test_kind_of_failure", "test_gone")


@pytest.fixture(autouse=True)
def _short_pauses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the thread's pauses short; the tests of the decisions are about the real ones."""
    if request.function.__name__ not in DECISIONS:
        monkeypatch.setattr(watch, "FIRST_PAUSE", 0.02)


def synced(version: int = 5) -> ListWatch:
    """Return one that has listed nothing and watches."""
    logic = ListWatch(NODES)
    logic.page(listing(version))
    return logic


def test_pages() -> None:
    """Nothing is told before the last page: half a list is not a list."""
    logic = ListWatch(NODES, field="metadata.name=n")
    assert {"fieldSelector": "metadata.name=n", "limit": "500"} == logic.query
    assert [] == logic.page(listing(5, thing("a", 1), more="c"))
    assert "c" == logic.query["continue"]
    assert [Synced((thing("a", 1), thing("b", 2)))] == logic.page(listing(5, thing("b", 2)))
    assert not logic.listing
    assert "5" == logic.query["resourceVersion"]


def test_page_after_failure() -> None:
    """A list that failed between pages begins anew, without what it had."""
    logic = ListWatch(NODES)
    logic.page(listing(5, thing("a", 1), more="c"))
    logic.failed(Gone("x", "y"), 0)
    assert "continue" not in logic.query
    assert [Synced((thing("b", 2),))] == logic.page(listing(6, thing("b", 2)))


@pytest.mark.parametrize(
    "body", [{}, {"metadata": {}}, {"metadata": {"resourceVersion": "1"}, "items": 3}, {"metadata": 1}]
)
def test_no_list(body: dict[str, Any]) -> None:
    """What is no list is not an empty one."""
    with pytest.raises(Unreachable, match="is no list"):
        ListWatch(NODES).page(body)


def test_empty_list() -> None:
    """An empty list is told as one, also where the API leaves the items out."""
    assert [Synced(())] == ListWatch(NODES).page({"metadata": {"resourceVersion": "1"}, "items": None})


def test_lines() -> None:
    """Changes are told as what they are; each, and each bookmark, moves the version."""
    logic = synced()
    item = thing("a", 6)
    assert [Upsert(item)] == logic.line(change("ADDED", item))
    assert [Upsert(item)] == logic.line(change("MODIFIED", item))
    assert [Deleted(item)] == logic.line(change("DELETED", item))
    assert [] == logic.line(change("BOOKMARK", thing("", 9)))
    assert "9" == logic.query["resourceVersion"]


@pytest.mark.parametrize("text", [b"{", b"[]", b"3", b"{}", b'{"type":"ADDED"}', b"\xff"])
def test_garbage(text: bytes) -> None:
    """A line that is no change ends the watch."""
    with pytest.raises(Unreachable, match="garbage"):
        synced().line(text)


def test_error_line() -> None:
    """An ERROR ends the watch with its kind, and versions that run backwards are as good as expired."""
    with pytest.raises(Gone, match="too old"):
        synced().line(change("ERROR", {"code": 410, "message": "too old"}))
    with pytest.raises(Gone, match="backwards"):
        synced(5).line(change("BOOKMARK", thing("", 4)))


def test_ended() -> None:
    """A watch that lived or brought something is watched on; one that did neither has failed."""
    logic = synced()
    logic.ended(300, 0)
    logic.ended(0, 1)
    with pytest.raises(Transient, match="at once"):
        logic.ended(0.1, 0)


def test_first_retry() -> None:
    """After any failure everything is listed again, the first time within a second."""
    for chance in (0.0, 1.0):
        logic = synced()
        news, pause = logic.failed(Unreachable("watch", "x"), chance)
        assert [Lost("watch: x")] == news
        assert 0.5 <= pause <= 1.0
        assert logic.listing


@pytest.mark.parametrize(("error", "longest"), [(Unreachable("w", "x"), 3.0), (Forbidden("w", "x"), 30.0)])
def test_backoff(error: KubeError, longest: float) -> None:
    """Pauses double up to a limit, which is short while nobody answers; the reason is told once."""
    logic = synced()
    found = [logic.failed(error, 1.0) for _ in range(50)]
    assert [min(longest, 2.0**n) for n in range(50)] == [pause for _, pause in found]
    assert 1 == sum(len(news) for news, _ in found)


def test_kind_of_failure() -> None:
    """Another kind of failure starts from the shortest pause: who comes back may refuse for a moment."""
    logic = synced()
    for _ in range(9):
        logic.failed(Unreachable("w", "x"), 1.0)
    news, pause = logic.failed(Forbidden("w", "y"), 1.0)
    assert ([Lost("w: y")], 1.0) == (news, pause)


def test_gone() -> None:
    """An expired version is listed anew at once and is no loss; time and again it is one."""
    logic = synced()
    assert ([], 0.0) == logic.failed(Gone("w", "old"), 1.0)
    assert ([Lost("w: old")], 2.0) == logic.failed(Gone("w", "old"), 1.0)
    logic.page(listing(7))
    logic.line(change("BOOKMARK", thing("", 8)))
    assert ([], 0.0) == logic.failed(Gone("w", "old"), 1.0)


def test_asked_to_wait() -> None:
    """A server that says how long to wait is obeyed."""
    assert 17.0 == synced().failed(Transient("w", "busy", status=429, retry_after=17.0), 0.0)[1]


# --- the thread ----------------------------------------------------------------------------------


@contextmanager
def watching(
    handler: Callable[[Asked], Reply], read_timeout: float = 5.0
) -> Iterator[tuple[FakeApi, Callable[[], Event]]]:
    """Yield the server and a function that waits for the next event."""
    events: queue.Queue[Event] = queue.Queue()
    with FakeApi(handler) as api:
        watcher = Watcher(api.client(read_timeout), NODES, events.put)
        watcher.start()
        try:
            yield api, lambda: events.get(timeout=5)
        finally:
            watcher.stop()
            assert not watcher._thread.is_alive()


def after_list(*replies: Reply) -> Callable[[Asked], Reply]:
    """Answer lists with version 5, and watches one after the other; the last of them stays open."""
    left = list(replies)
    lock = threading.Lock()

    def handler(asked: Asked) -> Reply:
        if "watch" not in asked.query:
            return Reply(body=listing(5, thing("a", 1)))
        with lock:
            return left.pop(0) if left else Reply(chunks=[], hang=True)

    return handler


def test_follows() -> None:
    """Changes come as they happen, whole also when they come in pieces."""
    line = change("MODIFIED", thing("a", 6))
    with watching(after_list(Reply(chunks=[line[:9], line[9:] + line, b"\n"], hang=True))) as (
        api,
        following,
    ):
        assert Synced((thing("a", 1),)) == following()
        assert Upsert(thing("a", 6)) == following()
        assert Upsert(thing("a", 6)) == following()
    assert {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "300",
    } == (api.asked[1].query)


def test_server_ends_stream() -> None:
    """A watch that the server ends is continued from where it was, without a list."""
    first = Reply(chunks=[change("ADDED", thing("b", 6))])
    second = Reply(chunks=[change("DELETED", thing("b", 7))], hang=True)
    with watching(after_list(first, second)) as (api, following):
        assert [Synced, Upsert, Deleted] == [type(following()) for _ in range(3)]
    assert ["5", "6"] == [asked.query["resourceVersion"] for asked in api.asked[1:]]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(chunks=[b'{"type":"ADD'], cut=True), "watch nodes: "),
        (Reply(chunks=[b'{"type":"ADD']), "cut in the middle"),
        (Reply(chunks=[b"<html>\n"]), "garbage"),
        (Reply(chunks=[]), "ends each watch at once"),
        (Reply(chunks=[change("ERROR", {"code": 500, "message": "oh"})]), "HTTP 500: oh"),
        (Reply(429, {"message": "slow down"}, {"Retry-After": "1"}), "HTTP 429: slow down"),
        (Reply(504, {"message": "Too large resource version: 5"}), "Too large resource version"),
        (Reply(401, {"message": "Unauthorized"}), "HTTP 401"),
        (Reply(403, {"message": "may not watch"}), "HTTP 403: may not watch"),
    ],
)
def test_fails(reply: Reply, reason: str) -> None:
    """Whatever ends a watch wrongly is told with its reason, and then everything is listed again."""
    with watching(after_list(reply)) as (_, following):
        following()
        lost = following()
        assert isinstance(lost, Lost)
        assert reason in lost.reason
        assert isinstance(following(), Synced)


def test_expired() -> None:
    """An expired version leads to a list without a word of loss."""
    reply = Reply(chunks=[change("ERROR", {"code": 410, "message": "too old"})])
    with watching(after_list(reply)) as (_, following):
        assert [Synced, Synced] == [type(following()) for _ in range(2)]


def test_quiet() -> None:
    """A watch on which nothing comes within the time limit is opened anew where it was, without a list."""
    then = Reply(chunks=[change("ADDED", thing("b", 7))], hang=True)
    handler = after_list(Reply(chunks=[], hang=True), Reply(chunks=[], hang=True), then)
    with watching(handler, read_timeout=1.0) as (api, following):
        assert [Synced, Upsert] == [type(following()) for _ in range(2)]
    assert ["5", "5", "5"] == [each.query["resourceVersion"] for each in api.asked[1:4]]


def test_hung() -> None:
    """Where the watch cannot be opened anew either, the server is lost."""
    watches = [Reply(chunks=[], hang=True), Reply(503, {"message": "away"})]
    with watching(after_list(*watches), read_timeout=1.0) as (_, following):
        assert [Synced, Lost, Synced] == [type(following()) for _ in range(3)]


def test_empty_chunk_and_lines() -> None:
    """Empty lines between changes mean nothing."""
    reply = Reply(chunks=[b"\n", b"\n\n" + change("BOOKMARK", thing("", 6))])
    then = Reply(chunks=[change("ADDED", thing("b", 7))], hang=True)
    with watching(after_list(reply, then)) as (_, following):
        assert [Synced, Upsert] == [type(following()) for _ in range(2)]


def test_sink_that_fails() -> None:
    """An error of the one who is told does not end the thread; everything is told again."""
    told: queue.Queue[Event] = queue.Queue()

    fails = iter([True, True, False])

    def sink(event: Event) -> None:
        told.put(event)
        if next(fails):
            raise RuntimeError("planted")

    with FakeApi(after_list()) as api:
        watcher = Watcher(api.client(), NODES, sink)
        watcher.start()
        assert [Synced, Lost, Synced] == [type(told.get(timeout=5)) for _ in range(3)]
        watcher.stop()
