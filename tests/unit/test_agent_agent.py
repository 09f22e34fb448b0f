"""The whole agent between a fake API server and a fake carpd."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.agent import agent as module
from carp_operator.agent.agent import Agent, Options
from fakeapi import Asked, FakeApi, Reply, listing, thing
from fakecarpd import FakeCarpd, answer, backup, vhost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SPEC = {"cluster": "c", "vhosts": [{"name": "web", "passwordRef": "web.1"}]}
NODE = thing("n1", 5, spec=SPEC)
NODE["metadata"] |= {"uid": "u", "generation": 7}
SECRET = thing("carp-keys", 5, data={"web.1": base64.b64encode(b"love").decode()})


def carpd(request: dict[str, Any]) -> Any:
    """Answer as a carpd that takes everything."""
    if request["op"] == "watch":
        return {"event": "snapshot", **answer(vhost(source="socket"))}
    if request["op"] == "apply":
        return {"outcomes": [], "kept": {}, "persisted": True, "problem": ""}
    return answer()["daemon"]


class World:
    """An API server that has these objects, and what was written to it."""

    def __init__(self, *nodes: dict[str, Any], secrets: tuple[dict[str, Any], ...] = (SECRET,)) -> None:
        self.lists = {"carpnodes": nodes, "secrets": secrets}
        self.written: list[dict[str, Any]] = []
        self.answering = threading.Event()
        """Writes are answered while it is set."""
        self.answering.set()

    def node(self, version: int, status: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the CarpNode, by default with what the server made of the newest status."""
        kept = {key: value for key, value in self.written[-1].items() if key != "carpdVersion"}
        meta = NODE["metadata"] | {"resourceVersion": str(version)}
        return {**NODE, "metadata": meta, "status": kept if status is None else status}

    def answer(self, asked: Asked) -> Reply:
        """Answer one request."""
        if asked.method == "PATCH":
            assert "/apis/carp.vip/v1alpha1/carpnodes/n1/status" == asked.path
            self.written.append(asked.body["status"])
            found = self.node(10 * len(self.written))
            self.answering.wait(5)
            return Reply(body=found)
        if "watch" in asked.query:
            return Reply(chunks=[], hang=True)
        return Reply(body=listing(5, *self.lists[asked.path.rpartition("/")[2]]))


def tell(path: Path, world: World, story: Callable[[Agent, FakeCarpd], Awaitable[None]]) -> FakeApi:
    """Run a story beside an agent that is told to stop at its end."""

    async def run() -> None:
        agent = Agent(Options("n1", "ns", str(path), stay=0.1), api.client(), api.client())
        task = asyncio.ensure_future(agent.run())
        async with asyncio.timeout(10):
            await story(agent, fake)
            agent.stop()
            await task

    with FakeApi(world.answer) as api, FakeCarpd(path, carpd) as fake:
        asyncio.run(run())
    return api


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    while not condition():  # noqa: ASYNC110 (what is waited for sets no event)
        await asyncio.sleep(0.005)


def test_whole_way(tmp_path: Path) -> None:
    """The spec goes to carpd with its password, the outcome into the status; each watch is of one object."""
    world = World(NODE)

    async def story(_agent: Agent, fake: FakeCarpd) -> None:
        await until(lambda: world.written)
        (applied,) = [request for request in fake.requests if request["op"] == "apply"]
        assert ("u", 7, "c", [{"name": "web", "password": "love"}]) == tuple(
            applied[key] for key in ("uid", "generation", "cluster", "vhosts")
        )

    api = tell(tmp_path / "s", world, story)
    (status,) = world.written
    assert ("u", 7, 1) == tuple(status[key] for key in ("observedUID", "observedGeneration", "masters"))
    assert {"True"} == {condition["status"] for condition in status["conditions"]}
    selectors = {(each.path, each.query["fieldSelector"]) for each in api.asked if each.method == "GET"}
    assert {
        ("/apis/carp.vip/v1alpha1/carpnodes", "metadata.name=n1"),
        ("/api/v1/namespaces/ns/secrets", "metadata.name=carp-keys"),
    } == selectors


@pytest.mark.parametrize("world", [World(), World(thing("n2", 1)), World(NODE, secrets=())])
def test_nothing_certain(tmp_path: Path, world: World) -> None:
    """Without the object, or the Secret that it needs, carpd is told nothing."""

    async def story(agent: Agent, fake: FakeCarpd) -> None:
        settling, said = agent._settling, agent._troubles._now
        await until(lambda: agent._view.connected and settling._looked)
        await until(lambda: settling.node or "CarpNode n1" in said)
        await asyncio.sleep(0.05)
        assert {"watch"} == {request["op"] for request in fake.requests}

    tell(tmp_path / "s", world, story)


def test_carpd_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That carpd is away is written only after some time, and as the only thing that has changed."""
    monkeypatch.setattr(module, "GRACE", 0.3)
    stored = {"observedUID": "u", "observedGeneration": 6, "vhosts": [{"name": "web", "state": "MASTER"}]}
    world = World({**NODE, "status": stored})

    async def run() -> None:
        with FakeApi(world.answer) as api:
            agent = Agent(Options("n1", "ns", str(tmp_path / "none")), api.client(), api.client())
            task = asyncio.ensure_future(agent.run())
            began = asyncio.get_running_loop().time()
            async with asyncio.timeout(10):
                await until(lambda: world.written)
                assert asyncio.get_running_loop().time() - began >= 0.3
                agent.stop()
                await task

    asyncio.run(run())
    (status,) = world.written
    (web,) = status["vhosts"]
    assert ("u", 6, "MASTER") == (status["observedUID"], status["observedGeneration"], web["state"])
    assert "does carpd run?" in web["problem"]
    assert {"CarpdUnreachable"} == {condition["reason"] for condition in status["conditions"]}


def test_a_disk_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That carpd does not answer to a new spec is written after a moment, and hides nothing that it tells."""
    monkeypatch.setattr(module, "GRACE", 0.3)
    monkeypatch.setattr("carp_operator.agent.writing.PERIOD", 0.01)
    world = World(NODE)
    newer = {**NODE, "metadata": NODE["metadata"] | {"generation": 8, "resourceVersion": "6"}}

    async def story(agent: Agent, fake: FakeCarpd) -> None:
        await until(lambda: world.written)
        fake.handler = lambda request: b"" if request["op"] == "apply" else carpd(request)
        agent._node_read(newer, False)
        agent._told({"event": "changes", "vhosts": [backup(source="socket")], "gone": []})
        await until(lambda: len(world.written) == 2)

    tell(tmp_path / "s", world, story)
    before, after = ((s["vhosts"][0]["state"], s["observedGeneration"]) for s in world.written)
    assert (("MASTER", 7), ("BACKUP", 7)) == (before, after)
    assert ["Applied", "Pending"] == [
        next(c["reason"] for c in status["conditions"] if c["type"] == "InSync") for status in world.written
    ]


def test_chatter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign speakers that come and go are written now and then only, and then the newest."""
    monkeypatch.setattr(module, "CHATTER", 0.5)
    monkeypatch.setattr("carp_operator.agent.writing.PERIOD", 0.01)
    world = World(NODE)

    async def story(agent: Agent, _fake: FakeCarpd) -> None:
        await until(lambda: world.written)
        for number in range(1, 20):
            speaker = {"protocol": "vrrp", "id": number, "source": "10.1.1.9", "mac": None}
            heard = [{"interface": "eth0", "foreign": [speaker]}]
            agent._told({"event": "changes", "vhosts": [], "gone": [], "interfaces": heard})
            await asyncio.sleep(0.01)
        await until(lambda: len(world.written) == 2)

    tell(tmp_path / "s", world, story)
    assert [[], [19]] == [[each["id"] for each in status["foreign"]] for status in world.written]


@pytest.mark.parametrize(
    ("version", "status", "writes"),
    [
        (11, {}, 2),  # somebody has emptied it
        (11, {"masters": 5, "vhosts": [{"name": "web", "state": "BACKUP"}]}, 2),
        (11, None, 1),  # the controller has written the spec
        (10, None, 1),  # our own write, from a server that does not know all fields
        (9, {}, 1),  # a late event
    ],
)
def test_status_of_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int, status: dict[str, Any] | None, writes: int
) -> None:
    """A status that somebody else has written is put right; our own, as the server keeps it, is no reason."""
    monkeypatch.setattr("carp_operator.agent.writing.PERIOD", 0.01)
    world = World(NODE)

    async def story(agent: Agent, _fake: FakeCarpd) -> None:
        await until(lambda: world.written and not agent._sending)
        agent._node_read(world.node(version, status), False)
        await until(lambda: len(world.written) == writes)
        await asyncio.sleep(0.05)

    tell(tmp_path / "s", world, story)
    assert writes == len(world.written)
    assert 1 == world.written[-1]["masters"]


def test_status_of_somebody_else_during_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written after our write counts, also where its event comes before our answer."""
    monkeypatch.setattr("carp_operator.agent.writing.PERIOD", 0.01)
    world = World(NODE)
    world.answering.clear()

    async def story(agent: Agent, _fake: FakeCarpd) -> None:
        await until(lambda: world.written)
        agent._node_read(world.node(10), False)
        agent._node_read(world.node(11, {}), False)
        await asyncio.sleep(0.05)
        assert 1 == len(world.written)
        world.answering.set()
        await until(lambda: len(world.written) == 2)
        await asyncio.sleep(0.05)

    tell(tmp_path / "s", world, story)
    assert 2 == len(world.written)
