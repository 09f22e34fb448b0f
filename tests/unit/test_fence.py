"""Addresses with lifetimes, by prepared messages (design.md rule 3)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, cast

import pytest

from carp import rtnl
from carp.fence import RESUME_GRACE, Fence, is_ours, lease_left
from carp.netlink import PROTO_CEDED, PROTO_HELD
from carp.rtnl import FOR_EVER, Addr
from pair import address, config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.netlink import Netlink

VIPS = config(addresses=["10.1.1.252", "2001:db8::252"]).addresses
V4, V6 = VIPS


class _Netlink:
    """Takes messages and refuses those at given positions."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.refused: dict[int, int] = {}

    def submit(self, messages: Sequence[bytes]) -> dict[int, int]:
        self.sent.append(list(messages))
        return self.refused


def _fence() -> tuple[Fence, _Netlink]:
    netlink = _Netlink()
    return Fence(cast("Netlink", netlink)), netlink


@pytest.mark.parametrize(
    ("lifetime", "ceded", "seconds", "proto"),
    [(2, False, 2, PROTO_HELD), (1, True, 1, PROTO_CEDED), (None, False, FOR_EVER, PROTO_HELD)],
)
def test_holding(lifetime: int | None, ceded: bool, seconds: int, proto: int) -> None:
    """One message per address with its lifetime and mark, all in one call; no lifetime means for ever."""
    fence, netlink = _fence()
    assert fence.hold(7, VIPS, lifetime, ceded=ceded) is None
    expected = [rtnl.set_address(7, v, lifetime=seconds, proto=proto, create=True) for v in VIPS]
    assert [expected] == netlink.sent


def test_a_refused_address_is_named() -> None:
    """The first one that failed, with the kernel's reason."""
    fence, netlink = _fence()
    netlink.refused = {1: errno.EPERM}
    assert "address 2001:db8::252/128: Operation not permitted" == fence.hold(7, VIPS, 2, ceded=False)


def test_releasing() -> None:
    """What is gone already, with its link or alone, is no error; anything else is told."""
    fence, netlink = _fence()
    assert [] == fence.release(7, VIPS)
    assert [[rtnl.delete_address(7, vip) for vip in VIPS]] == netlink.sent
    netlink.refused = {0: errno.EADDRNOTAVAIL, 1: errno.ENODEV}
    assert [] == fence.release(7, VIPS)
    netlink.refused = {0: errno.EPERM, 1: errno.ENODEV}
    assert ["address 10.1.1.252/32: Operation not permitted"] == fence.release(7, VIPS)


def test_renewals_of_many_vhosts_in_one_send() -> None:
    """All messages together; a vhost is refused when any of its addresses is."""
    fence, netlink = _fence()
    others = config(addresses=["10.1.1.9"]).addresses
    assert set() == fence.renew([(7, VIPS, 2), (8, others, 5)])
    expected = [rtnl.set_address(7, v, lifetime=2, proto=PROTO_HELD, create=True) for v in VIPS]
    expected.append(rtnl.set_address(8, others[0], lifetime=5, proto=PROTO_HELD, create=True))
    assert [expected] == netlink.sent
    netlink.refused = {1: errno.ENODEV}
    assert {0} == fence.renew([(7, VIPS, 2), (8, others, 5)])
    netlink.refused = {2: errno.ENODEV}
    assert {1} == fence.renew([(7, VIPS, 2), (8, others, 5)])


def test_prepared_messages_belong_to_their_addresses() -> None:
    """The same vhost with other addresses, interface or lifetime renews those, not the ones before."""
    fence, netlink = _fence()
    for ifindex, vips, lifetime in ((7, VIPS, 2), (7, VIPS[:1], 2), (8, VIPS[:1], 2), (8, VIPS[:1], 5)):
        fence.renew([(ifindex, tuple(vips), lifetime)])
        expected = [
            rtnl.set_address(ifindex, v, lifetime=lifetime, proto=PROTO_HELD, create=True) for v in vips
        ]
        assert expected == netlink.sent[-1]


def test_prepared_messages_are_bounded() -> None:
    """After many different ones the fence forgets, and goes on."""
    fence, netlink = _fence()
    for ifindex in range(1, 5000):
        fence.renew([(ifindex, VIPS[:1], 2)])
    assert rtnl.set_address(4999, V4, lifetime=2, proto=PROTO_HELD, create=True) == netlink.sent[-1][0]


def _addr(text: str, proto: int, valid: int, prefixlen: int | None = None) -> Addr:
    ip = address(text)
    length = ip.max_prefixlen if prefixlen is None else prefixlen
    return Addr(ifindex=7, address=ip, prefixlen=length, flags=0, proto=proto, valid=valid)


@pytest.mark.parametrize(
    ("proto", "valid", "prefixlen", "has_proto", "expected"),
    [
        (PROTO_HELD, 2, 32, True, True),
        (PROTO_CEDED, 1, 32, True, True),
        (PROTO_HELD, FOR_EVER, 24, True, True),
        (0, 2, 32, True, False),
        (3, 2, 32, True, False),
        (0, 2, 32, False, True),
        (0, 2, 24, False, True),
        (0, FOR_EVER, 32, False, False),
    ],
)
def test_whose_an_address_is(proto: int, valid: int, prefixlen: int, has_proto: bool, expected: bool) -> None:
    """By its mark; without marks (before Linux 5.18) a finite one of the configuration's counts."""
    assert expected == is_ours(_addr("10.1.1.252", proto, valid, prefixlen), has_proto=has_proto)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([("10.1.1.252", PROTO_HELD, 1), ("2001:db8::252", PROTO_HELD, 2)], True),
        ([("10.1.1.252", PROTO_HELD, 2)], False),
        ([("10.1.1.252", PROTO_HELD, 2), ("2001:db8::252", PROTO_HELD, 0)], False),
        ([("10.1.1.252", PROTO_HELD, 2), ("2001:db8::252", PROTO_CEDED, 1)], False),
        ([("10.1.1.252", PROTO_HELD, 2), ("2001:db8::252", PROTO_HELD, FOR_EVER)], False),
        ([("10.1.1.252", 0, 2), ("2001:db8::252", PROTO_HELD, 2)], False),
        ([], False),
    ],
)
def test_a_lease_to_resume(addresses: list[tuple[str, int, int]], expected: bool) -> None:
    """Every address held, finite, with at least a second left as the kernel reports it; never a ceded one."""
    assert expected == lease_left(VIPS, [_addr(*a) for a in addresses])


def test_a_resumed_lease_is_renewed_before_any_successor_claims() -> None:
    """What the kernel reports as 1 s may be a moment: the grace after the start stays below a dead time."""
    timing = config().timing
    assert timing.lifetime() + RESUME_GRACE < timing.dead_time()
