"""Ask the kernel of the current network namespace about links and addresses, and change addresses."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from carp import bpf, rtnl
from carp.rtnl import Addr, DelAddr, DelLink, Link, NewAddr, NewLink

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROTO_HELD = 112
"""IFA_PROTO of an address that we hold as master."""
PROTO_CEDED = 113
"""IFA_PROTO of an address that we are handing over."""

_TIMEOUT = 2  # seconds until the kernel is taken to have lost a question
_BATCH = 32 * 1024  # bytes in one send: some 400 renewals
_READ = 64 * 1024  # more than the kernel ever puts into one datagram of a list
_QUEUE = 1024 * 1024  # bytes: room for a refusal of each request of a batch, and for a burst of link changes
_ATTEMPTS = 10  # at a list that keeps changing while it is read
_READS = 256  # datagrams in one call of Monitor.read, so that a flood cannot hold up the caller

_SO_RCVBUFFORCE = 33
_GROUPS = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

_SIOCETHTOOL = 0x8946
_ETHTOOL_GLINK = 0x0A
_IFNAMSIZ = 16

_PROTO_SINCE = (5, 18)  # the Linux release that brought IFA_PROTO


@dataclass(frozen=True, slots=True)
class Overrun:
    """Events were lost: list links and addresses again."""


Change: TypeAlias = NewLink | DelLink | NewAddr | DelAddr | Overrun


class Netlink:
    """Questions and orders to the kernel.

    Every method raises OSError when the kernel refuses the question or does not answer it within 2 s.
    """

    def __init__(self) -> None:
        self._seq = 0
        self._sock = _open(_QUEUE)
        # Not Python's time-out: that would make each read wait, also those that must not.
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TIMEOUT, 0))
        self._sock.bind((0, 0))
        self._ioctl = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def links(self) -> list[Link]:
        """List all interfaces."""
        return [event.link for event in self._list(rtnl.dump_links(0)) if isinstance(event, NewLink)]

    def link(self, name: str) -> Link | None:
        """Look up one interface by name."""
        if _device_name(name) is None:
            return None
        try:
            answer = next(self._answers(rtnl.get_link(name, 0)))
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return answer.link if isinstance(answer, NewLink) else None

    def addresses(self, ifindex: int | None = None) -> list[Addr]:
        """List the IPv4 and IPv6 addresses of one interface, or of all."""
        events = self._list(rtnl.dump_addresses(0))
        found = [event.addr for event in events if isinstance(event, NewAddr)]
        return found if ifindex is None else [addr for addr in found if addr.ifindex == ifindex]

    def submit(self, messages: Sequence[bytes]) -> dict[int, int]:
        """Carry out encoded requests in order, in one send; return {position: errno} of those that failed.

        rtnetlink works a request off before the send returns and answers, without NLM_F_ACK, refusals only.
        So what can be read right after the send is complete. A request whose answer was lost counts as
        failed (ENOBUFS): nobody may rely on a renewal that is not certain.
        """
        failed: dict[int, int] = {}
        start = size = 0
        for position, message in enumerate(messages):
            if size and size + len(message) > _BATCH:
                failed |= self._send(messages, start, position)
                start, size = position, 0
            size += len(message)
        if size:
            failed |= self._send(messages, start, len(messages))
        return failed

    def carrier(self, name: str) -> bool | None:
        """Ask the driver whether the link is there, now; None where it cannot say.

        An event about lost carrier can come up to 1 s late; this cannot. An interface set down has none.
        Drivers refuse in many ways (no such question, busy, I/O error), and unknown is not lost.
        """
        encoded = _device_name(name)
        if encoded is None:
            return None
        value = array.array("I", (_ETHTOOL_GLINK, 0))
        try:
            fcntl.ioctl(self._ioctl, _SIOCETHTOOL, struct.pack("@16sP16x", encoded, value.buffer_info()[0]))
        except OSError:
            return None
        return bool(value[1])

    def close(self) -> None:
        """Close the sockets."""
        self._sock.close()
        self._ioctl.close()

    def _numbers(self, count: int) -> int:
        # 0 is what the kernel puts into messages that nobody asked for.
        self._seq = 1 if self._seq + count > 0xFFFFFFFF else self._seq + 1
        first = self._seq
        self._seq += count - 1
        return first

    def _send(self, messages: Sequence[bytes], start: int, end: int) -> dict[int, int]:
        first = self._numbers(end - start)
        numbered = [rtnl.with_seq(messages[start + i], first + i) for i in range(end - start)]
        self._sock.sendto(b"".join(numbered), (0, 0))
        failed: dict[int, int] = {}
        while True:
            try:
                data = self._sock.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return failed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                failed = dict.fromkeys(range(start, end), errno.ENOBUFS) | failed
                continue
            for event in rtnl.parse(data):
                if isinstance(event, rtnl.Failure) and first <= event.seq < first + end - start:
                    failed[start + event.seq - first] = event.errno

    def _list(self, request: bytes) -> list[rtnl.Event]:
        for _ in range(_ATTEMPTS):
            events = list(self._answers(request))
            if rtnl.Interrupted() not in events:
                return events
        raise OSError(errno.EAGAIN, "netlink: the list changed each time it was read")

    def _answers(self, request: bytes) -> Iterator[rtnl.Event]:
        seq = self._numbers(1)
        self._sock.sendto(rtnl.with_seq(request, seq), (0, 0))
        while True:
            try:
                data = self._sock.recv(_READ)
            except BlockingIOError:
                raise TimeoutError(errno.ETIMEDOUT, f"netlink: no answer within {_TIMEOUT} s") from None
            for event in rtnl.parse(data, seq):
                if isinstance(event, rtnl.Failure):
                    raise OSError(event.errno, f"netlink: {os.strerror(event.errno)}")
                if isinstance(event, rtnl.DumpDone):
                    return
                yield event


class Monitor:
    """Changes of links, removals of addresses, and new addresses that are not ours.

    Our own renewals come hundreds of times a second; the kernel drops them by a filter on the socket, before
    they wake anybody. On kernels without IFA_PROTO it cannot tell them apart and they are delivered.
    """

    def __init__(self) -> None:
        self._sock = _open(_QUEUE)
        self._sock.setblocking(False)
        # Before the groups are joined, so that nothing passes unfiltered.
        bpf.attach(self._sock, _not_ours())
        self._sock.bind((0, _GROUPS))

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def read(self) -> list[Change]:
        """Return what has happened since the last call, without waiting.

        After a flood more may be left; the descriptor then stays readable.
        """
        changes: list[Change] = []
        for _ in range(_READS):
            try:
                data, (sender, _group) = self._sock.recvfrom(_READ)
                if sender == 0:  # the kernel; any other number is a process
                    changes += [event for event in rtnl.parse(data) if isinstance(event, _CHANGES)]
            except BlockingIOError:
                break
            except ValueError:
                changes.append(Overrun())
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes.append(Overrun())
        return changes

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


_CHANGES = (NewLink, DelLink, NewAddr, DelAddr)


def supports_proto(netlink: Netlink) -> bool:
    """Tell whether the kernel keeps IFA_PROTO, so that an address can be recognised as ours.

    Such a kernel marks its own addresses (127.0.0.1, fe80::/10), which also shows a backport; where there are
    none the release decides (Linux 5.18).
    """
    if any(addr.proto for addr in netlink.addresses()):
        return True
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= _PROTO_SINCE


def _device_name(name: str) -> bytes | None:
    encoded = name.encode("utf-8", "surrogateescape")
    return encoded if 0 < len(encoded) < _IFNAMSIZ else None


def _open(queue: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, queue)
    except PermissionError:
        # Without CAP_NET_ADMIN the system's limit (net.core.rmem_max) applies; questions need no more.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, queue)
    return sock


def _not_ours() -> list[bpf.Instruction]:
    # Filters load in network byte order and netlink is in host byte order.
    newaddr = socket.htons(rtnl.RTM_NEWADDR)
    return [
        (bpf.LOAD_HALF, 0, 0, 4),  # the message's type
        (bpf.IF_EQUAL, 0, 8, newaddr),
        (bpf.LOAD_X, 0, 0, rtnl.IFA_PROTO),
        (bpf.LOAD_CONSTANT, 0, 0, 24),  # where the attributes of an address message begin
        (bpf.LOAD_WORD, 0, 0, bpf.NETLINK_ATTRIBUTE),
        (bpf.IF_EQUAL, 4, 0, 0),
        (bpf.MOVE_TO_X, 0, 0, 0),
        (bpf.LOAD_BYTE_AT_X, 0, 0, 4),
        (bpf.IF_EQUAL, 2, 0, PROTO_HELD),
        (bpf.IF_EQUAL, 1, 0, PROTO_CEDED),
        bpf.ACCEPT,
        bpf.DROP,
    ]
