"""Which write goes next, and when a failed one does again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carp_operator.controller.outbox import FIRST_PAUSE, HOLD, LONGEST_PAUSE, MOST, Outbox, Write
from carp_operator.kube.errors import Conflict, Fatal, Forbidden, KubeError, NotFound, Transient
from carp_operator.kube.resources import CARP_NODES, VIRTUAL_IPS


def write(name: str, value: int = 0, verb: str = "apply") -> Write:
    """Return a write of a value."""
    return Write(CARP_NODES, name, verb, {"value": value})


def test_newest_plan_in_its_order() -> None:
    """What waits is what the newest plan wants, in its order."""
    box = Outbox()
    box.want([write("a", 1), write("b")])
    box.want([write("c"), write("a", 2)])
    first, _ = box.due(0.0)
    assert write("c") == first
    box.sent(first)
    second, _ = box.due(0.0)
    assert write("a", 2) == second
    assert (2, 1) == (len(box), box.under_way)


def test_one_write_at_a_time_for_an_object() -> None:
    """While one is under way the next for the same object waits, and goes out if it still differs."""
    box = Outbox()
    box.want([write("a", 1)])
    box.sent(write("a", 1))
    box.want([write("a", 2)])
    assert (None, None) == box.due(0.0)
    box.done(write("a", 1))
    assert write("a", 2) == box.due(0.0)[0]
    box.sent(write("a", 2))
    box.done(write("a", 2))
    assert 0 == len(box)


def test_at_most_so_many_at_once() -> None:
    """No more than MOST writes are under way."""
    box = Outbox()
    box.want([write(f"n{index}") for index in range(MOST + 1)])
    for _ in range(MOST):
        found, _ = box.due(0.0)
        assert found is not None
        box.sent(found)
    assert (None, None) == box.due(0.0)


@pytest.mark.parametrize("kind", [Transient, Conflict, NotFound])
def test_failures_are_tried_again_with_growing_pauses(kind: type[KubeError]) -> None:
    """A failed write waits 1, 2, 4 … 30 s, and disturbs no other."""
    box = Outbox()
    box.want([write("a"), write("b")])
    for pause in (FIRST_PAUSE, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE, LONGEST_PAUSE):
        box.sent(write("a"))
        box.failed(write("a"), kind("apply a", "no"), 100.0)
        assert write("b") == box.due(100.0)[0]
        box.sent(write("b"))
        assert (None, 100.0 + pause) == box.due(100.0)
        assert write("a") == box.due(100.0 + pause)[0]
        box.done(write("b"))
        box.want([write("a"), write("b")])


def test_server_may_ask_for_a_longer_pause() -> None:
    """Retry-After counts where it is longer than ours."""
    box = Outbox()
    box.want([write("a")])
    box.sent(write("a"))
    box.failed(write("a"), Transient("apply a", "busy", status=429, retry_after=7.0), 0.0)
    assert (None, 7.0) == box.due(0.0)


@pytest.mark.parametrize("error", [Forbidden("apply a", "no"), Fatal("apply a", "invalid")])
def test_refused_write_waits_for_another_wish(error: KubeError) -> None:
    """The same again does not help against a refusal; another content may."""
    box = Outbox()
    box.want([write("a", 1)])
    box.sent(write("a", 1))
    box.failed(write("a", 1), error, 0.0)
    assert (None, HOLD) == box.due(0.0)
    box.want([write("a", 1)])
    assert (None, HOLD) == box.due(0.0)
    box.want([write("a", 2)])
    assert write("a", 2) == box.due(0.0)[0]


@pytest.mark.parametrize("server", [Forbidden, Transient])
def test_the_server_back_lets_again_what_depends_on_it(server: type[KubeError]) -> None:
    """Rights and reachability change on the server; what is wrong in itself stays wrong."""
    box = Outbox()
    box.want([write("a"), write("b")])
    for name, error in (("a", server("apply a", "no")), ("b", Fatal("apply b", "invalid", status=422))):
        box.sent(write(name))
        box.failed(write(name), error, 0.0)
    box.retry()
    assert write("a") == box.due(1.0)[0]
    box.sent(write("a"))
    box.done(write("a"))
    for _ in range(3):
        box.retry()
        box.want([write("b")])
        assert (None, HOLD) == box.due(1.0)
    assert write("b") == box.due(HOLD)[0]


def test_refused_write_waits_for_another_object_or_schema() -> None:
    """The same content may be taken once what it is about has changed."""
    box = Outbox()
    box.want([replace(write("a"), about=(1, "uid", 7))])
    box.sent(replace(write("a"), about=(1, "uid", 7)))
    box.failed(replace(write("a"), about=(1, "uid", 7)), Fatal("apply a", "invalid"), 0.0)
    for about, held in (((1, "uid", 7), True), ((2, "uid", 7), False), ((1, "uid", 8), False)):
        box.want([replace(write("a"), about=about)])
        assert held is (box.due(1.0)[0] is None)


def test_write_without_effect_is_not_repeated() -> None:
    """What changed nothing is held like a refusal, until something else is wanted or the object changed."""
    box = Outbox()
    box.want([write("a")])
    box.sent(write("a"))
    box.futile(write("a"), 0.0)
    assert (None, HOLD) == box.due(0.0)
    box.retry()
    assert (None, HOLD) == box.due(0.0)
    box.want([replace(write("a"), about=(2,))])
    assert write("a") == box.due(0.0)[0]


def test_forgotten_wish_forgets_its_trouble() -> None:
    """A failure counts only as long as the write is wanted."""
    box = Outbox()
    box.want([write("a")])
    box.sent(write("a"))
    box.failed(write("a"), Transient("apply a", "no"), 0.0)
    box.want([])
    box.want([write("a")])
    assert write("a") == box.due(0.0)[0]


def test_kinds() -> None:
    """The status of an object is written apart from the object."""
    assert "carpnodes" == write("a").kind
    assert "virtualips/status" == Write(VIRTUAL_IPS, "a", "status", {}).kind
    assert write("a").key != write("a", verb="status").key
