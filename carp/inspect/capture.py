"""Read pcap and pcapng as a stream, one record in memory at a time.

Written here because the common readers end silently where a file is damaged, and a user who asks what
was on the wire must be told that the answer is not complete. Formats: the IETF drafts
draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn

from carp.core.errors import CarpError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RECORD: Final = 262_144
"""Bytes; the largest record that capture tools write for the links understood here."""
_MAX_BLOCK: Final = MAX_RECORD + 65_536
_CHUNK: Final = 65_536

_PCAP: Final = {
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
}
_SECTION: Final = 0x0A0D0D0A
_INTERFACE: Final = 1
_OLD_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_PACKET: Final = 6
_OPTION_RESOLUTION: Final = 9
_OPTION_OFFSET: Final = 14


class CaptureError(CarpError):
    """The capture is damaged from here on, or is none at all (`NotACaptureError`)."""


class NotACaptureError(CaptureError):
    """The first bytes are neither pcap nor pcapng."""


@dataclass(frozen=True, slots=True)
class Captured:
    """One record: its number from 1, seconds since 1970 where known, and its bytes.

    ``original`` is the length on the wire; larger than the data when the capture cut the packet.
    """

    number: int
    time: float | None
    linktype: int
    data: bytes
    original: int


def read_capture(stream: BinaryIO) -> Iterator[Captured]:
    """Yield the records of a capture.

    Raises NotACaptureError before the first one, CaptureError after the last readable one.
    """
    magic = stream.read(4)
    if magic in _PCAP:
        order, resolution = _PCAP[magic]
        yield from _pcap(stream, order, resolution)
    elif magic == _SECTION.to_bytes(4, "big"):
        yield from _Sections(stream).records()
    else:
        msg = "is neither pcap nor pcapng"
        raise NotACaptureError(msg)


def _exactly(stream: BinaryIO, size: int, where: str) -> bytes:
    """Read ``size`` bytes or raise CaptureError."""
    data = stream.read(size)
    if len(data) < size:
        msg = f"ends in the middle of {where}"
        raise CaptureError(msg)
    return data


def _pcap(stream: BinaryIO, order: str, resolution: float) -> Iterator[Captured]:
    # The upper bits of the link type say whether an Ethernet FCS was kept.
    (linktype,) = struct.unpack(order + "16xI", _exactly(stream, 20, "its header"))
    header = struct.Struct(order + "IIII")
    number = 0
    while first := stream.read(1):
        number += 1
        where = f"record {number}"
        seconds, fraction, size, original = header.unpack(first + _exactly(stream, 15, where))
        if size > MAX_RECORD:
            msg = f"claims {size} bytes in {where}, more than {MAX_RECORD}"
            raise CaptureError(msg)
        data = _exactly(stream, size, where)
        yield Captured(number, seconds + fraction * resolution, linktype & 0xFFFF, data, original)


@dataclass(frozen=True, slots=True)
class _Interface:
    linktype: int
    snaplen: int
    resolution: float
    """Seconds per unit of its time stamps."""
    offset: int
    """Seconds to add."""


class _Sections:
    """A pcapng stream whose first four bytes, a section's type, have been read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._number = 0

    def records(self) -> Iterator[Captured]:
        """Yield the packets of all sections."""
        self._begin_section()
        while first := self._stream.read(1):
            raw = first + self._exactly(3)
            if raw == _SECTION.to_bytes(4, "big"):
                self._begin_section()
                continue
            (kind,) = struct.unpack(self._order + "I", raw)
            (total,) = struct.unpack(self._order + "I", self._exactly(4))
            if total < 12 or total % 4:
                self._fail(f"has a block of impossible length {total}")
            if kind not in (_INTERFACE, _OLD_PACKET, _SIMPLE_PACKET, _PACKET):
                self._skip(total - 8)
                continue
            if total > _MAX_BLOCK:
                self._fail(f"has a block of {total} bytes, more than {_MAX_BLOCK}")
            body = self._exactly(total - 8)[:-4]
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
            else:
                yield self._packet(kind, body)

    def _exactly(self, size: int) -> bytes:
        return _exactly(self._stream, size, f"the block after record {self._number}")

    def _fail(self, problem: str) -> NoReturn:
        msg = f"{problem} after record {self._number}"
        raise CaptureError(msg)

    def _skip(self, size: int) -> None:
        while size > 0:
            size -= len(self._exactly(min(size, _CHUNK)))

    def _begin_section(self) -> None:
        """Read the rest of a section header: interfaces and byte order are its own."""
        length, magic = self._exactly(4), self._exactly(4)
        self._order = ">" if magic == b"\x1a\x2b\x3c\x4d" else "<"
        if magic not in (b"\x1a\x2b\x3c\x4d", b"\x4d\x3c\x2b\x1a"):
            self._fail("has a section without a byte order")
        (total,) = struct.unpack(self._order + "I", length)
        if total < 28 or total % 4:
            self._fail(f"has a section header of impossible length {total}")
        self._skip(total - 12)
        self._interfaces = []

    def _interface(self, body: bytes) -> _Interface:
        if len(body) < 8:
            self._fail("has an interface block that is too short")
        linktype, snaplen = struct.unpack_from(self._order + "HxxI", body)
        resolution, offset = 1e-6, 0
        position = 8
        while position + 4 <= len(body):
            code, size = struct.unpack_from(self._order + "HH", body, position)
            value = body[position + 4 : position + 4 + size]
            if code == _OPTION_RESOLUTION and len(value) == 1:
                exponent = value[0] & 0x7F
                resolution = 2.0**-exponent if value[0] & 0x80 else 10.0**-exponent
            elif code == _OPTION_OFFSET and len(value) == 8:
                (offset,) = struct.unpack(self._order + "q", value)
            position += 4 + (size + 3) // 4 * 4
        return _Interface(linktype, snaplen, resolution, offset)

    def _packet(self, kind: int, body: bytes) -> Captured:
        """Return a packet of one of three kinds of block, the last two without or with older fields."""
        self._number += 1
        layout = {_PACKET: "IIIII", _OLD_PACKET: "HxxIIII", _SIMPLE_PACKET: "I"}[kind]
        fixed = struct.Struct(self._order + layout)
        if len(body) < fixed.size:
            self._fail("has a packet block that is too short")
        fields = fixed.unpack_from(body)
        index = 0 if kind == _SIMPLE_PACKET else fields[0]
        if index >= len(self._interfaces):
            self._fail(f"names an interface {index} that it does not describe")
        interface = self._interfaces[index]
        original, time = fields[-1], None
        if kind == _SIMPLE_PACKET:
            size = min(original, interface.snaplen or original)
        else:
            size = fields[3]
            time = (fields[1] << 32 | fields[2]) * interface.resolution + interface.offset
        if size > len(body) - fixed.size:
            self._fail(f"claims {size} bytes in a smaller block")
        data = body[fixed.size : fixed.size + size]
        return Captured(self._number, time, interface.linktype, data, original)
