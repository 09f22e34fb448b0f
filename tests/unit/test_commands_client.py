from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from carp.commands.client import SOCKET, VERSION, Client, NoAnswerError, RefusedError
from carp.daemon import control
from carp.daemon import main as daemon
from fakecarpd import FakeCarpd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def _client(
    path: Path, handler: Callable[[dict[str, Any]], Any], patience: float = 5.0
) -> Iterator[tuple[FakeCarpd, Client]]:
    with FakeCarpd(path / "s", handler) as fake, Client(fake.path, patience) as client:
        yield fake, client


def test_defaults_are_those_of_the_daemon() -> None:
    """The client looks where carpd listens, and speaks its version."""
    assert (daemon.SOCKET, control.VERSION) == (SOCKET, VERSION)


def test_an_answer_comes_back(tmp_path: Path) -> None:
    """A call sends version, number, operation and fields, and returns the answer with the same number."""
    with _client(tmp_path, lambda request: {"got": request["op"]}) as (fake, client):
        assert "hello" == client.call("hello")["got"]
        assert "demote" == client.call("demote", name="web")["got"]
    assert {"v": 1, "id": 2, "op": "demote", "name": "web"} == fake.requests[1]


def test_events_before_the_answer_are_passed_over(tmp_path: Path) -> None:
    """What a watch tells meanwhile is no answer."""

    def handler(request: dict[str, int]) -> bytes:
        event = {"v": 1, "event": "changes", "vhosts": [], "gone": []}
        own = {"v": 1, "id": request["id"], "ok": True, "here": 1}
        return json.dumps(event).encode() + b"\n" + json.dumps(own).encode() + b"\n"

    with _client(tmp_path, handler) as (_, client):
        assert 1 == client.call("status")["here"]


def test_a_refusal_is_carpds_own_words(tmp_path: Path) -> None:
    """`ok` false raises with the error's text."""
    refusal = {"error": "name: 'x' is no vhost here"}
    with _client(tmp_path, lambda _: refusal) as (_, client), pytest.raises(RefusedError) as raised:
        client.call("handover", name="x")
    assert "name: 'x' is no vhost here" == str(raised.value)


def test_nobody_there(tmp_path: Path) -> None:
    """Without a socket, and with one that nobody listens on, the error says what to do."""
    path = tmp_path / "s"
    expected = f"no carpd answers at {path}: is `carp daemon` running? (--socket PATH)"
    with pytest.raises(NoAnswerError) as raised:
        Client(str(path))
    assert expected == str(raised.value)
    with FakeCarpd(path, lambda _: {}):
        pass
    with pytest.raises(NoAnswerError) as raised:
        Client(str(path))
    assert expected == str(raised.value)


def test_a_path_that_is_too_long_is_an_error_of_one_line() -> None:
    """The system's limit for socket paths is told with the path."""
    with pytest.raises(NoAnswerError) as raised:
        Client("/" + "x" * 200)
    assert "/xxx" in str(raised.value)


def test_no_answer_in_time(tmp_path: Path) -> None:
    """A carpd that hangs is given up after the patience."""
    context = _client(tmp_path, lambda _: b"half a li", patience=0.05)
    with context as (fake, client), pytest.raises(NoAnswerError) as raised:
        client.call("status")
    assert f"carpd at {fake.path} has not answered within 0.05 s" == str(raised.value)


def test_a_connection_that_ends(tmp_path: Path) -> None:
    """A carpd that stops in between is no traceback."""
    with _client(tmp_path, lambda _: None) as (fake, client), pytest.raises(NoAnswerError) as raised:
        client.call("status")
    assert f"carpd at {fake.path} has closed the connection: did it stop?" == str(raised.value)


@pytest.mark.parametrize("line", [b"no json\n", b"[]\n", b'{"v": 2, "id": 1, "ok": true}\n', b"\xff\n"])
def test_something_else_listens(tmp_path: Path, line: bytes) -> None:
    """An answer that is not of this version's protocol is said to be that."""
    error = pytest.raises(NoAnswerError, match="no carpd of this version")
    with _client(tmp_path, lambda _: line) as (_, client), error:
        client.call("status")


def test_receive_waits_no_longer_than_told(tmp_path: Path) -> None:
    """Without a message in time there is None."""
    with _client(tmp_path, lambda _: {}) as (_, client):
        assert None is client.receive(0.01)
