"""What a receiver would make of a packet: every vector, every reason."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import IPv6ExtHdrFragment

from carp.core.auth import Context
from carp.core.errors import DropReason
from carp.core.wire import Advert, pack
from carp.inspect.frames import Miss, Packet, dissect_bytes
from carp.inspect.verdict import Keys, Verdict, judge
from crafted import OPENBSD_HEADER, UCARP_FRAME, UCARP_HEADER, VRRP2, VRRP3, Vector, frame, v4, v6, vectors

KEYS = [
    "time",
    "source",
    "destination",
    "ttl",
    "vhid",
    "advbase",
    "advskew",
    "demotion",
    "counter",
    "checksum",
    "hmac",
    "form",
    "sealed",
    "drop",
]
UCARP = Keys(b"love", (ip_address("10.99.0.252"),))


def seen(data: bytes, keys: Keys | None = None) -> Verdict:
    """Judge bytes that hold a packet."""
    packet = dissect_bytes(data)
    assert isinstance(packet, Packet)
    return judge(packet, keys or Keys())


def key_of(password: str) -> bytes:
    """Return a vector's key."""
    return bytes.fromhex(password[4:]) if password.startswith("hex:") else password.encode()


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"].split()[0])
def test_each_vector_is_decoded(vector: Vector) -> None:
    """All fields, the checksum and the HMAC of every known-answer vector."""
    keys = Keys(key_of(vector["password"]), tuple(ip_address(a) for a in vector["addresses"]))
    mac = bytes.fromhex(vector["options"].get("custom_mac", ""))
    header = bytes.fromhex(vector["header"])
    verdict = judge(Packet(header, 36, mac=mac), keys)
    record = verdict.record(None)
    names = ("vhid", "advbase", "advskew", "counter")
    assert {name: vector[name] for name in names} == {name: record[name] for name in names}
    assert (vector["demote"], "ok") == (record["demotion"], record["checksum"])
    if mac:
        assert ("bad", "openbsd-mac", "hmac") == (record["hmac"], record["form"], record["drop"])
    else:
        assert ("ok", "plain", None) == (record["hmac"], record["form"], record["drop"])


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["name"].split()[0])
def test_each_vector_is_encoded(vector: Vector) -> None:
    """The core makes the same 36 bytes from the settings."""
    context = Context(
        key=key_of(vector["password"]),
        vhid=vector["vhid"],
        addresses=tuple(ip_address(a) for a in vector["addresses"]),
        lladdr=bytes.fromhex(vector["options"].get("custom_mac", "")),
    )
    counter = int(vector["counter"], 16)
    digest = context.digest(counter.to_bytes(8, "big"))
    assert vector["hmac_sha1"] == digest.hex()
    fields = (vector["vhid"], vector["advbase"], vector["advskew"], vector["demote"])
    assert vector["header"] == pack(Advert(*fields, counter, digest)).hex()


def test_the_record_of_a_real_ucarp_frame() -> None:
    """Exactly these keys, in this order, with these values."""
    record = seen(UCARP_FRAME, UCARP).record(1700000000.1234567)
    values = [1700000000.123457, "10.99.0.1", "224.0.0.18", 255, 42, 1, 0, 0, "0x2debce986d1f9695"]
    assert list(zip(KEYS, [*values, "ok", "ok", "plain", False, None], strict=True)) == list(record.items())


def test_the_header_of_a_real_openbsd() -> None:
    """Alone it has no envelope, and nothing to check a seal with."""
    record = seen(OPENBSD_HEADER, Keys(b"interop-pass", (ip_address("10.0.253.42"),))).record(None)
    assert (1, 100, "ok", None) == (record["advbase"], record["advskew"], record["hmac"], record["sealed"])
    assert [None] * 4 == [record[name] for name in KEYS[:4]]


@pytest.mark.parametrize("keys", [Keys(), Keys(b"love"), Keys(None, UCARP.addresses)])
def test_without_password_or_address_the_hmac_is_unknown(keys: Keys) -> None:
    """And no reason to drop."""
    verdict = seen(UCARP_FRAME, keys)
    assert ("unknown", "unknown", None) == (verdict.hmac, verdict.form, verdict.drop)


@pytest.mark.parametrize(
    "keys",
    [
        Keys(b"hate", UCARP.addresses),
        Keys(b"love", (ip_address("10.99.0.251"),)),
        Keys(b"love", (*UCARP.addresses, ip_address("10.99.0.251"))),
    ],
)
def test_another_password_or_address_list_is_a_bad_hmac(keys: Keys) -> None:
    """Both are hashed."""
    verdict = seen(UCARP_FRAME, keys)
    assert ("bad", "unknown", DropReason.HMAC) == (verdict.hmac, verdict.form, verdict.drop)


def test_openbsds_older_form_is_named_and_accepted() -> None:
    """It hashes link-local addresses as well."""
    keys = Keys(b"secret", (ip_address("2001:db8::1"), ip_address("fe80::1")))
    context = Context(key=b"secret", vhid=9, addresses=keys.addresses)
    header = pack(Advert(9, 1, 0, 0, 5, context.digest((5).to_bytes(8, "big"), form=1)))
    verdict = seen(header, keys)
    assert ("ok", "openbsd", None) == (verdict.hmac, verdict.form, verdict.drop)


@pytest.mark.parametrize(("source", "sealed"), [("10.0.0.1", True), ("10.0.0.2", False)])
def test_a_seal_belongs_to_its_sender(source: str, sealed: bool) -> None:
    """Replayed from elsewhere the digest is still right, the seal is not. It needs no address list."""
    addresses = (ip_address("10.0.0.9"),)
    context = Context(key=b"k", vhid=7, addresses=addresses)
    tag = context.tag(0x01020304, bytes((7, 1, 20, 3)), ip_address("10.0.0.1").packed)
    counter = 0x01020304 << 32 | int.from_bytes(tag, "big")
    header = pack(Advert(7, 1, 20, 3, counter, context.digest(counter.to_bytes(8, "big"))))
    for keys in (Keys(b"k", addresses), Keys(b"k")):
        assert sealed is seen(bytes(v4(header, src=source)), keys).sealed


def test_a_wrong_checksum_does_not_hide_the_fields() -> None:
    """The HMAC does not cover the checksum, so it is still told."""
    data = UCARP_HEADER[:6] + b"\0\0" + UCARP_HEADER[8:]
    record = seen(data, UCARP).record(None)
    assert ("bad", "ok", 42, "checksum") == tuple(record[n] for n in ("checksum", "hmac", "vhid", "drop"))


@pytest.mark.parametrize("ttl", [0, 1, 254])
def test_a_ttl_other_than_255_comes_before_the_other_checks(ttl: int) -> None:
    """IPv4 and IPv6 alike."""
    broken = UCARP_HEADER[:6] + b"\0\0" + UCARP_HEADER[8:]
    for data in (bytes(v4(broken, ttl=ttl)), bytes(v6(broken, hlim=ttl))):
        verdict = seen(data, Keys(b"wrong", UCARP.addresses))
        assert (DropReason.TTL, ttl) == (verdict.drop, verdict.record(None)["ttl"])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", DropReason.SHORT),
        (UCARP_HEADER[:35], DropReason.SHORT),
        (b"\x22" + UCARP_HEADER[1:], DropReason.TYPE),
    ],
)
def test_what_is_not_carps_layout_has_no_fields(payload: bytes, reason: DropReason) -> None:
    """The keys stay, their values are null or unknown."""
    record = seen(bytes(v4(payload))).record(1.0)
    assert KEYS == list(record)
    assert [None] * 6 == [record[name] for name in KEYS[4:10]]
    assert ("unknown", "unknown", None, reason) == tuple(record[name] for name in KEYS[10:])


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (VRRP2, {"protocol": "vrrp", "version": 2, "vrid": 10, "priority": 100, "drop": "vrrp"}),
        (VRRP3, {"protocol": "vrrp", "version": 3, "vrid": 11, "priority": 200, "drop": "vrrp"}),
        (UCARP_HEADER + bytes(8), {"protocol": "vrrp", "version": 2, "vrid": 42, "priority": 0}),
        (b"\x51" + bytes(35), {"protocol": "unknown", "version": 5, "drop": "version"}),
    ],
)
def test_other_speakers_on_112_are_named(payload: bytes, named: dict[str, Any]) -> None:
    """VRRPv2 with seven addresses looks like CARP but is eight bytes longer."""
    for data in (frame(v4(payload)), frame(v6(payload))):
        record = seen(data, UCARP).record(None)
        assert KEYS[:4] == list(record)[:4]
        assert named.items() <= record.items()
        assert "counter" not in record


def test_vrids_and_vhids_share_one_space() -> None:
    """So that one filter serves both."""
    assert (10, 100, 42, None) == (
        seen(bytes(v4(VRRP2))).vhid,
        seen(bytes(v4(VRRP2))).priority,
        seen(UCARP_FRAME).vhid,
        seen(UCARP_FRAME).priority,
    )
    assert seen(bytes(v4(b"\x51" + bytes(35)))).vhid is None


def test_a_fragment_is_short() -> None:
    """Even one that could hold an advert: it is a part of something else."""
    first = bytes(v4(UCARP_HEADER, flags="MF"))
    later = bytes(v6(UCARP_HEADER, IPv6ExtHdrFragment(nh=112, offset=2, m=0), nh=44))
    assert [DropReason.SHORT] * 2 == [seen(first).drop, seen(later).drop]


def test_a_cut_packet_is_not_blamed_for_the_capture() -> None:
    """No drop reason, no fields; but a foreign protocol is told by its first bytes."""
    verdict = seen(UCARP_FRAME[:60], UCARP)
    assert (None, None, "unknown") == (verdict.drop, verdict.advert, verdict.hmac)
    assert "carp" == verdict.protocol
    assert "vrrp" == seen(frame(v4(VRRP2))[:40]).protocol
    assert seen(frame(v4(VRRP2))[:37]).drop is None
    seven_addresses = frame(v4(UCARP_HEADER + bytes(8)))[:-8]
    assert "vrrp" == seen(seven_addresses).protocol


@given(st.binary(max_size=80), st.integers(0, 80), st.sampled_from([None, 1, 255]), st.booleans())
def test_random_payloads_never_raise(payload: bytes, length: int, ttl: int | None, fragment: bool) -> None:
    """Each gives a record."""
    packet = Packet(payload, length, ip_address("10.0.0.1"), None, ttl, bytes(6), fragment)
    assert judge(packet, UCARP).record(None)["source"] == "10.0.0.1"


@given(st.lists(st.tuples(st.integers(0, 69), st.integers(0, 255)), max_size=4), st.integers(0, 70))
def test_mutated_frames_never_raise(changes: list[tuple[int, int]], size: int) -> None:
    """Each gives a record or is no packet of protocol 112."""
    data = bytearray(UCARP_FRAME)
    for position, value in changes:
        data[position] = value
    packet = dissect_bytes(bytes(data[:size]))
    assert isinstance(packet, Miss) or isinstance(judge(packet, UCARP).record(1.0), dict)
