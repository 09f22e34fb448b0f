"""carpd under its control socket: how long operations take, and what they cost the election."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from arena import pause, until
from figures import Figure

from carp.commands.client import Client, NoAnswerError
from carp.lab.network import Lan
from carp.lab.node import module_environment, term

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.lab.node import Node, Process

MANY, SOME = 200, 20
APPLIES_PER_S = 1000 / 60
_BUCKET = re.compile(r'carp_advert_lateness_seconds_bucket\{le="([^"]+)"\} (\d+)')


def vhosts(count: int, advskew: int = 0) -> list[dict[str, Any]]:
    """Return settings of so many vhosts, all of this rank."""
    return [
        {
            "name": f"v{index}", "vhid": index + 1, "interface": "eth0", "password": "bench",
            "addresses": [f"10.99.1.{index + 1}"], "advskew": advskew, "firstClaimant": True,
        }
        for index in range(count)
    ]  # fmt: skip


class Carpd:
    """A carpd without a file on a lone node."""

    def __init__(self, node: Node, folder: Path) -> None:
        self._node = node
        self._folder = folder
        self.generation = 0

    def start(self) -> None:
        """Start it and connect."""
        argv = [sys.executable, "-m", "carp", "daemon", "--state-dir", str(self._folder)]
        with (self._folder / "log").open("ab") as log:
            self.process: Process = self._node.popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=module_environment()
            )
        until(self._connects, 10.0, "a carpd that answers")

    def _connects(self) -> bool:
        with contextlib.suppress(NoAnswerError):
            self.client = Client(str(self._folder / "carpd.sock"), patience=30.0)
            return True
        return False

    def apply(self, count: int, advskew: int = 0) -> float:
        """Give the whole wanted set; return the ms until it is confirmed."""
        self.generation += 1
        wanted = vhosts(count, advskew)
        began = time.monotonic()
        self.client.call("apply", uid="bench", generation=self.generation, cluster="bench", vhosts=wanted)
        return (time.monotonic() - began) * 1000

    def status(self) -> float:
        """Return the ms that the status takes."""
        began = time.monotonic()
        self.client.call("status")
        return (time.monotonic() - began) * 1000

    def masters(self) -> int:
        """Return how many vhosts are master."""
        return sum(each["state"] == "MASTER" for each in self.client.call("status")["vhosts"])

    def lateness(self) -> dict[float, int]:
        """Return how many adverts were at most so many seconds late."""
        return {float(le): int(n) for le, n in _BUCKET.findall(self.client.call("metrics")["text"])}

    def memory(self) -> float:
        """Return the RSS in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024

    def ran(self) -> float:
        """Return the ms that it has been on a core."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e6

    def silent_reader(self) -> socket.socket:
        """Return a client that watches and asks, and reads nothing."""
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        sock.connect(str(self._folder / "carpd.sock"))
        lines = [{"v": 1, "op": "watch"}, *[{"v": 1, "op": "status"}] * 500]
        with contextlib.suppress(BlockingIOError):
            sock.send("".join(json.dumps(line) + "\n" for line in lines).encode())
        return sock


@contextlib.contextmanager
def _lone() -> Iterator[Carpd]:
    with (
        tempfile.TemporaryDirectory(prefix="carp-bench-") as folder,
        Lan(prefix="carp-t-", subnet="10.99.0.0/16", subnet6=None) as lan,
    ):
        carpd = Carpd(lan.add_node("n1"), Path(folder))
        lan.add_client()
        carpd.start()
        yield carpd


def _many(*, quick: bool) -> list[Figure]:
    """Measure operations on many vhosts, a reader that never reads, and a start from the stored settings."""
    with _lone() as carpd:
        first = carpd.apply(MANY)
        until(lambda: carpd.masters() == MANY, 30.0, f"{MANY} masters")
        again = [carpd.apply(MANY, advskew) for advskew in (0, 1, 2)]
        shown = [carpd.status() for _ in range(5 if quick else 20)]
        before = carpd.memory()
        with carpd.silent_reader():
            for _ in range(50):
                carpd.status()
                pause(0.02)
            grown = carpd.memory() - before
        carpd.process.kill()
        carpd.process.wait()
        pause(4.0)  # longer than any lease: as after a reboot
        carpd.start()
        until(
            lambda: all(v["state"] != "INIT" for v in carpd.client.call("status")["vhosts"]), 20.0, "backups"
        )
        ran = carpd.ran()
        term(carpd.process)
    return [
        Figure("daemon", f"apply of {MANY} new vhosts", "ms", first, 300.0),
        Figure("daemon", f"apply of {MANY} vhosts, all changed", "ms", max(again[1:]), 300.0),
        Figure("daemon", f"apply of {MANY} vhosts, none changed", "ms", again[0], 300.0),
        Figure("daemon", f"status of {MANY} vhosts", "ms", median(shown), 20.0, runs={"carp": shown}),
        Figure("daemon", "a client that asks 500 times and never reads, RSS", "MiB", max(grown, 0.0), 2.0),
        Figure("daemon", f"start with {MANY} stored vhosts until all take part, CPU", "ms", ran, 1000.0),
    ]  # fmt: skip


def _storm(seconds: float) -> list[Figure]:
    """Measure the election while all vhosts are changed a thousand times a minute."""
    with _lone() as carpd:
        carpd.apply(SOME)
        until(lambda: carpd.masters() == SOME, 20.0, f"{SOME} masters")
        for turn in range(100):  # until then the allocator still grows
            carpd.apply(SOME, turn % 2)
        before, memory = carpd.lateness(), carpd.memory()
        began, applies = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            carpd.apply(SOME, applies % 2)
            applies += 1
            pause(max(0.0, began + applies / APPLIES_PER_S - time.monotonic()))
        counts = {le: count - before[le] for le, count in carpd.lateness().items()}
        grown = carpd.memory() - memory
        masters = carpd.masters()
        term(carpd.process)
    total = max(counts.values())
    p99 = min(le for le, count in counts.items() if count >= 0.99 * total)
    what = f"{applies * 60 / seconds:.0f} applies a minute of {SOME} changed vhosts"
    return [
        Figure("daemon", f"{what}, lateness of adverts, p99", "ms", p99 * 1000, 5.0, note=f"{total} adverts"),
        Figure("daemon", f"{what}, growth of RSS in {seconds:.0f} s", "MiB", max(grown, 0.0), 1.0),
        Figure("daemon", f"{what}, addresses lost", "addresses", SOME - masters, 0.0),
    ]


def run(*, quick: bool) -> list[Figure]:
    """Measure ours; the others cannot be told anything while they run."""
    return [*_many(quick=quick), *_storm(20.0 if quick else 600.0)]
