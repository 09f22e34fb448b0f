"""The members' files and command line."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from carp.lab.cluster import Member, daemon_command
from carp.lab.errors import LabError


class FakeProcess:
    """A daemon that notes its signals and ends when told."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.returncode: int | None = None

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def poll(self) -> int | None:
        return self.returncode


def member(folder: Path, process: FakeProcess | None = None) -> Member:
    """Make a member whose node starts this process."""
    node: Any = SimpleNamespace(name="n1", popen=lambda *_, **__: process)
    return Member(node, 10, folder / "n1")


def test_files(tmp_path: Path) -> None:
    """The configuration is the documented one; the password is readable by its owner alone."""
    made = member(tmp_path)
    (vhost,) = yaml.safe_load(made.config.read_text())["vhosts"]
    assert ("demo", 42, {"name": "eth0"}, ["10.99.0.252"], 10) == tuple(
        vhost[key] for key in ("name", "vhid", "interface", "addresses", "advskew")
    )
    password = Path(vhost["passwordFile"])
    assert 0o600 == password.stat().st_mode & 0o777
    assert 0 < len(password.read_text().strip()) <= 19


def test_command(tmp_path: Path) -> None:
    """A member runs the static daemon of this interpreter on its own files."""
    made = member(tmp_path)
    assert [sys.executable, "-m", "carp", "daemon"] == daemon_command(made)[:4]
    assert ["--config", str(made.config), "--state-dir", str(made.state), "--json"] == daemon_command(made)[
        4:
    ]


def test_told_to_end(tmp_path: Path) -> None:
    """A daemon that was told to end is not one that failed, and it is known when it has ended."""
    process = FakeProcess()
    made = member(tmp_path, process)
    assert made.ended()
    made.start()
    made.signal(signal.SIGTERM)
    assert [signal.SIGTERM] == process.signals
    assert not made.ended()
    process.returncode = 0
    assert made.ended()
    made.check()


def test_hand_over_keeps_it_running(tmp_path: Path) -> None:
    """SIGUSR2 does not end the daemon."""
    process = FakeProcess()
    made = member(tmp_path, process)
    made.start()
    made.signal(signal.SIGUSR2)
    assert process is made.process


def test_failed_daemon(tmp_path: Path) -> None:
    """A daemon that ended by itself is an error with its exit code and the last line of its log."""
    process = FakeProcess()
    made = member(tmp_path, process)
    made.start()
    process.returncode = 2
    with pytest.raises(LabError, match="n1: the daemon ended with exit code 2: no output"):
        made.check()
    made.log.write_text("first\nvhid: 300 is over 255\n")
    with pytest.raises(LabError, match="exit code 2: vhid: 300 is over 255"):
        made.check()
