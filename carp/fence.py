"""What the kernel enforces: addresses with a finite lifetime, renewed only by a living election loop.

The bounds and how they follow are in design.md section 4, rule 3, and docs/fencing.md.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from carp import rtnl
from carp.netlink import PROTO_CEDED, PROTO_HELD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carp.core.config import Vip
    from carp.netlink import Netlink

OURS: Final = frozenset({PROTO_HELD, PROTO_CEDED})
RESUME_GRACE: Final = 0.5
"""s after the start within which a resumed lease must be renewed; L + this is still below any dead time."""
_MAX_TEMPLATES: Final = 2048
"""Several for each address in use; settings that come and go leave theirs behind until all are made anew."""
_MAX_RENEWALS: Final = 1024
"""Two for each of the 510 vhosts of a node."""


class Fence:
    """The addresses of all vhosts, changed by prepared messages."""

    def __init__(self, netlink: Netlink) -> None:
        """``netlink`` belongs to the caller."""
        self._netlink = netlink
        self._templates: dict[tuple[int, Vip, int | None, int], bytes] = {}
        self._renewals: dict[tuple[int, int, int], tuple[Sequence[Vip], list[bytes]]] = {}

    def _set(self, ifindex: int, vip: Vip, lifetime: int | None, proto: int) -> bytes:
        key = ifindex, vip, lifetime, proto
        message = self._templates.get(key)
        if message is None:
            if len(self._templates) >= _MAX_TEMPLATES:
                self._templates.clear()
            seconds = rtnl.FOR_EVER if lifetime is None else lifetime
            message = rtnl.set_address(ifindex, vip, lifetime=seconds, proto=proto, create=True)
            self._templates[key] = message
        return message

    def _renewal(self, ifindex: int, vips: Sequence[Vip], lifetime: int) -> list[bytes]:
        """Return the prepared messages for one vhost, found by the identity of its list of addresses.

        Hashing the addresses themselves twice a second would cost more than sending them.
        """
        key = ifindex, id(vips), lifetime
        known = self._renewals.get(key)
        if known is None or known[0] is not vips:
            if len(self._renewals) >= _MAX_RENEWALS:
                self._renewals.clear()
            messages = [self._set(ifindex, vip, lifetime, PROTO_HELD) for vip in vips]
            known = self._renewals[key] = vips, messages
        return known[1]

    def hold(self, ifindex: int, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool) -> str | None:
        """Add or refresh addresses; return what went wrong, naming the address."""
        proto = PROTO_CEDED if ceded else PROTO_HELD
        failed = self._netlink.submit([self._set(ifindex, vip, lifetime, proto) for vip in vips])
        for position, code in failed.items():
            return f"address {vips[position]}: {os.strerror(code)}"
        return None

    def release(self, ifindex: int, vips: Iterable[Vip]) -> list[str]:
        """Delete addresses; return what went wrong. One that is not there, or whose link is not, is gone."""
        listed = list(vips)
        failed = self._netlink.submit([rtnl.delete_address(ifindex, vip) for vip in listed])
        gone = errno.EADDRNOTAVAIL, errno.ENODEV
        return [f"address {listed[i]}: {os.strerror(code)}" for i, code in failed.items() if code not in gone]

    def renew(self, leases: Sequence[tuple[int, Sequence[Vip], int]]) -> set[int]:
        """Renew (ifindex, addresses, lifetime) in one send; return the positions of those refused."""
        owners = []
        messages = []
        for position, (ifindex, vips, lifetime) in enumerate(leases):
            renewal = self._renewal(ifindex, vips, lifetime)
            owners += [position] * len(renewal)
            messages += renewal
        return {owners[i] for i in self._netlink.submit(messages)}


def is_ours(address: rtnl.Addr, *, has_proto: bool) -> bool:
    """Whether an address was added by an engine of ours.

    Without IFA_PROTO (kernels before 5.18) a finite address counts as ours when it is also one of the
    configuration's, which the caller has checked.
    """
    return address.proto in OURS if has_proto else address.valid != rtnl.FOR_EVER


def lease_left(vips: Sequence[Vip], addresses: Iterable[rtnl.Addr]) -> bool:
    """Whether the kernel still holds every address by a lease: held mark, finite, at least 1 s left.

    It reports whole seconds rounded up, so 1 may be a moment; a resumed lease is renewed at once, and
    L + `RESUME_GRACE` is still below the dead time of any successor of ours.
    """
    held = {
        a.address for a in addresses if a.proto == PROTO_HELD and a.valid != rtnl.FOR_EVER and a.valid >= 1
    }
    return all(vip.ip in held for vip in vips)
