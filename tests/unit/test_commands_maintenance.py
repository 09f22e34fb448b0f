from __future__ import annotations

from typing import TYPE_CHECKING

from carp.commands import maintenance
from fakecarpd import FakeCarpd, answer, backup, obeying, vhost

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import pytest


def _run(tmp_path: Path, vhosts: list[dict[str, Any]], *words: str) -> int:
    with FakeCarpd(tmp_path / "s", obeying(*vhosts)) as fake:
        return maintenance.main(["--socket", fake.path, *words])


def test_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On is 0 when this node holds nothing any more."""
    assert 0 == _run(tmp_path, [backup()], "on")
    assert "maintenance mode is on" in capsys.readouterr().out


def test_on_a_lone_master(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On is 1 when something stays here: nobody should reboot yet."""
    assert 1 == _run(tmp_path, [vhost(), backup("dns")], "on", "--wait", "50ms")
    assert "maintenance: still master of web: nobody took over" in capsys.readouterr().err


def test_what_is_not_stored_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mode that a reboot would forget is told as such, and `carp maintenance on && reboot` stops there."""

    def handler(request: dict[str, Any]) -> dict[str, Any]:
        return answer(backup()) if request["op"] == "status" else {"maintenance": True, "persisted": False}

    with FakeCarpd(tmp_path / "s", handler) as fake:
        assert 1 == maintenance.main(["--socket", fake.path, "on"])
        told = capsys.readouterr()
        assert "maintenance mode is on, until carpd or the node restarts; end it" in told.out
        assert "could not be stored" in told.err
        assert 1 == maintenance.main(["--socket", fake.path, "off"])
        assert "could not be stored" in capsys.readouterr().err


def test_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The status is the exit code too: 1 while it is on."""
    with FakeCarpd(tmp_path / "s", lambda _: answer(backup(), maintenance=True)) as fake:
        assert 1 == maintenance.main(["--socket", fake.path, "status"])
    (tmp_path / "s").unlink()
    assert 0 == _run(tmp_path, [vhost()], "status")
    assert [
        "maintenance mode is on; this node is master of nothing",
        "maintenance mode is off; this node is master of web",
    ] == capsys.readouterr().out.splitlines()
