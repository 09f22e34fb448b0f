"""A lone member that ends and starts again: does a client notice, and how long until the first advert?"""

from __future__ import annotations

import select
import signal
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING

from arena import marked, pause, side_by_side, some, team, until
from contenders import ALL, Load
from figures import Figure

from carp.core.wire import PROTOCOL
from carp.lab.errors import LabError
from carp.lab.node import INTERFACE

if TYPE_CHECKING:
    from arena import Team
    from contenders import Seat

    from carp.lab.node import Node

RESUMED_MS = 200.0
SEALED_MS = 1300.0
"""One interval + 0.3 s."""
UNSEALED_MS = 2300.0
"""One interval + the second that is left to members unknown, + 0.3 s."""
_TIMESTAMP_NS = 35
_LAPSED = 3.4
"""s after which the kernel has taken a lease of 2 s away."""
_ETH_P_IP = 0x0800


class Sniffer:
    """Hears adverts on the far side of the switch, with the kernel's time of their arrival."""

    def __init__(self, client: Node) -> None:
        self._socket = client.run_in(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
        )
        self._socket.bind((INTERFACE, _ETH_P_IP))
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMP_NS, 1)
        self._socket.setblocking(False)

    def first(self, after: float, seconds: float = 8.0) -> float:
        """Return the wall-clock time of the first advert after a wall-clock time. Raises LabError."""
        while time.time() < after + seconds:
            pause(0)
            if not select.select([self._socket], [], [], 0.1)[0]:
                continue
            data, ancillary, _, _ = self._socket.recvmsg(64, 64)
            at = next((s + ns / 1e9 for s, ns in (struct.unpack("@qq", raw) for *_, raw in ancillary)), 0.0)
            if at > after and data[9] == PROTOCOL:
                return at
        msg = f"no advert within {seconds:g} s"
        raise LabError(msg)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _start(group: Team, sniffer: Sniffer) -> float:
    """Start the lone member and return the ms until its first advert."""
    begun = time.time()
    group.start(group.seats[0])
    return (sniffer.first(begun) - begun) * 1000


def restarts(number: signal.Signals, runs: int) -> tuple[list[int], list[float]]:
    """End and start a lone member; return answers lost and ms to the first advert of each."""
    seconds = 0.7 if number == signal.SIGKILL else 1.5
    times = []
    with team(ALL["carp"], Load(), size=1) as group, group.prober() as prober:
        sniffer = Sniffer(group.lan.client)
        seat = group.seats[0]
        group.begin(prober)
        for _ in range(runs):
            pause(1.0 + some(1.0))
            prober.mark("end")
            group.signal(seat, number)
            group.reap(seat)
            pause(some(seconds))
            times.append(_start(group, sniffer))
            pause(3.6)  # longer than any lease: who did not resume has lost the address by now
            if prober.status.owners != {seat.node.mac}:
                msg = f"{number.name}: the lone member is not the owner after its restart"
                raise LabError(msg)
        sniffer.close()
        return [summary.lost for summary in marked(prober, "end")], times


def _is_free(seat: Seat) -> bool:
    return seat.load.addresses()[0] not in seat.node.held()


def first_claims(*, sealed: bool, runs: int) -> list[float]:
    """Start a lone member on an empty segment so many times; return the ms to each first advert."""
    with team(ALL["carp"], Load(sealed=sealed), size=1) as group:
        sniffer = Sniffer(group.lan.client)
        seat = group.seats[0]
        times = []
        for _ in range(runs):
            times.append(_start(group, sniffer))
            group.kill(seat)
            until(partial(_is_free, seat), _LAPSED, "the end of the lease")
        sniffer.close()
        return times


def run(*, quick: bool) -> list[Figure]:
    """Measure ours; the others have nothing to compare: they neither resume nor listen first."""
    runs = 2 if quick else 6
    ends = side_by_side({n.name: partial(restarts, n, runs) for n in (signal.SIGKILL, signal.SIGTERM)})
    killed, ended = ends["SIGKILL"], ends["SIGTERM"]
    claims = side_by_side(
        {str(mode): partial(first_claims, sealed=mode, runs=runs) for mode in (True, False)}
    )
    times = [*killed[1], *ended[1]]
    return [
        Figure("resume", f"kill -9, again within 1 s, most lost of {runs}", "answers", max(killed[0]), 0),
        Figure("resume", f"SIGTERM, again within 1.5 s, most lost of {runs}", "answers", max(ended[0]), 0),
        Figure("resume", f"exec to first advert, longest of {len(times)}", "ms", max(times), RESUMED_MS,
               runs={"carp": times}),
        Figure("resume", "first claim, members known (--seal)", "ms", max(claims["True"]), SEALED_MS,
               runs={"carp": claims["True"]}, note="exec to first advert on an empty segment"),
        Figure("resume", "first claim, members unknown", "ms", max(claims["False"]), UNSEALED_MS,
               runs={"carp": claims["False"]}),
    ]  # fmt: skip
