"""Run `carp` with one thing about its world changed: `python driver.py PATCH [WORD]...`."""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING, Any

import carp.core.vhost
import carp.links
import carp.netlink
import carp.rtnl
import carp.run
import carp.slots
import carp.timers
from carp.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence


def old_kernel() -> None:
    """Behave as on a kernel that knows no IFA_PROTO: it is neither stored nor reported."""
    decode = carp.rtnl._addr

    def without_proto(body: memoryview) -> Any:
        addr = decode(body)
        if addr is None:
            return None
        values = {name: getattr(addr, name) for name in addr.__slots__}
        return type(addr)(**{**values, "proto": 0})

    carp.rtnl._addr = without_proto
    for module in (carp.netlink, carp.slots, carp.run):
        vars(module)["supports_proto"] = lambda _netlink: False


def jumping_wall_clock() -> None:
    """Have the wall clock jump by hours and years, both ways, at every question."""
    steps = random.Random(7)
    carp.timers.SystemClock.wall = staticmethod(
        lambda: max(0.0, time.time() + steps.choice((-9e7, -3600.0, -30.0, 0.0, 30.0, 3600.0, 9e7)))
    )


def failing_vhost() -> None:
    """Raise in every third tick of the vhost named "bad"."""
    tick = carp.core.vhost.Vhost.tick
    count = 0

    def failing(self: carp.core.vhost.Vhost, now: float) -> Sequence[Any]:
        nonlocal count
        if self.config.name == "bad":
            count += 1
            if count % 3 == 0:
                msg = "made to fail"
                raise ZeroDivisionError(msg)
        return tick(self, now)

    carp.core.vhost.Vhost.tick = failing  # type: ignore[method-assign]


PATCHES = {
    "old-kernel": old_kernel,
    "jumping-wall-clock": jumping_wall_clock,
    "failing-vhost": failing_vhost,
}

if __name__ == "__main__":
    PATCHES[sys.argv[1]]()
    sys.argv = ["carp", *sys.argv[2:]]
    sys.exit(main())
