"""The control socket (carp.daemon.control), with operations made up by the tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from carp.daemon import control
from carp.daemon.control import MAX_CLIENTS, MAX_LINE, Client, Control, RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

NOBODY = 65534


class Asker:
    """A client that speaks lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Self:
        return cls(*await asyncio.open_unix_connection(str(path), limit=16 << 20))

    def send(self, **request: Any) -> None:
        self.writer.write(json.dumps({"v": 1, **request}).encode() + b"\n")

    async def read(self) -> dict[str, Any]:
        """Return the next line; an empty mapping when the connection has ended."""
        line = await asyncio.wait_for(self.reader.readline(), 10)
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    async def ask(self, **request: Any) -> dict[str, Any]:
        self.send(**request)
        return await self.read()

    async def is_cut_off(self) -> bool:
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 10) == b""
        return True


class Server:
    """A control socket whose operations are fast, slow, big, or wrong."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.control = Control(str(path), self.handle, **options)
        self.done: list[Any] = []
        self.most = self.busy = 0
        self.askers: list[Asker] = []

    def handle(self, op: str, request: dict[str, Any], client: Client) -> Any:
        self.done.append(request.get("id"))
        match op:
            case "big":
                return {"text": "x" * 100_000}
            case "refuse":
                raise RequestError("name: 'x' is no vhost here")
            case "fail":
                raise ZeroDivisionError
            case "slow":
                return self.slowly()
            case "quiet":
                return None
        return {"op": op}

    async def slowly(self) -> dict[str, Any]:
        self.busy += 1
        self.most = max(self.most, self.busy)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.busy -= 1
        return {"slow": True}

    async def connect(self) -> Asker:
        self.askers.append(await Asker.connect(self.path))
        return self.askers[-1]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Return what plays a scene with a listening server."""

    def run(scene: Callable[[Server], Awaitable[None]], **options: Any) -> None:
        async def served() -> None:
            server = Server(tmp_path / "s", **options)
            await server.control.start()
            async with asyncio.timeout(20):
                await scene(server)
            await server.control.close()
            for asker in server.askers:
                asker.writer.transport.abort()
            await asyncio.sleep(0)

        asyncio.run(served())

    return run


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give clients a tenth of a second."""
    monkeypatch.setattr(control, "HALF_LINE", 0.1)


def test_an_answer_repeats_version_and_id(play: Any) -> None:
    """Any id, also of several lines in one piece and of one line in many pieces, answered in their order."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        assert {"v": 1, "id": 7, "ok": True, "op": "hello"} == await asker.ask(id=7, op="hello")
        assert {"v": 1, "id": None, "ok": True, "op": "a"} == await asker.ask(op="a")
        asker.writer.write(b'{"v":1,"id":"b","op":"slow"}\n{"v":1,"id":"c","op":"x"}\n')
        assert ["b", "c"] == [(await asker.read())["id"] for _ in range(2)]
        for byte in b'{"v":1,"id":[1],"op":"y"}\n':
            asker.writer.write(bytes((byte,)))
            await asker.writer.drain()
            await asyncio.sleep(0)
        assert [1] == (await asker.read())["id"]

    play(scene)


def test_a_refusal_is_an_answer(play: Any) -> None:
    """What an operation refuses is told, and the connection goes on."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        answer = await asker.ask(id=1, op="refuse")
        assert {"v": 1, "id": 1, "ok": False, "error": "name: 'x' is no vhost here"} == answer
        assert (await asker.ask(id=2, op="hello"))["ok"]

    play(scene)


def test_an_error_of_ours_is_logged_and_told(play: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The client hears that it happened, the log what; nothing else breaks."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        assert "internal error, see the log" == (await asker.ask(id=1, op="fail"))["error"]
        assert (await asker.ask(id=2, op="hello"))["ok"]

    play(scene)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "line",
    [b"", b"hello", b"\xff\xfe", b"{", b"[]", b"7", b"null", b'{"v":1}', b'{"v":2,"op":"hello"}',
     b'{"op":"hello"}',
     b'{"v":1,"op":7}', b'{"v":1,"op":null}', b"[" * 100_000, b"9" * 10_000, b'{"v":1,"op":' * 50_000],
)  # fmt: skip
def test_nonsense_is_told_and_cut_off(play: Any, line: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """One answer that says what is wrong, then the end; another client notices nothing."""

    async def scene(server: Server) -> None:
        other, asker = await server.connect(), await server.connect()
        asker.writer.write(line + b"\n")
        answer = await asker.read()
        assert (False, None) == (answer["ok"], answer["id"])
        assert "request" in answer["error"]
        assert await asker.is_cut_off()
        assert (await other.ask(op="hello"))["ok"]
        await _until(lambda: len(server.control.clients) == 1)

    play(scene)
    assert "" == caplog.text


def test_a_huge_request_is_cut_off(play: Any) -> None:
    """What has no end after 4 MiB is not kept."""

    async def scene(server: Server) -> None:
        def send() -> bytes:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(server.path))
                with contextlib.suppress(ConnectionError):
                    sock.sendall(b"x" * (MAX_LINE + (1 << 20)))
                return sock.recv(1000)

        assert f"more than {MAX_LINE} bytes" in json.loads(await asyncio.to_thread(send))["error"]
        await _until(lambda: not server.control.clients)

    play(scene)


def test_a_large_request_is_taken(play: Any) -> None:
    """3 MiB are long but no nonsense."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        assert (await asker.ask(op="hello", text="x" * (3 << 20)))["ok"]

    play(scene)


@pytest.mark.usefixtures("impatient")
def test_half_a_line_and_no_more(play: Any) -> None:
    """A line that is begun must be finished in time; who has begun none may stay for ever."""

    async def scene(server: Server) -> None:
        idle, asker = await server.connect(), await server.connect()
        asker.writer.write(b'{"v":1,"id":1,"op":"hello"}\n{"v":1,')
        assert 1 == (await asker.read())["id"]
        assert "half a request" in (await asker.read())["error"]
        assert await asker.is_cut_off()
        assert (await idle.ask(op="hello"))["ok"]

    play(scene)


def test_each_line_has_its_own_time(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that always has half a line under way, and always finishes it, is served."""
    monkeypatch.setattr(control, "HALF_LINE", 1.0)

    async def scene(server: Server) -> None:
        asker = await server.connect()
        asker.writer.write(b'{"v":1,')
        for _ in range(8):
            await asyncio.sleep(0.2)
            asker.writer.write(b'"op":"hello"}\n{"v":1,')
            assert (await asker.read())["ok"]

    play(scene)


@pytest.mark.usefixtures("impatient")
def test_who_asks_and_does_not_read_is_cut_off(play: Any) -> None:
    """Answers do not pile up: of a thousand of 100 kB each only a handful is ever made."""

    async def scene(server: Server) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, str(server.path))
            await loop.sock_sendall(sock, b'{"v":1,"op":"big"}\n' * 1000)
            await _until(lambda: server.done)
            assert (await (await server.connect()).ask(op="hello"))["ok"]
            await _until(lambda: len(server.control.clients) == 1)
        assert len(server.done) < 20

    play(scene)


def test_many_requests_at_once_leave_the_loop_its_turns(play: Any) -> None:
    """A flood in one piece is carried out one by one, with turns of the loop in between."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        asker.writer.write(b'{"v":1,"op":"slow"}\n' * 5000)
        # Processor time: of the clock's some is other programs'.
        longest, before = 0.0, time.thread_time()
        answers = asyncio.create_task(asker.reader.readexactly(5000 * 37))
        while not answers.done():
            await asyncio.sleep(0)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()
        assert 1 == server.most
        assert longest < 0.05

    play(scene)


def test_a_client_that_is_gone(play: Any) -> None:
    """One that leaves in the middle of an operation is forgotten, its answer too."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        asker.send(op="slow")
        asker.writer.close()
        await _until(lambda: not server.control.clients and not server.busy)
        assert (await (await server.connect()).ask(op="hello"))["ok"]

    play(scene)


def test_sixty_four_clients(play: Any) -> None:
    """That many are served at the same time; the next one is told, and welcome when one has left."""

    async def scene(server: Server) -> None:
        askers = [await server.connect() for _ in range(MAX_CLIENTS)]
        for asker in askers:
            assert (await asker.ask(op="hello"))["ok"]
        late = await server.connect()
        assert f"more than {MAX_CLIENTS} clients" == (await late.read())["error"]
        assert await late.is_cut_off()
        askers[0].writer.close()
        await _until(lambda: len(server.control.clients) < MAX_CLIENTS)
        assert (await (await server.connect()).ask(op="hello"))["ok"]

    play(scene)


@pytest.mark.root
@pytest.mark.parametrize(("uid", "served"), [(None, False), (NOBODY, True), (1234, False)])
def test_who_may_use_it(play: Any, tmp_path: Path, uid: int | None, served: bool) -> None:
    """Root and the user named may; another one is told its own uid, even where the mode lets it in."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    async def scene(server: Server) -> None:
        server.path.chmod(0o666)
        os.seteuid(NOBODY)
        try:
            asker = await server.connect()
        finally:
            os.seteuid(0)
        asker.send(op="hello")
        answer = await asker.read()
        assert served is answer["ok"]
        assert served or answer["error"] == f"uid {NOBODY} may not use this socket"

    play(scene, uid=uid)


@pytest.mark.root
def test_mode_and_group(play: Any) -> None:
    """0600, and 0660 for a group."""

    async def alone(server: Server) -> None:
        assert 0o600 == server.path.stat().st_mode & 0o777

    async def grouped(server: Server) -> None:
        found = server.path.stat()
        assert (0o660, 1234) == (found.st_mode & 0o777, found.st_gid)

    play(alone)
    play(grouped, gid=1234)


def test_a_stale_socket_is_replaced(play: Any, tmp_path: Path) -> None:
    """The file of a carpd that was killed is no obstacle, and an ended one leaves none."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "s"))

    async def scene(server: Server) -> None:
        assert (await (await server.connect()).ask(op="hello"))["ok"]

    play(scene)
    assert not (tmp_path / "s").exists()


def test_a_living_one_keeps_its_socket(play: Any) -> None:
    """A second carpd is refused, and its end does not take the first one's socket away."""

    async def scene(server: Server) -> None:
        second = Server(server.path)
        with pytest.raises(OSError, match="another carpd listens there"):
            await second.control.start()
        await second.control.close()
        assert (await (await server.connect()).ask(op="hello"))["ok"]

    play(scene)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    """A path given by mistake costs nobody a file."""
    (tmp_path / "s").write_text("precious")

    async def scene() -> None:
        server = Server(tmp_path / "s")
        with pytest.raises(OSError, match="no socket"):
            await server.control.start()
        await server.control.close()

    asyncio.run(scene())
    assert "precious" == (tmp_path / "s").read_text()


def test_the_end_is_told(play: Any) -> None:
    """Clients hear that carpd stops."""

    async def scene(server: Server) -> None:
        asker = await server.connect()
        assert (await asker.ask(op="hello"))["ok"]
        await server.control.close()
        assert "carpd stops" == (await asker.read())["error"]
        assert await asker.is_cut_off()
        assert not server.path.exists()

    play(scene)


def _open_files() -> Iterator[str]:
    yield from (entry.name for entry in Path("/proc/self/fd").iterdir())


def test_nothing_is_left_of_clients(play: Any) -> None:
    """A thousand clients of every kind later there are as many open files as before."""

    async def scene(server: Server) -> None:
        assert (await (await server.connect()).ask(op="hello"))["ok"]
        before = len(list(_open_files()))
        for index in range(1000):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(str(server.path))
                sock.sendall((b"x\n", b'{"v":1,"op":"slow"}\n', b"{", b"")[index % 4])
            await asyncio.sleep(0)
        await _until(lambda: len(server.control.clients) <= 1 and len(list(_open_files())) <= before)

    play(scene)
