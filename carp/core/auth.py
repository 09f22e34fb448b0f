"""The shared key, the HMAC of an advert, and the tag that seals it.

The HMAC covers vhid, addresses and counter (carp-protocol.md section 3.2), but not the interval, the
demotion or the source: who captured one advert can replay it with a better advskew. The tag (design.md
section 6) closes that among our own members, inside the 64 bits that every implementation calls a counter.
"""

from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Address: TypeAlias = IPv4Address | IPv6Address

MAX_PASSWORD: Final = 19
"""Bytes; every implementation keeps the key in 20 bytes with a terminating zero (section 3.1)."""
_BLOCK: Final = 64
_SEAL_LABEL: Final = b"carp-operator seal v1"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def canonical(address: Address) -> bytes:
    """Return the bytes of an address as hashed: kernels zero the scope bytes of fe80::/10 (section 3.2)."""
    packed = address.packed
    if address.version == 6 and address.is_link_local:
        return packed[:2] + b"\0\0" + packed[4:]
    return packed


def hmac_prefix(
    vhid: int, addresses: Iterable[Address], *, lladdr: bytes = b"", link_local: bool = False
) -> bytes:
    """Return what the HMAC covers before the counter.

    Version and type as two bytes (02 01, not the 21 of the wire), OpenBSD's hand-set MAC if any, vhid,
    IPv4 addresses ascending, IPv6 addresses ascending, duplicates once. ``link_local`` chooses OpenBSD's
    older form, which includes fe80::/10.
    """
    v4 = {canonical(a) for a in addresses if a.version == 4}
    v6 = {canonical(a) for a in addresses if a.version == 6 and (link_local or not a.is_link_local)}
    return b"\x02\x01" + lladdr + bytes((vhid,)) + b"".join(sorted(v4)) + b"".join(sorted(v6))


class Context:
    """One password and one address list for one vhid: what authenticates an advert.

    The key pads and the constant part of the message are absorbed once, so that one advert costs two
    copies of a hash state.
    """

    __slots__ = ("_forms", "_outer", "_tag_inner", "_tag_outer", "addresses", "vhid")

    def __init__(self, *, key: bytes, vhid: int, addresses: tuple[Address, ...], lladdr: bytes = b"") -> None:
        """``key`` has 0-20 bytes and is used as it is: no hashing (section 3.1)."""
        self.vhid = vhid
        self.addresses = addresses
        padded = key.ljust(_BLOCK, b"\0")
        self._outer = hashlib.sha1(padded.translate(_OUTER), usedforsecurity=False)
        base = hashlib.sha1(padded.translate(_INNER), usedforsecurity=False)
        self._forms = []
        has_link_local = any(a.version == 6 and a.is_link_local for a in addresses)
        for with_link_local in (False, True) if has_link_local else (False,):
            inner = base.copy()
            inner.update(hmac_prefix(vhid, addresses, lladdr=lladdr, link_local=with_link_local))
            self._forms.append(inner)
        subkey = hmac.digest(key, _SEAL_LABEL, "sha256").ljust(_BLOCK, b"\0")
        self._tag_inner = hashlib.sha256(subkey.translate(_INNER))
        self._tag_outer = hashlib.sha256(subkey.translate(_OUTER))

    def digest(self, counter: bytes, form: int = 0) -> bytes:
        """Return the HMAC-SHA1 for 8 bytes of counter; form 1 also hashes link-local addresses."""
        inner = self._forms[form].copy()
        inner.update(counter)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def verify(self, counter: bytes, digest: bytes) -> int | None:
        """Return the form whose digest this is, or None. Compares in constant time."""
        for form in range(len(self._forms)):
            if hmac.compare_digest(self.digest(counter, form), digest):
                return form
        return None

    def tag(self, time: int, fields: bytes, source: bytes) -> bytes:
        """Return the 4-byte tag over 32 bits of time, (vhid, advbase, advskew, byte 4) and the source.

        The key is derived from the password, so that the tag gives away nothing of the HMAC's key.
        """
        inner = self._tag_inner.copy()
        inner.update(time.to_bytes(4, "big") + fields + source)
        outer = self._tag_outer.copy()
        outer.update(inner.digest())
        return outer.digest()[:4]

    def sealed(self, counter: int, fields: bytes, source: bytes) -> bool:
        """Whether a counter carries a valid tag: its sender is a member of ours."""
        expected = self.tag(counter >> 32, fields, source)
        return hmac.compare_digest(expected, (counter & 0xFFFFFFFF).to_bytes(4, "big"))
