"""What carpd shows, put together from its snapshots and changes. Times are arguments; no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

STOPPED: Final = "carpd stops"
"""What carpd says to its clients before it closes their connections."""

Message = dict[str, Any]


@dataclass(slots=True)
class View:
    """The newest that is known; what was known stays when carpd is gone."""

    connected: bool = False
    lost_at: float = 0.0
    """Monotonic time since when it is not; of the start before the first connection."""
    problem: str = "carpd was not reached yet"
    daemon: Message = field(default_factory=dict)
    vhosts: dict[str, Message] = field(default_factory=dict)
    interfaces: list[Message] = field(default_factory=list)
    links: list[Message] = field(default_factory=list)
    _taking_part: dict[str, float] = field(default_factory=dict)
    """Since when a vhost is not INIT."""

    @property
    def stopped(self) -> bool:
        """Whether carpd has said goodbye."""
        return not self.connected and self.problem == STOPPED

    def take(self, message: Message, now: float) -> None:
        """Take over a snapshot or changes."""
        if message["event"] == "snapshot":
            self.connected, self.problem = True, ""
            self.vhosts = {}
        self.vhosts |= {vhost["name"]: vhost for vhost in message.get("vhosts", ())}
        for name in message.get("gone", ()):
            self.vhosts.pop(name, None)
        self.daemon |= message.get("daemon", {})
        self.interfaces = message.get("interfaces", self.interfaces)
        self.links = message.get("links", self.links)
        self._listen(now)

    def lose(self, problem: str, now: float) -> None:
        """Take note that the connection is gone, or could not be made."""
        if self.connected:
            self.lost_at = now
            self._taking_part.clear()
        # Whoever has stopped cannot be reached either, and that it has stopped says more.
        if self.connected or not self.stopped:
            self.problem = problem
        self.connected = False

    def _listen(self, now: float) -> None:
        for name, vhost in self.vhosts.items():
            if vhost["state"] == "INIT":
                self._taking_part.pop(name, None)
            else:
                self._taking_part.setdefault(name, now - vhost["seconds"])
        for name in self._taking_part.keys() - self.vhosts.keys():
            del self._taking_part[name]

    def unready(self, now: float) -> str:
        """Return why the node is not ready, empty when it is; the API server plays no part in it.

        Ready is carpd when each vhost has taken part for one dead time. A vhost that cannot, since it has no
        interface or no link, would stay so on any version of ours, so it holds up no rolling upgrade.
        """
        if not self.connected:
            return self.problem
        for name, vhost in sorted(self.vhosts.items()):
            began = self._taking_part.get(name)
            if began is None:
                if not vhost["error"]:
                    return f"{name}: INIT"
            elif now - began < vhost["deadTime"]:
                return f"{name}: has not listened for {vhost['deadTime']:g} s yet"
        return ""
