"""What a VirtualIPPool's status should say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carp_operator.plan.claims import inside
from carp_operator.plan.status import condition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp.core.auth import Address
    from carp_operator.api.objects import Pool

_MOST: Mapping[int, int] = {4: 1 << 32, 6: (1 << 63) - 1}
"""Counts are 64 bit integers in the API."""


def pool_status(pool: Pool, taken: Mapping[Address, str], now: float) -> dict[str, Any]:
    """Return how many addresses of each family are used and free."""
    status: dict[str, Any] = {"observedGeneration": pool.generation}
    used = {4: 0, 6: 0}
    for ip in taken:
        used[ip.version] += inside(pool, ip)
    for version in (4, 6):
        size = sum(
            r.last - r.first + 1 - _avoided(pool, r.first, r.last, version)
            for r in pool.ranges
            if r.version == version
        )
        if size:
            free = min(size - used[version], _MOST[version])
            status[f"ipv{version}"] = {"used": used[version], "available": free}
    if pool.errors:
        values = ("False", "Invalid", "; ".join(str(error) for error in pool.errors))
    else:
        values = ("True", "PoolReady", "addresses can be taken")
    ready = condition(pool.status, "Ready", *values, now)
    status["conditions"] = [{**ready, "observedGeneration": pool.generation}]
    return status


def _avoided(pool: Pool, first: int, last: int, version: int) -> int:
    """Return how many of a range's addresses end in .0 or .255 and are left out for it."""
    if not pool.avoid_buggy or version == 6:
        return 0
    return sum((last - end) // 256 - (first - 1 - end) // 256 for end in (0, 255))
