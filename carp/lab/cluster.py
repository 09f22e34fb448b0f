"""Members that share one address: a daemon per node, started and stopped as a machine's init would."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carp.lab.errors import LabError
from carp.lab.node import Node, Process, module_environment

if TYPE_CHECKING:
    from pathlib import Path

    from carp.lab.network import Lan

VIP = "10.99.0.252"
SKEWS = {"n1": 0, "n2": 10, "n3": 20}

_CONFIG = """\
vhosts:
  - name: demo
    vhid: 42
    interface: {{name: eth0}}
    addresses: [{address}]
    passwordFile: {password}
    advskew: {skew}
"""

Command = Callable[["Member"], Sequence[str]]


def daemon_command(member: Member) -> list[str]:
    """Return the command line of a real member: the static daemon with the member's file."""
    arguments = ["--config", str(member.config), "--state-dir", str(member.state), "--json"]
    return [sys.executable, "-m", "carp", "daemon", *arguments]


@dataclass
class Member:
    """One node with its daemon's files."""

    node: Node
    skew: int  # 1/256 s
    folder: Path
    command: Command = daemon_command
    process: Process | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text("lab-password\n", encoding="ascii")
        text = _CONFIG.format(address=VIP, password=password, skew=self.skew)
        self.config.write_text(text, encoding="utf-8")

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

    @property
    def config(self) -> Path:
        """The daemon's configuration file."""
        return self.folder / "carp.yaml"

    @property
    def state(self) -> Path:
        """The daemon's state folder."""
        return self.folder / "state"

    @property
    def log(self) -> Path:
        """What the daemon wrote, over all its starts."""
        return self.folder / "log"

    def start(self) -> None:
        """Start the daemon."""
        with self.log.open("ab") as log:
            self.process = self.node.popen(
                self.command(self),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=module_environment(),
            )

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal; one that ends it is waited for by `ended`."""
        if self.process is not None:
            self.process.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                self._leaving, self.process = self.process, None

    def ended(self) -> bool:
        """Whether a daemon that was told to end has done so."""
        return self._leaving is None or self._leaving.poll() is not None

    def check(self) -> None:
        """Raise LabError with the last line of its log if the daemon should run and does not."""
        if self.process is not None and self.process.poll() is not None:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() or ["no output"]
            msg = f"{self.name}: the daemon ended with exit code {self.process.returncode}: {lines[-1]}"
            raise LabError(msg)

    _leaving: Process | None = field(default=None, init=False)


def build(lan: Lan, folder: Path, command: Command = daemon_command) -> dict[str, Member]:
    """Put three nodes and a client on the LAN and return the members, not yet started, by name."""
    lan.add_client()
    return {
        name: Member(lan.add_node(name, [f"10.99.0.{number}"]), skew, folder / name, command)
        for number, (name, skew) in enumerate(SKEWS.items(), 1)
    }
