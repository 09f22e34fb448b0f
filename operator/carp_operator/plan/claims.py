"""Who gets which addresses and which vhid: unique, sticky, what is served first, then the older."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_interface
from itertools import chain
from typing import TYPE_CHECKING

from carp_operator.api.codec import first_error, interface_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip
    from carp_operator.api.objects import Pool, VipSpec, VirtualIP
    from carp_operator.plan.book import Book
    from carp_operator.plan.facts import Facts


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a VirtualIP is not served; ``withdrawn``: what runs of it is another's, and must go."""

    reason: str
    message: str
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """What one VirtualIP has of what all share; ``note``: what a person should know of it."""

    addresses: tuple[Vip, ...] = ()
    vhid: int | None = None
    problem: Problem | None = None
    note: str = ""

    def also(self, vhid: int | None = None, problem: Problem | None = None, note: str = "") -> Claim:
        """Return the same with what came of its vhid."""
        return Claim(self.addresses, vhid, problem, "; ".join(text for text in (self.note, note) if text))


def by_age(vips: Collection[VirtualIP]) -> list[VirtualIP]:
    """Return the oldest first."""
    return sorted(vips, key=lambda v: (v.created, v.name))


def whose(other: VirtualIP, than: VirtualIP) -> str:
    """Return the words for who has what another wants: the older one, or one that nodes serve with it."""
    if (other.created, other.name) < (than.created, than.name):
        return f"the older VirtualIP {other.name}"
    return f"VirtualIP {other.name}, which has it already"


class Addresses:
    """All addresses of the cluster: what is served before what waits, explicit ones before those of pools."""

    def __init__(
        self,
        vips: Sequence[VirtualIP],
        pools: Mapping[str, Pool],
        facts: Facts,
        book: Book,
        memo: dict[str, tuple[tuple[Vip, ...], tuple[Address, ...]]],
        unsure: Collection[VirtualIP] = (),
    ) -> None:
        """``vips`` the oldest first; ``book``: which of them nodes were told to serve an address for.

        ``unsure``: those of which a node may run what no CarpNode tells any more.
        """
        self._memo, self._vips = memo, {vip.name: vip for vip in vips}
        self.taken: dict[Address, str] = {}
        self._pools, self._facts, self._book = pools, facts, book
        self._running = _and_unsure(book.running, unsure) if unsure else book.running
        self._next: dict[tuple[str, int], Iterator[Address]] = {}
        self.found: dict[str, Claim] = {}
        self._whole: set[str] = set()
        """Those for which nodes were told all that they want, with nobody before them."""
        kept: dict[str, dict[int, Address]] = {}
        # An edit must not take what another serves, whoever is older; age decides among those that wait.
        for vip in vips:
            if vip.spec is not None and vip.spec.pool:
                kept[vip.name] = self._keep(vip, vip.spec)
            elif vip.spec is not None:
                self._hold(vip.name, self._ips(vip, vip.spec.addresses))
        for vip in vips:
            if vip.spec is not None and not vip.spec.pool:
                self.found[vip.name] = self._explicit(vip, vip.spec.addresses)
        for vip in vips:
            if vip.spec is not None and vip.spec.pool:
                self.found[vip.name] = self._pooled(vip, vip.spec, kept[vip.name])

    def _hold(self, name: str, ips: Sequence[Address]) -> None:
        """Take what nodes were told to serve for a VirtualIP that still wants it."""
        mine = [self.taken.setdefault(ip, name) == name for ip in ips if name in self._running.get(ip, ())]
        if len(mine) == len(ips) and all(mine):
            self._whole.add(name)

    def _explicit(self, vip: VirtualIP, addresses: tuple[Vip, ...]) -> Claim:
        ips, note = self._ips(vip, addresses), ""
        if vip.name in self._whole and not any(ip in self._facts.own for ip in ips):
            return Claim(addresses)
        for ip in ips:
            node, other = self._facts.own.get(ip), self.taken.get(ip, vip.name)
            if node is None and other == vip.name:
                continue
            runs = vip.name in self._running.get(ip, ())
            if other != vip.name:
                message = f"addresses: {ip} belongs to {whose(self._vips[other], vip)}"
                return Claim(addresses, problem=Problem("AddressInUse", message, runs))
            note = f"{ip} is node {node}'s own address, too: remove it there"
            if not runs:
                message = f"addresses: {ip} is node {node}'s own address"
                return Claim(addresses, problem=Problem("AddressOfNode", message))
        # Of two that wait for one address the older is served first.
        self.taken.update(dict.fromkeys(ips, vip.name))
        for ip in ips:
            told = self._running.get(ip, ())
            others = [] if vip.name in told else sorted(name for name in told if name in self._vips)
            if others:
                message = (
                    f"addresses: {ip} is still served for VirtualIP {others[0]}; where each waits for the "
                    "other, delete one or move it to a free address first"
                )
                return Claim(addresses, problem=Problem("AddressInUse", message))
        return Claim(addresses, note=note)

    def _ips(self, vip: VirtualIP, addresses: tuple[Vip, ...]) -> tuple[Address, ...]:
        """Return the addresses without their prefix lengths, which takes its time."""
        known = self._memo.get(vip.name)
        if known is None or known[0] is not addresses:
            known = self._memo[vip.name] = addresses, tuple(a.ip for a in addresses)
        return known[1]

    def _keep(self, vip: VirtualIP, spec: VipSpec) -> dict[int, Address]:
        """Take what a VirtualIP has of its pool already, one address of a family.

        The status comes first; what nodes were told for it alone counts where no status was written.
        """
        pool = self._pools.get(spec.pool)
        if pool is None:
            return {}
        given = [a.ip for text in vip.status.get("addresses", ()) if (a := interface_of(text)) is not None]
        # What this pool gave stays when the pool shrinks, or when a typo makes a range of it unreadable.
        stays = given if vip.status.get("pool") == pool.name else ()
        kept: dict[int, Address] = {}
        for ip in (*given, *self._book.alone.get(vip.name, ())):
            told = self._running.get(ip, ())
            if ip.version in kept or (spec.families and ip.version not in spec.families):
                continue
            if ip in self.taken or (told and vip.name not in told):
                continue
            if ip in stays or inside(pool, ip):
                self.taken[ip] = vip.name
                kept[ip.version] = ip
        return kept

    def _pooled(self, vip: VirtualIP, spec: VipSpec, kept: Mapping[int, Address]) -> Claim:
        pool = self._pools.get(spec.pool)
        if pool is None:
            message = f"addressesFrom.pool: there is no VirtualIPPool {spec.pool!r}"
            return Claim(problem=Problem("PoolMissing", message))
        has = set() if pool.errors and kept else {r.version for r in pool.ranges}
        result: list[Address] = []
        for version in spec.families or tuple(sorted(has | kept.keys())):
            ip = kept.get(version)
            if ip is None and pool.errors:
                break
            ip = ip or self._free(pool, version)
            if ip is None:
                self._give_back(pool, result, kept)
                message = f"addressesFrom.pool: {pool.name!r} has no free IPv{version} address"
                return Claim(problem=Problem("PoolExhausted", message))
            self.taken[ip] = vip.name
            result.append(ip)
        else:
            if result:
                return Claim(self._reused(vip, tuple(result)), note=_outside(pool, result))
        if pool.errors:
            message = f"addressesFrom.pool: {pool.name!r} gives nothing while it is wrong: "
            return Claim(problem=Problem("PoolInvalid", message + first_error(pool.errors)))
        message = f"addressesFrom.pool: {pool.name!r} has no addresses"
        return Claim(problem=Problem("PoolExhausted", message))

    def _reused(self, vip: VirtualIP, ips: tuple[Address, ...]) -> tuple[Vip, ...]:
        """Return addresses as the same object in every plan: what is known of them is found by it."""
        known = self._memo.get(vip.name)
        if known is None or known[1] != ips:
            known = self._memo[vip.name] = tuple(ip_interface(ip) for ip in ips), ips
        return known[0]

    def _give_back(self, pool: Pool, ips: Sequence[Address], kept: Mapping[int, Address]) -> None:
        """Let others have what is of no use without an address of the other family."""
        for ip in ips:
            if ip not in kept.values():
                del self.taken[ip]
                self._next[pool.name, ip.version] = chain([ip], self._next[pool.name, ip.version])

    def _free(self, pool: Pool, version: int) -> Address | None:
        rest = self._next.setdefault((pool.name, version), members(pool, version))
        others = self._running, self.taken, self._facts.own
        return next((ip for ip in rest if not any(ip in some for some in others)), None)


def _and_unsure(
    running: Mapping[Address, Collection[str]], unsure: Collection[VirtualIP]
) -> dict[Address, Collection[str]]:
    """Return what runs, with what only statuses still say: nobody else may have it meanwhile."""
    found = dict(running)
    for vip in unsure:
        for text in vip.status.get("addresses", ()):
            address = interface_of(text)
            if address is not None:
                found[address.ip] = {*found.get(address.ip, ()), vip.name}
    return found


def inside(pool: Pool, ip: Address) -> bool:
    """Whether a pool would give an address."""
    return any(r.version == ip.version and r.first <= int(ip) <= r.last for r in pool.ranges) and not (
        pool.avoid_buggy and _buggy(ip)
    )


def _outside(pool: Pool, ips: Sequence[Address]) -> str:
    """Return what to say of addresses that the pool once gave and would not give now."""
    found = [] if pool.errors else [str(ip) for ip in ips if not inside(pool, ip)]
    stays = "stay until the VirtualIP is deleted"
    return f"no longer in pool {pool.name}: {', '.join(found)}; such addresses {stays}" if found else ""


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
