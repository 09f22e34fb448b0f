"""The members' files and command line."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from carp.lab import cluster
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
    cluster.write_members(folder / "etc")
    vhost = cluster.read_members(folder / "etc")["n1"]
    node: Any = SimpleNamespace(name="n1", popen=lambda *_, **__: process)
    return Member(node, folder / "etc" / "n1" / "carp.yaml", vhost, folder / "var" / "n1")


def test_files(tmp_path: Path) -> None:
    """The configuration is the documented one; the password is readable by its owner alone."""
    made = member(tmp_path)
    (vhost,) = yaml.safe_load(made.config.read_text())["vhosts"]
    assert ("demo", 42, {"name": "eth0"}, ["10.99.0.252"], 0) == tuple(
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


def vhost(name: str = "demo", address: str = "10.99.0.252", skew: int = 0) -> str:
    """Return a vhost as a line of a file."""
    shared = f"vhid: 42, interface: eth0, addresses: [{address}], password: x"
    return f"- {{name: {name}, {shared}, advskew: {skew}}}\n"


def files(folder: Path, *vhosts: str) -> Path:
    """Write the files of n1, n2, …"""
    for number, text in enumerate(vhosts, 1):
        path = folder / f"n{number}" / "carp.yaml"
        path.parent.mkdir()
        path.touch(mode=0o600)
        path.write_text(f"vhosts:\n{text}")
    return folder


def test_members_of_a_folder(tmp_path: Path) -> None:
    """Each node's rank and what all share is read from its file, by the daemon's own reader."""
    found = cluster.read_members(files(tmp_path, vhost(skew=20), vhost(), vhost(skew=40)))
    assert {"n1": 20, "n2": 0, "n3": 40} == {name: each.timing.advskew for name, each in found.items()}
    assert "10.99.0.252" == cluster.shared_address(found)


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([vhost()], "has 1 NODE/carp.yaml; the demo takes 2 to 5"),
        ([vhost()] * 6, "has 6 NODE/carp.yaml"),
        (
            [vhost() + vhost("b", "10.99.0.9").replace("42", "43"), vhost()],
            "has 2 vhosts; the demo shows one",
        ),
        ([vhost(), vhost(address="10.99.0.9")], "do not share one vhid and one list of addresses"),
        ([vhost(skew=300), vhost()], r"n1/carp.yaml: vhosts\[0\].advskew \(line 2\): 300 is not"),
    ],
)
def test_wrong_folders(texts: list[str], problem: str, tmp_path: Path) -> None:
    """What the demo cannot show is said in one line."""
    with pytest.raises(LabError, match=problem):
        cluster.read_members(files(tmp_path, *texts))


def test_the_address_is_in_the_lab(tmp_path: Path) -> None:
    """The client asks the first address of its own network; without one there is nothing to show."""
    two = vhost(address="fd99::5, 10.99.0.5")
    assert "10.99.0.5" == cluster.shared_address(cluster.read_members(files(tmp_path, two, two)))
    away = tmp_path / "away"
    away.mkdir()
    far = cluster.read_members(files(away, vhost(address="10.1.1.1"), vhost(address="10.1.1.1")))
    with pytest.raises(LabError, match=r"addresses: 10.1.1.1: none is in the demo's network 10.99.0.0/24"):
        cluster.shared_address(far)


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
