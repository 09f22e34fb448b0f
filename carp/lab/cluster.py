"""Members that share one address: a daemon per node, started and stopped as a machine's init would."""

from __future__ import annotations

import ipaddress
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigErrors
from carp.daemon import configfile
from carp.lab.errors import LabError
from carp.lab.node import Node, Process, module_environment

if TYPE_CHECKING:
    from pathlib import Path

    from carp.core.config import VhostConfig
    from carp.lab.network import Lan

VIP: Final = "10.99.0.252"
"""What the members share that `write_members` makes."""
SUBNET: Final = ipaddress.ip_network("10.99.0.0/24")
_SKEWS: Final = {"n1": 0, "n2": 10, "n3": 20}
_FILE: Final = "carp.yaml"
_FEWEST, _MOST = 2, 5

_CONFIG: Final = """\
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
    """One node with its daemon: the configuration file, what it says, and a folder for all else."""

    node: Node
    config: Path
    vhost: VhostConfig
    folder: Path
    command: Command = daemon_command
    process: Process | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.state.mkdir(parents=True)

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name

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


def write_members(folder: Path) -> None:
    """Write FOLDER/NODE/carp.yaml of three nodes that share `VIP`, and their password."""
    for name, skew in _SKEWS.items():
        (folder / name).mkdir(parents=True)
        password = folder / name / "password"
        password.touch(mode=0o600)
        password.write_text("lab-password\n", encoding="ascii")
        text = _CONFIG.format(address=VIP, password=password, skew=skew)
        (folder / name / _FILE).write_text(text, encoding="utf-8")


def read_members(folder: Path) -> dict[str, VhostConfig]:
    """Return the one vhost of each FOLDER/NODE/carp.yaml, by node. Raises LabError."""
    found = {}
    for file in sorted(folder.glob(f"*/{_FILE}")):
        try:
            vhosts, _ = configfile.load(str(file), named=True)
        except ConfigErrors as error:
            raise LabError(str(error)) from None
        if len(vhosts) != 1:
            msg = f"{file}: has {len(vhosts)} vhosts; the demo shows one"
            raise LabError(msg)
        found[file.parent.name] = vhosts[0]
    if not _FEWEST <= len(found) <= _MOST:
        msg = f"{folder}: has {len(found)} NODE/{_FILE}; the demo takes {_FEWEST} to {_MOST}"
        raise LabError(msg)
    if len({(vhost.vhid, vhost.addresses) for vhost in found.values()}) > 1:
        msg = f"{folder}: the nodes do not share one vhid and one list of addresses"
        raise LabError(msg)
    return found


def shared_address(members: dict[str, VhostConfig]) -> str:
    """Return the address that the client asks. Raises LabError when none is in the lab's network."""
    vhost = next(iter(members.values()))
    for vip in vhost.addresses:
        if vip.ip in SUBNET:
            return str(vip.ip)
    shown = ", ".join(str(vip.ip) for vip in vhost.addresses)
    msg = f"addresses: {shown}: none is in the demo's network {SUBNET}"
    raise LabError(msg)


def build(
    lan: Lan, source: Path, folder: Path, vhosts: dict[str, VhostConfig], command: Command = daemon_command
) -> dict[str, Member]:
    """Put the nodes of SOURCE/NODE/carp.yaml and a client on the LAN; return the members, not yet started.

    The first node is 10.99.0.1, and so on. What the daemons write goes to ``folder``.
    """
    lan.add_client()
    members = {}
    for number, (name, vhost) in enumerate(vhosts.items(), 1):
        node = lan.add_node(name, [str(SUBNET[number])])
        members[name] = Member(node, source / name / _FILE, vhost, folder / name, command)
    return members
