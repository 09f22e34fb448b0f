"""Key, HMAC and seal tag (carp-protocol.md section 3, design.md section 6)."""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import ip_address
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.core.auth import MAX_PASSWORD, Address, Context, canonical, hmac_prefix
from crafted import Vector, vectors

V4, V6, LOCAL = "192.0.2.1", "2001:db8::1", "fe80::200:5eff:fe00:109"
COUNTER = bytes.fromhex("0123456789abcdef")


def _addresses(*texts: str) -> tuple[Address, ...]:
    return tuple(ip_address(text) for text in texts)


def _context(*texts: str, key: bytes = b"love", vhid: int = 42, lladdr: bytes = b"") -> Context:
    return Context(key=key, vhid=vhid, addresses=_addresses(*texts), lladdr=lladdr)


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: str(v["name"]))
def test_known_digests(vector: Vector) -> None:
    """Each vector's digest comes out of its key, vhid, addresses, counter and options, and is believed."""
    password = str(vector["password"])
    key = bytes.fromhex(password[4:]) if password.startswith("hex:") else password.encode()
    lladdr = bytes.fromhex(vector["options"].get("custom_mac", ""))
    made = _context(*vector["addresses"], key=key, vhid=vector["vhid"], lladdr=lladdr)
    counter, digest = bytes.fromhex(vector["counter"][2:]), bytes.fromhex(vector["hmac_sha1"])
    assert digest == made.digest(counter)
    assert 0 == made.verify(counter, digest)
    covered = hmac_prefix(vector["vhid"], _addresses(*vector["addresses"]), lladdr=lladdr) + counter
    assert vector["hmac_input"] == covered.hex()


@given(st.binary(max_size=20), st.binary(min_size=8, max_size=8))
def test_the_prepared_states_are_plain_hmac(key: bytes, counter: bytes) -> None:
    """Whatever the key, the digest is HMAC-SHA1 over prefix and counter (section 3.1: no KDF)."""
    message = hmac_prefix(42, _addresses(V4)) + counter
    assert hmac.digest(key, message, hashlib.sha1) == _context(V4, key=key).digest(counter)


def test_addresses_are_hashed_in_order() -> None:
    """IPv4 ascending before IPv6 ascending, whatever order they were given in, duplicates once."""
    listed = ("198.51.100.10", "10.0.0.9", V6, "2001:db8::ff")
    digests = {_context(*order).digest(COUNTER) for order in permutations(listed)}
    assert {_context(*listed, *listed).digest(COUNTER)} == digests
    expected = b"\x02\x01\x2a" + b"".join(ip_address(a).packed for a in sorted(listed[:2]))
    assert hmac_prefix(42, _addresses(*listed)).startswith(expected)


def test_scope_bytes_of_link_local_addresses_are_zero() -> None:
    """Bytes 2 and 3 of any fe80::/10 address count as zero, as in kernels; others are as they are."""
    assert canonical(ip_address("fe80::1")) == canonical(ip_address("fe80:12::1"))
    assert ip_address("febf::1").packed == canonical(ip_address("febf:1::1"))
    assert ip_address(V6).packed == canonical(ip_address(V6))
    assert ip_address("169.254.1.2").packed == canonical(ip_address("169.254.1.2"))


def test_both_forms_of_openbsd_are_believed_and_the_newer_is_sent() -> None:
    """With a link-local address the digest without it is form 0, with it form 1, believed too."""
    made = _context(V6, LOCAL)
    assert _context(V6).digest(COUNTER) == made.digest(COUNTER)
    assert 0 == made.verify(COUNTER, made.digest(COUNTER, 0))
    assert 1 == made.verify(COUNTER, made.digest(COUNTER, 1))
    assert made.digest(COUNTER, 0) != made.digest(COUNTER, 1)


def test_without_link_local_addresses_there_is_one_form() -> None:
    """Without such an address a wrong digest is compared with one form only."""
    with pytest.raises(IndexError):
        _context(V4, V6).digest(COUNTER, 1)


@pytest.mark.parametrize(
    "other",
    [
        _context(V4, key=b"lovE"),
        _context("192.0.2.2"),
        _context(V4, vhid=43),
        _context(V4, V6),
        _context(V4, lladdr=bytes(6)),
    ],
    ids=["password", "address", "vhid", "more addresses", "hand-set MAC"],
)
def test_what_differs_is_not_believed(other: Context) -> None:
    """Another password, address list, vhid or hand-set MAC gives another digest."""
    assert other.verify(COUNTER, _context(V4).digest(COUNTER)) is None


def test_key_is_padded_with_zeros() -> None:
    """A closing zero changes nothing: every implementation pads the key with zeros."""
    assert _context(V4, key=b"love").digest(COUNTER) == _context(V4, key=b"love\0").digest(COUNTER)
    assert 19 == MAX_PASSWORD


FIELDS = bytes((42, 1, 0, 0))
SOURCE = ip_address("10.1.1.1").packed


def _counter_of(made: Context, time: int = 7, fields: bytes = FIELDS, source: bytes = SOURCE) -> int:
    return time << 32 | int.from_bytes(made.tag(time, fields, source), "big")


@pytest.mark.parametrize(
    ("fields", "source", "time"),
    [
        (bytes((43, 1, 0, 0)), SOURCE, 7),
        (bytes((42, 2, 0, 0)), SOURCE, 7),
        (bytes((42, 1, 1, 0)), SOURCE, 7),
        (bytes((42, 1, 0, 1)), SOURCE, 7),
        (FIELDS, ip_address("10.1.1.2").packed, 7),
        (FIELDS, SOURCE, 8),
    ],
    ids=["vhid", "advbase", "advskew", "byte 4", "source", "time"],
)
def test_seal_covers_what_the_hmac_does_not(fields: bytes, source: bytes, time: int) -> None:
    """A captured counter is no seal for another vhid, base, skew, byte 4, source or time (section 3.4)."""
    made = _context(V4)
    sealed = _counter_of(made)
    assert made.sealed(sealed, FIELDS, SOURCE)
    assert not made.sealed(sealed & 0xFFFFFFFF | time << 32, fields, source)


def test_seal_of_another_password_is_none() -> None:
    """Who does not know the password cannot seal."""
    assert not _context(V4, key=b"hate").sealed(_counter_of(_context(V4)), FIELDS, SOURCE)


def test_tag_is_keyed_by_a_subkey() -> None:
    """The tag is HMAC-SHA256 under a key derived from the password, not under the password itself."""
    message = (7).to_bytes(4, "big") + FIELDS + SOURCE
    subkey = hmac.digest(b"love", b"carp-operator seal v1", "sha256")
    assert hmac.digest(subkey, message, "sha256")[:4] == _context(V4).tag(7, FIELDS, SOURCE)
    assert hmac.digest(b"love", message, "sha256")[:4] != _context(V4).tag(7, FIELDS, SOURCE)
