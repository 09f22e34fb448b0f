"""One LAN with daemons on it, ours and ucarp: what tests of whole nodes stand on."""

from __future__ import annotations

import ipaddress
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from carp import rtnl
from carp.lab.client import Prober
from carp.lab.network import Lan
from carp.lab.node import cont, kill, module_environment, stop
from carp.netlink import Netlink
from require import require
from sniffer import Sniffer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from carp.lab.node import Node, Process
    from carp.rtnl import Addr

VIP = "10.99.0.252"
VIP6 = "fd99::252"
PASSWORD = "love"
DRIVER = Path(__file__).with_name("driver.py")


def vhost(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return the settings of a vhost of the lab, with these fields instead or in addition."""
    settings = {"name": name, "vhid": 42, "interface": "eth0", "addresses": [VIP], "password": PASSWORD}
    return {**settings, **changes}


def first(name: str = "web", **changes: Any) -> dict[str, Any]:
    """Return a vhost that claims its address as soon as three probes stay unanswered."""
    return vhost(name, firstClaimant=True, **changes)


class LateError(AssertionError):
    """Something took longer than it should; beside other labs that may be their fault."""


class Program:
    """A program on a node, with everything that it has printed over all its starts."""

    def __init__(self, node: Node, log: Path, argv: Sequence[str]) -> None:
        self.node = node
        self.log = log
        self.argv = list(argv)
        self.process: Process | None = None
        self.started_at = 0.0
        self.logged_before = 0
        log.touch()

    @property
    def running(self) -> Process:
        """The process; fails the test when none was started."""
        assert self.process is not None
        return self.process

    def start(self) -> Self:
        """Start it; ``started_at`` becomes the time of that."""
        self.logged_before = self.log.stat().st_size
        with self.log.open("ab") as log:
            self.started_at = time.monotonic()
            self.process = self.node.popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=module_environment(),
            )
        return self

    def kill(self) -> None:
        """SIGKILL."""
        kill(self.running)

    def stop(self) -> None:
        """SIGSTOP."""
        stop(self.running)

    def cont(self) -> None:
        """SIGCONT."""
        cont(self.running)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.running.send_signal(number)

    def term(self, *, timeout: float = 10.0) -> int:
        """SIGTERM; return the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.running.wait(timeout)
        except subprocess.TimeoutExpired as error:
            msg = f"{self.node.name}: {error}"
            raise LateError(msg) from None

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def text_of_this_run(self) -> str:
        """What it has printed since its last start."""
        return self.log.read_bytes()[self.logged_before :].decode(errors="replace")

    def wait_text(self, part: str, seconds: float = 10.0) -> None:
        """Wait until it has printed a text in this run."""
        wait_until(lambda: part in self.text_of_this_run, seconds, f"{self.node.name} prints {part!r}", self)


class Daemon(Program):
    """Ours, with JSON lines as its log."""

    def lines(self, since: int = 0) -> list[dict[str, Any]]:
        """Return its log lines from a number on; a line that is not JSON fails the test."""
        return _parse(self.text)[since:]

    def events(self, event: str, *, since: int = 0, vhost: str | None = None) -> list[dict[str, Any]]:
        """Return the lines of one kind of event, of one vhost."""
        return [
            line for line in self.lines(since) if line["event"] == event and vhost in (None, line["vhost"])
        ]

    @property
    def count(self) -> int:
        """How many lines it has logged."""
        return len(self.lines())

    def state(self, vhost: str | None = None) -> str:
        """Return the state that it logged last in this run; INIT before that."""
        lines = _parse(self.text_of_this_run)
        changes = [each for each in lines if each["event"] == "state" and vhost in (None, each["vhost"])]
        return str(changes[-1]["new"]) if changes else "INIT"

    def wait_state(self, state: str, seconds: float = 10.0, *, vhost: str | None = None) -> None:
        """Wait until the state is this one."""
        wait_until(lambda: self.state(vhost) == state, seconds, f"{self.node.name} becomes {state}", self)

    def wait_event(
        self, event: str, seconds: float = 10.0, *, since: int = 0, vhost: str | None = None
    ) -> dict[str, Any]:
        """Wait for an event and return the first line of it."""
        wait_until(
            lambda: self.events(event, since=since, vhost=vhost),
            seconds,
            f"{self.node.name} logs {event}",
            self,
        )
        return self.events(event, since=since, vhost=vhost)[0]

    def master(self, seconds: float = 10.0) -> Self:
        """Wait until it is master."""
        self.wait_state("MASTER", seconds)
        return self

    def backup(self, seconds: float = 10.0) -> Self:
        """Wait until it is backup."""
        self.wait_state("BACKUP", seconds)
        return self


class Ucarp(Program):
    """Debian's ucarp, with scripts that add and delete the address."""

    def state(self) -> str:
        """Return the state that it logged last in this run; INIT before that."""
        _, found, last = self.text_of_this_run.rpartition("Switching to state: ")
        return last.split(maxsplit=1)[0] if found else "INIT"

    def wait_state(self, state: str, seconds: float = 10.0) -> None:
        """Wait until the state is this one."""
        wait_until(lambda: self.state() == state, seconds, f"{self.node.name} becomes {state}", self)

    def master(self, seconds: float = 10.0) -> Self:
        """Wait until it is master."""
        self.wait_state("MASTER", seconds)
        return self

    def backup(self, seconds: float = 10.0) -> Self:
        """Wait until it is backup."""
        self.wait_state("BACKUP", seconds)
        return self


class Lab:
    """A LAN, a folder, and a client; nodes are made as they are asked for."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="carp-t-")
        self.folder = Path(self._folder.name)
        self.lan = Lan(prefix="carp-t-")

    def __enter__(self) -> Self:
        self.lan.__enter__()
        self.lan.add_client()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lan.close()
        self._folder.cleanup()

    @property
    def client(self) -> Node:
        """The machine that asks."""
        return self.lan.client

    def node(self, name: str, addresses: Sequence[str] = ()) -> Node:
        """Return a node, made now if it is new; n1 has 10.99.0.1 and so on."""
        if name not in self.lan.nodes:
            number = name.removeprefix("n")
            self.lan.add_node(name, addresses or (f"10.99.0.{number}", f"fd99::{number}"))
        return self.lan.nodes[name]

    def sniffer(self) -> Sniffer:
        """Return a sniffer on the client."""
        return Sniffer(self.client)

    def prober(self, address: str = VIP, *, interval_ms: float = 2.0) -> Prober:
        """Return the measuring client."""
        return Prober(self.client, address, interval_ms=interval_ms, arp_ms=5.0)

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """Write a file into the lab's folder and return its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def script(self, name: str, text: str) -> str:
        """Write a shell script and return its path."""
        return str(self.write(name, f"#!/bin/sh\n{text}\n", 0o700))

    def daemon(
        self,
        name: str,
        *vhosts: dict[str, Any],
        options: Sequence[str] = (),
        patch: str = "",
        files: str = "",
    ) -> Daemon:
        """Return `carp daemon` on a node, not started; ``patch`` names a patch of driver.py.

        ``files``: what its file and state folder are called; those of a node's first carpd have its name.
        """
        own = files or name
        self.configure(own, *vhosts)
        config, state = self.folder / f"{own}.yaml", self.folder / f"{own}.state"
        words = ["daemon", "--config", str(config), "--state-dir", str(state), "--json", *options]
        return Daemon(self.node(name), self._log(name), [*_program(patch), *words])

    def configure(self, name: str, *vhosts: dict[str, Any]) -> None:
        """Write the file that the node's daemon reads at its next start."""
        self.write(f"{name}.yaml", json.dumps({"vhosts": vhosts}, ensure_ascii=False))

    def carp(self, name: str, *options: str, address: str = VIP, password: str = PASSWORD) -> Daemon:
        """Return the command `carp` with ucarp's options on a node, not started."""
        secret = self.write(f"{name}.pass", f"{password}\n")
        state = self.folder / f"{name}.state"
        words = ["-i", "eth0", "-v", "42", "-o", str(secret), "-a", address, "--json", "-f", "none"]
        words += ["--state-dir", str(state), *options]
        return Daemon(self.node(name), self._log(name), [*_program(""), *words])

    def ucarp(self, name: str, *options: str, address: str = VIP, password: str = PASSWORD) -> Ucarp:
        """Return ucarp on a node, not started."""
        program = shutil.which("ucarp", path="/usr/sbin:/usr/bin:/sbin:/bin")
        require("ucarp", program is not None, "Debian's package ucarp is not installed")
        up = self.script("vip-up", 'exec ip address add "$2/32" dev "$1"')
        down = self.script("vip-down", 'exec ip address del "$2/32" dev "$1"')
        node = self.node(name)
        words = [str(program), "-i", "eth0", "-s", node.address, "-v", "42", "-p", password, "-a", address]
        words += ["-u", up, "-d", down, "-z", "-f", "none", *options]
        return Ucarp(node, self._log(name), words)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.{len(list(self.folder.glob('*.log')))}.log"

    def pair(self, *, options: Sequence[str] = (), **changes: Any) -> tuple[Daemon, Daemon]:
        """Return a running master on n1 and a running backup on n2 that has heard it."""
        one = self.daemon("n1", first(**changes), options=options).start().master()
        two = self.daemon("n2", vhost(**{"advskew": 20, **changes}), options=options).start().backup()
        self.heard(two)
        return one, two

    def heard(self, daemon: Daemon) -> None:
        """Wait until a backup has heard a master, which ends its listening before a first claim."""
        daemon.backup()
        wait_until(lambda: "last heard" in self.status(daemon), 5.0, "a backup hears the master", daemon)

    def status(self, daemon: Daemon) -> str:
        """Return what SIGUSR1 makes a daemon log."""
        before = daemon.count
        daemon.signal(signal.SIGUSR1)
        return str(daemon.wait_event("status", since=before)["message"])


def _parse(text: str) -> list[dict[str, Any]]:
    whole, _, _ = text.rpartition("\n")
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        msg = f"a log of JSON lines has another:\n{text}"
        raise AssertionError(msg) from None


def _program(patch: str) -> list[str]:
    return [sys.executable, *([str(DRIVER), patch] if patch else ["-m", "carp"])]


def addresses(node: Node) -> list[Addr]:
    """Return the addresses of a node's eth0 with lifetime and mark, as the engine reads them."""

    def read() -> list[Addr]:
        netlink = Netlink()
        try:
            link = netlink.link("eth0")
            return [] if link is None else netlink.addresses(link.ifindex)
        finally:
            netlink.close()

    return node.run_in(read)


def found(node: Node, address: str = VIP) -> Addr | None:
    """Return what the kernel says about one address, None where it is not."""
    return next((a for a in addresses(node) if a.address == ipaddress.ip_address(address)), None)


def add(node: Node, address: str, *, lifetime: int | None = None, proto: int = 0) -> None:
    """Add an address to a node's eth0, with a lifetime in seconds and a mark."""
    vip = ipaddress.ip_interface(address)
    seconds = rtnl.FOR_EVER if lifetime is None else lifetime

    def work() -> dict[int, int]:
        netlink = Netlink()
        try:
            link = netlink.link("eth0")
            assert link is not None
            return netlink.submit(
                [rtnl.set_address(link.ifindex, vip, lifetime=seconds, proto=proto, create=True)]
            )
        finally:
            netlink.close()

    assert {} == node.run_in(work)


def delete(node: Node, address: str) -> None:
    """Delete a host address from a node's eth0."""
    length = 128 if ":" in address else 32
    run_ip(node, "address", "del", f"{address}/{length}", "dev", "eth0")


def run(node: Node, *words: str) -> str:
    """Run a program inside a node to its end and return what it prints; it must succeed."""
    program = shutil.which(words[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    require(words[0], program is not None, f"the program {words[0]} is not installed")
    return node.run_in(lambda: subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def run_ip(node: Node, *words: str) -> str:
    """Run iproute2 inside a node and return what it prints."""
    return run(node, "ip", *words)


def holds(node: Node, address: str = VIP) -> bool:
    """Whether the kernel of a node holds an address."""
    return found(node, address) is not None


def gave_up(one: Daemon, since: int) -> bool:
    """Whether the address went with the first change of state after a line; seen late, it may be back."""
    held = holds(one.node)
    in_time(len(one.events("state", since=since)), 2)
    return not held


def wait_until(condition: Callable[[], object], seconds: float, what: str, *logs: Program) -> float:
    """Wait for a condition and return how long that took; fail with what was awaited and the logs."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            tails = "".join(f"\n--- {log.node.name}\n{log.text[-3000:]}" for log in logs)
            msg = f"not within {seconds} s: {what}{tails}"
            raise LateError(msg)
        time.sleep(0.005)
    return time.monotonic() - start


def at(line: dict[str, Any]) -> float:
    """Return when a line was logged, in epoch seconds."""
    return datetime.fromisoformat(line["time"]).timestamp()


def in_time(taken: float, bound: float) -> None:
    """Assert that something took less than it may."""
    if taken >= bound:
        msg = f"took {taken:.4f}, not less than {bound:.4f}"
        raise LateError(msg)


def resumes(one: Daemon, ended: float, bound: float) -> None:
    """Start it again: it goes on as master, where it says so in less than ``bound`` s after its end."""
    before = one.count
    one.start()
    event = one.wait_event("state", 5, since=before)
    in_time(at(event) - ended, bound)  # else the machine is too slow to show anything
    assert "lease-resumed" == event["cause"]


def idle(seconds: float) -> None:
    """Let time pass: for what must NOT happen meanwhile."""
    time.sleep(seconds)
