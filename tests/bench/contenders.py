"""The three daemons, each configured to share the same addresses in the same way."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from carp.lab.node import module_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carp.lab.node import Node, Process

SKEW_STEP = 10
"""1/256 s between the ranks at an interval of 1 s."""
FAST_SKEW = 26
"""1/256 s: an interval of 100 ms at advbase 0; the ranks follow by steps of 1."""


@dataclass(frozen=True)
class Load:
    """What is shared: ``vhosts`` addresses, every second or, ``fast``, every 100 ms; ours sealed or not."""

    vhosts: int = 1
    fast: bool = False
    sealed: bool = False

    def addresses(self) -> list[str]:
        """Return the shared addresses, in the order of their vhids (1, 2, …)."""
        return [f"10.99.1.{number}" for number in range(1, self.vhosts + 1)]

    def timing(self, rank: int) -> tuple[int, int]:
        """Return advbase in s and advskew in 1/256 s of the member of this rank."""
        return (0, FAST_SKEW + rank) if self.fast else (1, SKEW_STEP * rank)


@dataclass
class Seat:
    """One member: where it runs and what runs there."""

    node: Node
    rank: int
    folder: Path
    load: Load
    processes: list[Process] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What its processes wrote, over all starts."""
        return self.folder / "log"

    def launch(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a program of this member."""
        with self.log.open("ab") as log:
            process = self.node.popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        self.processes.append(process)


class Contender(Protocol):
    """How to start one daemon (or as many as it needs)."""

    name: str

    def start(self, seat: Seat) -> None:
        """Start the member of this seat."""


class Carp:
    """Ours: one process for all vhosts."""

    name = "carp"

    def start(self, seat: Seat) -> None:
        """Write the configuration at the first start and run the static daemon."""
        config = seat.folder / "carp.yaml"
        if not config.exists():
            config.write_text(self._config(seat), encoding="utf-8")
        state = ["--state-dir", str(seat.folder / "state")]
        seat.launch(
            [sys.executable, "-m", "carp", "daemon", "--config", str(config), *state], module_environment()
        )

    @staticmethod
    def _config(seat: Seat) -> str:
        base, skew = seat.load.timing(seat.rank)
        mode = "    authentication: {mode: Sealed}\n" if seat.load.sealed else ""
        return "vhosts:\n" + "".join(
            f"  - name: v{vhid}\n    vhid: {vhid}\n    interface: eth0\n    addresses: [{address}]\n"
            f"    password: bench\n    advbase: {base}\n    advskew: {skew}\n{mode}"
            for vhid, address in enumerate(seat.load.addresses(), 1)
        )


class Ucarp:
    """Debian's ucarp: a process per address, scripts that add and delete it, as its manual shows."""

    name = "ucarp"

    def start(self, seat: Seat) -> None:
        """Start one process per address."""
        scripts = []
        for option, action in (("-u", "add"), ("-d", "del")):
            script = seat.folder / action
            if not script.exists():
                script.write_text(f'#!/bin/sh\nexec ip addr {action} "$2/32" dev "$1"\n', encoding="ascii")
                script.chmod(0o755)
            scripts += [option, str(script)]
        base, skew = seat.load.timing(seat.rank)
        for vhid, address in enumerate(seat.load.addresses(), 1):
            identity = ["-i", "eth0", "-s", seat.node.address, "-v", str(vhid), "-p", "bench", "-a", address]
            seat.launch(["ucarp", *identity, "-b", str(base), "-k", str(skew), "-n", "-z", *scripts])


class Keepalived:
    """Debian's keepalived: VRRP, one process with a child; version 3 where the interval needs it."""

    name = "keepalived"

    def start(self, seat: Seat) -> None:
        """Write the configuration at the first start and run it in the foreground."""
        config = seat.folder / "keepalived.conf"
        if not config.exists():
            config.write_text(self._config(seat), encoding="ascii")
        pids = ["--pid", str(seat.folder / "pid"), "--vrrp_pid", str(seat.folder / "vrrp.pid")]
        seat.launch(
            ["keepalived", "--dont-fork", "--vrrp", "--log-console", "--use-file", str(config), *pids]
        )

    @staticmethod
    def _config(seat: Seat) -> str:
        version, interval = (3, "0.1") if seat.load.fast else (2, "1")
        text = f"global_defs {{\n  vrrp_version {version}\n}}\n"
        for vrid, address in enumerate(seat.load.addresses(), 1):
            text += (
                f"vrrp_instance v{vrid} {{\n  state BACKUP\n  nopreempt\n  interface eth0\n"
                f"  virtual_router_id {vrid}\n  priority {250 - SKEW_STEP * seat.rank}\n"
                f"  advert_int {interval}\n  virtual_ipaddress {{\n    {address}/32 dev eth0\n  }}\n}}\n"
            )
        return text


ALL: Mapping[str, Contender] = {each.name: each for each in (Carp(), Ucarp(), Keepalived())}
