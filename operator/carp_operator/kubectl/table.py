"""`kubectl carp status` as data and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.commands.table import aligned
from carp_operator.kubectl import reading as r

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carp_operator.kube.client import Object

    Column = tuple[str, "Callable[[dict[str, Any]], str]"]

_LOST: Final = frozenset({"dead-time"})
"""Causes that follow a silence: the addresses were away, at most for the bound of the status."""
_SHOWN: Final = 2
"""Addresses in the narrow table."""


def row(vip: Object, carpnodes: Mapping[str, Object], now: float) -> dict[str, Any]:
    """Return what is known of one VirtualIP; ``now`` in epoch seconds."""
    status = vip.get("status")
    holder = r.master(vip)
    ready, reason, message = r.health(vip)
    members = [
        {"name": r.text(n, "name"), "state": r.text(n, "state"), "advskew": r.whole(n, "advskew")}
        | ({"demotion": r.maps(n, "demotion")} if r.maps(n, "demotion") else {})
        for n in r.maps(status, "nodes")
    ]
    return {
        "name": r.name_of(vip),
        "addresses": r.texts(status, "addresses"),
        "vhid": r.dig(status, "vhid"),
        "master": holder,
        "since": r.text(status, "master", "since"),
        "backups": [r.text(n, "name") for n in r.order(vip) if n.get("state") == "BACKUP"],
        "ready": ready,
        "reason": reason,
        "message": message,
        "members": members,
        "lastMove": _last_move(vip, carpnodes, now),
        "interface": r.text(status, "interface"),
        "failoverBound": r.text(status, "failoverBound"),
        "transitions": r.whole(status, "transitions"),
        "pool": r.text(status, "pool"),
        "waiting": r.waiting(vip),
        "created": r.text(vip, "metadata", "creationTimestamp"),
    }


def _last_move(vip: Object, carpnodes: Mapping[str, Object], now: float) -> dict[str, Any] | None:
    """Return when and why the addresses came to the present master; None for the first claim.

    How long nobody had them is not measured by anybody: what stands there is the bound.
    """
    holder, at = r.master(vip), r.text(vip, "status", "master", "since")
    if not holder or r.whole(vip, "status", "transitions") < 2:
        return None
    cause = r.text(r.vhost(carpnodes.get(holder), r.name_of(vip)), "reason")
    found: dict[str, Any] = {"at": at, "ago": r.since(at, now), "to": holder, "cause": cause}
    if cause in _LOST and r.text(vip, "status", "failoverBound"):
        found["awayAtMost"] = r.text(vip, "status", "failoverBound")
    return found


def _moved(shown: dict[str, Any]) -> str:
    move = shown["lastMove"]
    if move is None:
        return "-"
    details = ", ".join(
        part for part in (move["cause"], f"<={move.get('awayAtMost', '')}") if part.strip("<=")
    )
    return f"{move['ago']} ago" + (f" ({details})" if details else "")


def _addresses(shown: dict[str, Any]) -> str:
    more = len(shown["addresses"]) - _SHOWN
    return ",".join([*shown["addresses"][:_SHOWN], *([f"+{more}"] if more > 0 else [])]) or "-"


def _demotions(shown: dict[str, Any]) -> str:
    found = [f"{n['name']}: {r.demotions(n)}" for n in shown["members"] if n.get("demotion")]
    return "; ".join(found) or "-"


def _or_dash(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda shown: str(shown[key]) if shown[key] not in ("", None) else "-"


def columns(now: float, *, wide: bool) -> list[Column]:
    """Return the heads and what fills each column."""
    found: list[Column] = [
        ("NAME", _or_dash("name")),
        ("ADDRESSES", (lambda s: ",".join(s["addresses"]) or "-") if wide else _addresses),
        ("VHID", _or_dash("vhid")),
        ("MASTER", _or_dash("master")),
        ("SINCE", lambda s: r.since(s["since"], now) or "-"),
        ("BACKUPS", lambda s: ",".join(s["backups"]) or "-"),
        ("HEALTH", _or_dash("reason")),
        ("LAST MOVE", _moved),
    ]
    if wide:
        found += [
            ("INTERFACE", _or_dash("interface")),
            ("BOUND", _or_dash("failoverBound")),
            ("DEMOTIONS", _demotions),
            ("TRANSITIONS", _or_dash("transitions")),
            ("POOL", _or_dash("pool")),
            ("AGE", lambda s: r.since(s["created"], now) or "-"),
        ]
    return found


def lines(rows: Sequence[dict[str, Any]], now: float, *, wide: bool) -> list[str]:
    """Return the table with its heads, and below it what wants somebody's attention."""
    chosen = columns(now, wide=wide)
    cells = [[head for head, _ in chosen], *([cell(shown) for _, cell in chosen] for shown in rows)]
    return [*aligned(cells), *(f"! {note}" for shown in rows for note in remarks(shown))]


def remarks(shown: dict[str, Any]) -> list[str]:
    """Return what somebody who looks at a VirtualIP must not overlook."""
    found = [] if shown["reason"] == "Ready" else [f"{shown['reason']}: {shown['message']}"]
    found += shown["waiting"]
    found += [f"{n['name']} is demoted: {r.demotions(n)}" for n in shown["members"] if n.get("demotion")]
    return [f"{shown['name']}: {note}" for note in found]
