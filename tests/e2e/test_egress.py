"""A master whose adverts do not leave must not keep the address: send before renew, no renewal on failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beside import Measured, beside, labs
from nodefix import VIP, VIP6, Lab, holds, idle, run, wait_until

if TYPE_CHECKING:
    from carp.lab.node import Node

__all__ = ["labs"]

_ACCEPT = "{ type filter hook %s priority 0; policy accept; }"
_WAYS = {
    "egress-hook": [
        "nft add table netdev t",
        "nft add chain netdev t c " + _ACCEPT % "egress device eth0",
        "nft add rule netdev t c ip protocol 112 drop",
    ],
    "output-hook": [
        "nft add table ip t",
        "nft add chain ip t c " + _ACCEPT % "output",
        "nft add rule ip t c ip protocol 112 drop",
    ],
    "one-family": [
        "nft add table ip6 t",
        "nft add chain ip6 t c " + _ACCEPT % "output",
        "nft add rule ip6 t c ip6 nexthdr 112 drop",
    ],
    "qdisc": ["tc qdisc replace dev eth0 root bfifo limit 1"],
}


def _drop(node: Node, way: str) -> None:
    """Have a node's kernel drop the adverts that the node sends."""
    for command in _WAYS[way]:
        run(node, *(command.split(maxsplit=1) if command.startswith("nft ") else command.split()))


@pytest.mark.parametrize("way", _WAYS)
@beside
def test_dropped_adverts(lab: Lab, way: str) -> Measured:
    """When the owner's adverts are dropped on their way out, in any family, it does not renew: the address is
    gone before another takes it over, and the owner says why and becomes a backup.
    """
    vips = [VIP, VIP6] if way == "one-family" else [VIP]
    one, two = lab.pair(addresses=vips)
    node = lab.node("n1")
    with lab.prober() as prober:
        prober.wait_owner(node, 5)
        prober.mark("drop")
        _drop(node, way)
        assert "cannot send on eth0" in one.wait_event("send-failed", 3)["message"]
        one.backup(4)
        assert not any(holds(node, vip) for vip in vips)
        wait_until(lambda: two.state() == "MASTER", 8, "the other takes over", one, two)
        idle(1)
        result = prober.stop()
    assert "MASTER" == two.state()
    assert "lease-lapsed" == next(e["cause"] for e in one.events("state") if e["old"] == "MASTER")
    assert 0 == result.summary.two_owners.total_s
    return {"two_owners_s": 0, "outage_ms": max(o.duration_ms for o in result.summary.outages)}


@beside
def test_claim_without_egress(lab: Lab) -> None:
    """A backup whose adverts cannot leave does not keep an address that it claims."""
    one, two = lab.pair()
    _drop(lab.node("n2"), "qdisc")
    one.kill()
    wait_until(
        lambda: "claim-failed" in [line["cause"] for line in two.events("state")], 8, "the claim fails", two
    )
    idle(0.2)
    assert not holds(lab.node("n2"))
    assert "BACKUP" == two.state()
