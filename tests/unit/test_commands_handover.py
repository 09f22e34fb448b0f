from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp.commands import demotion, handover, maintenance
from fakecarpd import FakeCarpd, answer, backup, seen, vhost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _carpd(*after: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what a carpd answers whose vhosts are these after an order."""

    def handler(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "status":
            return answer(*after)
        return {"maintenance": request.get("on"), "persisted": True}

    return handler


def _run(tmp_path: Path, main: Callable[[list[str]], int], vhosts: list[dict[str, Any]], *words: str) -> int:
    with FakeCarpd(tmp_path / "s", _carpd(*vhosts)) as fake:
        return main(["--socket", fake.path, *words])


def test_handover_names_the_successor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has it, and how long that took."""
    assert 0 == _run(tmp_path, handover.main, [backup(master=seen(lastHeard=0.0))], "web")
    out = capsys.readouterr().out
    assert out.startswith("web: 10.1.1.2 is master, 0.0")
    assert out.endswith(" s after the request; this node is backup\n")


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (vhost(), "this node is still master; is a backup running?"),
        (vhost(leaving="step-down"), "this node is still handing over; is a backup running?"),
        (backup(master=seen(lastHeard=60.0)), "this node is BACKUP, but no new master has been heard"),
        (vhost(state="INIT"), "this node is INIT, but no new master has been heard"),
    ],
)
def test_handover_to_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], left: dict[str, Any], text: str
) -> None:
    """Without a successor in time the exit code is 1 and the reason is told; an old advert is no successor."""
    assert 1 == _run(tmp_path, handover.main, [left], "web", "--wait", "50ms")
    assert text in capsys.readouterr().err


def test_handover_without_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --wait 0s the order is all."""
    assert 0 == _run(tmp_path, handover.main, [vhost()], "web", "--wait", "0s")
    assert "web: handing over\n" == capsys.readouterr().out


def test_maintenance_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On is 0 when this node holds nothing any more."""
    assert 0 == _run(tmp_path, maintenance.main, [backup()], "on")
    assert "maintenance mode is on" in capsys.readouterr().out


def test_maintenance_on_a_lone_master(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On is 1 when something stays here: nobody should reboot yet."""
    assert 1 == _run(tmp_path, maintenance.main, [vhost(), backup("dns")], "on", "--wait", "50ms")
    assert "maintenance: still master of web: nobody took over" in capsys.readouterr().err


def test_maintenance_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is the exit code too: 1 while it is on."""
    with FakeCarpd(tmp_path / "s", lambda _: answer(backup(), maintenance=True)) as fake:
        assert 1 == maintenance.main(["--socket", fake.path, "status"])
    (tmp_path / "s").unlink()
    assert 0 == _run(tmp_path, maintenance.main, [vhost()], "status")
    assert [
        "maintenance mode is on; this node is master of nothing",
        "maintenance mode is off; this node is master of web",
    ] == capsys.readouterr().out.splitlines()


def test_demote_and_undemote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The order goes out with its reason, and what it comes to is shown."""
    demoted = vhost(demotion=40, demotions=[{"reason": "upgrade", "amount": 40}], advskew=40)
    with FakeCarpd(tmp_path / "s", _carpd(demoted)) as fake:
        assert 0 == demotion.demote(["--socket", fake.path, "web", "upgrade", "40"])
        assert 0 == demotion.undemote(["--socket", fake.path, "web", "upgrade"])
    orders = [{k: v for k, v in r.items() if k not in ("v", "id")} for r in fake.requests]
    assert {"op": "demote", "name": "web", "reason": "upgrade", "amount": 40} == orders[0]
    assert {"op": "undemote", "name": "web", "reason": "upgrade"} == orders[2]
    assert "web: demotion 40 (upgrade), advskew 40" == capsys.readouterr().out.splitlines()[0]
