"""Hear all of protocol 112 on one interface, what this host sends included.

A cooked packet socket: the kernel takes the link header away whatever the link, and names the sender.
Its filter runs in the kernel, so that other traffic costs nothing here.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Final

from carp import bpf
from carp.core.errors import CarpError, ConfigError
from carp.core.wire import PROTOCOL
from carp.inspect.frames import EXTENSIONS, Miss, Packet, dissect_ip

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_ETH_P_ALL: Final = 0x0003
"""Any narrower protocol would leave out what this host sends (packet(7))."""
_SOL_PACKET: Final = 263
_ADD_MEMBERSHIP: Final = 1
_MR_ALLMULTI: Final = 2
_MAX_PACKET: Final = 65_535

_PROTOCOL_OF_FRAME: Final = 0xFFFFF000
"""Ancillary load of the Ethernet type (linux/filter.h, SKF_AD_PROTOCOL)."""
_V4_PROTOCOL_OFFSET: Final = 9
_V6_PROTOCOL_OFFSET: Final = 6


def filter_program() -> list[bpf.Instruction]:
    """Return the filter: untagged (or priority-tagged) IP whose protocol is 112.

    An IPv6 packet with extension headers passes and is dissected here. Frames of a VLAN belong to that
    VLAN's own interface, not to its parent's segment.
    """
    v6 = (PROTOCOL, *EXTENSIONS)
    return [
        (bpf.LOAD_HALF, 0, 0, bpf.VLAN_TAG),
        (bpf.AND, 0, 0, 0x0FFF),
        (bpf.IF_EQUAL, 0, 6 + len(v6), 0),
        (bpf.LOAD_HALF, 0, 0, _PROTOCOL_OF_FRAME),
        (bpf.IF_EQUAL, 0, 2, 0x0800),
        (bpf.LOAD_BYTE, 0, 0, _V4_PROTOCOL_OFFSET),
        (bpf.IF_EQUAL, 3 + len(v6), 2 + len(v6), PROTOCOL),
        (bpf.IF_EQUAL, 0, 1 + len(v6), 0x86DD),
        (bpf.LOAD_BYTE, 0, 0, _V6_PROTOCOL_OFFSET),
        *((bpf.IF_EQUAL, len(v6) - index, 0, value) for index, value in enumerate(v6)),
        bpf.DROP,
        bpf.ACCEPT,
    ]


class Tap:
    """An open packet socket. Raises ConfigError for an unknown interface or a missing capability."""

    def __init__(self, interface: str) -> None:
        """Start to hear ``interface``."""
        self.interface = interface
        try:
            self._index = socket.if_nametoindex(interface)
        except (OSError, ValueError):
            raise ConfigError("--interface", interface, "does not exist") from None
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError:
            problem = "cannot be watched without the capability CAP_NET_RAW (run it as root)"
            raise ConfigError("--interface", interface, problem) from None
        try:
            self._listen()
        except OSError as error:
            self._socket.close()
            raise ConfigError("--interface", interface, f"cannot be watched: {error.strerror}") from None

    def _listen(self) -> None:
        """Attach the filter before the binding, so that nothing else is ever queued."""
        bpf.attach(self._socket, filter_program())
        membership = struct.pack("iHH8s", self._index, _MR_ALLMULTI, 0, b"")
        self._socket.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
        self._socket.bind((self.interface, _ETH_P_ALL))

    def receive(self, timeout: float) -> Packet | None:
        """Return a packet, or None when none came within ``timeout`` seconds.

        None may come earlier: the filter lets other IPv6 packets with extension headers pass, and a link
        that goes down wakes us up. Raises CarpError when the interface has gone.
        """
        self._socket.settimeout(max(timeout, 0.001))
        try:
            data, link = self._socket.recvfrom(_MAX_PACKET)
        except TimeoutError:
            self._check()
            return None
        except OSError as error:
            if error.errno != errno.ENETDOWN:
                raise
            self._check()
            return None
        packet = dissect_ip(data, link[4])
        return None if isinstance(packet, Miss) else packet

    def _check(self) -> None:
        """Raise CarpError unless the interface that was opened still exists, by whatever name.

        The kernel does not tell: one that was down before it went leaves the socket silent.
        """
        try:
            socket.if_indextoname(self._index)
        except OSError:
            msg = f"--interface: {self.interface!r} has gone"
            raise CarpError(msg) from None

    def __enter__(self) -> Self:
        """Return the tap itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the socket."""
        self._socket.close()
