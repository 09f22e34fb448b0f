"""What a receiver would make of a packet, as data. All checks are `carp.core`'s own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carp.core.auth import Address, Context
from carp.core.errors import DropReason
from carp.core.wire import TTL, Advert, checksum, classify, unpack

if TYPE_CHECKING:
    from carp.inspect.frames import Packet

_FOREIGN = (DropReason.VRRP, DropReason.VERSION)
_FORMS = ("plain", "openbsd")


@dataclass(slots=True)
class Keys:
    """What is known for checking digests: a key (None: not known) and the addresses of the vhid."""

    key: bytes | None = None
    addresses: tuple[Address, ...] = ()
    _contexts: dict[tuple[int, bytes], Context] = field(default_factory=dict)

    def context(self, vhid: int, lladdr: bytes = b"") -> Context | None:
        """Return the context for a vhid, or None without a key."""
        if self.key is None:
            return None
        if lladdr:
            return Context(key=self.key, vhid=vhid, addresses=self.addresses, lladdr=lladdr)
        found = self._contexts.get((vhid, lladdr))
        if found is None:
            found = Context(key=self.key, vhid=vhid, addresses=self.addresses)
            self._contexts[vhid, lladdr] = found
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """One judged packet.

    ``advert`` is None where the bytes are not CARP's layout or were not all captured. ``checksum_ok``,
    ``sealed`` and ``hmac_ok`` are None where nothing can be said.
    """

    packet: Packet
    drop: DropReason | None = None
    advert: Advert | None = None
    checksum_ok: bool | None = None
    hmac_ok: bool | None = None
    form: str = "unknown"
    sealed: bool | None = None

    @property
    def protocol(self) -> str:
        """The name of what speaks: carp, vrrp, or unknown for a version that nobody uses on 112."""
        if self.drop is DropReason.VRRP:
            return "vrrp"
        return "unknown" if self.drop is DropReason.VERSION else "carp"

    @property
    def vhid(self) -> int | None:
        """The vhid, or the VRID of VRRP: one name space on a segment (carp-protocol.md section 10)."""
        if self.drop is DropReason.VRRP:
            return self.packet.payload[1]
        return None if self.advert is None else self.advert.vhid

    @property
    def priority(self) -> int | None:
        """VRRP's priority: byte 2 in its versions 2 and 3 (RFC 3768, RFC 5798)."""
        return self.packet.payload[2] if self.drop is DropReason.VRRP else None

    @property
    def hmac(self) -> str:
        """One of ok, bad, unknown."""
        return "unknown" if self.hmac_ok is None else _word(self.hmac_ok)

    def record(self, when: float | None) -> dict[str, object]:
        """Return the JSON object of this packet, heard at ``when`` seconds since 1970."""
        packet = self.packet
        envelope = {
            "time": None if when is None else round(when, 6),
            "source": None if packet.source is None else str(packet.source),
            "destination": None if packet.destination is None else str(packet.destination),
            "ttl": packet.ttl,
        }
        if self.drop in _FOREIGN:
            return envelope | self._foreign()
        advert = self.advert
        return envelope | {
            "vhid": advert and advert.vhid,
            "advbase": advert and advert.advbase,
            "advskew": advert and advert.advskew,
            "demotion": advert and advert.demotion,
            "counter": advert and f"0x{advert.counter:016x}",
            "checksum": None if self.checksum_ok is None else _word(self.checksum_ok),
            "hmac": self.hmac,
            "form": self.form,
            "sealed": self.sealed,
            "drop": self.drop,
        }

    def _foreign(self) -> dict[str, object]:
        named: dict[str, object] = {"protocol": self.protocol, "version": self.packet.payload[0] >> 4}
        if self.drop is DropReason.VRRP:
            named |= {"vrid": self.vhid, "priority": self.priority}
        return named | {"drop": self.drop}


def _word(good: bool) -> str:  # noqa: FBT001 - a predicate's value, not a mode
    return "ok" if good else "bad"


def judge(packet: Packet, keys: Keys) -> Verdict:
    """Judge a packet as a receiver with these keys would, in a receiver's order of checks.

    The vhid and the checks that need a history (loop, replay) are left out. A fragment is short: it is
    no advert by itself. For a packet that the capture cut only the protocol can be told.
    """
    if packet.fragment:
        return Verdict(packet, DropReason.SHORT)
    if packet.cut:
        reason = classify(packet.payload.ljust(packet.length, b"\0")) if len(packet.payload) >= 4 else None
        return Verdict(packet, reason if reason in _FOREIGN else None)
    reason = classify(packet.payload)
    if reason is not None:
        return Verdict(packet, reason)
    advert, intact = _read(packet.payload)
    hmac_ok, form = _authenticate(packet, advert, keys)
    if packet.ttl is not None and packet.ttl != TTL:
        reason = DropReason.TTL
    elif not intact:
        reason = DropReason.CHECKSUM
    elif hmac_ok is False:
        reason = DropReason.HMAC
    return Verdict(packet, reason, advert, intact, hmac_ok, form, _sealed(packet, advert, keys))


def _read(payload: bytes) -> tuple[Advert, bool]:
    """Return the advert and whether its checksum holds; with a wrong one the fields are shown anyway."""
    read = unpack(payload)
    if isinstance(read, Advert):
        return read, True
    right = checksum(payload[:6] + b"\0\0" + payload[8:])
    mended = unpack(payload[:6] + right.to_bytes(2, "big") + payload[8:])
    assert isinstance(mended, Advert), mended  # noqa: S101 - the checksum is the last check of unpack
    return mended, False


def _authenticate(packet: Packet, advert: Advert, keys: Keys) -> tuple[bool | None, str]:
    """Return whether the digest is right, and its form.

    The form openbsd-mac is named but counts as bad: OpenBSD with a hand-set MAC hashes it too
    (carp-protocol.md section 3.2), and a receiver that does not know of it rejects the advert.
    """
    context = keys.context(advert.vhid) if keys.addresses else None
    if context is None:
        return None, "unknown"
    counter = advert.counter.to_bytes(8, "big")
    form = context.verify(counter, advert.digest)
    if form is not None:
        return True, _FORMS[form]
    with_mac = keys.context(advert.vhid, packet.mac) if len(packet.mac) == 6 else None
    if with_mac is not None and with_mac.verify(counter, advert.digest) is not None:
        return False, "openbsd-mac"
    return False, "unknown"


def _sealed(packet: Packet, advert: Advert, keys: Keys) -> bool | None:
    """Whether one of our own members sent it; None without a key or a source address."""
    context = keys.context(advert.vhid)
    if context is None or packet.source is None:
        return None
    fields = bytes((advert.vhid, advert.advbase, advert.advskew, advert.demotion))
    return context.sealed(advert.counter, fields, packet.source.packed)
