"""What carpd shows: plain data for the control socket, from which every view is made. No secret in it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.health_monitor import CheckStatus
    from carp.core.snapshot import MasterSeen
    from carp.segment import Segment
    from carp.slots import Slot


def stamp(then: float, now: float) -> str:
    """Return the wall time (RFC 3339, UTC) of a moment of the monotonic clock."""
    wall = time.time() - (now - then)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))


def vhost_status(slot: Slot, source: str, now: float, checks: Sequence[CheckStatus] = ()) -> dict[str, Any]:
    """Return what there is to say about one vhost."""
    snapshot = slot.member.vhost.snapshot()
    vhost, config = slot.member.vhost, slot.config
    advbase, advskew, demotion = snapshot.header
    timing = config.timing
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
        "sendProblem": slot.member.problem if slot.member.sent_at is None else "",
    }


def _master(seen: MasterSeen, now: float) -> dict[str, Any]:
    return {
        "source": str(seen.sources[0]),
        "advbase": seen.advbase,
        "advskew": seen.advskew,
        "demotion": seen.demotion,
        "lastHeard": round(now - seen.heard_at, 2),
        "sealed": seen.sealed,
    }


def segment_status(segment: Segment) -> dict[str, Any]:
    """Return what one interface has heard that belongs to no vhost of ours."""
    return {
        "interface": segment.name,
        "mac": segment.mac.hex(":"),
        "vhids": sorted(segment.members),
        "drops": {reason.value: count for reason, count in sorted(segment.drops.items())},
    }
