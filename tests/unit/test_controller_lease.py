"""Who leads: one at a time, and nobody longer than it can renew."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carp_operator.controller import lease as module
from carp_operator.controller.lease import DEADLINE, DURATION, Lease
from fakeapi import Asked, FakeApi, Reply
from nsfix import wait_for

if TYPE_CHECKING:
    import pytest


class Server:
    """An API server with one Lease."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.status = 0

    def __call__(self, asked: Asked) -> Reply:
        if self.status:
            return Reply(self.status, {"message": "no"})
        if asked.method == "POST":
            self.lease = {**asked.body, "metadata": {"resourceVersion": "1"}}
        elif self.lease is None:
            return Reply(404, {"message": "none"})
        elif asked.method == "PATCH":
            version = self.lease["metadata"]["resourceVersion"]
            if asked.body["metadata"]["resourceVersion"] != version:
                return Reply(409, {"message": "changed"})
            spec = {**self.lease["spec"], **asked.body["spec"]}
            self.lease = {"metadata": {"resourceVersion": str(int(version) + 1)}, "spec": spec}
        return Reply(body=self.lease)

    def holder(self) -> str:
        """Return who holds it."""
        return "" if self.lease is None else str(self.lease["spec"]["holderIdentity"])


def leases(api: FakeApi, *names: str) -> list[Lease]:
    """Return contenders that do not run by themselves."""
    return [Lease(api.client(), "ns", name, lambda: None) for name in names]


def test_first_takes_it() -> None:
    """A Lease that nobody holds is taken; the other waits."""
    server = Server()
    with FakeApi(server) as api:
        a, b = leases(api, "a", "b")
        a._attempt()
        b._attempt()
        assert (True, False) == (a.leads(), b.leads())
        assert ("a", "a", "a") == (server.holder(), a.holder, b.holder)


def test_silent_holder_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease that nobody renews for its duration, by our own clock, is taken over."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    server = Server()
    with FakeApi(server) as api:
        a, b = leases(api, "a", "b")
        a._attempt()
        b._attempt()
        now[0] += DURATION - 1
        b._attempt()
        assert not b.leads()
        assert not a.leads()
        now[0] += 1
        b._attempt()
        assert b.leads()
    assert "b" == server.holder()
    assert server.lease is not None
    assert 1 == server.lease["spec"]["leaseTransitions"]


def test_holder_that_cannot_renew_stops_before_another_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline of the holder is earlier than the duration for the others."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    server = Server()
    with FakeApi(server) as api:
        (a,) = leases(api, "a")
        a._attempt()
        server.status = 500
        now[0] += DEADLINE - 0.1
        a._attempt()
        assert a.leads()
        now[0] += 0.1
        assert not a.leads()
    assert DEADLINE < DURATION


def test_faster_rival_wins() -> None:
    """Of two that see it free at once one gets a conflict."""
    server = Server()
    with FakeApi(server) as api:
        a, b = leases(api, "a", "b")
        a._attempt()
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = ""
        body = a._body(server.lease, 1)
        b._attempt()
        assert b.leads()
        server.lease["metadata"]["resourceVersion"] = "9"
        assert body["metadata"]["resourceVersion"] != "9"
    assert "b" == server.holder()


def test_released_at_the_end() -> None:
    """Who ends gives it up; who never had it leaves it alone."""
    server = Server()
    changes: list[bool] = []
    with FakeApi(server) as api:
        a = Lease(api.client(), "ns", "a", lambda: changes.append(True))
        a.start()
        wait_for(a.leads)
        (b,) = leases(api, "b")
        b.start()
        b.stop()
        assert "a" == server.holder()
        a.stop()
        assert not a.leads()
    assert "" == server.holder()
    assert changes
