"""CARP as a scapy layer, for crafting packets.

`IP(src="192.0.2.1", dst="224.0.0.18", ttl=255, proto=112) / CARP(vhid=42)`. Unlike scapy's own
`contrib.carp` it has the protocol's defaults, and it binds nothing, so that VRRP keeps protocol 112.
The two commands do not import this module: scapy costs 27 MiB and, at its first import, writes a cache
folder to the user's home (`~/.cache/scapy`); `scapy.layers` also opens netlink sockets.
"""

from __future__ import annotations

from typing import Final

from scapy.fields import BitField, ByteField, StrFixedLenField, XLongField, XShortField
from scapy.packet import Packet

from carp.core import wire

_CHECKSUM: Final = slice(6, 8)


class CARP(Packet):
    """The 36 bytes of carp-protocol.md section 1.1; a checksum of None is computed.

    ``digest`` is not: take it from `carp.core.auth.Context.digest`.
    """

    name = "CARP"
    fields_desc = [  # noqa: RUF012 - scapy's protocol for layers
        BitField("version", wire.VERSION, 4),
        BitField("type", wire.TYPE_ADVERTISEMENT, 4),
        ByteField("vhid", 1),
        ByteField("advskew", 0),
        ByteField("authlen", wire.AUTHLEN),
        ByteField("demotion", 0),
        ByteField("advbase", 1),
        XShortField("checksum", None),
        XLongField("counter", 0),
        StrFixedLenField("digest", bytes(20), 20),
    ]

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        """Fill in the checksum, unless one was given."""
        if self.checksum is None:
            header = bytearray(pkt)
            header[_CHECKSUM] = wire.checksum(pkt).to_bytes(2, "big")
            pkt = bytes(header)
        return pkt + pay
