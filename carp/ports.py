"""What the runner needs from the world. The engine plugs in the kernel, the simulation virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip
    from carp.core.errors import DropReason
    from carp.core.events import Effect
    from carp.core.vhost import Vhost
    from carp.rawsock import Packet
    from carp.slots import Slot


class Clock(Protocol):
    """Two clocks: ``now`` monotonic for every decision, ``wall`` for the seal alone. Seconds."""

    def now(self) -> float:
        """Return the monotonic time."""

    def wall(self) -> float:
        """Return the time since 1970."""


class Port(Protocol):
    """One vhost's way to its interface."""

    @property
    def ifindex(self) -> int:
        """What `Kernel.renew` calls the interface."""

    def send(self, packets: Sequence[tuple[Address, bytes]]) -> str | None:
        """Send each payload from its source; return what went wrong, None when all were accepted."""

    def hold(self, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool = False) -> str | None:
        """Add or refresh addresses for ``lifetime`` seconds (None: for ever); return what went wrong."""

    def release(self, vips: Sequence[Vip]) -> None:
        """Delete addresses; one that is not there is no error."""

    def announce(self, vips: Sequence[Vip]) -> None:
        """Send one round of announcements."""

    def probe(self, vips: Sequence[Vip]) -> None:
        """Ask once who uses the addresses; answers come as events."""

    def script(self, *, up: bool) -> None:
        """Start the up or down script."""

    def remember(self) -> None:
        """Store a new floor of the seal (`Seal.reserve`): times beyond the stored one are about to leave."""


class Kernel(Protocol):
    """What is done for many vhosts in one call."""

    def renew(self, leases: Sequence[tuple[int, Sequence[Vip], int]]) -> set[int]:
        """Renew (ifindex, addresses, seconds) at once; return the positions of those refused."""


class Observer(Protocol):
    """Who wants to know: logs, metrics, the status. Never decides anything."""

    def saw(self, vhost: Vhost, effect: Effect) -> None:
        """Take note of a Changed, Notice or Stopped, once its effects are carried out."""

    def send_failed(self, vhost: Vhost, problem: str) -> None:
        """Take note that an advert was not sent."""


class Watcher(Observer, Protocol):
    """An observer of packets too."""

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        """Take note of a packet that was not believed."""


class ScriptStarter(Protocol):
    """Starts scripts without waiting for them; see `carp.hooks.Hooks.run`."""

    def __call__(self, slot: Slot, *, up: bool) -> None:
        """Start the up or down script of a vhost."""
