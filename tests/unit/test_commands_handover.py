from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from carp.commands import handover
from fakecarpd import FakeCarpd, backup, obeying, seen, vhost

if TYPE_CHECKING:
    from pathlib import Path


def _run(tmp_path: Path, vhosts: list[dict[str, Any]], *words: str) -> int:
    with FakeCarpd(tmp_path / "s", obeying(*vhosts)) as fake:
        return handover.main(["--socket", fake.path, *words])


def test_handover_names_the_successor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who has it, and how long that took."""
    assert 0 == _run(tmp_path, [backup(master=seen(lastHeard=0.0))], "web")
    out = capsys.readouterr().out
    assert re.fullmatch(
        r"web: 10\.1\.1\.2 is master, [0-4]\.\d+ s after the request; this node is backup\n", out
    )


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
    """Without a successor in time the exit code is 1, with the reason; an old advert is no successor."""
    assert 1 == _run(tmp_path, [left], "web", "--wait", "50ms")
    assert text in capsys.readouterr().err


def test_handover_without_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --wait 0s the order is all."""
    assert 0 == _run(tmp_path, [vhost()], "web", "--wait", "0s")
    assert "web: handing over\n" == capsys.readouterr().out
