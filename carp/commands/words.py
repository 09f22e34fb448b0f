"""What carpd's codes mean, in sentences for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

CAUSES: Final = {
    "link-up": "its interface came up, and a member listens before it may claim",
    "link-down": "its interface went away or lost its carrier or its address",
    "stopped": "it was stopped",
    "lease-resumed": "carpd was restarted while the kernel still held the address for it",
    "first-claim": "nobody advertised and nobody answered for the address",
    "dead-time": "the master before was not heard for a whole dead time",
    "bow-out": "the master before bowed out (a planned handover)",
    "preempted": "it is preferred over the master before, and preempt is on",
    "peer-demoted": "the master before was demoted more than this node",
    "peer-too-slow": "the master before advertises more slowly than this node's dead time",
    "better-master": "a preferred master advertised",
    "tie-lost": "another master with the same interval won the tie",
    "handed-over": "it handed over, and a successor answered",
    "lease-lapsed": "it did not renew its lease in time (its adverts did not leave, or it stood still), so "
    "the kernel took the address away",
    "claim-failed": "its claim failed: the advert or the address could not be brought out",
}
"""By the causes of `carp.core.transitions`."""

DROPS: Final = {
    "short": "were cut off",
    "vrrp": "were VRRP",
    "version": "had an unknown version",
    "type": "had an unknown type",
    "checksum": "had a wrong checksum",
    "vhid": "were for a vhid that is not configured here",
    "ttl": "had crossed a router (TTL not 255)",
    "loop": "were this node's own, sent back by the network",
    "hmac": "had a wrong HMAC (password, address list or vhid differ)",
    "unsealed": "bore no seal, and this vhost demands one",
    "replay": "were not newer than one already heard (recorded or delayed)",
    "stalled": "had waited while carpd stood still",
    "inactive": "came while the vhost was not taking part",
}
"""By the reasons of `carp.core.errors.DropReason`; the words follow "12 adverts ..."."""

ORDINARY_DROPS: Final = frozenset({"vrrp", "vhid", "loop", "inactive"})
"""What a healthy segment shows: others' vhids, VRRP routers, echoes, a start."""


def cause(code: str) -> str:
    """Return why a state changed; a code that is not known stands for itself."""
    return CAUSES.get(code, code)


def demotions(vhost: dict[str, Any]) -> str:
    """Return each demotion with its reason: ``40 (upgrade)``, ``250 (maintenance 240, disk 10)``, ``0``."""
    parts = vhost["demotions"]
    if len(parts) == 1 and parts[0]["amount"] == vhost["demotion"]:
        return f"{vhost['demotion']} ({parts[0]['reason']})"
    reasons = ", ".join(f"{part['reason']} {part['amount']}" for part in parts)
    return f"{vhost['demotion']} ({reasons})" if reasons else str(vhost["demotion"])


def drops(counts: dict[str, int]) -> str:
    """Return the drops of adverts in words, the most frequent first: ``12 had a wrong HMAC (...), 3 ...``."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {DROPS.get(reason, reason)}" for reason, count in ordered if count)


def failing(vhost: dict[str, Any]) -> Iterator[str]:
    """Yield each health check that does not say up, with its target and what was seen last."""
    for check in vhost["health"]:
        how = "is flapping, so it counts as down" if check["flapping"] else f"is {check['health']}"
        if check["health"] == "down" or check["flapping"]:
            detail = f": {check['detail']}" if check["detail"] else ""
            yield f"health check {check['name']} ({check['target']}) {how}{detail}"


def is_troubled(vhost: dict[str, Any]) -> bool:
    """Whether a vhost takes no part, or somebody else uses one of its addresses."""
    return vhost["state"] == "INIT" or vhost["conflict"] is not None


def remarks(vhost: dict[str, Any]) -> Iterator[str]:
    """Yield what somebody who looks at a vhost must not overlook."""
    name = vhost["name"]
    if vhost["state"] == "INIT":
        yield f"{name}: takes no part: {vhost['reason'] or cause(vhost['cause'])}"
    elif vhost["reason"]:
        yield f"{name}: {vhost['reason']}"
    if vhost["conflict"] is not None:
        conflict = vhost["conflict"]
        yield (
            f"{name}: CONFLICT: {conflict['address']} is in use by {conflict['mac']}, which sends no adverts "
            f"that this node believes; carp doctor {name}"
        )
    if vhost["sendProblem"]:
        yield f"{name}: its adverts do not leave: {vhost['sendProblem']}"
    yield from (f"{name}: {text}" for text in failing(vhost))
    if vhost["leaving"]:
        yield f"{name}: handing over now ({vhost['leaving']})"
    bad = {reason: n for reason, n in vhost["drops"].items() if reason not in ORDINARY_DROPS}
    if bad:
        yield f"{name}: adverts not believed: {drops(bad)}"


def how_long(daemon: dict[str, Any]) -> str:
    """Return whether carpd's maintenance mode outlives it."""
    return "also after a restart" if daemon["persisted"] else "and may be forgotten by a restart: not stored"


def problems(daemon: dict[str, Any]) -> Iterator[str]:
    """Yield what somebody who looks at carpd as a whole must not overlook."""
    if daemon["maintenance"]:
        yield f"maintenance mode is ON, {how_long(daemon)}; end it with: carp maintenance off"
    if not daemon["persisted"]:
        yield "the newest settings are not on disk: a restart of carpd goes back to older ones"
    for problem in daemon["problems"]:
        yield f"carpd: {problem}"
