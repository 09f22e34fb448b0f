"""Handing carpd the spec: once for each thing said, and never something that may be old."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from carp.commands.client import NoAnswerError, RefusedError
from carp_operator.agent import settling as module
from carp_operator.agent.metrics import Tally
from carp_operator.agent.settling import Settling
from carp_operator.agent.troubles import Troubles
from carp_operator.agent.view import View
from carp_operator.kube.errors import Unreachable
from fakecarpd import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest


def node(generation: int = 7, uid: str = "u", ref: str = "web.1") -> dict[str, Any]:
    """Return a CarpNode with one vhost."""
    spec = {"cluster": "c", "vhosts": [{"name": "web", "passwordRef": ref}]}
    return {"metadata": {"name": "n1", "uid": uid, "generation": generation}, "spec": spec}


def done(**changes: Any) -> dict[str, Any]:
    """Return carpd's answer to an apply that went well."""
    return {
        "outcomes": [{"name": "web", "result": "added"}],
        "kept": {},
        "persisted": True,
        "problem": "",
        **changes,
    }


class World:
    """A settling, a carpd that answers as told, and an API server that has one object."""

    def __init__(self) -> None:
        self.view = View()
        self.asked: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any] | Exception] = []
        self.stored: dict[str, Any] | Exception = node()
        self.verdicts: asyncio.Queue[str] = asyncio.Queue()
        self.settling = Settling(
            self.view,
            self._ask,
            self._read_again,
            lambda: self.verdicts.put_nowait(self.settling.verdict.reason),
            troubles=Troubles(),
            tally=Tally(),
        )

    async def _ask(self, op: str, **fields: Any) -> dict[str, Any]:
        assert "apply" == op
        self.asked.append(fields)
        found = self.answers.pop(0) if self.answers else done()
        if isinstance(found, Exception):
            raise found
        return found

    async def _read_again(self) -> dict[str, Any]:
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored

    def connect(self, **daemon: Any) -> None:
        """Let carpd answer, with this about itself."""
        self.view.connected = False
        self.view.take({"event": "snapshot", **answer(**daemon)}, 0.0)
        self.settling.connected()

    async def quiet(self) -> None:
        """Let everything happen that happens by itself."""
        for _ in range(20):
            await asyncio.sleep(0)


def tell(story: Callable[[World], Awaitable[None]], *, ready: bool = True) -> None:
    """Run a story; if ``ready``, carpd answers and the object and the passwords were read."""

    async def run() -> None:
        world = World()
        task = asyncio.ensure_future(world.settling.run())
        try:
            async with asyncio.timeout(10):
                if ready:
                    world.connect()
                    world.settling.unlock({"web.1": "love"})
                    world.settling.looked()
                    world.settling.read(node())
                    assert "Applied" == await world.verdicts.get()
                await story(world)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_once() -> None:
    """The same again is not sent again; a new generation, a new key and a new carpd are reasons to send."""

    async def story(world: World) -> None:
        assert ("u", 7) == (world.settling.verdict.uid, world.settling.verdict.generation)
        world.settling.read(node())
        world.settling.unlock({"web.1": "love"})
        await world.quiet()
        assert 1 == len(world.asked)
        assert not world.settling.pending
        world.settling.read(node(8))
        assert world.settling.pending
        await world.quiet()
        world.settling.unlock({"web.1": "hate"})
        await world.quiet()
        world.connect()
        await world.quiet()
        assert [7, 8, 8, 8] == [each["generation"] for each in world.asked]
        assert ["love", "love", "hate", "hate"] == [each["vhosts"][0]["password"] for each in world.asked]

    tell(story)


def test_waits_for_all() -> None:
    """Nothing is sent before carpd, the object and the passwords are there, in whatever order they come."""

    async def story(world: World) -> None:
        world.settling.read(node())
        world.connect()
        await world.quiet()
        assert [] == world.asked
        assert world.settling.pending
        world.settling.looked()
        assert "SecretMissing" == await world.verdicts.get()
        assert [] == world.asked
        world.settling.unlock({"web.1": "love"})
        assert "Applied" == await world.verdicts.get()

    tell(story, ready=False)


def test_new_object() -> None:
    """Another uid is followed whatever its generation; nothing has to be read again for it."""

    async def story(world: World) -> None:
        world.stored = Unreachable("get", "x")
        world.settling.read(node(1, "v"))
        await world.quiet()
        assert ("v", 1) == (world.asked[-1]["uid"], world.asked[-1]["generation"])
        assert "restored" not in world.asked[-1]

    tell(story)


def test_restored() -> None:
    """An older generation that a quorum confirms is sent as restored."""

    async def story(world: World) -> None:
        world.stored = node(3)
        world.settling.read(node(3))
        await world.quiet()
        assert (3, True) == (world.asked[-1]["generation"], world.asked[-1]["restored"])
        assert 3 == world.settling.verdict.generation
        world.settling.read(node(4))
        await world.quiet()
        assert "restored" not in world.asked[-1]

    tell(story)


def test_old_cache() -> None:
    """An older generation that a quorum does not confirm is not sent; what the quorum knows is."""

    async def story(world: World) -> None:
        world.stored = node(9)
        world.settling.read(node(3))
        await world.quiet()
        assert [7, 9] == [each["generation"] for each in world.asked]

    tell(story)


def test_older_and_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older generation is not sent while nobody can confirm it; then it is."""
    monkeypatch.setattr(module, "SOON", 0.01)

    async def story(world: World) -> None:
        world.stored = Unreachable("get", "x")
        world.settling.read(node(3))
        await world.quiet()
        assert 1 == len(world.asked)
        assert world.settling.pending
        world.stored = node(3)
        assert "Applied" == await world.verdicts.get()

    tell(story)


def test_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is a verdict with carpd's words; what was confirmed stays, and it is tried again later.

    That our own status is read, which says so, is no reason not to.
    """
    monkeypatch.setattr(module, "LATER", 0.01)

    async def story(world: World) -> None:
        world.answers = [RefusedError("busy")]
        world.settling.read(node(8))
        assert "Refused" == await world.verdicts.get()
        assert ("busy", 7) == (world.settling.verdict.message, world.settling.verdict.generation)
        world.settling.read(node(8))
        assert "Applied" == await world.verdicts.get()
        assert 8 == world.settling.verdict.generation

    tell(story)


def test_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer there is no verdict, and it is sent again."""
    monkeypatch.setattr(module, "SOON", 0.01)

    async def story(world: World) -> None:
        world.answers = [NoAnswerError("gone")]
        world.settling.read(node(8))
        assert "Applied" == await world.verdicts.get()
        assert [7, 8, 8] == [each["generation"] for each in world.asked]

    tell(story)


def test_kept_vhost() -> None:
    """A vhost that was not taken is named; where a password is missing, by the password's name."""

    async def story(world: World) -> None:
        world.answers = [done(kept={"web": "password: is required", "b": "no"})]
        world.settling.read(node(8, ref="web.9"))
        assert "VhostsRefused" == await world.verdicts.get()
        verdict = world.settling.verdict
        assert {"web": "passwordRef: 'web.9' is no key of the Secret", "b": "no"} == verdict.refused
        assert ("b: no; web: passwordRef: 'web.9' is no key of the Secret", 8) == (
            verdict.message,
            verdict.generation,
        )

    tell(story)


def test_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What carpd could not store is no confirmation, and is sent again."""
    monkeypatch.setattr(module, "LATER", 0.01)

    async def story(world: World) -> None:
        world.answers = [done(persisted=False, problem="disk full")]
        world.settling.read(node(8))
        await world.verdicts.get()
        assert (7, False) == (world.settling.verdict.generation, world.view.daemon["persisted"])
        await world.verdicts.get()
        assert (8, True) == (world.settling.verdict.generation, world.view.daemon["persisted"])

    tell(story)
