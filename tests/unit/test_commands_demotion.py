from __future__ import annotations

from typing import TYPE_CHECKING

from carp.commands import demotion
from fakecarpd import FakeCarpd, obeying, vhost

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_demote_and_undemote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The order goes out with its reason, and what it comes to is shown."""
    demoted = vhost(demotion=40, demotions=[{"reason": "upgrade", "amount": 40}], advskew=40)
    with FakeCarpd(tmp_path / "s", obeying(demoted)) as fake:
        assert 0 == demotion.demote(["--socket", fake.path, "web", "upgrade", "40"])
        assert 0 == demotion.undemote(["--socket", fake.path, "web", "upgrade"])
    orders = [{k: v for k, v in r.items() if k not in ("v", "id")} for r in fake.requests]
    assert {"op": "demote", "name": "web", "reason": "upgrade", "amount": 40} == orders[0]
    assert {"op": "undemote", "name": "web", "reason": "upgrade"} == orders[2]
    assert "web: demotion 40 (upgrade), advskew 40" == capsys.readouterr().out.splitlines()[0]
