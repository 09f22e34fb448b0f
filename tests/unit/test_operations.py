"""What each operation of the control socket answers and refuses (carp.daemon.operations)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.errors import DropReason
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
