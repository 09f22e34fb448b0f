from __future__ import annotations

from typing import Any

import pytest

from carp_operator.kubectl import reading as r
from kubectlfix import NOW, SINCE, FakeCluster, carpnode, condition, healthy, node, part, vip


@pytest.mark.parametrize("data", [None, 1, [], {}, {"a": 1}, {"a": {"b": [1, "x", {}]}}])
def test_nothing_raises(data: Any) -> None:
    """What is missing or of another type reads as nothing."""
    assert r.text(data, "a", "b") == ""
    assert r.whole(data, "a", "b") == 0
    assert r.maps(data, "a", "b") in ([], [{}])
    assert r.texts(data, "a", "b") in ([], ["x"])


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], (False, "Unknown", "the controller has not answered yet")),
        ([condition("Ready", message="fine")], (True, "Ready", "fine")),
        ([condition("Ready", reason="Degraded", message="n2 is away")], (True, "Degraded", "n2 is away")),
        (
            [
                condition("Ready", "False", "NotAccepted", "x"),
                condition("Accepted", "False", "VhidInUse", "7"),
            ],
            (False, "VhidInUse", "7"),
        ),
        (
            [
                condition("Ready", "False", "NotAdvertised"),
                condition("Advertised", "False", "Conflict", "two"),
            ],
            (False, "Conflict", "two"),
        ),
    ],
)
def test_health(conditions: list[Any], expected: tuple[bool, str, str]) -> None:
    """The reason that says most is the one of the condition that failed first."""
    assert expected == r.health(vip("web", "n1", conditions=conditions))


def test_order_of_succession() -> None:
    """The least demoted comes first, then the lowest advskew."""
    found = vip("web", "n1", "n2", "n3")
    found["status"]["nodes"][0]["demotion"] = [{"reason": "Cordoned", "amount": 100}]
    assert ["n2", "n3", "n1"] == [m["name"] for m in r.order(found)]
    assert "Cordoned 100" == r.demotions(found["status"]["nodes"][0])


def test_waiting() -> None:
    """An unseen spec, a rotation under way and an open handover are told; a finished one is not."""
    found = vip("web", "n1", authentication={"step": "Sign", "waitingFor": ["n2", "n3"]})
    found["metadata"] |= {"generation": 2, "annotations": {"carp.vip/handover": "n2@x"}}
    assert [
        "the controller has not looked at the newest spec yet",
        "a change of password or addresses is at step Sign, waiting for n2, n3",
        "a handover was asked for (n2@x) and is not finished",
    ] == r.waiting(found)
    found["status"] |= {"observedGeneration": 2, "handover": {"request": "n2@x"}, "authentication": {}}
    assert [] == r.waiting(found)
    found["metadata"]["deletionTimestamp"] = SINCE
    assert ["it is being deleted"] == r.waiting(found)


def test_who_could_take_over() -> None:
    """A member whose Node or carpd is away, that has not reported or is INIT cannot; a backup can."""
    gone = condition("Ready", "False", reason="CarpdUnreachable", message="no answer")
    cluster = r.Cluster(
        carpnodes={
            "n1": carpnode("n1", part("web")),
            "n2": carpnode("n2", part("web", "INIT", problem="no carrier")),
            "n3": carpnode("n3"),
            "n4": carpnode("n4", part("web", "INIT")),
            "n6": carpnode("n6", part("web"), conditions=[gone]),
        },
        nodes={name: node(name) for name in ("n1", "n2", "n3", "n4", "n6")} | {"n5": node("n5", ready=False)},
    )
    found = [r.unable(cluster, vip("web"), name) for name in ("n1", "n2", "n3", "n4", "n5")]
    assert ["", "no carrier", "has not reported it", "is INIT", "its Node is not Ready"] == found
    assert "no answer" == r.unable(cluster, vip("web"), "n6")


def test_who_could_take_over_as_the_controller_knows() -> None:
    """Who may not read CarpNodes learns from the VirtualIP."""
    cluster = r.Cluster(unread={"carpnodes": "forbidden"})
    found = [r.unable(cluster, vip("web", "n1", "n2"), name) for name in ("n2", "n3")]
    assert ["", "has not reported it"] == found


def test_read_leaves_out_what_is_forbidden() -> None:
    """Without the right to read Nodes the rest is there, and it is said; without VirtualIPs nothing is."""
    fake = healthy("web")
    fake.forbidden = {"nodes"}
    client: Any = fake
    cluster = r.read(client)
    assert (["web"], 3, {}) == (list(cluster.vips), len(cluster.carpnodes), cluster.nodes)
    assert "nodes is forbidden" in cluster.unread["nodes"]
    other: Any = FakeCluster()
    assert r.Cluster() == r.read(other)


def test_since() -> None:
    """An age is for people; what is no moment has none."""
    assert ("2m00s", "") == (r.since(SINCE, NOW), r.since("soon", NOW))
