"""A bad cable in user space: copy frames between two interfaces with loss, delay and duplication.

For kernels without netem. Runs as its own process inside the switch's namespace:
`python -m carp.lab.link A B`; each line on standard input is a JSON object with new settings, end of file
ends it. Frames keep their virtio header (PACKET_VNET_HDR), so checksum and segmentation offload of veth
survive the copy.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from dataclasses import dataclass

_SOL_PACKET = 263
_PACKET_VNET_HDR = 15
_PACKET_IGNORE_OUTGOING = 23
_ETH_P_ALL = 3
_FRAME_MAX = 10 + 18 + 65_535
_BURST = 64


@dataclass(frozen=True)
class Quality:
    """How bad the cable is, the same in both directions."""

    loss: float = 0.0  # percent of frames that vanish, 0-100
    delay_ms: float = 0.0  # added to each frame
    jitter_ms: float = 0.0  # added on top, uniform in [0, jitter]: frames overtake each other
    duplicate: float = 0.0  # percent of frames that arrive twice, 0-100


class Cable:
    """Decide for each frame when it comes out of the cable; pure apart from its seeded randomness."""

    def __init__(self, seed: int) -> None:
        self.quality = Quality()
        self._random = random.Random(seed)  # noqa: S311 - reproducible faults, not secrets
        self._order = itertools.count()
        self._queue: list[tuple[float, int, int, bytes]] = []

    def push(self, side: int, frame: bytes, now: float) -> None:
        """Put a frame in that shall leave on `side`; `now` in seconds."""
        quality = self.quality
        if self._random.uniform(0, 100) < quality.loss:
            return
        copies = 2 if self._random.uniform(0, 100) < quality.duplicate else 1
        for _ in range(copies):
            delay = quality.delay_ms + self._random.uniform(0, quality.jitter_ms)
            heapq.heappush(self._queue, (now + delay / 1000, next(self._order), side, frame))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """Take out the frames whose time has come, as (side, frame)."""
        out = []
        while self._queue and self._queue[0][0] <= now:
            _, _, side, frame = heapq.heappop(self._queue)
            out.append((side, frame))
        return out

    def deadline(self) -> float | None:
        """When the next frame is due, or None."""
        return self._queue[0][0] if self._queue else None


def _open(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    sock.bind((interface, _ETH_P_ALL))
    sock.setblocking(False)
    return sock


def _settings(buffer: bytes, cable: Cable) -> bytes:
    """Apply each whole line of `buffer`, return the rest."""
    *lines, rest = buffer.split(b"\n")
    for line in lines:
        cable.quality = Quality(**json.loads(line))
    return rest


def _receive(sock: socket.socket, side: int, cable: Cable) -> None:
    with contextlib.suppress(BlockingIOError, OSError):  # OSError: the interface went down
        for _ in range(_BURST):
            cable.push(side, sock.recv(_FRAME_MAX), time.monotonic())


def _forward(sides: tuple[socket.socket, socket.socket], cable: Cable) -> None:
    control = b""
    while True:
        deadline = cable.deadline()
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        watched: list[socket.socket | int] = [*sides, 0]
        ready, _, _ = select.select(watched, [], [], timeout)
        if 0 in ready:
            chunk = os.read(0, 4096)
            if not chunk:
                return
            control = _settings(control + chunk, cable)
        for index, sock in enumerate(sides):
            if sock in ready:
                _receive(sock, 1 - index, cable)
        for side, frame in cable.due(time.monotonic()):
            with contextlib.suppress(OSError):  # a full queue or a downed interface loses the frame
                sides[side].send(frame)


def main(argv: list[str]) -> int:
    """Forward between the interfaces argv[0] and argv[1] until end of file; argv[2] is the seed."""
    sides = (_open(argv[0]), _open(argv[1]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    _forward(sides, Cable(int(argv[2])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
