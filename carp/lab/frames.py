"""Bytes that the measuring client sends and hears: echo, ARP and neighbour discovery. Pure."""

from __future__ import annotations

import ipaddress
import struct

from carp.lab.errors import LabError

ETH_P_ARP = 0x0806
ETH_P_IPV6 = 0x86DD

_ECHO = struct.Struct("!BBHHHIQ")  # type, code, checksum, identifier, sequence, our magic, our index
_ECHO_MAGIC = 0x63617270
_ARP = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_ARP_REPLY = 2
_BROADCAST = b"\xff" * 6
# Locally administered: the last four bytes of the asking hardware address carry the number of the question.
_ASKER = b"\x02\xcb"
_ND_RING = 16
_NA_TYPE = 136
_NS_TYPE = 135
_ICMPV6 = 58


def echo_request(version: int, identifier: int, index: int) -> bytes:
    """Build an ICMP (RFC 792) or ICMPv6 (RFC 4443, checksum left to the kernel) echo request."""
    kind = 8 if version == 4 else 128
    raw = _ECHO.pack(kind, 0, 0, identifier, index & 0xFFFF, _ECHO_MAGIC, index)
    if version == 6:
        return raw
    return raw[:2] + struct.pack("!H", checksum(raw)) + raw[4:]


def echo_reply_index(message: bytes, identifier: int) -> int | None:
    """Return the index of the request that this answers, None for anything else.

    `message` begins with the ICMP header (an IPv4 raw socket puts the IP header before it).
    """
    if len(message) < _ECHO.size:
        return None
    kind, _, _, ident, _, magic, index = _ECHO.unpack_from(message)
    if kind not in (0, 129) or ident != identifier or magic != _ECHO_MAGIC:
        return None
    return int(index)


def arp_request(mac: bytes, address: bytes, index: int) -> bytes:
    """Build an ARP probe (RFC 5227: sender address 0) whose answer names the question.

    The sender hardware address inside is made of `index`; who answers sends its reply there, and no
    neighbour table learns anything from a sender address of 0.
    """
    asker = _ASKER + struct.pack("!I", index)
    return _ARP.pack(
        _BROADCAST, mac, ETH_P_ARP, 1, 0x0800, 6, 4, 1, asker, bytes(4), bytes(6), address
    )  # fmt: skip


def arp_answer(frame: bytes, address: bytes) -> tuple[int, bytes] | None:
    """Return (index of the question, hardware address of the owner) of a reply, None for anything else."""
    if len(frame) < _ARP.size:
        return None
    fields = _ARP.unpack_from(frame)
    operation, owner, owned, asker = fields[7:11]
    if operation != _ARP_REPLY or owned != address or asker[:2] != _ASKER:
        return None
    return int.from_bytes(asker[2:], "big"), bytes(owner)


def nd_request(mac: bytes, address: bytes, index: int) -> bytes:
    """Build a neighbour solicitation (RFC 4861, 4.3) from one of 16 link-local addresses, by `index`.

    An advertisement has no field that names the question; the address it is sent to does.
    """
    source = _nd_source(index)
    group = b"\xff\x02" + bytes(9) + b"\x01\xff" + address[-3:]
    message = struct.pack("!BBHI16sBB6s", _NS_TYPE, 0, 0, 0, address, 1, 1, mac)
    pseudo = source + group + struct.pack("!II", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255)
    ethernet = b"\x33\x33" + group[-4:] + mac + struct.pack("!H", ETH_P_IPV6)
    return ethernet + header + source + group + message


def nd_answer(frame: bytes, address: bytes, last: int) -> tuple[int, bytes] | None:
    """Return (index, owner) of an advertisement for one of the 16 questions up to `last`, else None."""
    if len(frame) < 78 or frame[20] != _ICMPV6 or frame[54] != _NA_TYPE or frame[62:78] != address:
        return None
    target = frame[38:54]
    if target[:-1] != _nd_source(0)[:-1]:
        return None
    index = last - (last - target[-1]) % _ND_RING
    owner = frame[80:86] if frame[78:80] == b"\x02\x01" else frame[6:12]
    return (index, owner) if index >= 0 else None


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def mac_bytes(text: str) -> bytes:
    """Parse `02:00:…`; raises LabError."""
    try:
        raw = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6:
        msg = f"not a hardware address: {text!r}"
        raise LabError(msg)
    return raw


def mac_text(raw: bytes) -> str:
    """Format a hardware address as `02:00:…`."""
    return raw.hex(":")


def _nd_source(index: int) -> bytes:
    return ipaddress.IPv6Address(f"fe80::ca72:5eed:0:{index % _ND_RING:x}").packed
