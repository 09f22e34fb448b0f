"""Captures as a stream, whole and damaged, against files that scapy writes."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap, wrpcapng

from carp.inspect.capture import (
    MAX_RECORD,
    Captured,
    CaptureError,
    NotACaptureError,
    read_capture,
)
from crafted import UCARP_FRAME

if TYPE_CHECKING:
    from pathlib import Path


def read(data: bytes) -> tuple[list[Captured], str]:
    """Return the records of a capture and the error after them, if any."""
    records: list[Captured] = []
    try:
        records.extend(iter_into(records, data))
    except CaptureError as error:
        return records, str(error)
    return records, ""


def iter_into(records: list[Captured], data: bytes) -> list[Captured]:
    """Fill a list that survives an error."""
    for record in read_capture(io.BytesIO(data)):
        records.append(record)  # noqa: PERF402 - a list made at once would be lost with the error
    return []


def pcap(*frames: bytes, order: str = "<", nano: bool = False, linktype: int = 1) -> bytes:
    """Write a pcap by hand, one second and a half between frames."""
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    fraction = 500_000_000 if nano else 500_000
    data = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, linktype)
    for number, frame in enumerate(frames):
        data += struct.pack(order + "IIII", 1000 + number, fraction, len(frame), len(frame) + number) + frame
    return data


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Write one block of a pcapng."""
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    """Write a section header."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(linktype: int = 1, snaplen: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    """Write an interface description."""
    return block(1, struct.pack(order + "HHI", linktype, 0, snaplen) + options, order)


def packet(frame: bytes, time: int = 0, index: int = 0, order: str = "<") -> bytes:
    """Write an enhanced packet."""
    fields = (index, time >> 32, time & 0xFFFFFFFF, len(frame), len(frame))
    return block(6, struct.pack(order + "IIIII", *fields) + frame + bytes(-len(frame) % 4), order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_pcap_in_both_byte_orders_and_resolutions(order: str, nano: bool) -> None:
    """Numbers, times, lengths on the wire and bytes."""
    records, error = read(pcap(b"abc", b"defg", order=order, nano=nano))
    expected = [Captured(1, 1000.5, 1, b"abc", 3), Captured(2, 1001.5, 1, b"defg", 5)]
    assert (expected, "") == (records, error)


def test_the_upper_bits_of_a_link_type_say_something_else() -> None:
    """They carry the length of the Ethernet FCS."""
    records, _ = read(pcap(b"abc", linktype=0x24000001))
    assert records[0].linktype == 1


def test_files_that_scapy_writes(tmp_path: Path) -> None:
    """Both formats."""
    frames = [Ether(UCARP_FRAME), Ether(UCARP_FRAME + bytes(20))]
    wrpcap(str(tmp_path / "a.pcap"), frames)
    wrpcapng(str(tmp_path / "a.pcapng"), frames)
    for name in ("a.pcap", "a.pcapng"):
        records, error = read((tmp_path / name).read_bytes())
        assert ([UCARP_FRAME, UCARP_FRAME + bytes(20)], "") == ([r.data for r in records], error)


def test_a_pcapng_with_several_links() -> None:
    """Each packet has the link type of its own interface."""
    data = section() + interface(1) + interface(101) + packet(b"a", index=1) + packet(b"b", index=0)
    records, error = read(data)
    assert ([(101, b"a"), (1, b"b")], "") == ([(r.linktype, r.data) for r in records], error)


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_packet_blocks_of_pcapng(order: str) -> None:
    """Enhanced, simple (no time) and the obsolete one; other blocks are skipped."""
    old = struct.pack(order + "HHIIII", 0, 0, 0, 2_000_000, 3, 3) + b"old"
    simple = struct.pack(order + "I", 9) + b"simple" + bytes(2)
    data = section(order) + interface(snaplen=6, order=order) + packet(b"new", 1_500_000, order=order)
    data += block(5, bytes(70_000), order) + block(2, old, order) + block(3, simple, order)
    expected = [
        Captured(1, 1.5, 1, b"new", 3),
        Captured(2, 2.0, 1, b"old", 3),
        Captured(3, None, 1, b"simple", 9),
    ]
    assert (expected, "") == read(data)


def test_resolution_and_offset_of_an_interface() -> None:
    """Powers of ten and of two, and seconds to add."""
    nano = struct.pack("<HHB3x", 9, 1, 9) + struct.pack("<HHq", 14, 8, 100) + bytes(4)
    binary = struct.pack("<HHB3x", 9, 1, 0x80 | 8)
    data = section() + interface(options=nano) + interface(options=binary)
    data += packet(b"a", 5 * 10**9) + packet(b"b", 256 * 7, index=1)
    records, error = read(data)
    assert ([105.0, 7.0], "") == ([r.time for r in records], error)


def test_a_new_section_forgets_interfaces_and_byte_order() -> None:
    """Files may be joined by cat."""
    data = section("<") + interface() + packet(b"a") + section(">") + interface(101, order=">")
    records, error = read(data + packet(b"b", order=">"))
    assert ([1, 101], "") == ([r.linktype for r in records], error)
    assert read(section() + interface() + section() + packet(b"a"))[1].startswith("names an interface 0")


@pytest.mark.parametrize("cut", [1, 2, 17, 85, 86])
def test_a_truncated_pcap_yields_what_is_whole_and_says_where_it_ends(cut: int) -> None:
    """All records before the damage are kept."""
    records, error = read(pcap(UCARP_FRAME, UCARP_FRAME)[:-cut])
    if cut == 86:
        assert ([UCARP_FRAME], "") == ([r.data for r in records], error)
    else:
        assert ([UCARP_FRAME], "ends in the middle of record 2") == ([r.data for r in records], error)


def test_a_truncated_pcapng() -> None:
    """Likewise; the block has no number of its own."""
    data = section() + interface() + packet(UCARP_FRAME) + packet(UCARP_FRAME)
    for cut in (1, 50, 99, 103):
        records, error = read(data[:-cut])
        assert ([UCARP_FRAME], "ends in the middle of the block after record 1") == (
            [r.data for r in records],
            error,
        )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pcap()[:10], "ends in the middle of its header"),
        (
            pcap() + struct.pack("<IIII", 0, 0, MAX_RECORD + 1, 9),
            f"claims {MAX_RECORD + 1} bytes in record 1",
        ),
        (section() + struct.pack("<II", 6, 13), "has a block of impossible length 13"),
        (section() + struct.pack("<II", 6, 8), "has a block of impossible length 8"),
        (section() + struct.pack("<II", 6, 0x7FFFFFFC), "has a block of 2147483644 bytes"),
        (section() + block(1, bytes(4)), "has an interface block that is too short"),
        (section() + interface() + block(6, bytes(16)), "has a packet block that is too short"),
        (section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 9, 9)), "claims 9 bytes"),
        (section()[:8] + bytes(20), "has a section without a byte order"),
        (section()[:4] + struct.pack("<II", 12, 0x1A2B3C4D), "has a section header of impossible length 12"),
    ],
)
def test_damage_is_named(data: bytes, problem: str) -> None:
    """One line that says what is wrong, without trusting a length."""
    records, error = read(data)
    assert [] == records
    assert error.startswith(problem)


@pytest.mark.parametrize("data", [b"", b"abc", b"GIF89a, certainly", b"\x1f\x8b\x08\x00"])
def test_what_is_no_capture_at_all(data: bytes) -> None:
    """It is told apart from a damaged one."""
    with pytest.raises(NotACaptureError, match="neither pcap nor pcapng"):
        list(read_capture(io.BytesIO(data)))


class _Endless(io.RawIOBase):
    """A capture without end that counts what was read from it."""

    def __init__(self) -> None:
        super().__init__()
        self.served = 0
        self._head, self._record = pcap(), pcap(UCARP_FRAME)[24:]

    def read(self, size: int = -1) -> bytes:
        data = bytearray()
        while len(data) < size:
            source = self._head if self.served < 24 else self._record
            start = self.served if self.served < 24 else (self.served - 24) % len(self._record)
            part = source[start : start + size - len(data)]
            data += part
            self.served += len(part)
        return bytes(data)


def test_a_capture_is_read_as_it_is_asked_for() -> None:
    """Nothing is read ahead: a pipe shows each packet at once, a huge file needs no memory."""
    stream = _Endless()
    records = read_capture(stream)  # type: ignore[arg-type]
    for number in range(1, 4):
        assert number == next(records).number
        assert 24 + number * 86 == stream.served


@given(st.sampled_from([pcap()[:4], pcap(), section(), section() + interface()]), st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_capture_errors(head: bytes, noise: bytes) -> None:
    """Whatever follows a good beginning."""
    records, _ = read(head + noise)
    assert all(len(record.data) <= MAX_RECORD for record in records)
