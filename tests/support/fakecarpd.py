"""A carpd that says what a test tells it to, on a real Unix socket; statuses as carpd gives them."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    Answer = dict[str, Any] | bytes | None


def seen(**changes: Any) -> dict[str, Any]:
    """Return the `master` of a status: one of our own, heard a moment ago."""
    master = {"source": "10.1.1.2", "advbase": 1, "advskew": 0, "demotion": 0, "lastHeard": 0.4}
    return {**master, "sealed": True, **changes}


def vhost(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return the status of one vhost: master for 192 s, nothing wrong."""
    status: dict[str, Any] = {
        "name": name,
        "source": "file",
        "interface": "eth0",
        "vhid": 42,
        "addresses": ["10.1.1.252/32"],
        "state": "MASTER",
        "since": "2026-01-02T03:04:05Z",
        "seconds": 192.0,
        "cause": "dead-time",
        "reason": "",
        "transitions": 2,
        "advbase": 1,
        "advskew": 0,
        "deadTime": 3.2,
        "lifetime": 2,
        "overlapBound": 0.0,
        "preempt": "Never",
        "demotion": 0,
        "demotions": [],
        "master": None,
        "leaving": None,
        "conflict": None,
        "health": [],
        "lease": 1.7,
        "drops": {},
        "sendProblem": "",
        "transport": {"mode": "Multicast", "sources": ["10.1.1.1"], "group4": "224.0.0.18"},
        "clockSkew": None,
        "error": "",
    }
    return {**status, **changes}


def check(**changes: Any) -> dict[str, Any]:
    """Return one health check of a status: up."""
    healthy = {"name": "api", "target": "tcp 10.1.1.9:443", "health": "up", "flapping": False}
    return {**healthy, "detail": "", **changes}


def backup(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return the status of a backup that hears its master."""
    return vhost(name, **{"state": "BACKUP", "cause": "link-up", "lease": None, "master": seen(), **changes})


def hello(**changes: Any) -> dict[str, Any]:
    """Return what carpd says about itself: nothing wrong."""
    daemon = {"version": "0.1.0", "pid": 7, "uid": "", "generation": 0, "cluster": "", "persisted": True}
    return {**daemon, "maintenance": False, "problems": [], **changes}


def answer(*vhosts: dict[str, Any], **daemon: Any) -> dict[str, Any]:
    """Return the fields of carpd's answer to `status`."""
    return {"daemon": hello(**daemon), "vhosts": list(vhosts), "interfaces": [], "links": []}


def obeying(*after: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a handler that takes every order, and has these vhosts afterwards."""

    def handler(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "status":
            return answer(*after)
        return {"maintenance": request.get("on"), "persisted": True}

    return handler


class FakeCarpd:
    """Listens at ``path``; ``handler(request)`` returns the fields of the answer.

    Fields with `error` refuse; bytes are sent as they are; None closes the connection. What was asked is in
    `requests`.
    """

    def __init__(self, path: Path, handler: Callable[[dict[str, Any]], Answer]) -> None:
        self.path = str(path)
        self.requests: list[dict[str, Any]] = []
        self.handler = handler
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                for line in lines:
                    if not self._reply(connection, json.loads(line)):
                        break

    def _reply(self, connection: socket.socket, request: dict[str, Any]) -> bool:
        self.requests.append(request)
        answered = self.handler(request)
        if answered is None:
            return False
        if isinstance(answered, dict):
            envelope = {"v": 1, "id": request["id"], "ok": "error" not in answered}
            answered = json.dumps({**envelope, **answered}).encode() + b"\n"
        try:
            connection.sendall(answered)
        except OSError:
            return False
        return True
