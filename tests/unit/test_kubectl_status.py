from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert
from carp_operator.kubectl import main as plugin
from carp_operator.kubectl import status
from kubectlfix import NOW, FakeCluster, condition, healthy, vip

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster with two VirtualIPs, which the commands talk to."""
    made = healthy("dns", "web")
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW)
    return made


def test_all(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Without names all are shown."""
    assert 0 == plugin.main(["status"])
    assert ["NAME", "dns", "web"] == [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_formats(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and YAML say the same, with everything that is known."""
    assert 0 == plugin.main(["status", "-o", "json"])
    found = json.loads(capsys.readouterr().out)
    assert 0 == plugin.main(["status", "-o", "yaml"])
    assert found == yaml.safe_load(capsys.readouterr().out)
    assert ["dns", "web"] == [shown["name"] for shown in found["virtualIPs"]]
    assert 0 == plugin.main(["status", "-o", "wide"])
    assert "INTERFACE" in capsys.readouterr().out


def test_names(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was named and does not answer, or does not exist, is exit code 1."""
    assert 0 == plugin.main(["status", "vip/web"])
    assert "dns" not in capsys.readouterr().out
    fake.put("virtualips", vip("web", conditions=[condition("Ready", "False", "NotAdvertised")]))
    assert 1 == plugin.main(["status", "web"])
    capsys.readouterr()
    assert 0 == plugin.main(["status"])
    assert 1 == plugin.main(["status", "none"])
    assert 'error: virtualips.carp.vip "none" not found\n' == capsys.readouterr().err


def test_no_objects(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty cluster says so as kubectl does."""
    fake.objects.clear()
    assert 0 == plugin.main(["status"])
    assert "No VirtualIPs found.\n" == capsys.readouterr().out


def test_rights(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """CarpNodes are not needed; VirtualIPs are, and one line says which right is."""
    fake.forbidden = {"carpnodes"}
    assert 0 == plugin.main(["status"])
    fake.forbidden = {"virtualips"}
    capsys.readouterr()
    assert 1 == plugin.main(["status"])
    err = capsys.readouterr().err
    assert err.startswith("Error from server (Forbidden): ")
    assert err.endswith("(needed: the right to list virtualips.carp.vip)\n")
    assert 1 == err.count("\n")


def test_watch_shows_changes_only(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change is shown once; what time alone changes is none."""
    one, other = {"web": vip("web", "n1")}, {"web": vip("web", "n2")}

    def follow(client: Any) -> Iterator[tuple[Any, Any, Any]]:
        yield one, {}, []
        monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW + 60)
        yield one, {}, ["server is away"]
        yield other, {}, []

    monkeypatch.setattr(status, "follow", follow)
    assert 0 == plugin.main(["status", "--watch", "-o", "json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["n1", "n2"] == [line["virtualIPs"][0]["master"] for line in lines]


def test_watch_on_a_terminal_says_that_it_is_old(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clearing the screen takes a warning away; it stands below the table until it is not true any more."""
    pictures = [({"web": vip("web", "n1")}, {}, ["server is away"]), ({}, {}, [])]
    monkeypatch.setattr(status, "follow", lambda client: iter(pictures))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert 0 == plugin.main(["status", "--watch"])
    _, old, new = capsys.readouterr().out.split(status._CLEAR)
    assert old.endswith("\n! not current: server is away\n")
    assert "not current" not in new


def test_watch_ends_with_its_reader(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status --watch | head -1` ends."""
    moves = iter([({"web": vip("web", "n1")}, {}, []), ({"web": vip("web", "n2")}, {}, [])])
    monkeypatch.setattr(status, "follow", lambda client: moves)
    monkeypatch.setattr(status, "put", lambda text: False)
    assert 0 == plugin.main(["status", "--watch"])
    assert 1 == len(list(moves))


def test_follow(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists, changes and deletions of both kinds are taken in; a loss is told and nothing is forgotten."""
    sinks: list[Any] = []

    def watcher(client: Any, kind: Any, sink: Any) -> Any:
        sinks.append(sink)
        return SimpleNamespace(start=lambda: None, stop=lambda patience: None)

    monkeypatch.setattr("carp_operator.kube.watch.Watcher", watcher)
    monkeypatch.setattr(status, "_REDRAW", 0.05)
    monkeypatch.setattr(status, "_TOGETHER", 0.01)
    client: Any = fake
    pictures = status.follow(client)
    original = status.queue.Queue

    def filled() -> Any:
        made: Any = original()
        for event in ((0, Synced((vip("web", "n1"), vip("old", "n1")))), (1, Upsert(vip("n1")))):
            made.put(event)
        made.put((0, Deleted(vip("old", "n1"))))
        made.put((0, Lost("server is away")))
        return made

    monkeypatch.setattr(status.queue, "Queue", filled)
    vips, carpnodes, lost = next(pictures)
    assert (["web"], ["n1"], ["server is away"]) == (list(vips), list(carpnodes), lost)
    assert "warning: server is away\n" == capsys.readouterr().err
    pictures.close()  # type: ignore[attr-defined]
