"""The settings of one vhost: frozen, validated once, every default here and nowhere else.

The fields are those of design.md section 8.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING, TypeAlias

from carp.core.auth import Context
from carp.core.timing import Timing
from carp.core.wire import GROUP4, GROUP6

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.health import Check

Vip: TypeAlias = IPv4Interface | IPv6Interface


class PreemptMode(enum.StrEnum):
    """Whether a better placed backup takes over from a living master."""

    NEVER = "Never"
    ALWAYS = "Always"
    AFTER = "After"


class Fencing(enum.StrEnum):
    """What takes the address away when we cannot."""

    LIFETIME = "Lifetime"
    OFF = "Off"


class SealMode(enum.StrEnum):
    """Whether adverts of foreign speakers count."""

    INTEROPERABLE = "Interoperable"
    SEALED = "Sealed"


class WhenAllFail(enum.StrEnum):
    """What becomes of the addresses when every health check of a vhost fails."""

    KEEP = "Keep"
    RELEASE = "Release"


class TransportMode(enum.StrEnum):
    """How adverts reach the others."""

    MULTICAST = "Multicast"
    UNICAST = "Unicast"
    BROADCAST = "Broadcast"
    """ucarp's --nomcast: the group's IP address in an Ethernet broadcast, no membership."""


@dataclass(frozen=True, slots=True)
class Interface:
    """How to find the interface: exactly one of name, subnet (a CIDR or ``auto``) and pattern."""

    name: str = ""
    subnet: str = ""
    pattern: str = ""

    def __str__(self) -> str:
        """Return the selector as people write it."""
        return self.name or (f"subnet {self.subnet}" if self.subnet else f"pattern {self.pattern}")


@dataclass(frozen=True, slots=True)
class Preempt:
    """``after`` in seconds counts from the first advert of a worse master; only for mode After."""

    mode: PreemptMode = PreemptMode.NEVER
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Transport:
    """Groups for Multicast and Broadcast, peers for Unicast.

    ``listen``: further groups to hear, while the members change from one to another.
    """

    mode: TransportMode = TransportMode.MULTICAST
    group4: IPv4Address = IPv4Address(GROUP4)
    group6: IPv6Address = IPv6Address(GROUP6)
    peers: tuple[Address, ...] = ()
    listen: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnounceSettings:
    """``count`` rounds ``interval`` seconds apart, then one every ``refresh`` seconds (0: none)."""

    count: int = 5
    interval: float = 1.0
    refresh: float = 60.0


@dataclass(frozen=True, slots=True)
class Scripts:
    """Programs run as ``SCRIPT INTERFACE ADDRESS [ARGUMENT]``, each ended after ``timeout`` seconds.

    ``neutral`` leaves out the down script at start (ucarp -n).
    """

    up: str = ""
    down: str = ""
    argument: str = ""
    timeout: float = 30.0
    neutral: bool = False
    on_exit: bool = True


@dataclass(frozen=True, slots=True)
class Credentials:
    """A password (1-19 bytes) and the addresses that it authenticates."""

    addresses: tuple[Vip, ...]
    password: bytes = field(repr=False)

    def context(self, vhid: int) -> Context:
        """Return the authentication context for a vhid."""
        return Context(key=self.password, vhid=vhid, addresses=tuple(a.ip for a in self.addresses))


@dataclass(frozen=True, slots=True)
class VhostConfig:
    """One vhid on one interface with its addresses.

    ``sign`` holds the addresses that the vhost configures and the password it signs with; ``accept``
    further pairs that authenticate a member during a change (design.md section 9).
    ``manage`` false leaves the addresses to the scripts: then there is no fence.
    """

    name: str
    vhid: int
    interface: Interface
    sign: Credentials
    accept: tuple[Credentials, ...] = ()
    seal: SealMode = SealMode.INTEROPERABLE
    timing: Timing = Timing(advbase=1, advskew=0, ratio=3)
    preempt: Preempt = Preempt()
    transport: Transport = Transport()
    source: IPv4Address | None = None
    source6: IPv6Address | None = None
    announce: AnnounceSettings = AnnounceSettings()
    fencing: Fencing = Fencing.LIFETIME
    scripts: Scripts = Scripts()
    manage: bool = True
    first_claimant: bool = False
    ignore_link_state: bool = False
    health_checks: tuple[Check, ...] = ()
    when_all_fail: WhenAllFail = WhenAllFail.KEEP
    demotions: tuple[tuple[str, int], ...] = ()
    """(reason, amount) that hold for as long as they stand here, beside those of health checks."""

    # What the hot path asks for at every advert, so no properties.
    addresses: tuple[Vip, ...] = field(init=False, repr=False, compare=False)
    """The addresses that a master holds."""
    fenced: bool = field(init=False, repr=False, compare=False)
    """Whether the kernel takes the addresses away when we are dead."""
    lifetime: int = field(init=False, repr=False, compare=False)
    """L, in seconds."""

    def __post_init__(self) -> None:
        """Derive."""
        object.__setattr__(self, "addresses", self.sign.addresses)
        object.__setattr__(self, "fenced", self.manage and self.fencing is Fencing.LIFETIME)
        object.__setattr__(self, "lifetime", self.timing.lifetime())

    @property
    def families(self) -> tuple[int, ...]:
        """4, 6 or both: the families that adverts go out in."""
        return tuple(sorted({a.version for a in self.addresses}))


def held_difference(old: VhostConfig, new: VhostConfig) -> tuple[tuple[Vip, ...], bool]:
    """Return the addresses to let go of for new settings, and whether the rest must be held anew."""
    removed = tuple(a for a in old.addresses if a not in new.addresses) if old.manage else ()
    same = (new.fencing, new.manage) == (old.fencing, old.manage)
    return removed, new.manage and (not same or not set(new.addresses) <= set(old.addresses))
