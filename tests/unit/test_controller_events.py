"""Events for people: posted once, counted up, never in the way."""

from __future__ import annotations

import time

from carp_operator.controller.budget import Budget
from carp_operator.controller.counts import Counts
from carp_operator.controller.events import MOST, Recorder, event
from carp_operator.plan.model import Notice
from fakeapi import Asked, FakeApi, Reply
from nsfix import wait_for

WEB = Notice("VirtualIP", "web", "MasterChanged", "n1 is master")


def recorder(api: FakeApi, *, allowed: bool = True) -> tuple[Recorder, Counts]:
    """Return a recorder that runs."""
    counts = Counts()
    made = Recorder(api.client(), Budget(1000, 100, time.monotonic()), counts, lambda: allowed)
    made.start()
    return made, counts


def test_same_event_is_counted_up() -> None:
    """The same notice about the same object within an hour raises a count; another is another Event."""
    with FakeApi(lambda asked: Reply(body=asked.body)) as api:
        made, counts = recorder(api)
        for notice, uid in ((WEB, "u1"), (WEB, "u1"), (WEB, "u1"), (WEB, "u2")):
            made.tell(notice, uid)
        wait_for(lambda: 4 == counts.writes["events", "done"])
    path = "/api/v1/namespaces/default/events"
    name = api.asked[0].body["metadata"]["name"]
    assert [("POST", path), ("PATCH", f"{path}/{name}"), ("PATCH", f"{path}/{name}"), ("POST", path)] == [
        (asked.method, asked.path) for asked in api.asked
    ]
    assert [2, 3] == [asked.body["count"] for asked in api.asked[1:3]]


def test_expired_event_is_made_anew() -> None:
    """An Event that the server has forgotten is posted again."""

    def answer(asked: Asked) -> Reply:
        return Reply(404, {"message": "gone"}) if asked.method == "PATCH" else Reply(body=asked.body)

    with FakeApi(answer) as api:
        made, counts = recorder(api)
        made.tell(WEB, "u1")
        made.tell(WEB, "u1")
        wait_for(lambda: 2 == counts.writes["events", "done"])
    assert ["POST", "PATCH", "POST"] == [asked.method for asked in api.asked]


def test_refused_event_is_counted_and_forgotten() -> None:
    """An Event that cannot be written stops nothing."""
    with FakeApi(lambda asked: Reply(403, {"message": "no"})) as api:
        made, counts = recorder(api)
        made.tell(WEB, "u1")
        made.tell(WEB, "u2")
        wait_for(lambda: 2 == counts.writes["events", "forbidden"])


def test_standby_posts_nothing() -> None:
    """Who does not lead writes no Event."""
    with FakeApi(lambda asked: Reply(body=asked.body)) as api:
        made, _ = recorder(api, allowed=False)
        made.tell(WEB, "u1")
        wait_for(made._queue.empty)
    assert [] == api.asked


def test_too_many_are_left_out() -> None:
    """A full queue does not hold up the loop."""
    counts = Counts()
    with FakeApi(lambda _: Reply()) as api:
        made = Recorder(api.client(), Budget(1, 1, 0.0), counts, lambda: True)
        for _ in range(MOST + 2):
            made.tell(WEB, "u1")
    assert 2 == counts.writes["events", "dropped"]


def test_body() -> None:
    """An Event names its object whole, in the one namespace where it is accepted."""
    body = event(Notice("CarpNode", "n1", "SpecRestored", "x" * 2000, warning=True), "u1", "n1.1", 0.0)
    assert {"apiVersion": "carp.vip/v1alpha1", "kind": "CarpNode", "name": "n1", "uid": "u1"} == body[
        "involvedObject"
    ]
    assert ("Warning", "SpecRestored", 1024) == (body["type"], body["reason"], len(str(body["message"])))
    assert {"name": "n1.1", "namespace": "default"} == body["metadata"]
    assert "1970-01-01T00:00:00Z" == body["firstTimestamp"] == body["lastTimestamp"]
