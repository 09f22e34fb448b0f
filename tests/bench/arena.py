"""A LAN with members of one kind on it and a client that measures; several of them side by side."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from contenders import Seat

from carp.lab.client import Prober
from carp.lab.errors import LabError
from carp.lab.network import Lan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from contenders import Contender, Load

    from carp.lab.measure import Summary

_T = TypeVar("_T")
_abort = threading.Event()


class AbortedError(Exception):
    """The benchmark was told to end."""


def pause(seconds: float) -> None:
    """Wait. Raises AbortedError when everything shall end."""
    if _abort.wait(seconds):
        raise AbortedError


def some(seconds: float) -> float:
    """Return a random part of this time, so that faults fall on every phase."""
    return random.random() * seconds


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition. Raises LabError after so many seconds, AbortedError when everything shall end."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            msg = f"{what}: not within {seconds:g} s"
            raise LabError(msg)
        pause(0.01)


def side_by_side(jobs: Mapping[str, Callable[[], _T]]) -> dict[str, _T]:
    """Run all jobs at once, each with a LAN of its own, and return their results by name.

    The first failure, or Ctrl-C, ends the others, which take their LANs away before this returns.
    """
    with ThreadPoolExecutor(max_workers=len(jobs)) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        try:
            for future in wait(futures.values(), return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            _abort.set()
            raise
        return {name: future.result() for name, future in futures.items()}


class Team:
    """Members of one kind that share the addresses of a load, on a LAN of their own, with a client."""

    def __init__(self, lan: Lan, contender: Contender, load: Load, folder: Path, size: int) -> None:
        self.lan = lan
        self.contender = contender
        self.load = load
        self.seats = []
        for rank in range(size):
            home = folder / f"n{rank + 1}"
            home.mkdir()
            self.seats.append(Seat(lan.add_node(f"n{rank + 1}"), rank, home, load))
        lan.add_client()

    def start(self, seat: Seat) -> None:
        """Start a member."""
        self.contender.start(seat)

    def signal_all(self, seat: Seat, number: signal.Signals) -> None:
        """Send a signal to every process of a member at once, also to children, youngest first."""
        for pid in reversed(seat.node.namespace.pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self, seat: Seat) -> None:
        """SIGKILL a member; a child left alive would end in good order after its parent."""
        self.signal_all(seat, signal.SIGKILL)
        self.reap(seat)

    def signal(self, seat: Seat, number: signal.Signals) -> None:
        """Send a signal to what was started for a member (its children get theirs from it)."""
        for process in seat.processes:
            process.send_signal(number)

    def reap(self, seat: Seat) -> None:
        """Wait until a member's processes are gone. Raises LabError after 10 s."""
        until(lambda: all(p.poll() is not None for p in seat.processes), 10.0, "the end of a member")
        seat.processes.clear()

    def begin(self, prober: Prober) -> None:
        """Start all members, the best first, and wait until it holds the first address alone."""
        for seat in self.seats:
            self.start(seat)
            pause(0.3)
        self.settle(prober)

    def settle(self, prober: Prober, seconds: float = 1.5) -> None:
        """Wait until one and the same member alone has owned the address for some time."""
        since, before = time.monotonic(), prober.status.owners

        def steady() -> bool:
            nonlocal since, before
            owners = prober.status.owners
            if len(owners) != 1 or owners != before:
                since, before = time.monotonic(), owners
            return time.monotonic() - since > seconds

        until(steady, 25.0, f"{self.contender.name}: a single owner")

    def reunite(self, seat: Seat, prober: Prober) -> None:
        """Mend a member's cable and wait until one owner is left and the client gets answers.

        The client forgets who had the address: keepalived's winner does not announce itself again, and
        the client would ask the loser for seconds.
        """
        self.lan.mend(seat.node)
        self.settle(prober)
        self.lan.client.popen(["ip", "neigh", "flush", "all"]).wait()
        prober.wait_answering(5.0)

    def owner(self, prober: Prober) -> Seat:
        """Return the member that owns the address alone. Raises LabError when there is none for 3 s.

        A busy machine answers a question late now and then, which looks like nobody for a moment.
        """
        until(lambda: len(prober.status.owners) == 1, 3.0, f"{self.contender.name}: a single owner")
        mac = next(iter(prober.status.owners))
        return next(seat for seat in self.seats if seat.node.mac == mac)

    def takeovers(self) -> int:
        """Count in the logs of ours how often a backup has become master."""
        return sum(seat.log.read_text(encoding="utf-8").count("BACKUP -> MASTER") for seat in self.seats)

    def other(self, seat: Seat) -> Seat:
        """Return the other member of two."""
        return self.seats[1 - seat.rank]

    def wait_owner(self, prober: Prober, seat: Seat, seconds: float = 15.0) -> None:
        """Wait until a member owns the address, alone or not. Raises LabError."""
        until(lambda: seat.node.mac in prober.status.owners, seconds, f"{self.contender.name}: a takeover")

    def prober(self, *, interval_ms: float = 1.0, arp_ms: float = 5.0) -> Prober:
        """Return a client that asks the first address."""
        return Prober(self.lan.client, self.load.addresses()[0], interval_ms=interval_ms, arp_ms=arp_ms)


@contextlib.contextmanager
def team(contender: Contender, load: Load, *, size: int = 2) -> Iterator[Team]:
    """Build a LAN with members, not yet started, and take everything away at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="carp-bench-") as folder,
        Lan(prefix="carp-t-", subnet="10.99.0.0/16", subnet6=None) as lan,
    ):
        yield Team(lan, contender, load, Path(folder), size)


def marked(prober: Prober, label: str, *, tolerance_ms: float = 0.0) -> list[Summary]:
    """End a measurement and return the figures of each stretch that began with this mark."""
    found = prober.stop().per_mark(tolerance_ms=tolerance_ms)
    return [summary for mark, summary in found if mark.label == label]
