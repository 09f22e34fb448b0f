"""Who gets which addresses and which vhid: unique, sticky, the older first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_interface
from typing import TYPE_CHECKING

from carp_operator.api.codec import interface_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip
    from carp_operator.api.objects import Pool, VirtualIP
    from carp_operator.plan.facts import Facts


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a VirtualIP is not served; ``withdrawn``: what runs of it is another's, and must go."""

    reason: str
    message: str
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What one VirtualIP has of what all share."""

    addresses: tuple[Vip, ...] = ()
    vhid: int | None = None
    problem: Problem | None = None


def by_age(vips: Collection[VirtualIP]) -> list[VirtualIP]:
    """Return the oldest first."""
    return sorted(vips, key=lambda v: (v.created, v.name))


class Addresses:
    """All addresses of the cluster, explicit ones before those of pools."""

    def __init__(
        self,
        vips: Sequence[VirtualIP],
        pools: Mapping[str, Pool],
        facts: Facts,
        running: Mapping[Address, Collection[str]],
        memo: dict[str, tuple[tuple[Vip, ...], tuple[Address, ...]]],
    ) -> None:
        """``vips`` the oldest first; ``running``: which of them nodes were told to serve an address for."""
        self._memo, self._names = memo, {vip.name for vip in vips}
        self.taken: dict[Address, str] = {}
        self._pools, self._facts, self._running = pools, facts, running
        self._next: dict[tuple[str, int], Iterator[Address]] = {}
        self.found: dict[str, tuple[tuple[Vip, ...], Problem | None]] = {}
        pooled = []
        for vip in vips:
            if vip.spec is None:
                continue
            if vip.spec.pool:
                pooled.append(vip)
            else:
                self.found[vip.name] = self._explicit(vip, vip.spec.addresses)
        kept = {vip.name: self._keep(vip) for vip in pooled}
        for vip in pooled:
            self.found[vip.name] = self._pooled(vip, kept[vip.name])

    def _explicit(self, vip: VirtualIP, addresses: tuple[Vip, ...]) -> tuple[tuple[Vip, ...], Problem | None]:
        ips = self._ips(vip, addresses)
        for ip in ips:
            node, other = self._facts.own.get(ip), self.taken.get(ip)
            if node is None and other is None:
                continue
            runs = vip.name in self._running.get(ip, ())
            if node is not None:
                message = f"addresses: {ip} is node {node}'s own address"
                return addresses, Problem("AddressOfNode", message, runs)
            message = f"addresses: {ip} belongs to the older VirtualIP {other}"
            return addresses, Problem("AddressInUse", message, runs)
        # Of two that wait for one address the older is served first.
        self.taken.update(dict.fromkeys(ips, vip.name))
        for ip in ips:
            others = sorted((self._names & set(self._running.get(ip, ()))) - {vip.name})
            if others:
                message = f"addresses: {ip} is still served for VirtualIP {others[0]}"
                return addresses, Problem("AddressInUse", message)
        return addresses, None

    def _ips(self, vip: VirtualIP, addresses: tuple[Vip, ...]) -> tuple[Address, ...]:
        """Return the addresses without their prefix lengths, which takes its time."""
        known = self._memo.get(vip.name)
        if known is None or known[0] is not addresses:
            known = self._memo[vip.name] = addresses, tuple(a.ip for a in addresses)
        return known[1]

    def _keep(self, vip: VirtualIP) -> list[Address]:
        """Return what a VirtualIP has of its pool already, as far as that still fits."""
        pool = self._pools.get(vip.spec.pool) if vip.spec else None
        kept = []
        for text in vip.status.get("addresses", ()):
            held = interface_of(text)
            if pool is None or held is None or held.ip in self.taken or not _inside(pool, held.ip):
                continue
            self.taken[held.ip] = vip.name
            kept.append(held.ip)
        return kept

    def _pooled(self, vip: VirtualIP, kept: list[Address]) -> tuple[tuple[Vip, ...], Problem | None]:
        spec = vip.spec
        pool = self._pools.get(spec.pool) if spec else None
        if spec is None or pool is None:
            name = spec.pool if spec else ""
            return (), Problem("PoolMissing", f"addressesFrom.pool: there is no VirtualIPPool {name!r}")
        result: list[Address] = []
        for version in spec.families or tuple(sorted({r.version for r in pool.ranges})):
            ip = next((ip for ip in kept if ip.version == version), None) or self._free(pool, version)
            if ip is None:
                message = f"addressesFrom.pool: {pool.name!r} has no free IPv{version} address"
                return (), Problem("PoolExhausted", message)
            self.taken[ip] = vip.name
            result.append(ip)
        if not result:
            return (), Problem("PoolExhausted", f"addressesFrom.pool: {pool.name!r} has no addresses")
        return tuple(ip_interface(ip) for ip in result), None

    def _free(self, pool: Pool, version: int) -> Address | None:
        rest = self._next.setdefault((pool.name, version), members(pool, version))
        others = self._running, self.taken, self._facts.own
        return next((ip for ip in rest if not any(ip in some for some in others)), None)


def _inside(pool: Pool, ip: Address) -> bool:
    return any(r.version == ip.version and r.first <= int(ip) <= r.last for r in pool.ranges) and not (
        pool.avoid_buggy and _buggy(ip)
    )


def _buggy(ip: Address) -> bool:
    return ip.version == 4 and int(ip) & 0xFF in (0, 255)


def members(pool: Pool, version: int) -> Iterator[Address]:
    """Yield a pool's addresses of one family, lowest first; an IPv6 pool may have very many."""
    for each in sorted((r for r in pool.ranges if r.version == version), key=lambda r: r.first):
        for number in range(each.first, each.last + 1):
            ip = ip_interface((number, 32 if version == 4 else 128)).ip
            if not (pool.avoid_buggy and _buggy(ip)):
                yield ip


class Vhids:
    """The vhids of all segments."""

    def __init__(self, facts: Facts) -> None:
        """Nobody has one yet."""
        self._taken: dict[str, dict[int, str]] = defaultdict(dict)
        self._heard = facts.heard

    def claim(self, name: str, vhid: int, segments: Collection[str]) -> str:
        """Take a vhid on all these segments; return who has it already, else nothing."""
        for segment in segments:
            other = self._taken[segment].get(vhid)
            if other is not None and other != name:
                return other
        for segment in segments:
            self._taken[segment][vhid] = name
        return ""

    def allocate(self, name: str, segments: Collection[str]) -> int | None:
        """Take a free vhid that nobody speaks, from a start that depends on the name alone."""
        used = {vhid for s in segments for vhid in self._taken[s]}
        heard = {vhid for s in segments for vhid in self._heard.get(s, ())}
        if len(used | heard) >= 255:
            return None
        start = int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "big") % 255
        vhid = next(v for i in range(255) if (v := (start + i) % 255 + 1) not in used and v not in heard)
        self.claim(name, vhid, segments)
        return vhid
