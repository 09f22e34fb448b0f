"""The agent's connection to carpd."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from carp.commands.client import NoAnswerError, RefusedError
from carp_operator.agent import carpd as module
from carp_operator.agent.carpd import Carpd
from fakecarpd import FakeCarpd, answer, backup, vhost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class Told:
    """A connection, and what it has told."""

    def __init__(self, path: Path) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.losses: asyncio.Queue[str] = asyncio.Queue()
        self.carpd = Carpd(str(path), on_message=self.messages.put_nowait, on_loss=self.losses.put_nowait)


def follow(path: Path, story: Callable[[Told], Awaitable[None]]) -> None:
    """Run a story beside a connection."""

    async def run() -> None:
        told = Told(path)
        task = asyncio.ensure_future(told.carpd.run())
        try:
            async with asyncio.timeout(10):
                await story(told)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def plain(request: dict[str, Any]) -> Any:
    """Answer as carpd does; `apply` with its generation, `demote` refused."""
    match request["op"]:
        case "watch":
            return {"event": "snapshot", **answer(vhost())}
        case "status":
            return answer(vhost("later"))
        case "hello":
            return answer()["daemon"] | {"pid": 8}
        case "demote":
            return {"error": "no"}
    return {"generation": request.get("generation")}


def test_snapshot_and_answers(tmp_path: Path) -> None:
    """It watches, and answers find their questions, also several at once."""

    async def story(told: Told) -> None:
        assert "snapshot" == (await told.messages.get())["event"]
        found = await asyncio.gather(*(told.carpd.ask("apply", generation=n) for n in range(5)))
        assert list(range(5)) == [each["generation"] for each in found]
        with pytest.raises(RefusedError, match=r"^no$"):
            await told.carpd.ask("demote")

    with FakeCarpd(tmp_path / "s", plain):
        follow(tmp_path / "s", story)


def test_events(tmp_path: Path) -> None:
    """Changes that follow are told in order."""

    def handler(request: dict[str, Any]) -> Any:
        lines = [{"id": request["id"], "ok": True, "event": "snapshot", **answer()}]
        lines += [{"event": "changes", "vhosts": [], "gone": [str(n)]} for n in range(3)]
        return b"".join(json.dumps({"v": 1, **line}).encode() + b"\n" for line in lines)

    async def story(told: Told) -> None:
        await told.messages.get()
        assert ["0", "1", "2"] == [(await told.messages.get())["gone"][0] for _ in range(3)]

    with FakeCarpd(tmp_path / "s", handler):
        follow(tmp_path / "s", story)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (None, "carpd has closed the connection"),
        (b"{\n", "s: Expecting"),
        (b"[]\n", "no carpd of this version"),
        (b'{"v":2}\n', "no carpd of this version"),
        (b'{"v":1,"id":null,"ok":false,"error":"uid 9 may not use this socket"}\n', "^uid 9 may not use"),
        (b'{"v":1,"ok":false,"error":"carpd stops"}\n', "^carpd stops$"),
    ],
)
def test_losses(tmp_path: Path, reply: bytes | None, reason: str) -> None:
    """Whatever ends a connection is told with its reason, and it is made again."""
    replies = [reply]

    def handler(request: dict[str, Any]) -> Any:
        return replies.pop(0) if replies else plain(request)

    async def story(told: Told) -> None:
        loss = await told.losses.get()
        assert re.search(reason, loss), loss
        assert "snapshot" == (await told.messages.get())["event"]

    with FakeCarpd(tmp_path / "s", handler):
        follow(tmp_path / "s", story)


def test_absent(tmp_path: Path) -> None:
    """Without a socket it says so, asks nothing, and connects as soon as there is one."""

    async def story(told: Told) -> None:
        assert "No such file or directory: does carpd run?" in await told.losses.get()
        with pytest.raises(NoAnswerError, match="not connected"):
            await told.carpd.ask("apply")
        stack.enter_context(FakeCarpd(tmp_path / "s", plain))
        assert "snapshot" == (await told.messages.get())["event"]

    with contextlib.ExitStack() as stack:
        follow(tmp_path / "s", story)


def test_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A carpd that takes the connection and says nothing is let go after the time limit."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)

    async def story(told: Told) -> None:
        assert "carpd has not answered within 0.1 s" in await told.losses.get()

    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        follow(tmp_path / "s", story)


def test_question_when_it_ends(tmp_path: Path) -> None:
    """A question that the end of the connection leaves open is told so at once."""

    def handler(request: dict[str, Any]) -> Any:
        return None if request["op"] == "apply" else plain(request)

    async def story(told: Told) -> None:
        await told.messages.get()
        with pytest.raises(NoAnswerError, match="closed"):
            await told.carpd.ask("apply")

    with FakeCarpd(tmp_path / "s", handler):
        follow(tmp_path / "s", story)


def test_an_answer_is_older_than_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What carpd tells right after it has answered is not undone by that answer."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "REFRESH", 1)

    def handler(request: dict[str, Any]) -> Any:
        if request["op"] != "status":
            return plain(request)
        lines = [
            {"id": request["id"], "ok": True, **answer(vhost())},
            {"event": "changes", "vhosts": [backup()], "gone": []},
        ]
        return b"".join(json.dumps({"v": 1, **line}).encode() + b"\n" for line in lines)

    async def story(told: Told) -> None:
        found = [await told.messages.get() for _ in range(3)][1:]
        assert [("snapshot", "MASTER"), ("changes", "BACKUP")] == [
            (each["event"], each["vhosts"][0]["state"]) for each in found
        ]

    with FakeCarpd(tmp_path / "s", handler):
        follow(tmp_path / "s", story)


def test_an_answer_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While carpd waits for its disk it does not stand still, but that has an end, too."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)

    async def story(told: Told) -> None:
        await told.messages.get()
        with pytest.raises(NoAnswerError, match=r"within 1 s"):
            await told.carpd.ask("apply", patience=1)
        assert told.losses.empty()
        assert told.messages.empty()
        assert "has not answered within 1 s" in await told.losses.get()
        assert "snapshot" == (await told.messages.get())["event"]

    with FakeCarpd(tmp_path / "s", lambda request: b"" if request["op"] == "apply" else plain(request)):
        follow(tmp_path / "s", story)


def test_refresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then it asks whether carpd lives, and sometimes for everything."""
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    monkeypatch.setattr(module, "REFRESH", 2)

    async def story(told: Told) -> None:
        await told.messages.get()
        first, second = [await told.messages.get() for _ in range(2)]
        assert {"event": "changes", "daemon": answer()["daemon"] | {"pid": 8}} == first
        assert ("snapshot", "later") == (second["event"], second["vhosts"][0]["name"])

    with FakeCarpd(tmp_path / "s", plain):
        follow(tmp_path / "s", story)
