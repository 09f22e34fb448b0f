"""What the probes say about the loop."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from carp_operator.controller.pages import Page
from carp_operator.kube.resources import NODES, VIRTUAL_IPS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.controller.parts import Parts
    from carp_operator.controller.reconcile import Loop

STUCK: Final = 180.0
"""s without a turn; a request may wait 75 s for a server that does not answer."""


class Probes:
    """Reads the loop and the store; for the threads of the HTTP server."""

    def __init__(self, loop: Loop, parts: Parts, resync: float) -> None:
        """``resync``: s between lists."""
        self._loop = loop
        self._parts = parts
        self._silent = 2 * resync + 60

    def health(self) -> Page:
        """Return whether the loop turns."""
        age = time.monotonic() - self._loop.turned_at
        return Page(age < STUCK, f"the loop turned {age:.0f} s ago\n")

    def ready(self) -> Page:
        """Return whether plans are made of what is known to be true, or why not."""
        problems = list(self._loop.suspended())
        leading = self._parts.leads()
        if leading and not self._loop.planned and not problems:
            problems.append("no plan yet")
        if self.event_age() > self._silent:
            problems.append("no word from the API server")
        state = "ready" if leading else "ready: a standby"
        if problems:
            state = f"not ready: {'; '.join(problems)}"
        store = self._parts.store
        return Page(
            not problems,
            f"{state}\n"
            f"last event or list: {self.event_age():.0f} s ago\n"
            f"last reconcile: {self._last_plan()}\n"
            f"writes waiting: {self._loop.waiting()}\n"
            f"VirtualIPs: {len(store.objects(VIRTUAL_IPS))}, nodes: {len(store.objects(NODES))}\n",
        )

    def metrics(self) -> Page:
        """Return the exposition."""
        return Page(good=True, text=self._parts.counts.text())

    def event_age(self) -> float:
        """Return the s since the last word from the API server."""
        return time.monotonic() - self._loop.heard_at

    def reconcile_age(self) -> float:
        """Return the s since the last plan."""
        return time.monotonic() - self._loop.planned_at

    def vips(self) -> Mapping[tuple[str, str], int]:
        """Count the VirtualIPs by condition and its status."""
        counted: Counter[tuple[str, str]] = Counter()
        for vip in self._parts.store.objects(VIRTUAL_IPS).values():
            for each in vip.status.get("conditions", ()):
                counted[str(each.get("type", "")), str(each.get("status", ""))] += 1
        return counted

    def _last_plan(self) -> str:
        return f"{self.reconcile_age():.0f} s ago" if self._loop.planned else "none yet"
