"""What goes into a vhost (events) and what it wants done (effects). All frozen.

The runner carries out effects strictly in the order given: on a takeover that is advert, addresses,
announcements, script (design.md rule 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.config import VhostConfig, Vip
    from carp.core.errors import DropReason
    from carp.core.transitions import Cause, State
    from carp.core.wire import Advert

# --- events -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The interface can carry adverts; ``sources`` are our addresses on it, one per family in use."""

    sources: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The interface cannot; ``reason`` says why, for people."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """The kernel still holds every address of ours by a lease of an earlier run, until ``expires``."""

    sources: tuple[Address, ...]
    expires: float


@dataclass(frozen=True, slots=True)
class Heard:
    """A well-formed advert for our vhid (`wire.unpack` has accepted it)."""

    advert: Advert
    source: Address


@dataclass(frozen=True, slots=True)
class Answered:
    """Somebody at ``mac`` answers for one of our addresses (ARP or neighbour discovery)."""

    address: Address
    mac: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """End: hand over, then leave. ``release`` deletes the addresses even if nobody takes over."""

    release: bool = False


@dataclass(frozen=True, slots=True)
class StepDown:
    """Hand over now and stay backup for at least one dead time (SIGUSR2)."""


@dataclass(frozen=True, slots=True)
class Demote:
    """Set the demotion for one named reason; amount 0-255, 0 removes it."""

    reason: str
    amount: int


@dataclass(frozen=True, slots=True)
class Stalled:
    """We did not run for so long that queued adverts were discarded unread."""


@dataclass(frozen=True, slots=True)
class LeaseLapsed:
    """The last renewal is older than the lifetime it gave, or the addresses are gone."""


@dataclass(frozen=True, slots=True)
class AddressGone:
    """Somebody else deleted an address that we hold."""

    address: Address


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """The addresses were not added at a takeover: the advert failed or is too old."""

    reason: str


@dataclass(frozen=True, slots=True)
class ScriptEnded:
    """The up script is done: only now does the kernel have the addresses it added."""


@dataclass(frozen=True, slots=True)
class Reconfigure:
    """New settings of the same vhost (same vhid), to be taken over in place."""

    config: VhostConfig


Event: TypeAlias = (
    LinkUp | LinkDown | Resume | Heard | Answered | Stop | StepDown | Demote | Stalled
    | LeaseLapsed | AddressGone | ClaimFailed | ScriptEnded | Reconfigure
)  # fmt: skip

# --- effects ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send an advert in every family and every context in use; ``bow_out`` makes it 255/255.

    Not after ``until``: the last advert of a master that has already let go misleads when it is late.
    """

    bow_out: bool = False
    until: float = float("inf")


@dataclass(frozen=True, slots=True)
class Hold:
    """Add the addresses with a fresh lifetime, if the advert before it was sent."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew the lifetime of the addresses, if the advert before it was sent."""


@dataclass(frozen=True, slots=True)
class Cede:
    """Shorten the lease: lifetime 1 and the ceded mark, before a bow-out."""


@dataclass(frozen=True, slots=True)
class Release:
    """Delete addresses now."""

    addresses: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class Leave:
    """Send one ordinary advert and leave the addresses to the kernel with a fresh lifetime.

    Neither after ``expires``, the end of the lease so far: that would bring back what the kernel took away.
    """

    expires: float


@dataclass(frozen=True, slots=True)
class Announce:
    """Send one round of gratuitous ARP and unsolicited neighbour advertisements."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask once by ARP and neighbour discovery whether somebody uses our addresses."""


@dataclass(frozen=True, slots=True)
class Script:
    """Run the up script (``up`` true) or the down script."""

    up: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The state changed; ``peer`` is whom we yielded to or took over from, where there is one."""

    old: State
    new: State
    cause: Cause
    peer: str | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator wants to know; ``code`` is stable, ``text`` is for people."""

    code: str
    text: str
    warning: bool = True


@dataclass(frozen=True, slots=True)
class Stopped:
    """The vhost is done and will ask for nothing more."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The advert was not believed."""

    reason: DropReason


Effect: TypeAlias = (
    Send
    | Hold
    | Renew
    | Cede
    | Release
    | Leave
    | Announce
    | Probe
    | Script
    | Changed
    | Notice
    | Stopped
    | Dropped
)
