from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from carp.commands import status
from carp.core.errors import CarpError
from fakecarpd import FakeCarpd, answer, backup, vhost

if TYPE_CHECKING:
    from pathlib import Path


def _run(tmp_path: Path, told: dict[str, object], *words: str) -> int:
    with FakeCarpd(tmp_path / "s", lambda _: told) as fake:
        return status.main(["--socket", fake.path, *words])


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All vhosts, one line each, by name."""
    assert 0 == _run(tmp_path, answer(vhost(), backup("dns")))
    lines = capsys.readouterr().out.splitlines()
    assert ["NAME", "dns", "web"] == [line.split()[0] for line in lines]


def test_only_some(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names choose; trouble of others does not count."""
    assert 0 == _run(tmp_path, answer(vhost(), vhost("dns", state="INIT")), "web")
    assert "dns" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "trouble",
    [
        {"state": "INIT"},
        {"state": "BACKUP", "conflict": {"address": "10.1.1.252", "mac": "02:00:00:00:00:09"}},
    ],
)
@pytest.mark.parametrize("output", [[], ["-o", "wide"], ["-o", "json"], ["-o", "yaml"]])
def test_trouble_is_exit_code_1(tmp_path: Path, trouble: dict[str, object], output: list[str]) -> None:
    """A vhost that is INIT or in conflict makes the exit code 1, whatever the output."""
    assert 1 == _run(tmp_path, answer(vhost(**trouble)), *output)


def test_json_and_yaml_hold_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Programs get what carpd told, whole."""
    told = answer(vhost(), maintenance=True)
    _run(tmp_path, told, "-o", "json")
    assert told == json.loads(capsys.readouterr().out)
    (tmp_path / "s").unlink()
    _run(tmp_path, told, "-o", "yaml")
    assert told == yaml.safe_load(capsys.readouterr().out)


def test_no_vhost_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would look like a failure."""
    assert 0 == _run(tmp_path, answer())
    assert "no vhost is configured on this node\n" == capsys.readouterr().out


def test_yaml_is_no_stream(tmp_path: Path) -> None:
    """--watch with yaml is refused."""
    with pytest.raises(CarpError, match="--watch: 'yaml' is no stream"):
        _run(tmp_path, answer(), "--watch", "-o", "yaml")
