"""What each operation of the control socket answers and refuses (carp.daemon.operations)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.errors import DropReason
from carp.daemon.store import Settings
from carp.hostlinks import HostLink
from carp.rawsock import Packet
from fakecarpd import hello
from inprocess import Carpd, carpd, waiting
from pair import address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

OPS = (
    "apply",
    "demote",
    "drops",
    "handover",
    "hello",
    "maintenance",
    "metrics",
    "reload",
    "status",
    "undemote",
    "watch",
)


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Return what plays a scene with a carpd that has the vhost `web` from a file."""

    def run(scene: Callable[[Carpd], Awaitable[None]]) -> None:
        async def served() -> None:
            async with carpd(tmp_path, waiting()) as daemon:
                await scene(daemon)

        asyncio.run(served())

    return run


def test_an_unknown_operation_names_the_known(play: Any) -> None:
    """The refusal is a list of what there is."""

    async def scene(daemon: Carpd) -> None:
        assert f"op: 'reboot' is not one of {', '.join(OPS)}" == await daemon.refusal("reboot")

    play(scene)


def test_hello(play: Any) -> None:
    """Version, process, what the settings come from, and what is amiss: nothing."""

    async def scene(daemon: Carpd) -> None:
        about = await daemon.ask("hello")
        assert {*hello(), "v", "id", "ok"} == set(about)
        assert ("", 0, [], False) == tuple(
            about[key] for key in ("uid", "generation", "problems", "maintenance")
        )

    play(scene)


def test_status(play: Any) -> None:
    """Each vhost with its state and the reason for it; plain words and numbers."""

    async def scene(daemon: Carpd) -> None:
        (web,) = (await daemon.ask("status"))["vhosts"]
        assert ("web", "file", 1, "INIT") == tuple(web[key] for key in ("name", "source", "vhid", "state"))
        assert "nosuch0" in web["reason"]
        assert (None, [], []) == (web["master"], web["demotions"], web["health"])

    play(scene)


def test_drops_and_metrics(play: Any) -> None:
    """Both answer with nothing heard."""

    async def scene(daemon: Carpd) -> None:
        assert {"web": {}} == (await daemon.ask("drops"))["vhosts"]
        text = (await daemon.ask("metrics"))["text"]
        assert 'carp_vip_state{vip="web",vhid="1",interface=""} 0\n' in text
        assert "carp_state_persisted 1" in text

    play(scene)


@pytest.mark.parametrize("op", ["handover", "demote", "undemote"])
@pytest.mark.parametrize("name", ["nosuch", None, 7, ["web"], {}])
def test_a_name_that_is_none(play: Any, op: str, name: Any) -> None:
    """The refusal shows what was given and which names there are."""

    async def scene(daemon: Carpd) -> None:
        expected = f"name: {name!r} is no vhost here; there are web"
        assert expected == await daemon.refusal(op, name=name, reason="x", amount=1)

    play(scene)


def test_only_a_master_hands_over(play: Any) -> None:
    """Anything else is refused with the state."""

    async def scene(daemon: Carpd) -> None:
        expected = "name: 'web' is INIT here; only a master hands over"
        assert expected == await daemon.refusal("handover", name="web")

    play(scene)


def test_demotions_add_up_by_reason(play: Any) -> None:
    """The same reason again replaces its amount; undemote ends it, also where there was none."""

    async def scene(daemon: Carpd) -> None:
        async def demote(reason: str, amount: int) -> int:
            answer = await daemon.ask("demote", name="web", reason=reason, amount=amount)
            return int(answer["demotion"])

        assert [10, 30, 25, 254] == [
            await demote("a", 10), await demote("b", 20), await demote("a", 5), await demote("c", 254)
        ]  # fmt: skip
        (web,) = (await daemon.ask("status"))["vhosts"]
        assert [("a", 5), ("b", 20), ("c", 254)] == [(d["reason"], d["amount"]) for d in web["demotions"]]
        for reason, left in (("c", 25), ("b", 5), ("a", 0), ("nosuch", 0)):
            assert left == (await daemon.ask("undemote", name="web", reason=reason))["demotion"]

    play(scene)


@pytest.mark.parametrize("reason", ["", None, 7, "maintenance", "health:app"])
def test_reasons_that_are_not_free(play: Any, reason: Any) -> None:
    """Nobody can undo what carpd itself demotes for, or demote without a word."""

    async def scene(daemon: Carpd) -> None:
        for op in ("demote", "undemote"):
            assert (
                f"reason: {reason!r} is empty or reserved; give a word of your own"
                == await daemon.refusal(op, name="web", reason=reason, amount=1)
            )

    play(scene)


@pytest.mark.parametrize("amount", [None, -1, 255, 1.5, "7", True])
def test_amounts_out_of_range(play: Any, amount: Any) -> None:
    """0 to 254."""

    async def scene(daemon: Carpd) -> None:
        expected = f"amount: {amount!r} is not between 0 and 254"
        assert expected == await daemon.refusal("demote", name="web", reason="x", amount=amount)

    play(scene)


def test_maintenance(play: Any) -> None:
    """On demotes every vhost by 240, those that come later too; off ends it; anything else is refused."""

    async def scene(daemon: Carpd) -> None:
        assert "on: 'yes' is neither true nor false" == await daemon.refusal("maintenance", on="yes")
        assert {"maintenance": True, "persisted": True}.items() <= (
            await daemon.ask("maintenance", on=True)
        ).items()
        await daemon.apply(waiting("late", vhid=2, addresses=["10.1.1.8"]))
        vhosts = (await daemon.ask("status"))["vhosts"]
        assert {"web": 240, "late": 240} == {each["name"]: each["demotion"] for each in vhosts}
        await daemon.ask("maintenance", on=False)
        vhosts = (await daemon.ask("status"))["vhosts"]
        assert [0, 0] == [each["demotion"] for each in vhosts]

    play(scene)


def test_a_watcher_learns_of_a_removal_told_too_early(play: Any) -> None:
    """Told of the end while the vhost was still listed, it is told again when the vhost has gone."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(waiting("own", vhid=2, addresses=["10.1.1.8"]))
        await daemon.ask("watch")
        operations = daemon.service._operations
        settled = daemon.service._settled

        def early(name: str) -> None:
            operations._tell()
            settled(name)

        daemon.service._settled = early
        await daemon.apply(generation=2)
        gone: list[str] = []
        while not gone:
            gone = (await daemon.read()).get("gone", [])
        assert ["own"] == gone

    play(scene)


def test_watch(play: Any) -> None:
    """A snapshot first, then what is new, several changes in one message, also what is gone."""

    async def scene(daemon: Carpd) -> None:
        snapshot = await daemon.ask("watch")
        assert ("snapshot", 0) == (snapshot["event"], snapshot["watch"])
        assert ["web"] == [each["name"] for each in snapshot["vhosts"]]
        for name in ("web", "web", "nosuch"):
            daemon.service.noticed(name, stopped=False)
        news = await daemon.read()
        assert ("changes", ["web"], ["nosuch"]) == (
            news["event"], [each["name"] for each in news["vhosts"]], news["gone"]
        )  # fmt: skip

    play(scene)


def test_reload_without_a_file(tmp_path: Path) -> None:
    """A carpd without --config says so."""

    async def scene() -> None:
        async with carpd(tmp_path) as daemon:
            expected = "there is no file: carpd was started without --config"
            assert expected == await daemon.refusal("reload")

    asyncio.run(scene())


LINK = HostLink("eth9", b"\2\0\0\0\0\1", 1500, carrier=True, addresses=("10.1.1.1/24",))


def test_links_of_the_host(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in the status, in use or not; watchers are told all of them when one has changed."""

    async def scene(daemon: Carpd) -> None:
        links = daemon.service.engine.links
        monkeypatch.setattr(links, "shown", lambda: [LINK])
        shown = {"name": "eth9", "mac": "02:00:00:00:00:01", "mtu": 1500, "carrier": True}
        expected = [{**shown, "addresses": ["10.1.1.1/24"]}]
        assert expected == (await daemon.ask("status"))["links"]
        assert expected == (await daemon.ask("watch"))["links"]
        daemon.service.noticed("web", stopped=False)
        assert {"v", "event", "daemon", "vhosts", "gone"} == set(await daemon.read())
        links.on_change()
        news = await daemon.read()
        assert ([], [], [], expected) == tuple(news[k] for k in ("vhosts", "gone", "interfaces", "links"))

    play(scene)


def test_a_new_speaker_is_told(play: Any) -> None:
    """Once; that it speaks again is no news."""

    async def scene(daemon: Carpd) -> None:
        await daemon.ask("watch")
        packet = Packet(address("10.1.1.7"), 255, bytes(36))
        for vhid in (43, 43):
            daemon.service.dropped("eth0", vhid, packet, DropReason.VHID)
        assert "interfaces" in await daemon.read()
        daemon.service.dropped("eth0", 43, packet, DropReason.VHID)
        daemon.service.noticed("web", stopped=False)
        assert "interfaces" not in await daemon.read()

    play(scene)


@pytest.mark.parametrize("reason", ["\ud800", "two words", "a\nb", "-", "x" * 64, "x" * 1_000_000, "a=b"])
def test_reasons_that_are_no_words(play: Any, reason: str) -> None:
    """Metrics, logs and terminals show them, so they are like names; a refusal of a long one is short."""

    async def scene(daemon: Carpd) -> None:
        for op in ("demote", "undemote"):
            problem = await daemon.refusal(op, name="web", reason=reason, amount=1)
            assert problem.startswith(f"reason: {repr(reason)[:80]}")
            assert "is no word: 1 to 63 letters" in problem
            assert len(problem) < 200
        (web,) = (await daemon.ask("status"))["vhosts"]
        assert [] == web["demotions"]

    play(scene)


def test_reasons_have_a_number(play: Any) -> None:
    """16 at a time by hand, beside those of settings and maintenance; one that ends makes room."""

    async def scene(daemon: Carpd) -> None:
        own = waiting("own", vhid=2, addresses=["10.1.1.8"])
        await daemon.apply({**own, "demotions": [{"reason": "Cordoned", "amount": 5}]})
        await daemon.ask("maintenance", on=True)
        for n in range(16):
            assert (await daemon.ask("demote", name="own", reason=f"r{n}", amount=1))["ok"]
        problem = "reason: 'more' would be one more than the 16 at a time; undemote another"
        assert problem == await daemon.refusal("demote", name="own", reason="more", amount=1)
        assert (await daemon.ask("demote", name="own", reason="r3", amount=2))["ok"]
        assert (await daemon.ask("demote", name="own", reason="more", amount=0))["ok"]
        assert (await daemon.ask("undemote", name="own", reason="r3"))["ok"]
        assert (await daemon.ask("demote", name="own", reason="more", amount=1))["ok"]

    play(scene)


def test_reasons_of_the_settings(play: Any) -> None:
    """They are changed in the settings only; by hand they would be wrong until the next reload."""

    async def scene(daemon: Carpd) -> None:
        own = waiting("own", vhid=2, addresses=["10.1.1.8"])
        await daemon.apply({**own, "demotions": [{"reason": "Cordoned", "amount": 100}]})
        for op in ("demote", "undemote"):
            problem = "reason: 'Cordoned' stands in the settings of vhost 'own': change it there"
            assert problem == await daemon.refusal(op, name="own", reason="Cordoned", amount=1)
            assert (await daemon.ask(op, name="web", reason="Cordoned", amount=1))["ok"]
        _, own = (await daemon.ask("status"))["vhosts"]
        assert 100 == own["demotion"]

    play(scene)


def test_amounts_are_not_sent_back_whole(play: Any) -> None:
    """A refusal of a megabyte is short."""

    async def scene(daemon: Carpd) -> None:
        problem = await daemon.refusal("demote", name="web", reason="x", amount="7" * 1_000_000)
        assert f"amount: '{'7' * 79}… is not between 0 and 254" == problem

    play(scene)


def test_a_watcher_that_misses_too_much(play: Any) -> None:
    """Beyond a number of names it is told everything, once, instead of each; carpd does not grow."""

    async def scene(daemon: Carpd) -> None:
        await daemon.ask("watch")
        operations = daemon.service._operations
        (client,) = operations._news
        client.pause_writing()
        for n in range(5000):
            operations.noticed(f"gone-{n}")
        assert len(operations._news[client].names) <= 1024
        client.resume_writing()
        news = await daemon.read()
        assert ("snapshot", ["web"], []) == (
            news["event"], [each["name"] for each in news["vhosts"]], news["gone"]
        )  # fmt: skip
        assert {"daemon", "interfaces", "links"} <= set(news)
        operations.noticed("web")
        assert "changes" == (await daemon.read())["event"]

    play(scene)


def test_a_watcher_learns_what_is_on_disk(play: Any) -> None:
    """Settings that are stored are news, also where no vhost has changed."""

    async def scene(daemon: Carpd) -> None:
        await daemon.ask("watch")
        told = Settings((), "u", 7, "c")
        await daemon.service.take_settings([], told, restored=False, forget=False)
        news = await daemon.read()
        assert (7, True, []) == (news["daemon"]["generation"], news["daemon"]["persisted"], news["vhosts"])

    play(scene)
