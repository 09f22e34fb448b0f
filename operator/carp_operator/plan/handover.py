"""A handover on request: an annotation of the VirtualIP, carried out once, its result in the status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp_operator.api.codec import epoch
from carp_operator.plan.status import stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carp_operator.api.objects import VirtualIP
    from carp_operator.plan.members import View

ANNOTATION: Final = "carp.vip/handover"
"""``NODE@TIME``: to that node; ``!NODE@TIME``: away from it. TIME (RFC 3339) makes it another request."""
PATIENCE: Final = 60.0
"""s until a request that moves nothing is given up."""
STAND_BACK: Final = 3.0
"""s until a request no longer waits for other backups that do not confirm that they stand back."""
DEMOTION: Final = {"reason": "Handover", "amount": 200}


@dataclass(frozen=True, slots=True)
class Handover:
    """What a request comes to: whom to demote for it now, and what the status says of it."""

    demote: frozenset[str] = frozenset()
    status: Mapping[str, Any] | None = None
    wake_at: float | None = None


def request(node: str, *, away: bool, now: float) -> str:
    """Return the annotation's value for a request made now."""
    return f"{'!' if away else ''}{node}@{stamp(now)}"


def refuse(vip: VirtualIP, why: str) -> Mapping[str, Any] | None:
    """Return what to say of a request where nothing can be done about the VirtualIP."""
    text, before = vip.annotations.get(ANNOTATION, ""), vip.status.get("handover")
    if not text or (before or {}).get("request") == text:
        return before
    return {"request": text, "result": f"refused: {why}"}


def judge(
    vip: VirtualIP, members: Collection[str], views: Sequence[View], master: str, now: float
) -> Handover:
    """Return what to do about the request that stands on a VirtualIP."""
    text, before = vip.annotations.get(ANNOTATION, ""), vip.status.get("handover")
    if not text or (before or {}).get("request") == text:
        return Handover(status=before)
    name, _, moment = text.partition("@")
    node, away = name.removeprefix("!"), name.startswith("!")
    # Demoting where nobody has confirmed yet would move it to nobody; who is about to is waited for.
    ready = {v.node for v in views if v.takes_part}
    soon = {v.node for v in views if v.state is not None and v.state.state in ("BACKUP", "MASTER")}
    able = set(members) & soon - {node} if away else {node} & set(members) & soon
    if (master not in ("", node)) if away else master == node:
        result = f"done: {master} is master"
    elif node not in members:
        result = f"refused: {node} is no member; members are {', '.join(sorted(members))}"
    elif not able:
        result = f"refused: {'no other member is' if away else f'{node} is not'} ready to take over"
    elif now >= (due := epoch(moment) + PATIENCE):
        result = f"failed: {master or 'nobody'} is still master after {PATIENCE:.0f} s"
    else:
        demote, wake_at = frozenset({node}) if away else frozenset(members) - {node}, due
        told = {v.node: v.confirmed for v in views if v.told and DEMOTION in v.told.get("demotions", ())}
        # Other settings of who takes over call nothing off that has begun.
        begun = bool(told) and told.keys() <= demote
        if not begun and not (able & ready) - told.keys():
            demote = frozenset()
        elif not away and now < epoch(moment) + STAND_BACK and not _may_bow_out(told, demote, master):
            demote, wake_at = demote - {master}, epoch(moment) + STAND_BACK
        return Handover(demote, before, wake_at)
    return Handover(status={"request": text, "result": result})


def _may_bow_out(told: Mapping[str, bool], others: Collection[str], master: str) -> bool:
    """Return whether every other backup has confirmed that it stands back, or the master was told already.

    ``told``: who was told to, and whether it has confirmed that. One that hears the master bow out first, and
    of its own demotion later, takes over in the successor's way.
    """
    return told.keys() >= set(others) or all(told.get(name) for name in others if name != master)
