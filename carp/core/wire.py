"""One advert to 36 bytes and back (carp-protocol.md section 1.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from carp.core.errors import DropReason, MisuseError

HEADER_LENGTH: Final = 36
PROTOCOL: Final = 112
VERSION: Final = 2
TYPE_ADVERTISEMENT: Final = 1
AUTHLEN: Final = 7
"""32-bit words of counter and digest; VRRPv2 carries its number of addresses in this byte."""
TTL: Final = 255
BOW_OUT: Final = 255
"""advbase and advskew of a master that goes."""
GROUP4: Final = "224.0.0.18"
GROUP6: Final = "ff02::12"

_HEADER: Final = struct.Struct("!BBBBBBHQ20s")
_WORDS: Final = struct.Struct("!18H")
_PREFIX: Final = struct.Struct("!BBBBBB")
_FIRST_BYTE: Final = VERSION << 4 | TYPE_ADVERTISEMENT


@dataclass(frozen=True, slots=True)
class Advert:
    """What an advert says.

    ``advbase`` in seconds and ``advskew`` in 1/256 s, 0-255 each; ``demotion`` is byte 4 (OpenBSD's
    demote count, zero elsewhere); ``counter`` 64 bits; ``digest`` the 20 bytes of HMAC-SHA1.
    """

    vhid: int
    advbase: int
    advskew: int
    demotion: int
    counter: int
    digest: bytes

    @property
    def is_bow_out(self) -> bool:
        """Whether its sender says that it is leaving (255/255)."""
        return self.advbase == BOW_OUT and self.advskew == BOW_OUT


def checksum(data: bytes) -> int:
    """Return the RFC 1071 checksum of 36 bytes; no pseudo-header, for either family (section 1.1)."""
    total: int = sum(_WORDS.unpack(data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def prefix_sum(vhid: int, advbase: int, advskew: int, demotion: int) -> tuple[bytes, int]:
    """Return the six bytes before the checksum and their part of the sum, for `seal_packet`."""
    head = _PREFIX.pack(_FIRST_BYTE, vhid, advskew, AUTHLEN, demotion, advbase)
    return head, (_FIRST_BYTE << 8 | vhid) + (advskew << 8 | AUTHLEN) + (demotion << 8 | advbase)


_TAIL: Final = struct.Struct("!14H")


def seal_packet(head: tuple[bytes, int], tail: bytes) -> bytes:
    """Join a prepared head with the 28 bytes of counter and digest, checksum between them.

    The hot path of a sender: one sum over 14 words, no object made.
    """
    total: int = head[1] + sum(_TAIL.unpack(tail))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    return head[0] + total.to_bytes(2, "big") + tail


def pack(advert: Advert) -> bytes:
    """Return the 36 bytes of an advert. Raises MisuseError when a field does not fit."""
    if len(advert.digest) != 20:
        msg = f"digest: {len(advert.digest)} bytes, not 20"
        raise MisuseError(msg)
    try:
        head = prefix_sum(advert.vhid, advert.advbase, advert.advskew, advert.demotion)
        return seal_packet(head, advert.counter.to_bytes(8, "big") + advert.digest)
    except (struct.error, OverflowError) as error:
        msg = f"advert does not fit the wire: {error}"
        raise MisuseError(msg) from error


def classify(payload: bytes) -> DropReason | None:
    """Return why an IP payload of protocol 112 is no CARP advert, or None when it looks like one.

    VRRP shares protocol, group and version nibble 2: CARP is exactly 36 bytes with authlen 7; a
    VRRPv2 advert of seven addresses has 44 (carp-protocol.md section 10).
    """
    if len(payload) < 4:
        return DropReason.SHORT
    version = payload[0] >> 4
    if version == 3:
        return DropReason.VRRP
    if version != VERSION:
        return DropReason.VERSION
    if payload[3] != AUTHLEN or len(payload) > HEADER_LENGTH:
        return DropReason.VRRP
    if len(payload) < HEADER_LENGTH:
        return DropReason.SHORT
    if payload[0] & 0x0F != TYPE_ADVERTISEMENT:
        return DropReason.TYPE
    return None


def unpack(payload: bytes) -> Advert | DropReason:
    """Return the advert in an IP payload, or the first check that it fails. Never raises."""
    reason = classify(payload)
    if reason is not None:
        return reason
    if checksum(payload) != 0:
        return DropReason.CHECKSUM
    _, vhid, advskew, _, demotion, advbase, _, counter, digest = _HEADER.unpack(payload)
    return Advert(vhid, advbase, advskew, demotion, counter, digest)
