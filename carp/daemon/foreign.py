"""Who else speaks on our segments: other vhids, VRRP routers, and speakers whom our vhosts do not believe.

Noted where a packet is dropped anyway, so it costs the election a look into a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import DropReason

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.rawsock import Packet

MAX_SPEAKERS: Final = 64
"""Per interface; a packet's source can be made up."""
FORGOTTEN_AFTER: Final = 600.0
"""s of silence after which a speaker is not shown any more."""
REPLACEABLE_AFTER: Final = 60.0
"""s of silence after which a speaker gives way to a new one where there are already too many."""
_ARP: Final = Path("/proc/net/arp")
_REASONS: Final = frozenset({DropReason.VRRP, DropReason.VHID, DropReason.HMAC, DropReason.UNSEALED})
"""Those that tell of another speaker; the others tell of a damaged or delayed packet, or of one of ours."""


@dataclass(slots=True)
class _Speaker:
    heard_at: float
    reason: DropReason


class Foreign:
    """The foreign speakers of all interfaces."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._heard: dict[str, dict[tuple[str, int, Address], _Speaker]] = {}

    def note(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason, now: float) -> bool:
        """Take note of a packet that was not believed; return whether it shows somebody new."""
        if reason not in _REASONS:
            return False
        speakers = self._heard.setdefault(interface, {})
        # VRRP has its virtual router id where CARP has its vhid (RFC 5798 section 5.2.3).
        key = ("vrrp", packet.payload[1], packet.source) if vhid is None else ("carp", vhid, packet.source)
        known = speakers.get(key)
        if known is not None:
            known.heard_at, known.reason = now, reason
            return False
        if len(speakers) >= MAX_SPEAKERS:
            oldest = min(speakers, key=lambda each: speakers[each].heard_at)
            if now - speakers[oldest].heard_at < REPLACEABLE_AFTER:
                return False
            del speakers[oldest]
        speakers[key] = _Speaker(now, reason)
        return True

    def shown(self, interface: str, now: float) -> list[dict[str, Any]]:
        """Return who was heard on an interface lately; forgets the others."""
        speakers = {
            key: speaker
            for key, speaker in self._heard.get(interface, {}).items()
            if now - speaker.heard_at < FORGOTTEN_AFTER
        }
        if not speakers:
            self._heard.pop(interface, None)
            return []
        self._heard[interface] = speakers
        macs = _neighbours(interface)
        order = sorted(speakers, key=lambda key: (key[0], key[1], key[2].version, key[2].packed))
        return [
            {
                "protocol": protocol,
                "id": number,
                "source": str(source),
                "mac": macs.get(str(source)),
                "lastHeard": round(now - speakers[protocol, number, source].heard_at, 2),
                "reason": speakers[protocol, number, source].reason.value,
            }
            for protocol, number, source in order
        ]


def _neighbours(interface: str) -> dict[str, str]:
    """Return the MAC by address of the IPv4 neighbours that the kernel knows on an interface.

    A raw socket does not tell from which MAC a packet came.
    """
    try:
        lines = _ARP.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    # Columns: address, hardware type, flags (2: complete), MAC, mask, device.
    rows = (line.split() for line in lines)
    return {row[0]: row[3] for row in rows if row[5:] == [interface] and int(row[2], 16) & 2}
