"""What `carp-selftest` makes, waits for, says and deletes, with an API server that plays along."""

from __future__ import annotations

from typing import Any

import pytest

from carp_operator.api.codec import virtual_ip
from carp_operator.api.objects import Node
from carp_operator.controller import selftest
from carp_operator.controller.selftest import Selftest
from carp_operator.plan.candidates import excluded_by
from carp_operator.plan.facts import EXCLUDED, NodeFacts
from fakeapi import Asked, FakeApi, Reply

VIPS = "/apis/carp.vip/v1alpha1/virtualips"


def ready(status: str, **more: Any) -> dict[str, Any]:
    """Return a VirtualIP with this condition Ready."""
    condition = {"type": "Ready", "status": status, "reason": "NoCandidate", "message": "no node is left"}
    return {"status": {"conditions": [condition], **more}}


def run(
    *answers: Reply, creates: tuple[int, ...] = (201,), bodies: list[Any] | None = None
) -> tuple[bool, list[str], list[tuple[str, str]]]:
    """Run it with these answers to its looks, the last again and again; ``bodies`` gets what it creates."""
    said: list[str] = []
    now, looks, creating = [0.0], list(answers), list(creates)

    def handle(asked: Asked) -> Reply:
        if asked.method == "GET":
            return looks.pop(0) if len(looks) > 1 else looks[0]
        return Reply(creating.pop(0) if asked.method == "POST" else 200, {"message": "exists"})

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with FakeApi(handle) as api:
        test = Selftest(api.client(), "carp-test", "127.0.0.1", 3.0, said.append, lambda: now[0], sleep)
        good = test.run()
    if bodies is not None:
        bodies += [asked.body for asked in api.asked if asked.method == "POST"]
    return good, said, [(asked.method, asked.path) for asked in api.asked]


def test_served() -> None:
    """It is made, seen Ready, asked for an answer, and deleted."""
    good, said, asked = run(
        Reply(body={}), Reply(503, {"message": "later"}), Reply(body=ready("True", master={"node": "n1"}))
    )
    assert good
    assert "127.0.0.1 is held by n1 after 1.0 s" in said
    assert "from this pod it answers" == said[-1]
    assert (("POST", VIPS), ("DELETE", f"{VIPS}/carp-test")) == (asked[0], asked[-1])


@pytest.mark.parametrize("creates", [(201,), (409, 201)])
def test_every_node_may_take_part(creates: tuple[int, ...]) -> None:
    """Also where all nodes have the label that keeps control-plane nodes out: kubeadm's do."""
    bodies: list[Any] = []
    assert run(Reply(body=ready("True")), creates=creates, bodies=bodies)[0]
    assert len(creates) == len(bodies)
    labels = {EXCLUDED: "", "kubernetes.io/os": "linux"}
    node = Node("n1", "u", labels, ready=True, ready_since=0, unschedulable=False, deleting=False)
    facts = NodeFacts(node, False, True, False, (), {}, ())
    for body in bodies:
        assert ["127.0.0.1"] == body["spec"].pop("addresses")
        vip = virtual_ip(body | {"spec": {**body["spec"], "addresses": ["192.0.2.1"]}}, strict=True)
        assert () == vip.errors
        assert vip.spec is not None
        assert "" == excluded_by(facts, vip.spec.node_selector)


def test_not_served() -> None:
    """The conditions say why, and it is deleted all the same."""
    good, said, asked = run(Reply(body=ready("False")))
    assert not good
    assert "127.0.0.1 was not Ready within 3 s" in said
    assert "Ready: NoCandidate: no node is left" in said
    assert "Accepted: Unknown: no controller?" in said
    assert ("DELETE", f"{VIPS}/carp-test") == asked[-1]


def test_left_over() -> None:
    """One that an earlier run has left is replaced."""
    good, said, asked = run(Reply(body=ready("True")), creates=(409, 201))
    assert good
    assert "already" in said[0]
    assert ["POST", "DELETE", "POST"] == [method for method, _ in asked[:3]]


def test_nothing_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an address nothing is tested, which is said and is no failure."""
    assert 0 == selftest.main(["--address="])
    assert capsys.readouterr().out.startswith("skipped: set the value test.address")


def test_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """One line says what is wrong."""
    assert 2 == selftest.main(["--address=192.0.2.1", "--timeout=5x"])
    assert "carp-selftest: --timeout: '5x' is no duration" in capsys.readouterr().err
