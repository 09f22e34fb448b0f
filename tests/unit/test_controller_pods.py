"""Since when no pod of the DaemonSet is Ready on a node."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

import chart
from carp_operator.controller import pods as module
from carp_operator.controller.pods import KEEP, SELECTOR, Pods
from carp_operator.kube.resources import PODS
from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert, Watcher
from fakeapi import Asked, FakeApi, Reply
from nsfix import wait_for

NOW = 1_800_000_000.0
NODES = ("n1", "n2")


def stamp(at: float) -> str:
    """Return a moment as the API server writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(
    node: str,
    *,
    ready: float | None = None,
    unready: float | None = None,
    name: str = "",
    created: float = NOW - 1000,
    ending: float | None = None,
) -> dict[str, Any]:
    """Return a raw pod that is, or is not, Ready since a moment; of neither its kubelet has said nothing."""
    meta = {"name": name or f"carp-node-{node}", "creationTimestamp": stamp(created)}
    if ending is not None:
        meta["deletionTimestamp"] = stamp(ending)
    since = unready if ready is None else ready
    conditions = [{"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(created)}]
    if since is not None:
        status = "False" if ready is None else "True"
        conditions.append({"type": "Ready", "status": status, "lastTransitionTime": stamp(since)})
    return {"metadata": meta, "spec": {"nodeName": node}, "status": {"conditions": conditions}}


class Clock:
    """The module's clock."""

    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that stands still."""
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


class Watched:
    """What is known, and how often that was news."""

    def __init__(self, *items: dict[str, Any]) -> None:
        self.pokes = 0
        self.pods = Pods(self._poke)
        self.pods.event(Synced(items))

    def _poke(self) -> None:
        self.pokes += 1

    def news(self, *events: Any) -> int:
        """Take events; return how often that was news."""
        before = self.pokes
        for event in events:
            self.pods.event(event)
        return self.pokes - before

    def __call__(self, *nodes: str) -> Any:
        return self.pods.agents(nodes or NODES)


def test_the_selector_is_the_charts() -> None:
    """Pods are chosen by what the DaemonSet of the chart gives them, and chooses them by."""
    wanted = dict(each.split("=") for each in SELECTOR.split(","))
    spec = chart.one(chart.template(), "DaemonSet", "carp-node")["spec"]
    assert wanted == spec["selector"]["matchLabels"]
    assert wanted.items() <= spec["template"]["metadata"]["labels"].items()


def test_nothing_is_known_without_pods(clock: Clock) -> None:
    """Before the first list, and where no pod of ours is anywhere: agents run otherwise."""
    assert None is Pods(lambda: None).agents(NODES)
    found = Watched()
    assert (None, 0) == (found(), found.pokes)
    assert 1 == found.news(Upsert(pod("n1", ready=NOW)))
    assert {"n1": 0.0, "n2": NOW} == found()
    assert 1 == found.news(Deleted(pod("n1", ready=NOW)))
    assert None is found()


def test_since_when_a_pod_is_not_ready(clock: Clock) -> None:
    """As its condition says; where its kubelet has said nothing yet, since it was made."""
    found = Watched(pod("n1", unready=NOW - 300), pod("n2"))
    assert {"n1": NOW - 300, "n2": NOW - 1000} == found()
    assert 1 == found.news(Upsert(pod("n1", ready=NOW)))
    assert {"n1": 0.0, "n2": NOW - 1000} == found()
    clock.now += 50
    assert 1 == found.news(Upsert(pod("n1", unready=NOW + 40)))
    assert {"n1": NOW + 40, "n2": NOW - 1000} == found()


def test_a_moment_that_is_said_later_counts(clock: Clock) -> None:
    """The first word of a kubelet may tell of the past."""
    found = Watched(pod("n1", created=NOW))
    assert {"n1": NOW} == found("n1")
    assert 1 == found.news(Upsert(pod("n1", unready=NOW - 300, created=NOW)))
    assert {"n1": NOW - 300} == found("n1")


def test_what_changes_no_answer_is_no_news(clock: Clock) -> None:
    """A container that is started once more, the same list, a watch that is lost."""
    one, other = pod("n1", ready=NOW - 9), pod("n2", unready=NOW - 300)
    found = Watched(one, other)
    found()
    restarted = {**other, "status": {**other["status"], "containerStatuses": [{"restartCount": 7}]}}
    assert 0 == found.news(Upsert(restarted), Synced((one, restarted)), Lost("refused"))


def test_a_node_without_a_pod(clock: Clock) -> None:
    """It counts from when that was seen first, and until a pod gets Ready there, however many come and go."""
    found = Watched(pod("n1", ready=NOW))
    assert {"n1": 0.0, "n2": NOW} == found()
    clock.now += 30
    assert {"n1": 0.0, "n2": NOW} == found()
    found.news(Upsert(pod("n2", created=NOW + 30)), Upsert(pod("n2", unready=NOW + 31, created=NOW + 30)))
    assert {"n1": 0.0, "n2": NOW} == found()
    clock.now += 30
    found.news(Deleted(pod("n2")), Upsert(pod("n2", name="next", created=NOW + 60)))
    assert {"n1": 0.0, "n2": NOW} == found()
    assert 1 == found.news(Upsert(pod("n2", name="next", ready=NOW + 61, created=NOW + 60)))
    assert {"n1": 0.0, "n2": 0.0} == found()
    clock.now += 30
    assert 1 == found.news(Deleted(pod("n2", name="next")))
    assert {"n1": 0.0, "n2": NOW + 90} == found()


def test_a_pod_that_vanished_unseen(clock: Clock) -> None:
    """A list counts as what it does not show any more."""
    found = Watched(pod("n1", ready=NOW), pod("n2", ready=NOW))
    clock.now += 30
    assert 1 == found.news(Lost("gone"), Synced((pod("n1", ready=NOW),)))
    assert {"n1": 0.0, "n2": NOW + 30} == found()


def test_several_pods_of_a_node(clock: Clock) -> None:
    """A Ready one is enough; of others the newest counts."""
    old = pod("n1", unready=NOW - 900, name="old", created=NOW - 2000)
    new = pod("n1", unready=NOW - 100, name="new", created=NOW - 200)
    assert {"n1": NOW - 100} == Watched(new, old)("n1")
    assert {"n1": 0.0} == Watched(pod("n1", ready=NOW, name="older", created=NOW - 3000), old, new)("n1")
    assert {"n1": 0.0} == Watched(old, pod("n1", ready=NOW, name="newer", created=NOW))("n1")


def test_a_pod_that_is_to_go(clock: Clock) -> None:
    """It is Ready until its time is over, and gone when it is gone."""
    found = Watched(pod("n1", ready=NOW - 50, ending=NOW + 15))
    assert {"n1": NOW + 15} == found("n1")
    clock.now += 3
    found.news(Upsert(pod("n2", ready=NOW)), Deleted(pod("n1")))
    assert {"n1": NOW + 3, "n2": 0.0} == found()


def test_a_pod_without_a_node(clock: Clock) -> None:
    """One that fits on no node says that agents are pods; its node has none."""
    waiting = pod("", name="waiting")
    del waiting["spec"]["nodeName"], waiting["status"]
    assert {"n1": NOW, "n2": NOW} == Watched(waiting)()


def test_nodes_that_are_gone_are_forgotten(clock: Clock) -> None:
    """One that comes again counts anew; a pod may be heard of before its Node."""
    found = Watched(pod("n1", ready=NOW), pod("n3", unready=NOW - 300))
    assert {"n1": 0.0, "n2": NOW} == found()
    clock.now += 30
    assert {"n1": 0.0} == found("n1")
    assert {"n1": 0.0, "n2": NOW + 30, "n3": NOW - 300} == found("n1", "n2", "n3")
    found.news(Deleted(pod("n3")))
    found("n1")
    assert {"n1", "n2", "n3"} - found.pods._since.keys() == {"n2", "n3"}


def test_a_lost_watch_is_borne_for_a_while(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """What was read counts on, then nothing is known until pods are read again; each cause is told once."""
    found = Watched(pod("n1", unready=NOW - 300))
    with caplog.at_level(logging.WARNING, "carp.controller"):
        for _ in range(3):
            found.news(Lost("watch pods: connection refused"), Lost("watch pods: HTTP 403: no"))
    assert 2 == len(caplog.records)
    clock.now += KEEP
    assert {"n1": NOW - 300} == found("n1")
    clock.now += 1
    assert None is found("n1")
    found.news(Synced((pod("n1", unready=NOW - 300),)))
    assert {"n1": NOW - 300} == found("n1")


def test_watched_over_http() -> None:
    """List, watch, and what is asked for; the labels choose, in one namespace."""
    lines = [json.dumps({"type": "MODIFIED", "object": pod("n1", unready=NOW)}).encode() + b"\n"]

    def answer(asked: Asked) -> Reply:
        if "watch" in asked.query:
            return Reply(chunks=lines, hang=True)
        return Reply(body={"metadata": {"resourceVersion": "1"}, "items": [pod("n1", ready=NOW)]})

    with FakeApi(answer) as api:
        found = Pods(lambda: None)
        watcher = Watcher(api.client(), PODS.within("ns"), found.event, label=SELECTOR)
        watcher.start()
        try:
            wait_for(lambda: found.agents(["n1"]) == {"n1": NOW})
        finally:
            watcher.stop()
        assert {"/api/v1/namespaces/ns/pods"} == {asked.path for asked in api.asked}
        assert {SELECTOR} == {asked.query["labelSelector"] for asked in api.asked}


def test_an_older_role_that_refuses_pods(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is known, and that is told once, whatever is tried meanwhile."""
    with (
        FakeApi(lambda _: Reply(403, {"message": "pods is forbidden"})) as api,
        caplog.at_level(logging.WARNING, "carp.controller"),
    ):
        found = Pods(lambda: pytest.fail("no news"))
        watcher = Watcher(api.client(), PODS.within("ns"), found.event, label=SELECTOR)
        watcher.start()
        try:
            wait_for(lambda: len(api.asked) >= 2)
        finally:
            watcher.stop()
        assert None is found.agents(NODES)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "no status tells of an agent that is gone" in line
    assert "HTTP 403: pods is forbidden" in line
