from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from carp import cli, commands


@pytest.mark.parametrize("name", commands.NAMES)
def test_each_command_has_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help goes to standard output, names the exit codes where there is more than one, and is code 0."""
    with pytest.raises(SystemExit) as raised:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert 0 == raised.value.code
    assert out.startswith(f"usage: carp {name} ")
    assert "exit code: " in out or name == "completion"


@pytest.mark.parametrize("name", sorted(set(commands.NAMES) - {"completion"}))
def test_nobody_to_ask_is_exit_code_2(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without carpd each command says so in carp's own words."""
    words = {"maintenance": ["status"], "demote": ["web", "x", "1"], "undemote": ["web", "x"]}
    words |= {"status": [], "doctor": []}
    assert 2 == cli.main([name, "--socket", str(tmp_path / "s"), *words.get(name, ["web"])])
    out, err = capsys.readouterr()
    assert "" == out
    assert err.startswith(f"carp: no carpd answers at {tmp_path / 's'}: is `carp daemon` running?")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`carp completion bash | head -1` ends quietly."""
    root = Path(__file__).parents[2]
    line = f"{sys.executable} -m carp completion bash | head -c 1"
    done = subprocess.run(["bash", "-c", line], cwd=root, capture_output=True, text=True, check=False)
    assert (0, "#", "") == (done.returncode, done.stdout, done.stderr)
