"""What passes a node: every frame of protocol 112 and every ARP, with the kernel's time of arrival."""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from carp.core import wire
from carp.core.wire import Advert

if TYPE_CHECKING:
    from types import TracebackType

    from carp.lab.node import Node

_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ETH_P_ALL = 3


@dataclass(frozen=True)
class Frame:
    """One Ethernet frame; ``at`` in seconds of CLOCK_MONOTONIC."""

    at: float
    data: bytes

    @property
    def source_mac(self) -> str:
        return self.data[6:12].hex(":")

    @property
    def destination_mac(self) -> str:
        return self.data[:6].hex(":")

    @property
    def packet(self) -> bytes:
        """What follows the Ethernet header."""
        return self.data[14:]

    @property
    def is_v6(self) -> bool:
        return self.data[12:14] == b"\x86\xdd"

    @property
    def is_arp(self) -> bool:
        return self.data[12:14] == b"\x08\x06"

    @property
    def is_carp(self) -> bool:
        if self.is_v6:
            return self.packet[6] == wire.PROTOCOL
        return self.data[12:14] == b"\x08\x00" and self.packet[9] == wire.PROTOCOL

    @property
    def source(self) -> str:
        if self.is_v6:
            return socket.inet_ntop(socket.AF_INET6, self.packet[8:24])
        return socket.inet_ntoa(self.packet[12:16])

    @property
    def destination(self) -> str:
        if self.is_v6:
            return socket.inet_ntop(socket.AF_INET6, self.packet[24:40])
        return socket.inet_ntoa(self.packet[16:20])

    @property
    def payload(self) -> bytes:
        """The CARP header."""
        return self.packet[40:] if self.is_v6 else self.packet[20:56]

    @property
    def advert(self) -> Advert:
        """The advert; fails the test for anything else."""
        advert = wire.unpack(self.payload)
        assert isinstance(advert, Advert), advert
        return advert


class Sniffer:
    """Listens at a node's interface from `with` to its end."""

    def __init__(self, node: Node, interface: str = "eth0") -> None:
        self._frames: list[Frame] = []
        # A stop between the two clocks makes it too small.
        self._offset = max(time.time() - time.monotonic() for _ in range(5))
        self._socket = node.run_in(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.settimeout(0.1)
        self._ended = False
        self._socket.bind((interface, _ETH_P_ALL))
        self._reader = threading.Thread(target=self._read, name="sniffer", daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._reader.join()
        self._socket.close()

    def adverts(self, source: str | None = None, *, since: float = 0.0) -> list[Frame]:
        """Return the frames of protocol 112 so far, of one source, from a time on."""
        return [f for f in list(self._frames) if f.is_carp and f.at >= since and source in (None, f.source)]

    def gratuitous(self, mac: str, *, since: float = 0.0) -> list[Frame]:
        """Return the ARP frames so far in which the sender's address is the target's, by hardware address."""
        return [
            f
            for f in list(self._frames)
            if f.is_arp and f.at >= since and f.source_mac == mac and f.packet[14:18] == f.packet[24:28]
        ]

    def _read(self) -> None:
        while not self._ended:
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, 64)
            except TimeoutError:
                continue
            except OSError:  # the interface went down
                continue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
            frame = Frame(seconds + nanoseconds / 1e9 - self._offset, data)
            if len(data) >= 42 and (frame.is_arp or frame.is_carp):
                self._frames.append(frame)
