"""36 bytes of advert (carp-protocol.md section 1.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.core.errors import DropReason, MisuseError
from carp.core.wire import (
    Advert,
    checksum,
    classify,
    pack,
    prefix_sum,
    seal_packet,
    unpack,
)
from crafted import OPENBSD_HEADER, UCARP_HEADER, VRRP2, VRRP3, Vector, vectors

BYTE = st.integers(0, 255)
ADVERTS = st.builds(
    Advert,
    vhid=BYTE,
    advbase=BYTE,
    advskew=BYTE,
    demotion=BYTE,
    counter=st.integers(0, 2**64 - 1),
    digest=st.binary(min_size=20, max_size=20),
)
SOME = Advert(
    vhid=42, advbase=1, advskew=100, demotion=3, counter=0x0123456789ABCDEF, digest=bytes(range(20))
)


def _changed(packet: bytes, offset: int, value: int, *, fix_checksum: bool = True) -> bytes:
    """Replace one byte and, if wanted, mend the checksum."""
    data = bytearray(packet)
    data[offset] = value
    if fix_checksum:
        data[6:8] = b"\0\0"
        data[6:8] = checksum(bytes(data)).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: str(v["name"]))
def test_known_adverts_both_ways(vector: Vector) -> None:
    """Each vector's header is packed and unpacked byte for byte."""
    advert = Advert(
        vhid=vector["vhid"],
        advbase=vector["advbase"],
        advskew=vector["advskew"],
        demotion=vector["demote"],
        counter=int(vector["counter"], 16),
        digest=bytes.fromhex(vector["hmac_sha1"]),
    )
    header = bytes.fromhex(vector["header"])
    assert header == pack(advert)
    assert advert == unpack(header)
    assert vector["checksum"] == header[6:8].hex()


def test_offsets() -> None:
    """Skew is byte 2, demotion byte 4, base byte 5, counter bytes 8-15, digest bytes 16-35."""
    packet = pack(SOME)
    assert b"\x21\x2a\x64\x07\x03\x01" == packet[:6]
    assert bytes.fromhex("0123456789abcdef") == packet[8:16]
    assert bytes(range(20)) == packet[16:]


@pytest.mark.parametrize("header", [UCARP_HEADER, OPENBSD_HEADER], ids=["ucarp", "openbsd"])
def test_adverts_of_other_implementations(header: bytes) -> None:
    """An advert sent by ucarp and one sent by OpenBSD come back as the same bytes."""
    advert = unpack(header)
    assert isinstance(advert, Advert)
    assert header == pack(advert)


@given(ADVERTS)
def test_round_trip(advert: Advert) -> None:
    """Every advert survives packing and unpacking."""
    assert advert == unpack(pack(advert))


@given(ADVERTS)
def test_a_correct_packet_sums_to_zero(advert: Advert) -> None:
    """The checksum over all 36 bytes of a correct advert is zero (RFC 1071)."""
    assert 0 == checksum(pack(advert))


@given(ADVERTS, st.integers(0, 35), st.integers(1, 255))
def test_a_flipped_byte_never_passes_unnoticed(advert: Advert, offset: int, flip: int) -> None:
    """A packet with one byte changed is dropped: a sum over words sees every change of one byte."""
    packet = pack(advert)
    assert isinstance(unpack(_changed(packet, offset, packet[offset] ^ flip, fix_checksum=False)), DropReason)


@given(st.binary(max_size=64))
def test_any_bytes_give_an_advert_or_a_reason(payload: bytes) -> None:
    """No payload raises."""
    assert isinstance(unpack(payload), Advert | DropReason)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", DropReason.SHORT),
        (b"\x21\x2a\x00", DropReason.SHORT),
        (UCARP_HEADER[:35], DropReason.SHORT),
        (VRRP2, DropReason.VRRP),
        (VRRP3, DropReason.VRRP),
        (b"\x21\x0a\x64\x07" + bytes(40), DropReason.VRRP),
        (UCARP_HEADER + b"\0", DropReason.VRRP),
        (_changed(UCARP_HEADER, 3, 8), DropReason.VRRP),
        (_changed(UCARP_HEADER, 0, 0x31), DropReason.VRRP),
        (_changed(UCARP_HEADER, 0, 0x11), DropReason.VERSION),
        (_changed(UCARP_HEADER, 0, 0x41), DropReason.VERSION),
        (_changed(UCARP_HEADER, 0, 0x22), DropReason.TYPE),
        (_changed(UCARP_HEADER, 6, 0, fix_checksum=False), DropReason.CHECKSUM),
    ],
)
def test_each_check_has_its_reason(payload: bytes, reason: DropReason) -> None:
    """What fails a check is dropped with that check's reason, the earlier one if several fail."""
    assert reason is unpack(payload)


def test_a_vrrp_advert_of_seven_addresses_is_told_from_carp() -> None:
    """VRRPv2 with seven addresses has CARP's byte 3 but 44 bytes (section 10)."""
    assert DropReason.VRRP is classify(b"\x21\x0a\x64\x07" + bytes(40))
    assert classify(UCARP_HEADER) is None


@pytest.mark.parametrize(
    ("base", "skew", "is_bow_out"), [(255, 255, True), (255, 254, False), (254, 255, False), (1, 0, False)]
)
def test_a_bow_out_is_255_255(base: int, skew: int, is_bow_out: bool) -> None:
    """Only base 255 with skew 255 says that the sender goes (section 5.5)."""
    assert is_bow_out == replace(SOME, advbase=base, advskew=skew).is_bow_out


@pytest.mark.parametrize(
    "fields",
    [
        {"vhid": 256},
        {"advbase": -1},
        {"advskew": 300},
        {"demotion": 256},
        {"counter": 2**64},
        {"counter": -1},
        {"digest": bytes(19)},
        {"digest": bytes(21)},
    ],
)
def test_an_advert_that_does_not_fit_is_our_error(fields: dict[str, int | bytes]) -> None:
    """Packing what has no place on the wire raises MisuseError."""
    with pytest.raises(MisuseError):
        pack(replace(SOME, **fields))  # type: ignore[arg-type]


def test_the_senders_short_cut_equals_pack() -> None:
    """A prepared head joined with counter and digest is the same packet."""
    tail = SOME.counter.to_bytes(8, "big") + SOME.digest
    assert pack(SOME) == seal_packet(prefix_sum(SOME.vhid, SOME.advbase, SOME.advskew, SOME.demotion), tail)
