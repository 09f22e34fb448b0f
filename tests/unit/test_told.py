"""A set of vhosts as somebody gave it (carp.daemon.told)."""

from __future__ import annotations

import asyncio
from typing import Any

from carp.daemon.told import read_set


def _item(name: str, vhid: int, **fields: Any) -> dict[str, Any]:
    base = {"name": name, "vhid": vhid, "interface": "eth0", "addresses": [f"10.1.1.{vhid}"]}
    return {**base, "password": "love", **fields}


def test_a_set_is_read_vhost_by_vhost() -> None:
    """Sound ones with what they stand in; of each other one the mistakes, with and without path."""
    good, bad = _item("good", 1), _item("bad", 300, advskew=-1, addresses=["10.1.1.9"])
    told = asyncio.run(read_set([good, bad, 7]))
    assert (["good"], {"good": good}, []) == ([c.name for c in told.configs], told.items, told.kept)
    assert [
        "vhosts[1].advskew: -1 is not between 0 and 254",
        "vhosts[1].vhid: 300 is not between 1 and 255",
    ] == told.errors[:2]
    assert "vhosts[2]" == told.errors[2].partition(": ")[0]
    assert {
        "bad": "advskew: -1 is not between 0 and 254; vhid: 300 is not between 1 and 255"
    } == told.problems


def test_the_largest_vhost() -> None:
    """Everything that the schema allows fits into what is read."""
    addresses = [f"10.1.{n}.1" for n in range(16)]
    checks = [
        {"name": f"c{n}", "exec": {"command": ["x" * 60] * 8}, "period": "9s", "demotion": 7}
        for n in range(16)
    ]
    transport = {"mode": "Unicast", "peers": [f"10.2.{n}.1" for n in range(64)]}
    accept = [{"addresses": addresses, "password": "x" * 19}] * 16
    demotions = [{"reason": f"r{n}" + "x" * 60, "amount": 1} for n in range(16)]
    fields = {"addresses": addresses, "accept": accept, "transport": transport, "healthChecks": checks}
    told = asyncio.run(read_set([_item("large", 1, **fields, demotions=demotions)]))
    assert ([], ["large"]) == (told.errors, [c.name for c in told.configs])


def test_a_held_vhost_that_cannot_be_read_any_more() -> None:
    """It stays on disk, and is in nobody's way."""
    held = _item("old", 1, fencing="Lease")
    told = asyncio.run(read_set([_item("old", 300), _item("new", 1)], [held]))
    assert ([held], ["new"]) == (told.kept, [c.name for c in told.configs])
