"""The objects that the agent follows: its own CarpNode, and the Secret with the passwords.

Only an object that was read changes anything. What is gone, empty, unreadable or out of reach leaves the last
one in force (design.md section 4 rule 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp_operator.kube.watch import Deleted, Event, Lost, Synced, Upsert

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.agent.troubles import Troubles
    from carp_operator.kube.client import Object


class Following:
    """One object, as it was read last."""

    def __init__(
        self, what: str, name: str, troubles: Troubles, on_read: Callable[[Object, bool], None]
    ) -> None:
        """``on_read`` gets the object, and whether it comes from a list, so that it surely is the newest."""
        self._what = what
        self._name = name
        self._troubles = troubles
        self._on_read = on_read

    def take(self, event: Event) -> None:
        """Take one event of the list-watch loop."""
        match event:
            case Synced(items):
                mine = [item for item in items if self._is_mine(item)]
                self._say("" if mine else "there is none; going on with what was known")
                for item in mine:
                    self._on_read(item, True)
            case Upsert(item) if self._is_mine(item):
                self._say("")
                self._on_read(item, False)
            case Deleted(item) if self._is_mine(item):
                self._say("it was deleted; going on with what was known")
            case Lost(reason):
                self._say(f"{reason}; going on with what was known")

    def _is_mine(self, item: Object) -> bool:
        return bool((item.get("metadata") or {}).get("name") == self._name)

    def _say(self, problem: str) -> None:
        self._troubles.set(f"{self._what} {self._name}", problem)
