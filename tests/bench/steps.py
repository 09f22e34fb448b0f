"""Time the steps of one advert in this network namespace: `steps.py ROUNDS`; prints {step: microseconds}.

Each figure is the fastest of five repetitions: what the step costs when nothing else disturbs it.
"""

from __future__ import annotations

import json
import random
import sys
import time
import timeit
from ipaddress import IPv4Address, IPv4Interface
from typing import TYPE_CHECKING

from carp.core import events as ev
from carp.core import wire
from carp.core.config import Credentials, Interface, VhostConfig
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.fence import Fence
from carp.links import Inventory, Place, resolve
from carp.netlink import Netlink
from carp.segment import LinkPort, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.wire import Advert

MANY = 200
_REPEAT = 5
_THERE = IPv4Address("10.99.0.250")


def _config(vhid: int) -> VhostConfig:
    address = IPv4Interface(f"10.99.1.{vhid}/32")
    return VhostConfig(f"v{vhid}", vhid, Interface("eth0"), Credentials((address,), b"bench"))


def _master(config: VhostConfig, source: IPv4Address) -> tuple[Vhost, float]:
    """Return a vhost that has become master on virtual time, and that time."""
    vhost, now = Vhost(config, chance=random.random), 1000.0
    vhost.handle(ev.LinkUp((source,)), now)
    while vhost.state is not State.MASTER:
        now = vhost.deadline()
        vhost.tick(now)
    vhost.renewed(now, 1e9)
    return vhost, now


def _adverts(vhost: Vhost, count: int) -> list[Advert]:
    """Return adverts as another member would send them; each is newer than the one before."""
    made = []
    for _ in range(count):
        payload = vhost.signer.packets(vhost.header(), (_THERE,), time.time())[0][1]
        advert = wire.unpack(payload)
        if not isinstance(advert, wire.Advert):
            raise TypeError(advert)
        made.append(advert)
    return made


def _nothing(*_: object) -> None:
    """Stand for what these steps do not use."""


class Steps:
    """The steps, each a method without arguments."""

    def __init__(self, place: Place, rounds: int) -> None:
        """``rounds``: how often each will be called per repetition."""
        source = next(s for s in place.sources if isinstance(s, IPv4Address))
        config = _config(1)
        self.vhost, self.now = _master(config, source)
        self.backup = Vhost(config, chance=random.random)
        self.backup.handle(ev.LinkUp((source,)), self.now)
        self.packet = self.vhost.signer.packets(self.vhost.header(), (source,), time.time())[0][1]
        self.adverts = iter(_adverts(self.vhost, rounds * _REPEAT))
        self.fence = Fence(Netlink())
        self.port = LinkPort(
            config, self.fence, script=lambda _: None, listen=lambda _: None, remember=_nothing
        )
        self.port.attach(Segment(place))
        self.source = source
        self.leases = [(place.ifindex, _config(vhid).addresses, 2) for vhid in range(1, MANY + 1)]
        for ifindex, vips, lifetime in self.leases:
            self.fence.hold(ifindex, vips, lifetime, ceded=False)
        self.idle = [_master(_config(vhid), source)[0] for vhid in range(1, MANY + 1)]

    def sign(self) -> list[tuple[Address, bytes]]:
        """Build, seal and sign one advert."""
        return self.vhost.signer.packets(self.vhost.header(), (self.source,), time.time())

    def unpack(self) -> object:
        """Take one packet apart."""
        return wire.unpack(self.packet)

    def hear(self) -> object:
        """Verify an advert as backup and take note of it."""
        return self.backup.handle(ev.Heard(next(self.adverts), _THERE), self.now)

    def tick(self) -> None:
        """Tick a master whose advert is due."""
        self.now = self.vhost.deadline()
        self.vhost.tick(self.now)

    def send(self) -> None:
        """Sign one advert and send it."""
        self.port.send(self.sign())

    def renew(self) -> None:
        """Renew all leases at once."""
        self.fence.renew(self.leases)

    def wake(self) -> float:
        """Look at all vhosts as one wake-up of the loop does when nothing is due."""
        now = self.now - 1e6
        due = [vhost for vhost in self.idle if vhost.deadline() <= now]
        return min(vhost.deadline() for vhost in self.idle) + len(due)


def _time(step: Callable[[], object], rounds: int) -> float:
    return min(timeit.repeat(step, number=rounds, repeat=_REPEAT)) / rounds * 1e6


def main() -> int:
    """Print what each step costs."""
    rounds = int(sys.argv[1])
    netlink = Netlink()
    place = resolve(_config(1), Inventory(netlink.links(), netlink.addresses(), has_proto=True))
    if not isinstance(place, Place):
        sys.stderr.write(f"{place}\n")
        return 1
    steps = Steps(place, rounds)
    few = max(20, rounds // 50)
    found = {
        "build, seal and sign one advert": _time(steps.sign, rounds),
        "sign and send one advert": _time(steps.send, rounds),
        "unpack one packet": _time(steps.unpack, rounds),
        "verify one advert as backup": _time(steps.hear, rounds),
        "tick of a master that is due": _time(steps.tick, rounds),
        f"renew {MANY} leases in one send": _time(steps.renew, few),
        f"look at {MANY} vhosts, none due": _time(steps.wake, few),
    }
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
