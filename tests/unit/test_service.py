"""The daemon's settings: what it takes, keeps, stores and refuses (carp.daemon.service)."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carp.changes import Changes
from carp.core.errors import ConfigErrors
from carp.core.schema import parse_vhost
from carp.daemon import store
from carp.daemon.configfile import load
from carp.daemon.service import DaemonOptions, Service
from carp.daemon.store import Settings, Store
from carp.state import BusyError, Memory
from inprocess import Carpd, carpd, configure, waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OWN = waiting("own", vhid=2, addresses=["10.1.1.8"])


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., None]:
    """Return what plays a scene with a carpd that has these vhosts from a file."""

    def run(scene: Callable[[Carpd], Awaitable[None]], *vhosts: dict[str, Any], **options: Any) -> None:
        async def served() -> None:
            async with carpd(tmp_path, *vhosts, **options) as daemon:
                await scene(daemon)

        asyncio.run(served())

    return run


def _stored(daemon: Carpd) -> dict[str, Any]:
    outer = json.loads((daemon.folder / "_settings.json").read_text())
    payload: dict[str, Any] = json.loads(outer["payload"])
    return payload


async def _names(daemon: Carpd) -> list[str]:
    return sorted(each["name"] for each in (await daemon.ask("status"))["vhosts"])


def test_settings_are_stored_as_given(play: Any) -> None:
    """What is confirmed stands on disk, with its object, generation and cluster."""

    async def scene(daemon: Carpd) -> None:
        answer = await daemon.apply(OWN, generation=3)
        assert (3, True, []) == (answer["generation"], answer["persisted"], answer["errors"])
        expected = {"vhosts": [OWN], "uid": "u", "generation": 3, "cluster": "c", "maintenance": False}
        assert expected == _stored(daemon)
        about = await daemon.ask("hello")
        assert ("u", 3, "c") == (about["uid"], about["generation"], about["cluster"])

    play(scene)


def test_the_next_run_has_them_and_maintenance(play: Any) -> None:
    """Both survive; the file's vhosts are there beside them."""

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=3)
        await daemon.ask("maintenance", on=True)

    async def after(daemon: Carpd) -> None:
        assert ["own", "web"] == await _names(daemon)
        about = await daemon.ask("hello")
        assert (3, True) == (about["generation"], about["maintenance"])
        assert [240, 240] == [each["demotion"] for each in (await daemon.ask("status"))["vhosts"]]

    play(before, waiting())
    play(after, waiting())


def test_the_same_again(play: Any) -> None:
    """Changes nothing, and the file is not written again."""

    async def scene(daemon: Carpd) -> None:
        assert {"own": "added"} == await daemon.results(OWN)
        before = (daemon.folder / "_settings.json").stat().st_ino
        assert {"own": "unchanged"} == await daemon.results(OWN)
        assert before == (daemon.folder / "_settings.json").stat().st_ino
        assert {"own": "changed"} == await daemon.results({**OWN, "advskew": 7})
        assert before != (daemon.folder / "_settings.json").stat().st_ino

    play(scene)


def test_a_broken_vhost_stays_as_it_was(play: Any) -> None:
    """The others are taken, its old settings stay in force and on disk, and the error has its path."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        new = waiting("new", vhid=3, addresses=["10.1.1.7"])
        answer = await daemon.apply({**OWN, "advskew": 300}, new, generation=2)
        assert ["vhosts[0].advskew: 300 is not between 0 and 254"] == answer["errors"]
        assert ["new", "own"] == await _names(daemon)
        assert [new, OWN] == _stored(daemon)["vhosts"]

    play(scene)


@pytest.mark.parametrize(
    "item", [None, 7, "web", [], {}, {"name": []}, {"name": {}}, {"name": None}, {"name": 7}]
)
def test_an_item_that_is_no_vhost(play: Any, item: Any) -> None:
    """It is an error with its path; the vhost beside it is taken and stored."""

    async def scene(daemon: Carpd) -> None:
        answer = await daemon.apply(item, OWN)
        assert answer["ok"], answer
        assert answer["errors"]
        assert all(error.startswith("vhosts[0]") for error in answer["errors"])
        assert [OWN] == _stored(daemon)["vhosts"]

    play(scene)


@pytest.mark.parametrize(
    "fields", [{"name": "twin", "addresses": ["10.1.1.7"]}, {"name": "twin", "vhid": 3}, {"vhid": 4}],
    ids=["vhid", "address", "name"],
)  # fmt: skip
def test_two_of_one_set_that_exclude_each_other(play: Any, fields: dict[str, Any]) -> None:
    """The second is an error, as in a file, every time; the first is taken and stays undisturbed."""

    async def scene(daemon: Carpd) -> None:
        for generation, expected in ((1, "added"), (2, "unchanged")):
            answer = await daemon.apply(OWN, OWN | fields, generation=generation)
            assert "is already used by vhost own" in " ".join(answer["errors"])
            assert [("own", expected)] == [(each["name"], each["result"]) for each in answer["outcomes"]]
            assert [OWN] == _stored(daemon)["vhosts"]

    play(scene)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"vhosts": None}, "vhosts: a list is required"),
        ({"vhosts": {}}, "vhosts: a list is required"),
        ({"uid": 7}, "uid, generation and cluster"),
        ({"generation": "7"}, "uid, generation and cluster"),
        ({"cluster": None}, "uid, generation and cluster"),
    ],
)
def test_what_is_no_set(play: Any, fields: dict[str, Any], problem: str) -> None:
    """It is refused and nothing is stored."""

    async def scene(daemon: Carpd) -> None:
        given = {"uid": "u", "generation": 1, "cluster": "c", "vhosts": [OWN]} | fields
        assert (await daemon.refusal("apply", **given)).startswith(problem)
        assert [] == await _names(daemon)
        assert not (daemon.folder / "_settings.json").exists()

    play(scene)


def test_generations(play: Any) -> None:
    """Older ones of the same object are refused; another object's count anew."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=5)
        given = {"uid": "u", "cluster": "c", "vhosts": []}
        expected = "generation: 4 is older than 5 of the same object"
        assert expected == await daemon.refusal("apply", generation=4, **given)
        assert ["own"] == await _names(daemon)
        assert 1 == (await daemon.apply(OWN, generation=1, uid="u-2"))["generation"]

    play(scene)


def test_a_full_disk(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are in force, not confirmed, said in every way; with space again they are stored."""

    async def scene(daemon: Carpd) -> None:
        (daemon.folder / "_settings.new").mkdir()
        answer = await daemon.apply(OWN)
        assert (None, False) == (answer["generation"], answer["persisted"])
        assert "_settings.json: Is a directory" in answer["problem"]
        assert ["own"] == await _names(daemon)
        assert "_settings.json: Is a directory" in (await daemon.ask("hello"))["problems"][0]
        assert "carp_state_persisted 0" in (await daemon.ask("metrics"))["text"]
        (daemon.folder / "_settings.new").rmdir()
        answer = await daemon.apply(OWN)
        assert (1, True, "") == (answer["generation"], answer["persisted"], answer["problem"])
        assert [] == (await daemon.ask("hello"))["problems"]

    play(scene)


def test_a_bad_file_changes_nothing(play: Any, tmp_path: Path) -> None:
    """The refusal and the status say what is wrong; the next good one is taken."""

    async def scene(daemon: Carpd) -> None:
        configure(tmp_path, [waiting(vhid=300)])
        assert "300 is not between 1 and 255" in await daemon.refusal("reload")
        assert "300 is not between" in (await daemon.ask("hello"))["problems"][0]
        assert 1 == (await daemon.ask("status"))["vhosts"][0]["vhid"]
        configure(tmp_path, [waiting(advskew=9)])
        assert (await daemon.ask("reload"))["ok"]
        assert 9 == (await daemon.ask("status"))["vhosts"][0]["advskew"]
        assert [] == (await daemon.ask("hello"))["problems"]

    play(scene, waiting())


def test_the_sources_exclude_each_other(play: Any) -> None:
    """The socket cannot take, change or remove what the file has; the file's stay where the socket's go."""

    async def scene(daemon: Carpd) -> None:
        stolen = waiting(advskew=9)
        assert {"web": "name: 'web' belongs to the file"} == await daemon.results(stolen)
        assert {} == await daemon.results(generation=2)
        assert ["web"] == await _names(daemon)
        assert 0 == (await daemon.ask("status"))["vhosts"][0]["advskew"]

    play(scene, waiting())


def test_a_second_carpd_is_refused(play: Any, tmp_path: Path) -> None:
    """The same state folder: an error that names it, before anything is touched."""

    async def scene(daemon: Carpd) -> None:
        with pytest.raises(BusyError, match=str(daemon.folder)):
            Service(DaemonOptions("", str(daemon.folder), str(tmp_path / "other")), [])
        assert (await daemon.ask("hello"))["ok"]

    play(scene)


def test_no_socket_and_no_metrics_are_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What others look in through is missing: carpd says so and goes on."""

    async def scene() -> None:
        service = Service(
            DaemonOptions("", str(tmp_path / "a"), "/dev/null/s", metrics="unix:/dev/null/m"), []
        )
        running = asyncio.create_task(service.main())
        async with asyncio.timeout(10):
            while "no metrics" not in caplog.text:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        service.stop("the test ends")
        assert 0 == await running

    asyncio.run(scene())
    assert "no control socket at /dev/null/s: " in caplog.text


def test_demotions_of_the_settings(play: Any) -> None:
    """They hold for as long as they stand in the settings, and leave those that an operator set alone."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply({**OWN, "demotions": [{"reason": "Cordoned", "amount": 100}]}, generation=1)
        await daemon.ask("demote", name="own", reason="mine", amount=7)
        (shown,) = (await daemon.ask("status"))["vhosts"]
        expected = [{"reason": "Cordoned", "amount": 100}, {"reason": "mine", "amount": 7}]
        assert expected == shown["demotions"]
        await daemon.apply(OWN, generation=2)
        (shown,) = (await daemon.ask("status"))["vhosts"]
        assert [{"reason": "mine", "amount": 7}] == shown["demotions"]

    play(scene)


def test_an_older_generation_of_a_restored_store(play: Any) -> None:
    """Is refused, unless the client vouches that the cluster's store went back."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=12)
        older = {"vhosts": [OWN], "uid": "u", "generation": 9, "cluster": "c"}
        assert "older than 12" in await daemon.refusal("apply", **older)
        assert 9 == (await daemon.ask("apply", **older, restored=True))["generation"]

    play(scene)


def test_the_answer_names_what_was_confirmed(play: Any) -> None:
    """Object, generation and cluster; and by name what could not be taken, and why."""

    async def scene(daemon: Carpd) -> None:
        answer = await daemon.apply(OWN, waiting("new", vhid=300), waiting(), 7, generation=4)
        assert ("u", 4, "c") == tuple(answer[key] for key in ("uid", "generation", "cluster"))
        kept = {"new": "vhid: 300 is not between 1 and 255", "web": "name: 'web' belongs to the file"}
        assert kept == answer["kept"]

    play(scene, waiting())


def test_a_vhost_without_its_interface_is_taken_and_says_so(play: Any) -> None:
    """It waits; the status has the error."""

    async def scene(daemon: Carpd) -> None:
        answer = await daemon.apply(OWN)
        assert ([], {}) == (answer["errors"], answer["kept"])
        (own,) = (await daemon.ask("status"))["vhosts"]
        assert ("INIT", "interface nosuch0 does not exist") == (own["state"], own["error"])

    play(scene)


def test_a_vhost_that_another_process_runs(play: Any, tmp_path: Path) -> None:
    """It is refused, over the socket and from the file, and stands under problems; the others are taken.

    When the other process is gone, the same settings are taken.
    """

    async def scene(daemon: Carpd) -> None:
        held = Memory(str(daemon.folder), parse_vhost(OWN))
        try:
            answer = await daemon.apply(OWN, waiting("new", vhid=3, addresses=["10.1.1.7"]))
            assert {"own": "refused", "new": "added"} == {
                each["name"]: each["result"] for each in answer["outcomes"]
            }
            assert "another process runs this vhost" in answer["kept"]["own"]
            assert ["new", "web"] == await _names(daemon)
            await daemon.apply(generation=2)
            configure(tmp_path, [waiting(), OWN])
            assert (await daemon.ask("reload"))["ok"]
            assert ["web"] == await _names(daemon)
            assert "another process runs this vhost" in (await daemon.ask("hello"))["problems"][0]
        finally:
            held.close()
        assert (await daemon.ask("reload"))["ok"]
        assert ["own", "web"] == await _names(daemon)
        assert [] == (await daemon.ask("hello"))["problems"]

    play(scene, waiting())


def test_another_clusters_settings_keep_nothing(play: Any) -> None:
    """Also not of a vhost whose new settings are wrong, though its interface is gone."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        await daemon.apply({**OWN, "advskew": 300}, cluster="d")
        assert [] == await _names(daemon)
        assert [] == _stored(daemon)["vhosts"]

    play(scene)


def test_only_what_proves_a_lease_is_written_at_a_change(play: Any) -> None:
    """A busy disk must not hold up an election for another advskew."""

    async def scene(daemon: Carpd) -> None:
        async def written() -> tuple[int, int]:
            await asyncio.to_thread(daemon.service.engine.scribe.flush)
            found = (daemon.folder / "own.json").stat()
            return found.st_ino, found.st_mtime_ns

        await daemon.apply(OWN)
        await daemon.apply({**OWN, "password": "war"}, generation=2)
        before = await written()
        await daemon.apply({**OWN, "password": "war", "advskew": 7}, generation=3)
        assert before == await written()
        await daemon.apply({**OWN, "password": "peace", "advskew": 7}, generation=4)
        assert before != await written()

    play(scene)


def test_forgetting(play: Any) -> None:
    """With an empty set, everything of the socket's is deleted; the file's vhost and its memory stay."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=3)
        await daemon.ask("maintenance", on=True)
        answer = await daemon.apply(generation=4, forget=True)
        assert (4, True, "") == (answer["generation"], answer["persisted"], answer["problem"])
        assert ["web"] == await _names(daemon)
        assert [] == [p.name for p in daemon.folder.iterdir() if p.stem in ("settings", "own")]
        about = await daemon.ask("hello")
        assert (4, False) == (about["generation"], about["maintenance"])
        again = await daemon.apply(generation=4, forget=True)
        assert (4, True) == (again["generation"], again["persisted"])

    play(scene, waiting())


def test_forgetting_and_keeping_at_once(play: Any) -> None:
    """Is a mistake, and nothing is deleted."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=3)
        wrong = {"uid": "u", "cluster": "c", "generation": 4, "vhosts": [OWN], "forget": True}
        assert "forget: goes with an empty list of vhosts" == await daemon.refusal("apply", **wrong)
        assert 3 == _stored(daemon)["generation"]

    play(scene)


def test_forgetting_waits_for_the_handover(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While something is being handed over nothing is confirmed, and the next try may be."""

    async def scene(daemon: Carpd) -> None:
        async def never(_patience: float) -> bool:
            return False

        await daemon.apply(OWN, generation=3)
        with monkeypatch.context() as patch:
            patch.setattr(Changes, "quiet", lambda _, patience: never(patience))
            answer = await daemon.apply(generation=4, forget=True)
        assert (None, False) == (answer["generation"], answer["persisted"])
        assert "still being handed over" in answer["problem"]
        assert 3 == _stored(daemon)["generation"]
        answer = await daemon.apply(generation=4, forget=True)
        assert (4, True) == (answer["generation"], answer["persisted"])

    play(scene)


def _withdraw(daemon: Carpd, name: str) -> None:
    slot = daemon.service.engine.slots[name]
    daemon.service.engine.withdraw(slot, "all health checks fail")


def test_a_withdrawn_vhost_is_removed(play: Any) -> None:
    """It has stopped before and goes all the same; so everything can be forgotten, at once."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=3)
        _withdraw(daemon, "own")
        answer = await daemon.apply(generation=4, forget=True)
        assert (4, True, "") == (answer["generation"], answer["persisted"], answer["problem"])
        assert ["web"] == await _names(daemon)
        _withdraw(daemon, "web")
        configure(daemon.folder.parent, [waiting("other", vhid=9)])
        assert (await daemon.ask("reload"))["ok"]
        assert ["other"] == await _names(daemon)

    play(scene, waiting())


def test_a_withdrawn_vhost_gets_another_vhid(play: Any) -> None:
    """The old one has stopped before, and the new one begins all the same."""

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        _withdraw(daemon, "own")
        assert {"own": "replaced"} == await daemon.results({**OWN, "vhid": 9}, generation=2)
        _, own = (await daemon.ask("status"))["vhosts"]
        assert (9, "interface nosuch0 does not exist") == (own["vhid"], own["reason"])

    play(scene, waiting())


def test_more_vhosts_than_a_node_can_hold(play: Any) -> None:
    """They are refused before any is looked at, with the limit: over the socket, from the file, at start."""
    many = [waiting(f"v{n}", vhid=n % 255 + 1, interface=f"e{n}", addresses=[f"10.2.{n // 250}.{n % 250}"])
            for n in range(511)]  # fmt: skip
    limit = "are more than 510 of one source"

    async def scene(daemon: Carpd) -> None:
        given = {"uid": "u", "generation": 1, "cluster": "c"}
        assert f"vhosts: 511 {limit}" == await daemon.refusal("apply", vhosts=[7] * 511, **given)
        path = configure(daemon.folder.parent, many)
        said = f"{path}: vhosts (line 1): 511 {limit}"
        assert said == await daemon.refusal("reload")
        assert ([said], ["web"]) == ((await daemon.ask("hello"))["problems"], await _names(daemon))
        with pytest.raises(ConfigErrors, match=limit):
            load(path)

    play(scene, waiting())


async def _longest_step(work: Awaitable[Any]) -> float:
    """Return the longest processor time in s that others on the loop wait for beside some work."""
    task, longest, before = asyncio.ensure_future(work), 0.0, time.thread_time()
    while not task.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


def test_mistakes_by_the_thousand(play: Any) -> None:
    """The election goes on beside them; the answer stays short and says how many are left out."""
    wrong = [{**waiting(f"v{n}"), **{f"unknown{i}": 1 for i in range(20)}} for n in range(510)]

    async def scene(daemon: Carpd) -> None:
        told = Settings((), "u", 1, "c")
        assert 0.05 > await _longest_step(
            daemon.service.take_settings(wrong, told, restored=False, forget=False)
        )
        answer = await daemon.apply(*wrong)
        assert (510, "vhosts: and 7651 more") == (len(answer["errors"]), answer["errors"][-1])
        assert "vhosts[0]: and 5 more" == answer["errors"][15]
        assert 510 == len(answer["kept"])
        kept = (
            "unknown0: is not a known field; unknown1: is not a known field; unknown2: is not a known field"
        )
        assert f"{kept}; and 17 more" == answer["kept"]["v509"]

    play(scene)


@pytest.mark.parametrize(
    "fields",
    [
        {f"unknown{n}": 1 for n in range(20_000)},
        {"addresses": ["x"] * 20_000},
        {"accept": [[[[0] * 300] * 300] * 3]},
        {"x" * 100_000: 1},
        {"password": "x" * 100_000},
    ],
    ids=["fields", "list", "nested", "key", "text"],
)
def test_a_vhost_that_is_no_vhost(play: Any, fields: dict[str, Any]) -> None:
    """What is larger than any vhost can be is not read at all; the vhost beside it is taken."""

    async def scene(daemon: Carpd) -> None:
        told = Settings((), "u", 1, "c")
        items = [OWN, waiting() | fields]
        assert 0.05 > await _longest_step(
            daemon.service.take_settings(items, told, restored=False, forget=False)
        )
        answer = await daemon.apply(*items)
        assert ["vhosts[1]: has more than 1000 values, or very long ones"] == answer["errors"]
        assert ["own"] == await _names(daemon)

    play(scene)


def test_mistakes_that_cannot_be_shown(play: Any) -> None:
    """What no terminal can print is written out, and what is long is cut."""

    async def scene(daemon: Carpd) -> None:
        answer = await daemon.apply({**OWN, "\ud800": 1}, {**OWN, "y" * 1000: 1})
        assert "vhosts[0].\\ud800: is not a known field" == answer["errors"][0]
        assert "vhosts[1]." + "y" * 290 + "…" == answer["errors"][1]

    play(scene)


def test_what_is_refused_goes_on_after_a_crash(play: Any) -> None:
    """The settings in force are what is stored; the refused ones are, once they are taken."""
    moved = {**OWN, "vhid": 1}

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        answer = await daemon.apply(moved, generation=2)
        assert {"own": "vhid: 1 on nosuch0 belongs to vhost 'web'"} == answer["kept"]
        assert (2, [OWN]) == (answer["generation"], _stored(daemon)["vhosts"])

    async def after(daemon: Carpd) -> None:
        assert {"own": 2, "web": 1} == await _vhids(daemon)
        await daemon.apply(moved, generation=3)
        configure(daemon.folder.parent, [waiting("other", vhid=9, addresses=["10.1.1.7"])])
        await daemon.ask("reload")
        await _until(lambda: [moved] == _stored(daemon)["vhosts"])
        assert {"own": 1, "other": 9} == await _vhids(daemon)
        assert [] == (await daemon.ask("hello"))["problems"]

    play(before, waiting())
    play(after, waiting())


async def _vhids(daemon: Carpd) -> dict[str, int]:
    return {each["name"]: each["vhid"] for each in (await daemon.ask("status"))["vhosts"]}


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_what_was_refused_is_taken_when_its_rival_goes(play: Any) -> None:
    """Without being asked for again, from either source, and it stands under problems until then."""

    async def scene(daemon: Carpd) -> None:
        mine = {**OWN, "vhid": 1}
        await daemon.apply(mine)
        problem = "own: vhid: 1 on nosuch0 belongs to vhost 'web'"
        assert [problem] == (await daemon.ask("hello"))["problems"]
        assert ["own"] == _stored(daemon)["refused"]
        configure(daemon.folder.parent, [waiting("other", vhid=9, addresses=["10.1.1.7"])])
        await daemon.ask("reload")
        await _until(lambda: "own" in daemon.service.engine.slots)
        await _until(lambda: "refused" not in _stored(daemon))
        assert [] == (await daemon.ask("hello"))["problems"]
        other = waiting("other", vhid=9, addresses=["10.1.1.7"])
        configure(daemon.folder.parent, [other, waiting("own", vhid=7, addresses=["10.1.1.6"])])
        await daemon.ask("reload")
        assert ["own: name: 'own' belongs to the socket"] == (await daemon.ask("hello"))["problems"]
        await daemon.apply(generation=2)
        await _until(lambda: "own" in daemon.service.engine.slots)
        _, own = (await daemon.ask("status"))["vhosts"]
        assert ("file", 7) == (own["source"], own["vhid"])

    play(scene, waiting())


def test_what_is_kept_excludes_others_of_its_set(play: Any) -> None:
    """A vhost whose new settings are wrong keeps its vhid and addresses from those beside it."""
    twin = waiting("twin", vhid=2, addresses=["10.1.1.7"])

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        answer = await daemon.apply(twin, {**OWN, "advskew": 300}, generation=2)
        problem = "vhid: 2 is already used by vhost own"
        assert problem == answer["kept"]["twin"]
        assert (["own"], [OWN]) == (await _names(daemon), _stored(daemon)["vhosts"])

    play(scene)


def test_what_is_kept_can_keep_another(play: Any) -> None:
    """One that cannot have its new vhid keeps its old one, which then nobody else gets."""
    a, b, c = (waiting(n, vhid=v, addresses=[f"10.1.1.{v}"]) for n, v in (("a", 1), ("b", 2), ("c", 3)))

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(a, b, c)
        shifted = {**c, "vhid": 2}, {**b, "vhid": 1}, {**a, "advskew": 300}
        answer = await daemon.apply(*shifted, generation=2)
        assert {"a", "b", "c"} == set(answer["kept"])
        assert [c, b, a] == sorted(_stored(daemon)["vhosts"], key=lambda item: str(item["name"]))[::-1]
        assert {"a": 1, "b": 2, "c": 3} == await _vhids(daemon)

    play(scene)


def test_a_restart_changes_no_owner(play: Any) -> None:
    """What the file came to claim meanwhile, the socket keeps; what the socket did not get, the file does."""
    other = waiting("other", vhid=9, addresses=["10.1.1.7"])
    claim = waiting("claim", vhid=9, addresses=["10.1.1.6"])

    async def before(daemon: Carpd) -> None:
        assert {"own": "added", "claim": "vhid: 9 on nosuch0 belongs to vhost 'other'"} == (
            await daemon.results(OWN, claim)
        )

    async def after(daemon: Carpd) -> None:
        vhosts = (await daemon.ask("status"))["vhosts"]
        assert {"own": "socket", "other": "file"} == {each["name"]: each["source"] for each in vhosts}
        assert {
            "own: name: 'own' belongs to the socket",
            "claim: vhid: 9 on nosuch0 belongs to vhost 'other'",
        } == (set((await daemon.ask("hello"))["problems"]))

    play(before, other)
    play(after, other, OWN)


def test_a_slow_disk(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has written nothing is said to be stored; that it takes long is a problem to show."""
    monkeypatch.setattr(store, "SLOW", 0.01)
    save, go = Store.save, threading.Event()

    def slowly(disk: Store, settings: Settings) -> bool:
        return go.wait(10) and save(disk, settings)

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        monkeypatch.setattr(Store, "save", slowly)
        applying = asyncio.ensure_future(daemon.apply(OWN, generation=2))
        about = daemon.service.about
        await _until(lambda: about()["generation"] == 2)
        assert about()["persisted"] is False
        await _until(lambda: bool(about()["problems"]))
        (problem,) = about()["problems"]
        assert problem.startswith("settings: being written since 20")
        assert "carp_state_persisted 0" in "".join(daemon.service.metrics_text())
        go.set()
        assert (2, True) == ((answer := await applying)["generation"], answer["persisted"])
        assert (True, []) == (about()["persisted"], about()["problems"])

    play(scene)


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how the disk refuses the next readings of the settings: error numbers."""
    real, left = Path.read_bytes, list[int]()

    def read_bytes(path: Path) -> bytes:
        if path.name == store.FILE and left:
            number = left.pop()
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return left


@pytest.mark.parametrize("order", ["maintenance", "apply"])
def test_settings_that_the_disk_refused_once(play: Any, refusals: list[int], order: str) -> None:
    """Before anything is written over them they are tried again: they are in force, and stay stored."""

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=5)
        await daemon.ask("maintenance", on=order == "apply")
        refusals.append(errno.EIO)

    async def after(daemon: Carpd) -> None:
        assert ["web"] == await _names(daemon)
        assert "_settings.json: Input/output error" in (await daemon.ask("hello"))["problems"][0]
        if order == "maintenance":
            await daemon.ask("maintenance", on=True)
        else:
            older = await daemon.refusal("apply", uid="u", cluster="c", generation=4, vhosts=[])
            assert "older than 5" in older
            await daemon.apply({**OWN, "advskew": 300}, generation=6)
        about = await daemon.ask("hello")
        assert (True, True, []) == (about["maintenance"], about["persisted"], about["problems"])
        assert ["own", "web"] == await _names(daemon)
        assert ([OWN], True) == (_stored(daemon)["vhosts"], _stored(daemon)["maintenance"])
        assert [240, 240] == [each["demotion"] for each in (await daemon.ask("status"))["vhosts"]]
        assert not (daemon.folder / "_settings.bad").exists()

    play(before, waiting())
    play(after, waiting())


def test_settings_that_nobody_asks_for(
    play: Any, refusals: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a reboot with nobody to talk to, what the disk refused at first is read by itself."""
    monkeypatch.setattr("carp.daemon.service.RETRY_AFTER", 0.05)
    failed: list[int] = []

    async def fail() -> bool:
        failed.append(1)
        raise RuntimeError("can't start new thread")

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=5)
        refusals.extend([errno.EIO, errno.EIO, errno.EIO])

    async def after(daemon: Carpd) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(daemon.service._keeper, "recall", fail)
            await _until(lambda: failed)
        await _until(lambda: len(daemon.service.engine.slots) == 2)
        assert ["own", "web"] == await _names(daemon)
        assert [] == (await daemon.ask("hello"))["problems"]

    play(before, waiting())
    caplog.clear()
    play(after, waiting())
    assert 1 == caplog.text.count("state: ")


def test_what_was_told_since_is_newer_than_what_the_disk_refused(
    play: Any, refusals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither read nor written at first: what is in force stays, and is stored once the disk is well."""
    new = waiting("new", vhid=3, addresses=["10.1.1.7"])

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN, generation=5)
        refusals.extend([errno.EIO, errno.EIO])

    async def after(daemon: Carpd) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "save", lambda *_: False)
            assert not (await daemon.apply(new, generation=6))["persisted"]
        assert await daemon.ask("maintenance", on=True)
        assert ["new"] == await _names(daemon)
        assert ([new], 6) == (_stored(daemon)["vhosts"], _stored(daemon)["generation"])

    play(before)
    play(after)


def test_maintenance_does_not_wait_for_the_disk(play: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its answer does."""
    save, go = Store.save, threading.Event()

    async def scene(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        monkeypatch.setattr(Store, "save", lambda disk, settings: go.wait(10) and save(disk, settings))
        asking = asyncio.ensure_future(daemon.ask("maintenance", on=True))
        vhost = daemon.service.engine.slots["own"].member.vhost
        await _until(lambda: vhost.demotion == 240)
        assert not asking.done()
        go.set()
        assert (await asking)["persisted"]

    play(scene)


def test_settings_that_the_disk_refuses(play: Any, refusals: list[int]) -> None:
    """What cannot be read the second time either is put aside by the first write, not overwritten."""

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        refusals.extend([errno.EIO, errno.EIO])

    async def after(daemon: Carpd) -> None:
        stored = (daemon.folder / store.FILE).read_bytes
        refusals[:] = []
        expected = stored()
        refusals.append(errno.EIO)
        assert (await daemon.ask("maintenance", on=True))["persisted"]
        assert ([], True) == (_stored(daemon)["vhosts"], _stored(daemon)["maintenance"])
        assert expected == (daemon.folder / "_settings.bad").read_bytes()

    play(before)
    play(after)


def test_what_a_restart_would_not_have(play: Any) -> None:
    """A vhost's runtime state that cannot be stored, and stored settings that are wrong, are problems."""

    async def before(daemon: Carpd) -> None:
        await daemon.apply(OWN)
        daemon.service.engine.slots["own"].unwritten = "[Errno 28] No space left on device"
        expected = ["own: cannot store the runtime state: [Errno 28] No space left on device"]
        assert expected == (await daemon.ask("hello"))["problems"]

    async def after(daemon: Carpd) -> None:
        assert [] == await _names(daemon)
        expected = ["stored settings: vhosts[0].vhid: 300 is not between 1 and 255"]
        assert expected == (await daemon.ask("hello"))["problems"]
        await daemon.apply(OWN, generation=2)
        assert [] == (await daemon.ask("hello"))["problems"]

    async def damage(daemon: Carpd) -> None:
        daemon.service._store.save(Settings(({**OWN, "vhid": 300},), "u", 1, "c"))

    play(before)
    play(damage)
    play(after)
