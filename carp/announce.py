"""ARP and Neighbor Discovery: tell the segment who has an address, ask who has it, read the answers."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from carp import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

_BROADCAST = b"\xff" * 6
_ALL_NODES = IPv6Address("ff02::1")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")

_ETH_P_ALL = 0x0003
_ETH_P_IP = 0x0800
_ETH_P_ARP = 0x0806
_ETH_P_IPV6 = 0x86DD
_ICMPV6 = 58

_REQUEST, _REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK_ADDRESS, _TARGET_LINK_ADDRESS = 1, 2
_ROUTER = 0x80000000
_OVERRIDE = 0x20000000

_ETHERNET = struct.Struct("!6s6sH")  # destination, source, type
_ARP = struct.Struct("!HHBBH6s4s6s4s")  # RFC 826: hardware, protocol, lengths, operation, sender, target
_IPV6 = struct.Struct("!IHBB16s16s")  # RFC 8200 3: version, length, next, hops, source, target
_ND = struct.Struct("!BBHI16s")  # RFC 4861 4.3, 4.4: type, code, checksum, flags, target
_ETHERNET_IPV4 = (1, _ETH_P_IP, 6, 4)
_IPV6_AT = _ETHERNET.size
_ND_AT = _IPV6_AT + _IPV6.size
_OPTIONS_AT = _ND_AT + _ND.size
_HOP_LIMIT = 255  # RFC 4861: anything else has passed a router

_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_MULTICAST = 0
_PACKET_OUTGOING = 4
_FRAMES = 64  # in one call of receive, so that a flood cannot hold up the caller
_FRAME_SIZE = 2048


def gratuitous_arp(mac: bytes, address: IPv4Address, *, reply: bool = False) -> bytes:
    """Build the broadcast that makes neighbours replace `address`'s MAC: ucarp's request form, or a reply.

    As in ucarp's the target MAC is the sender's own (carp-protocol 5.4).
    """
    return _arp(_REPLY if reply else _REQUEST, mac, address, mac, address)


def arp_probe(mac: bytes, address: IPv4Address) -> bytes:
    """Build the question who has `address`, which claims nothing itself (RFC 5227 2.1.1: sender 0.0.0.0)."""
    return _arp(_REQUEST, mac, IPv4Address(0), bytes(6), address)


def unsolicited_na(mac: bytes, address: IPv6Address, *, router: bool = False) -> bytes:
    """Build the advertisement that makes neighbours replace `address`'s MAC (RFC 4861 7.2.6).

    `router` says that this host forwards; neighbours drop their default route through one that does not.
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    message = _ND.pack(_ADVERTISEMENT, 0, 0, flags, address.packed)
    option = bytes((_TARGET_LINK_ADDRESS, 1)) + mac
    return _nd(mac, _ALL_NODES_MAC, address, _ALL_NODES, message + option)


def nd_probe(mac: bytes, address: IPv6Address) -> bytes:
    """Build the question who has `address`, claiming nothing (RFC 4862 5.4.2: source ::, no option)."""
    tail = address.packed[13:]
    message = _ND.pack(_SOLICITATION, 0, 0, 0, address.packed)
    group = IPv6Address(_SOLICITED_NODE + tail)
    return _nd(mac, b"\x33\x33\xff" + tail, IPv6Address(0), group, message)


def answer_of(frame: bytes) -> tuple[IPv4Address | IPv6Address, bytes] | None:
    """Return the address that this frame's sender uses, and its MAC; None for any other frame.

    An answer to a probe shows it, and so does every other ARP or ND message sent from the address (RFC 5227
    2.1.1 counts them as conflicts too). Never raises. Checksums are not looked at: in a frame from this host
    the network card may still have to fill them in.
    """
    if len(frame) < _ETHERNET.size:
        return None
    _, _, kind = _ETHERNET.unpack_from(frame)
    if kind == _ETH_P_ARP:
        return _arp_sender(frame)
    return _nd_sender(frame) if kind == _ETH_P_IPV6 else None


class FrameSocket:
    """Sends whole Ethernet frames on one interface; receives ARP and ND where asked to.

    A listening one makes the kernel look at every frame of the interface: keep it open only while probing.
    """

    def __init__(self, ifindex: int, *, listen: bool = False) -> None:
        """Bind to the interface. Raises OSError when it is gone or CAP_NET_RAW is missing."""
        # Protocol 0 receives nothing: not before the filter is in place, and never when not listening.
        self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        try:
            self._sock.setblocking(False)
            if listen:
                bpf.attach(self._sock, _ARP_AND_ND)
            _bind(self._sock, ifindex, _ETH_P_ALL if listen else 0)
            if listen:
                # Answers to nd_probe go here; an interface with IPv6 switched off would not receive them.
                group = struct.pack("@iHH8s", ifindex, _PACKET_MR_MULTICAST, 6, _ALL_NODES_MAC)
                self._sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, group)
        except OSError:
            self._sock.close()
            raise

    def send(self, frame: bytes) -> None:
        """Send one frame. Raises OSError when the interface is down, gone, or its queue is full."""
        self._sock.send(frame)

    def receive(self) -> list[bytes]:
        """Return frames that have come in, without waiting; none when the interface is down or gone."""
        frames: list[bytes] = []
        try:
            while len(frames) < _FRAMES:
                frames.append(self._sock.recv(_FRAME_SIZE))
        except BlockingIOError:
            pass
        except OSError as error:
            # The kernel reports once that the interface went down; links are the monitor's business.
            if error.errno not in (errno.ENETDOWN, errno.ENXIO):
                raise
        return frames

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


_ARP_AND_ND: list[bpf.Instruction] = [
    (bpf.LOAD_HALF, 0, 0, bpf.PACKET_TYPE),
    (bpf.IF_EQUAL, 11, 0, _PACKET_OUTGOING),
    # The parent of a VLAN interface sees that segment's frames too, with the tag taken off.
    (bpf.LOAD_HALF, 0, 0, bpf.VLAN_TAG),
    (bpf.AND, 0, 0, 0x0FFF),
    (bpf.IF_EQUAL, 0, 8, 0),
    (bpf.LOAD_HALF, 0, 0, 12),
    (bpf.IF_EQUAL, 7, 0, _ETH_P_ARP),
    (bpf.IF_EQUAL, 0, 5, _ETH_P_IPV6),
    (bpf.LOAD_BYTE, 0, 0, _IPV6_AT + 6),
    (bpf.IF_EQUAL, 0, 3, _ICMPV6),
    (bpf.LOAD_BYTE, 0, 0, _ND_AT),
    (bpf.IF_EQUAL, 2, 0, _SOLICITATION),
    (bpf.IF_EQUAL, 1, 0, _ADVERTISEMENT),
    bpf.DROP,
    bpf.ACCEPT,
]


def _bind(sock: socket.socket, ifindex: int, protocol: int) -> None:
    name = socket.if_indextoname(ifindex)
    sock.bind((name, protocol))
    # Python binds by name, and a name can have moved to another interface in between.
    if socket.if_nametoindex(sock.getsockname()[0]) != ifindex:
        raise OSError(errno.ENODEV, f"interface {ifindex} is not {name} any more")


def _arp(operation: int, mac: bytes, sender: IPv4Address, target_mac: bytes, target: IPv4Address) -> bytes:
    body = _ARP.pack(*_ETHERNET_IPV4, operation, mac, sender.packed, target_mac, target.packed)
    return _ETHERNET.pack(_BROADCAST, mac, _ETH_P_ARP) + body


def _nd(mac: bytes, group_mac: bytes, source: IPv6Address, group: IPv6Address, message: bytes) -> bytes:
    checksum = _checksum(source.packed + group.packed + struct.pack("!II", len(message), _ICMPV6) + message)
    message = message[:2] + struct.pack("!H", checksum) + message[4:]
    header = _IPV6.pack(6 << 28, len(message), _ICMPV6, _HOP_LIMIT, source.packed, group.packed)
    return _ETHERNET.pack(group_mac, mac, _ETH_P_IPV6) + header + message


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _arp_sender(frame: bytes) -> tuple[IPv4Address, bytes] | None:
    if len(frame) < _ETHERNET.size + _ARP.size:
        return None
    *kind, operation, mac, sender, _, _ = _ARP.unpack_from(frame, _ETHERNET.size)
    if tuple(kind) != _ETHERNET_IPV4 or operation not in (_REQUEST, _REPLY) or sender == bytes(4):
        return None
    return IPv4Address(sender), mac


def _nd_sender(frame: bytes) -> tuple[IPv6Address, bytes] | None:
    if len(frame) < _OPTIONS_AT:
        return None
    version, length, following, hops, source, _ = _IPV6.unpack_from(frame, _IPV6_AT)
    if version >> 28 != 6 or following != _ICMPV6 or hops != _HOP_LIMIT or length > len(frame) - _ND_AT:
        return None
    kind, code, _, _, target = _ND.unpack_from(frame, _ND_AT)
    if code or kind not in (_SOLICITATION, _ADVERTISEMENT) or length < _ND.size:
        return None
    if kind == _ADVERTISEMENT:
        address, wanted = target, _TARGET_LINK_ADDRESS
    else:
        address, wanted = source, _SOURCE_LINK_ADDRESS
    if address == bytes(16):
        return None  # somebody who probes, as we do
    options = dict(_options(frame[_OPTIONS_AT : _ND_AT + length]))
    return IPv6Address(address), options.get(wanted, frame[6:12])


def _options(data: bytes) -> Iterator[tuple[int, bytes]]:
    # RFC 4861 4.6: type, length in units of 8 bytes, value; an Ethernet address fills one unit.
    while len(data) >= 8 and data[1]:
        if data[1] == 1:
            yield data[0], data[2:8]
        data = data[data[1] * 8 :]
