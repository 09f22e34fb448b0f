"""What carpd shows: plain data for the control socket, from which every view is made. No secret in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from carp.core.config import TransportMode
from carp.core.seal import is_far
from carp.core.transitions import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.core.health_monitor import CheckStatus
    from carp.core.snapshot import MasterSeen, Snapshot
    from carp.hostlinks import HostLink
    from carp.segment import Segment
    from carp.slots import Slot


def stamp(then: float, now: float) -> str:
    """Return the wall time (RFC 3339, UTC) of a moment of the monotonic clock."""
    wall = time.time() - (now - then)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))


def some(lines: Sequence[str], most: int, count: int | None = None, *, where: str = "") -> list[str]:
    """Return at most ``most`` lines; the last then says how many of ``count``, or of them, are left out."""
    count = len(lines) if count is None else count
    return list(lines) if count <= most else [*lines[: most - 1], f"{where}and {count - most + 1} more"]


def memory_problems(slots: Iterable[Slot]) -> list[str]:
    """Return which vhosts a restart could not resume, and why."""
    found = []
    for slot in slots:
        if slot.memory is None:
            found.append(f"{slot.config.name}: no runtime state: a restart will not resume")
        elif slot.unwritten:
            found.append(f"{slot.config.name}: cannot store the runtime state: {slot.unwritten}")
    return found


def vhost_status(slot: Slot, source: str, now: float, checks: Sequence[CheckStatus] = ()) -> dict[str, Any]:
    """Return what there is to say about one vhost."""
    snapshot = slot.member.vhost.snapshot()
    vhost, config = slot.member.vhost, slot.config
    advbase, advskew, demotion = snapshot.header
    timing = config.timing
    # Of a backup nothing leaves anyway; what was in its way may be gone.
    unsent = snapshot.state is State.MASTER and slot.member.sent_at is None
    problem = slot.member.problem if unsent else ""
    return {
        "name": config.name,
        "source": source,
        "interface": "" if slot.port.segment is None else slot.port.segment.name,
        "vhid": config.vhid,
        "addresses": [str(vip) for vip in config.addresses],
        "state": snapshot.state.value,
        "since": stamp(snapshot.since, now),
        "seconds": round(now - snapshot.since, 1),
        "cause": snapshot.cause,
        "reason": snapshot.reason,
        "transitions": snapshot.transitions,
        "advbase": advbase,
        "advskew": advskew,
        "deadTime": round(vhost.dead_time(), 3),
        "lifetime": timing.lifetime() if config.fenced else None,
        "overlapBound": round(timing.overlap_bound(), 2) if config.fenced else None,
        "preempt": config.preempt.mode.value,
        "demotion": demotion,
        "demotions": [{"reason": r, "amount": a} for r, a in sorted(snapshot.demotions.items())],
        "master": None if snapshot.master is None else _master(snapshot.master, now),
        "leaving": snapshot.leaving,
        "conflict": None
        if snapshot.conflict is None
        else {"address": str(snapshot.conflict[0]), "mac": snapshot.conflict[1].hex(":")},
        "health": [
            {
                "name": c.name,
                "target": c.target,
                "health": c.health.value,
                "flapping": c.flapping,
                "detail": c.detail,
            }
            for c in checks
        ],
        "lease": round(vhost.lapses_at - now, 2) if vhost.has_lease else None,
        "drops": {reason.value: count for reason, count in sorted(snapshot.drops.items())},
        "sendProblem": problem,
        "transport": _transport(config, vhost.sources),
        "clockSkew": None if snapshot.master is None else _skew(snapshot.master, now),
        "error": _error(snapshot, problem),
    }


def _transport(config: VhostConfig, sources: Iterable[Address]) -> dict[str, Any]:
    """Return where adverts go, per family in use, and the addresses that they leave from."""
    transport = config.transport
    shown: dict[str, Any] = {"mode": transport.mode.value, "sources": [str(source) for source in sources]}
    if transport.mode is TransportMode.UNICAST:
        return {**shown, "peers": [str(peer) for peer in transport.peers]}
    groups = {4: transport.group4, 6: transport.group6}
    return shown | {f"group{family}": str(groups[family]) for family in config.families}


def _skew(seen: MasterSeen, now: float) -> int | None:
    """Return by how many s the clock in the last sealed advert is ahead of ours, where that is far."""
    drift = seen.drift(time.time() - (now - seen.heard_at))
    return round(drift) if drift is not None and is_far(drift) else None


def _error(snapshot: Snapshot, problem: str) -> str:
    """Return in one line what keeps a vhost from its work; empty where nothing does."""
    if snapshot.conflict is not None:
        address, mac = snapshot.conflict
        return f"address {address} is in use by {mac.hex(':')}, which sends no advert that is believed here"
    return snapshot.reason or problem


def _master(seen: MasterSeen, now: float) -> dict[str, Any]:
    return {
        "source": str(seen.sources[0]),
        "advbase": seen.advbase,
        "advskew": seen.advskew,
        "demotion": seen.demotion,
        "lastHeard": round(now - seen.heard_at, 2),
        "sealed": seen.sealed,
    }


def segment_status(segment: Segment, link: HostLink | None, foreign: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what there is to say about an interface in use, and who else speaks there."""
    return {
        "interface": segment.name,
        "mac": segment.mac.hex(":"),
        "mtu": None if link is None else link.mtu,
        "carrier": None if link is None else link.carrier,
        "addresses": [] if link is None else list(link.addresses),
        "vhids": sorted(segment.members),
        "drops": {reason.value: count for reason, count in sorted(segment.drops.items())},
        "foreign": foreign,
    }


def link_status(link: HostLink) -> dict[str, Any]:
    """Return what there is to say about an interface of the host, in use or not."""
    return {
        "name": link.name,
        "mac": link.mac.hex(":"),
        "mtu": link.mtu,
        "carrier": link.carrier,
        "addresses": list(link.addresses),
    }
