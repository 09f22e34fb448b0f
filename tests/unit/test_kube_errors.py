"""Errors of the API by what a caller can do about them."""

from __future__ import annotations

import json

import pytest

from carp_operator.kube.errors import (
    Conflict,
    Fatal,
    Forbidden,
    Gone,
    KubeError,
    NotFound,
    Transient,
    Unauthorized,
    from_answer,
    from_status,
)


def status(message: str) -> bytes:
    """Return the body of a refusal."""
    return json.dumps({"kind": "Status", "message": message}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Fatal),
        (401, Unauthorized),
        (403, Forbidden),
        (404, NotFound),
        (408, Transient),
        (409, Conflict),
        (410, Gone),
        (422, Fatal),
        (429, Transient),
        (500, Transient),
        (503, Transient),
        (504, Transient),
    ],
)
def test_kind(code: int, kind: type[KubeError]) -> None:
    """Each HTTP status has its kind, and the line names verb, resource, status and the server's message."""
    error = from_answer("get nodes n1", code, {}, status("no\n such  luck"))
    assert kind is type(error)
    assert f"get nodes n1: HTTP {code}: no such luck" == str(error)


def test_newer_field() -> None:
    """An apply with a field that the served CRD lacks is no passing trouble, although it is a 500."""
    message = "failed to create typed patch object: .spec.new: field not declared in schema"
    assert Fatal is type(from_answer("apply x", 500, {}, status(message)))


@pytest.mark.parametrize(
    ("value", "pause"), [("7", 7.0), ("", 0.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0), ("²", 0.0)]
)
def test_retry_after(value: str, pause: float) -> None:
    """The pause that a server asks for is kept with the error."""
    assert pause == from_answer("list x", 429, {"Retry-After": value}, b"").retry_after


def test_no_json() -> None:
    """A proxy's page is shown by its start, in one line."""
    error = from_answer("list x", 502, {}, b"<html>\n" + b"x" * 9000)
    assert "list x: HTTP 502: <html> xxx" in str(error)
    assert len(str(error)) < 600
    assert "list x: HTTP 502: no message" == str(from_answer("list x", 502, {}, b""))


def test_status_in_watch() -> None:
    """An ERROR in a watch is the error of its code; one without a code may pass."""
    assert Gone is type(from_status("watch x", {"code": 410, "message": "too old"}))
    assert Transient is type(from_status("watch x", {"message": "?"}))
