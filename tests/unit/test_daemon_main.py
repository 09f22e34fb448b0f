"""The command `carp daemon`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp.daemon.main import main

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "vhosts: [{name: a, vhid: 1, interface: eth0, addresses: [10.1.1.1], password: p}]\n"


def _file(folder: Path, text: str) -> str:
    path = folder / "carp.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_checking_a_good_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0 and nothing on standard error; nothing is started."""
    assert 0 == main(["--config", _file(tmp_path, GOOD), "--check"])
    shown = capsys.readouterr()
    assert "" == shown.err
    assert "1 vhost" in shown.out


@pytest.mark.parametrize("check", [["--check"], []])
def test_a_bad_file_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], check: list[str]
) -> None:
    """Exit 2, one line for each mistake, with field and value."""
    text = GOOD.replace("vhid: 1", "vhid: 0, advskew: 255")
    assert 2 == main(["--config", _file(tmp_path, text), "--state-dir", str(tmp_path / "state"), *check])
    shown = capsys.readouterr()
    assert "" == shown.out
    lines = shown.err.splitlines()
    assert 2 == len(lines)
    assert any("vhosts[0].vhid" in line and "0 is not between 1 and 255" in line for line in lines)
    assert any("vhosts[0].advskew" in line and "255 is not between 0 and 254" in line for line in lines)
    assert not (tmp_path / "state").exists()


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 and the reason."""
    assert 2 == main(["--config", str(tmp_path / "nosuch")])
    assert "cannot be read: No such file or directory" in capsys.readouterr().err


def test_a_file_that_the_disk_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, after which a service manager tries again: the file may be right."""
    assert 1 == main(["--config", "/proc/self/mem", "--check"])  # its first page is an I/O error
    assert "Input/output error" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--socket", "--state-dir"])
def test_a_socket_that_has_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """Exit 2; the path and its length are named, also where it follows from the state folder."""
    path = f"{tmp_path}/{'x' * 120}"
    shown = path if option == "--socket" else f"{path}/carpd.sock"
    assert 2 == main([option, path])
    expected = f"--socket: {shown!r} has {len(shown)} bytes; a socket's path has at most 107: give another"
    assert f"carp daemon: {expected}\n" == capsys.readouterr().err
