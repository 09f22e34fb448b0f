"""Packets with known content, built by scapy so that our own dissection is not its own judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

UCARP_FRAME: Final = bytes.fromhex(
    "01005e00001200005e00002a08004510003822e64000ff706de90a630001e0000012"
    "212a00070001dbaf2debce986d1f96954b635caa48f8ea57c382f6fa9f12ab423710eba3"
)
"""Sent by Debian's ucarp: password love, vhid 42, address 10.99.0.252 (carp-protocol.md section 11)."""
UCARP_HEADER: Final = UCARP_FRAME[34:]

OPENBSD_HEADER: Final = bytes.fromhex(
    "212a64070001d21b98bbdb7da8ddc1192cd567a8f43f54fe6c2aa17ceb57d320efaf30f5"
)
"""Sent by OpenBSD 7.8: password interop-pass, vhid 42, address 10.0.253.42, 1/100."""

VRRP2: Final = bytes.fromhex("210a64010001b9c50a000001" + "00" * 8)
"""VRID 10, priority 100, one address."""
VRRP3: Final = bytes.fromhex("310bc8010064e4f10a000002")
"""VRID 11, priority 200, one address."""

Vector = dict[str, Any]


def vectors() -> list[Vector]:
    """Return the known-answer vectors."""
    loaded: list[Vector] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
    return loaded


def v4(payload: bytes, **fields: Any) -> Packet:
    """Return an IPv4 packet of protocol 112 to CARP's group."""
    given: dict[str, Any] = {"src": "10.99.0.1", "dst": "224.0.0.18", "ttl": 255, "proto": 112} | fields
    return IP(**given) / Raw(payload)


def v6(payload: bytes, *extensions: Packet, **fields: Any) -> Packet:
    """Return an IPv6 packet of protocol 112 to CARP's group, extension headers before it."""
    given: dict[str, Any] = {"src": "2001:db8::1", "dst": "ff02::12", "hlim": 255, "nh": 112} | fields
    packet: Packet = IPv6(**given)
    for extension in extensions:
        packet /= extension
    return packet / Raw(payload)


def frame(packet: Packet, *tags: Packet) -> bytes:
    """Return an Ethernet frame, VLAN tags before the packet."""
    whole = Ether(src="00:00:5e:00:01:2a", dst="01:00:5e:00:00:12")
    for tag in tags:
        whole /= tag
    return bytes(whole / packet)
