"""Raw IP sockets for protocol 112: bytes only, one receiver per interface and family, one sender per source.

Facts behind each option: libraries.md (kernel section) and carp-protocol.md section 1.2.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from carp import bpf
from carp.core.wire import HEADER_LENGTH, PROTOCOL, TTL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carp.core.auth import Address

# Not in the socket module.
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_DO: Final = 2
_IP_RECVERR: Final = 11
_IP_MULTICAST_ALL: Final = 49
_IPV6_RECVERR: Final = 25
_SO_RCVBUFFORCE: Final = 33
_MSG_ERRQUEUE: Final = 0x2000
_LOWDELAY: Final = 0x10
_NETWORK_CONTROL: Final = 7
_RECEIVE_BUFFER: Final = 1 << 20
_OLD_GROUPS: Final = 8
_LONGEST: Final = 60 + 256
"""An IP header and the longest VRRP advert worth a name; longer packets end in the kernel."""
PEER_ERRORS: Final = frozenset(
    {errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ECONNREFUSED, errno.ENOPROTOOPT, errno.ENETUNREACH}
)
"""What one unicast peer's absence looks like: no reason to think that we cannot send."""


class Packet(NamedTuple):
    """One received IP packet of protocol 112."""

    source: Address
    ttl: int
    payload: bytes


_LOAD_LENGTH: Final = 0x80
_JUMP_GREATER: Final = 0x25


def _raw(version: int, interface: str) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK, PROTOCOL)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except OSError:
        sock.close()
        raise
    return sock


class Receiver:
    """Hears every packet of protocol 112 and one family on one interface."""

    def __init__(self, version: int, interface: str, ifindex: int) -> None:
        """Open and filter. Raises OSError: no such interface, no CAP_NET_RAW."""
        self.version = version
        self._ifindex = ifindex
        self._groups: dict[Address, None] = {}
        self._sock = _raw(version, interface)
        bpf.attach(
            self._sock, [(_LOAD_LENGTH, 0, 0, 0), (_JUMP_GREATER, 0, 1, _LONGEST), bpf.DROP, bpf.ACCEPT]
        )
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        except PermissionError:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if version == 4:
            self._sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        else:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def join(self, groups: Iterable[Address]) -> None:
        """Become a member of multicast groups. Raises OSError."""
        for group in groups:
            if group not in self._groups:
                self._member(group, socket.IP_ADD_MEMBERSHIP, socket.IPV6_JOIN_GROUP)
                self._groups[group] = None

    def leave_all_but(self, wanted: set[Address], *, spare: int = _OLD_GROUPS) -> None:
        """Leave the oldest groups that are not wanted, but for ``spare``: the kernel allows 20 (IPv4).

        A few are kept: members that are told of a new group later send to the old one meanwhile.
        """
        unwanted = [group for group in self._groups if group not in wanted]
        for group in unwanted[: max(0, len(unwanted) - spare)]:
            with contextlib.suppress(OSError):  # went with its interface
                self._member(group, socket.IP_DROP_MEMBERSHIP, socket.IPV6_LEAVE_GROUP)
            del self._groups[group]

    def _member(self, group: Address, option4: int, option6: int) -> None:
        if isinstance(group, IPv4Address):
            request = struct.pack("=4s4si", group.packed, b"\0" * 4, self._ifindex)
            self._sock.setsockopt(socket.IPPROTO_IP, option4, request)
        else:
            request = struct.pack("=16si", group.packed, self._ifindex)
            self._sock.setsockopt(socket.IPPROTO_IPV6, option6, request)

    def receive(self) -> Iterator[Packet]:
        """Yield all packets that wait, without waiting. An interface that went down is no error here."""
        read = self._receive4 if self.version == 4 else self._receive6
        while True:
            try:
                packet = read()
            except OSError:
                # Nothing waits; or the link went down, of which the monitor tells; or we just let it go.
                return
            yield packet

    def _receive4(self) -> Packet:
        data = self._sock.recv(_LONGEST)
        if len(data) < 20:
            return Packet(IPv4Address(0), TTL, b"")
        return Packet(IPv4Address(data[12:16]), data[8], data[(data[0] & 0x0F) * 4 :])

    def _receive6(self) -> Packet:
        data, ancillary, _, sender = self._sock.recvmsg(_LONGEST, socket.CMSG_SPACE(4))
        hops = next((int.from_bytes(value, "little") for _, _, value in ancillary), TTL)
        return Packet(IPv6Address(sender[0].partition("%")[0]), hops, data)

    def close(self) -> None:
        """Leave the groups and close."""
        self._sock.close()


class Sender:
    """Sends adverts from one source to one destination (a group or a peer) on one interface."""

    def __init__(self, source: Address, destination: Address, interface: str, ifindex: int) -> None:
        """Open and connect. Raises OSError: no such interface or address, no CAP_NET_RAW."""
        self._to_peer = not destination.is_multicast
        self._sock = sock = _raw(source.version, interface)
        try:
            bpf.attach(sock, [bpf.DROP])
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _NETWORK_CONTROL)
            if source.version == 4:
                self._prepare4(sock, ifindex)
                sock.bind((str(source), 0))
                sock.connect((str(destination), 0))
            else:
                self._prepare6(sock, ifindex)
                sock.bind((str(source), 0, 0, ifindex if source.is_link_local else 0))
                scoped = destination.is_link_local or destination.is_multicast
                sock.connect((str(destination), 0, 0, ifindex if scoped else 0))
        except OSError:
            sock.close()
            raise

    @staticmethod
    def _prepare4(sock: socket.socket, ifindex: int) -> None:
        for option, value in (
            (socket.IP_TTL, TTL),
            (socket.IP_MULTICAST_TTL, TTL),
            (socket.IP_MULTICAST_LOOP, 0),
            (socket.IP_TOS, _LOWDELAY),
            (_IP_MTU_DISCOVER, _IP_PMTUDISC_DO),
            # Without it a qdisc or an egress filter drops in silence, and send reports success.
            (_IP_RECVERR, 1),
        ):
            sock.setsockopt(socket.IPPROTO_IP, option, value)
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("=4s4si", b"\0" * 4, b"\0" * 4, ifindex)
        )

    @staticmethod
    def _prepare6(sock: socket.socket, ifindex: int) -> None:
        for option, value in (
            (socket.IPV6_UNICAST_HOPS, TTL),
            (socket.IPV6_MULTICAST_HOPS, TTL),
            (socket.IPV6_MULTICAST_LOOP, 0),
            (socket.IPV6_MULTICAST_IF, ifindex),
            (_IPV6_RECVERR, 1),
        ):
            sock.setsockopt(socket.IPPROTO_IPV6, option, value)

    def send(self, payload: bytes) -> None:
        """Send once. Raises OSError when the kernel or the egress path refuses it.

        That one unicast peer is away is no reason to think that we cannot send; it is reported here for
        an earlier advert, in place of sending this one.
        """
        try:
            self._sock.send(payload)
        except OSError as error:
            if not self._to_peer or error.errno not in PEER_ERRORS:
                raise
            self._drain_errors()
            self._send_again(payload)

    def _send_again(self, payload: bytes) -> None:
        try:
            self._sock.send(payload)
        except OSError as error:
            if error.errno not in PEER_ERRORS:
                raise

    def _drain_errors(self) -> None:
        try:
            while True:
                self._sock.recvmsg(HEADER_LENGTH, 512, _MSG_ERRQUEUE)
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
