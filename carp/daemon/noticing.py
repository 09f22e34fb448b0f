"""What the election shows of itself, passed on: to the log, the service, the counts and the watchdog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.core import events as ev
from carp.daemon.metrics import Metrics
from carp.report import Reporter

if TYPE_CHECKING:
    from carp.core.errors import DropReason
    from carp.core.vhost import Vhost
    from carp.daemon.notify import Watchdog
    from carp.daemon.service import Service
    from carp.rawsock import Packet


class Noticing(Reporter):
    """Logs, and tells the service which vhost has something new to show."""

    def __init__(self, service: Service) -> None:
        """``service`` is told."""
        super().__init__()
        self._service = service

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        """Take note of what a vhost did."""
        super().saw(vhost, effect)
        self._service.noticed(vhost.config.name, stopped=isinstance(effect, ev.Stopped))

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        """Take note of a packet that was not believed."""
        super().dropped(interface, vhid, packet, reason)
        self._service.dropped(interface, vhid, packet, reason)


class Counting(Metrics):
    """Counts, and feeds the service manager's watchdog from the turns of the election."""

    def __init__(self, watcher: Noticing, watchdog: Watchdog) -> None:
        """``watcher`` is told everything, too."""
        super().__init__(watcher)
        self._watchdog = watchdog

    def turned(self, now: float) -> None:
        """Take note that the election goes on."""
        self._watchdog.turned(now)
