"""The status of a pool: what is used and what is free."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from carp.core.errors import ConfigError
from carp_operator.plan.pools import pool_status
from planfix import World

NOW = 1_700_000_000.0


def _status(*ranges: str, taken: tuple[str, ...] = (), avoid: bool = False) -> dict[str, object]:
    world = World()
    world.pool("p", *ranges, avoid_buggy=avoid)
    return pool_status(world.pools["p"], {ip_address(t): "v" for t in taken}, NOW)


@pytest.mark.parametrize(
    ("ranges", "taken", "avoid", "expected"),
    [
        (("10.0.0.1-10.0.0.4",), ("10.0.0.2", "10.0.9.9"), False, {"ipv4": {"used": 1, "available": 3}}),
        (("10.0.0.1-10.0.0.1",), ("10.0.0.1",), False, {"ipv4": {"used": 1, "available": 0}}),
        (("10.0.0.0-10.0.0.255",), (), True, {"ipv4": {"used": 0, "available": 254}}),
        (("10.0.0.255-10.0.1.0",), (), True, {}),
        (("10.0.0.0-10.0.0.1",), ("10.0.0.0", "10.0.0.1"), True, {"ipv4": {"used": 1, "available": 0}}),
        (("10.0.0.128-10.0.2.128",), (), True, {"ipv4": {"used": 0, "available": 509}}),
        (("2001:db8::-2001:db8::ff",), (), True, {"ipv6": {"used": 0, "available": 256}}),
        (("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",), (), False,
         {"ipv6": {"used": 0, "available": (1 << 63) - 1}}),
        (("10.0.0.1-10.0.0.2", "2001:db8::1-2001:db8::2"), ("2001:db8::1",), False,
         {"ipv4": {"used": 0, "available": 2}, "ipv6": {"used": 1, "available": 1}}),
    ],
)  # fmt: skip
def test_used_and_free_are_counted_per_family(
    ranges: tuple[str, ...], taken: tuple[str, ...], avoid: bool, expected: dict[str, object]
) -> None:
    """Addresses ending in .0 and .255 do not count where they are avoided; counts fit into 64 bits."""
    found = _status(*ranges, taken=taken, avoid=avoid)
    assert expected == {key: found[key] for key in found if key.startswith("ip")}


def test_a_pool_with_an_error_says_so_and_keeps_the_time_of_the_change() -> None:
    """The condition Ready names what is wrong; its time moves only with its value."""
    world = World()
    world.pool("p", "10.0.0.1-10.0.0.4")
    pool = world.pools["p"]
    good = pool_status(pool, {}, NOW)
    assert ("True", "PoolReady") == (good["conditions"][0]["status"], good["conditions"][0]["reason"])
    later = pool_status(replace(pool, status=good), {}, NOW + 60)
    assert good == later
    bad = replace(pool, status=good, errors=(ConfigError("spec.addresses[0]", "x", "is no range"),))
    changed = pool_status(bad, {}, NOW + 60)["conditions"][0]
    assert ("False", "Invalid") == (changed["status"], changed["reason"])
    assert "spec.addresses[0]" in changed["message"]
    assert good["conditions"][0]["lastTransitionTime"] < changed["lastTransitionTime"]
