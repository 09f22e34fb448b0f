"""Three nodes with carpd, their addresses and who asks for them: `from chaos_world import World`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from carp.commands.client import Client, NoAnswerError
from carp.lab.client import Prober
from carpd import children
from chaos_verdict import Footprint
from nodefix import PASSWORD, Lab, found

if TYPE_CHECKING:
    import signal
    from types import TracebackType

    from nodefix import Daemon

NODES = ("n1", "n2", "n3")
SURVIVOR = "n3"
"""Its carpd is never killed, so that growth shows."""
QUICK = "quick"
"""The vhost that always goes back to the best node."""
ADDRESSES = {
    "web": ["10.99.0.252"],
    "dual": ["10.99.0.251", "fd99::251"],
    "own": ["10.99.0.250"],
    QUICK: ["fd99::249"],
}
_BUCKET = re.compile(r'carp_advert_lateness_seconds_bucket\{le="([^"]+)"\} (\d+)')
ASK_MS = 10.0
"""ms between two echo requests for each address; its owner is asked for half as often."""
_DISK = "256k"


def skew(name: str, node: str) -> int:
    """Return a node's rank for a vhost: another node is first for each."""
    shift = {"web": 0, "dual": 1, "own": 2, QUICK: 0}.get(name, 0)
    return (NODES.index(node) - shift) % len(NODES) * 10


class Broken(AssertionError):  # noqa: N818 (an invariant, not an error of the run)
    """Something did not happen, or not in time."""


class Member:
    """One node's carpd with what it was told."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.name = name
        self.node = lab.node(name)
        self.state = lab.folder / f"{name}.state"
        self.flag = lab.write(f"{name}.up", "")
        self.generation = 0
        self.daemon: Daemon = lab.daemon(name, *self.file_vhosts(), options=["--respawn"])
        self._read = self._read_before = 0

    def vhost(self, name: str, **changes: Any) -> dict[str, Any]:
        """Return the settings of one vhost here."""
        number, rank = list(ADDRESSES).index(name), skew(name, self.name)
        base = {
            "name": name, "vhid": 42 + number, "interface": "eth0", "addresses": ADDRESSES[name],
            "password": PASSWORD, "advskew": rank, "firstClaimant": rank == 0,
        }  # fmt: skip
        return base | changes

    def file_vhosts(self, **changes: Any) -> list[dict[str, Any]]:
        """Return what stands in the file: one with a health check, one sealed with two families."""
        check = {
            "name": "app", "exec": {"command": ["/usr/bin/test", "-e", str(self.flag)]},
            "period": "400ms", "timeout": "350ms", "rise": 1, "fall": 1,
        }  # fmt: skip
        return [
            self.vhost("web", healthChecks=[check], **changes),
            self.vhost("dual", authentication={"mode": "Sealed"}, **changes),
        ]

    def socket_vhosts(self, more: int = 0) -> list[dict[str, Any]]:
        """Return what is applied over the socket: a sealed one and one that preempts; ``more`` advskew."""
        own = self.vhost("own", authentication={"mode": "Sealed"})
        quick = self.vhost(QUICK, deadRatio=2, preempt={"mode": "Always"})
        return [each | {"advskew": each["advskew"] + more} for each in (own, quick)]

    @property
    def parent(self) -> int:
        return self.daemon.running.pid

    @property
    def worker(self) -> int:
        """The process that takes part in the elections; 0 while it is being started again."""
        try:
            return next(iter(children(self.parent)), 0)
        except OSError:
            return 0

    def client(self, patience: float = 5.0) -> Client:
        return Client(str(self.state / "carpd.sock"), patience)

    def call(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """Carry out one operation, as soon as carpd answers. Raises RefusedError."""
        connected: list[Client] = []
        wait(lambda: self._connects(connected), 6.0, f"{self.name} answers on its socket")
        with connected[0] as client:
            return client.call(op, **fields)

    def _connects(self, connected: list[Client]) -> bool:
        try:
            connected.append(self.client())
        except NoAnswerError:
            return False
        return True

    def apply(self, more: int = 0) -> dict[str, Any]:
        """Give the whole wanted set over the socket, as a newer one."""
        self.generation += 1
        given = {"uid": "u-1", "cluster": "c-1", "generation": self.generation}
        return self.call("apply", vhosts=self.socket_vhosts(more), **given)

    def configure(self, *vhosts: dict[str, Any]) -> None:
        """Write the file; the usual one without vhosts."""
        self.lab.configure(self.name, *(vhosts or self.file_vhosts()))

    def signal(self, number: signal.Signals, pid: int = 0) -> int:
        """Send the worker (or another process of it) a signal; return its pid."""
        wait(lambda: pid or self.worker, 6.0, f"{self.name} has a worker")
        target = pid or self.worker
        os.kill(target, number)
        return target

    def start(self) -> None:
        self.daemon.start()

    def new_text(self) -> str:
        """Return the whole lines that it has logged since this was last asked."""
        with self.daemon.log.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_before, self._read = self._read, self._read + len(whole)
        return whole.decode(errors="replace")

    def recent_text(self) -> str:
        """Return what it has logged since `new_text` was asked the last time but one."""
        return self.daemon.log.read_bytes()[self._read_before :].decode(errors="replace")

    def footprint(self, pid: int) -> Footprint:
        """Return what one of its processes takes."""
        proc = Path(f"/proc/{pid}")
        rollup = (proc / "smaps_rollup").read_text(encoding="ascii")
        resident = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Rss:"))
        descriptors, threads = len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir()))
        return Footprint(pid, descriptors, threads, resident / 1024)

    def lateness(self) -> dict[float, int]:
        """Return how many adverts were at most so many s late, since its worker started."""
        return {float(le): int(count) for le, count in _BUCKET.findall(self.call("metrics")["text"])}


def wait(condition: Any, seconds: float, what: str) -> None:
    """Wait for a condition. Raises Broken when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            msg = f"not within {seconds:g} s: {what}"
            raise Broken(msg)
        time.sleep(0.02)


class World:
    """The lab with everything running; ends and removes all of it."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _open(self) -> None:
        self.lab = self._stack.enter_context(Lab())
        self.members = {name: Member(self.lab, name) for name in NODES}
        for member in self.members.values():
            self._mount(member.state)
        self.probers = {
            address: self._stack.enter_context(
                Prober(self.lab.client, address, interval_ms=ASK_MS, arp_ms=2 * ASK_MS)
            )
            for addresses in ADDRESSES.values()
            for address in addresses
        }

    def _mount(self, folder: Path) -> None:
        folder.mkdir()
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK},mode=0700", "carp-t", str(folder)], check=True
        )
        self._stack.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members.values():
            member.node.kill_all()  # what is stopped would keep the disks busy
        self._stack.close()

    def start(self) -> str:
        """Start every carpd and give it its settings; return what that was."""
        for member in self.members.values():
            member.start()
        for member in self.members.values():
            member.apply()
        self.settle(30.0)
        return f"{len(self.members)} nodes, {len(ADDRESSES)} vhosts"

    def statuses(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what each node shows, by vhost and node. Raises NoAnswerError."""
        shown: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in ADDRESSES}
        for member in self.members.values():
            with member.client(2.0) as client:
                for each in client.call("status")["vhosts"]:
                    shown.setdefault(each["name"], {})[member.name] = each
        return shown

    def master(self, vhost: str) -> Member:
        """Return who is master of a vhost. Raises Broken while nobody is."""
        names = [name for name, each in self.statuses()[vhost].items() if each["state"] == "MASTER"]
        if not names:
            msg = f"{vhost}: nobody is master"
            raise Broken(msg)
        return self.members[names[0]]

    def settle(self, seconds: float = 15.0) -> float:
        """Wait until everything is as it should be; return the s that took. Raises Broken."""
        began, why = time.monotonic(), ""
        while time.monotonic() < began + seconds:
            why = self._unsettled()
            if not why:
                return time.monotonic() - began
            time.sleep(0.1)
        msg = f"not settled within {seconds:g} s: {why}"
        raise Broken(msg)

    def _unsettled(self) -> str:
        try:
            shown = self.statuses()
        except NoAnswerError as error:
            return str(error)
        if set(shown) != set(ADDRESSES):
            return f"vhosts are {', '.join(shown)}"
        for name, nodes in shown.items():
            why = self._unsettled_vhost(name, nodes)
            if why:
                return f"{name}: {why}"
        return ""

    def _unsettled_vhost(self, name: str, nodes: dict[str, dict[str, Any]]) -> str:
        states = {node: each["state"] for node, each in nodes.items()}
        masters = [node for node, state in states.items() if state == "MASTER"]
        if len(nodes) != len(NODES) or sorted(states.values()) != ["BACKUP", "BACKUP", "MASTER"]:
            return f"states are {states}"
        if name == QUICK and skew(name, masters[0]) != 0:
            return f"{masters[0]} is master although it is not the best"
        for node, each in nodes.items():
            heard = each["master"]
            if each["demotions"] or each["leaving"] is not None:
                return f"{node} is demoted or leaving"
            if each["state"] == "BACKUP" and (heard is None or heard["lastHeard"] > 1.0):
                return f"{node} has heard no master lately"
        return self._unsettled_addresses(ADDRESSES[name], self.members[masters[0]])

    def _unsettled_addresses(self, addresses: list[str], owner: Member) -> str:
        for address in addresses:
            status = self.probers[address].status
            holders = [each.name for each in self.members.values() if found(each.node, address)]
            if holders != [owner.name]:
                return f"{address} is held by {holders}, {owner.name} is master"
            if status.owners != {owner.node.mac}:
                return f"{address} is answered by {sorted(status.owners)}"
            if status.time_ns - status.last_answer_ns > 100_000_000:
                return f"{address} does not answer the client"
        return ""

    def tails(self, count: int = 40) -> str:
        """Return the last lines of each log, not more than since the step before the last."""
        parts = []
        for member in self.members.values():
            text = member.recent_text()
            parts.append("\n".join([f"--- {member.name}", *map(_short, text.splitlines()[-count:])]))
        return "\n".join(parts)


def _short(line: str) -> str:
    try:
        each = json.loads(line)
        return f"{each['time'][11:23]} {each['level']} {each['vhost'] or '-'} {each['message']}"
    except (ValueError, KeyError, TypeError):
        return line
