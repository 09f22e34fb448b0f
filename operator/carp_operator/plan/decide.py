"""The decision about one VirtualIP: members, entries, status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp.core.schema import MAX_PEERS
from carp_operator.plan import paces, transports
from carp_operator.plan.claims import Problem
from carp_operator.plan.clock import derive
from carp_operator.plan.contexts import Context, Told, advance
from carp_operator.plan.handover import Handover, judge, refuse
from carp_operator.plan.masters import claims
from carp_operator.plan.members import Membership
from carp_operator.plan.model import Notice
from carp_operator.plan.status import Served, compose
from carp_operator.plan.vhosts import (
    Before,
    Common,
    addresses_text,
    demotions,
    entries,
    peers_of,
    settled,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.api.objects import VirtualIP
    from carp_operator.plan.candidates import Candidates
    from carp_operator.plan.claims import Claim
    from carp_operator.plan.contexts import Step
    from carp_operator.plan.facts import Facts, NodeFacts
    from carp_operator.plan.members import Placement, View
    from carp_operator.plan.model import KeyState


_NAMED: Final = 8
"""Nodes that a message names at most."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one VirtualIP: the entry of each node, in order of preference, and the status."""

    entries: Mapping[str, Mapping[str, Any]]
    status: Mapping[str, Any]
    membership: Membership
    rate: float = 0.0
    """Adverts a second that a master sends."""
    stays: bool = False
    """Something is wrong with it, so that whatever runs of it stays."""
    notices: tuple[Notice, ...] = ()
    wake_at: float | None = None


@dataclass(slots=True)
class _Draft:
    """A decision on its way."""

    membership: Membership
    entries: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    problem: Problem | None = None
    step: Step | None = None
    changes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Fields that change in steps, and whom each waits for."""
    handover: Handover = field(default_factory=Handover)
    bound: str = ""
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that a decision depends on, beside the nodes."""

    vip: VirtualIP
    claim: Claim
    candidates: Candidates | None
    key: KeyState | None
    views: Sequence[View]
    foreign: str
    nodes: Sequence[NodeFacts | None]
    """Those of the views and of the members in the status."""
    lost: frozenset[str] = frozenset()
    """Members whose CarpNode is new: what they run is unknown."""


def decide(case: Case, placement: Placement, facts: Facts, written: Mapping[str, str], now: float) -> Result:
    """Return the decision: whatever is wrong, what runs stays, unless it is another VirtualIP's."""
    draft = _draft(case, placement, facts, now)
    stays = draft.problem is not None and not draft.problem.withdrawn
    if stays:
        draft.entries = _as_told(case, facts)
        draft.membership = Membership(tuple(draft.entries))
    vhid = case.claim.vhid or case.vip.status.get("vhid")
    running = (
        next((tuple(entry.get("addresses", ())) for entry in draft.entries.values()), ()) if stays else ()
    )
    wanted = addresses_text(case.claim.addresses) or tuple(case.vip.status.get("addresses", ()))
    served = Served(
        vip=case.vip,
        addresses=running or wanted,
        vhid=vhid,
        bound=draft.bound,
        problem=draft.problem,
        membership=draft.membership,
        views=case.views,
        entries=draft.entries,
        step=draft.step,
        changes=draft.changes,
        foreign=case.foreign,
        handover=_asked(case.vip, draft),
        note=case.claim.note,
    )
    status, wake_at = compose(served, facts, written, now)
    wake_at = min((w for w in (wake_at, draft.handover.wake_at) if w is not None), default=None)
    notices = _notices(case.vip, status)
    return Result(draft.entries, status, draft.membership, draft.rate, stays, notices, wake_at)


def _asked(vip: VirtualIP, draft: _Draft) -> Mapping[str, Any] | None:
    """Return what the status says of the handover that was asked for last."""
    if draft.problem is not None:
        return refuse(vip, draft.problem.message)
    return draft.handover.status or vip.status.get("handover")


def _draft(case: Case, placement: Placement, facts: Facts, now: float) -> _Draft:
    vip, claim = case.vip, case.claim
    nobody = Membership(())
    if claim.problem is not None or vip.spec is None or case.candidates is None:
        return _Draft(nobody, problem=claim.problem or Problem("Invalid", "spec: is not readable"))
    clock = derive(vip.spec)
    membership = placement.choose(vip, case.views, case.candidates, clock.adverts())
    if not membership.members or claim.vhid is None:
        return _Draft(nobody, problem=_nobody(case.candidates, membership))
    first = _may_claim(case, membership.members[0])
    common = Common(vip.name, vip.spec, claim.addresses, claim.vhid, clock, first)
    wrong = common.problem()
    if wrong:
        return _Draft(nobody, problem=Problem("Invalid", wrong))
    if case.key is None or not case.key.current:
        reason = Problem("NoPassword", "authentication: its password is being made")
        return _Draft(nobody, problem=Problem(case.key.reason, case.key.message) if case.key else reason)
    held = {v.node: v.interface for v in case.views}
    places = {n: case.candidates.places.get(n) or held.get(n, "") for n in membership.all}
    return _staged(case, case.key, common, membership, places, facts, now)


def _staged(
    case: Case,
    key: KeyState,
    common: Common,
    membership: Membership,
    places: Mapping[str, str],
    facts: Facts,
    now: float,
) -> _Draft:
    """Return what to tell the members of it, as far as others know of what changes already."""
    vip, clock = case.vip, common.clock
    known = [v for v in case.views if v.told is not None and v.node in membership.all]
    before = {v.node: v.told or {} for v in known}
    new = [n for n in membership.all if n not in before]
    ghosts = sorted(case.lost.union(_unsure(case, membership, facts)))
    unsettled = [v.node for v in known if not settled(v)]
    target = common.target(key.current)
    contexts = [*map(told, known), *(Told(n, None) for n in new)]
    step = advance(target, contexts, ghosts, _lost(key, vip.status, target) if ghosts else ())
    kept = before if ghosts or unsettled else {}
    alone = len(membership.all) < 2 and not any(map(peers_of, kept.values()))
    ways = [transports.told(v, settled=settled(v)) for v in known] + [transports.Told(n, None) for n in new]
    stage = transports.advance(common.way(alone=alone), ways, ghosts)
    master = claims(case.views, facts, now).master
    holder = master.node if master else ""
    moved = judge(vip, membership.members, case.views, holder, now)
    slow = paces.keep(clock, known, holder, unsettled, ghosts)
    old = Before(before, kept, slow.nodes)
    made = entries(common, places, step.contexts, membership.all, stage.ways, facts, old, moved.demote)
    most = max(len(peers_of(entry)) for entry in made.values())
    if most > MAX_PEERS:
        message = f"transport: {most} peers are more than {MAX_PEERS}: lower maxNodes or use Multicast"
        return _Draft(Membership(()), problem=Problem("Invalid", message))
    changes = (("transport", stage.waiting), ("failoverTime", slow.waiting))
    bound, rate = f"{clock.bound():.2f}s", clock.adverts()
    return _Draft(membership, dict(made), None, step, changes, moved, bound, rate)


def _unsure(case: Case, membership: Membership, facts: Facts) -> list[str]:
    """Return who was told nothing (any more), or to go now, and runs it: nobody knows how."""
    runs = [v for v in case.views if v.state is not None and v.node in facts.nodes]
    return [v.node for v in runs if v.told is None or v.node not in membership.all]


def _lost(key: KeyState, status: Mapping[str, Any], target: Context) -> list[Context]:
    """Return what nodes may run of which no CarpNode tells any more; nothing where that is the target alone.

    Addresses that the status no longer has are not among them.
    """
    lists = [a for a in (tuple(status.get("addresses", ())), target.addresses) if a]
    every = dict.fromkeys(Context(k, a) for k in (*key.older, key.current) for a in lists)
    others = [context for context in every if context != target]
    # Before the second step everybody still signs with the old one, after it with the new one.
    first = others[:1] if status.get("authentication", {}).get("step") == "Accept" else [target]
    return list(dict.fromkeys([*first, *others, target])) if others else []


def _may_claim(case: Case, node: str) -> bool:
    """Whether a node may be named first claimant: nobody was ever seen as master, no other node was named."""
    status = case.vip.status
    if status.get("transitions") or status.get("master"):
        return False
    masters = any(v.state is not None and v.state.state == "MASTER" for v in case.views)
    named = any(v.told is not None and v.told.get("firstClaimant") and v.node != node for v in case.views)
    return not masters and not named


def _nobody(candidates: Candidates, membership: Membership) -> Problem:
    if membership.full:
        return Problem(
            "NodesFull", "every candidate node has its 510 vhosts or as many adverts as it can send"
        )
    if candidates.places:
        names = sorted(candidates.places)[:_NAMED]
        return Problem("NoCandidate", f"no candidate node is Ready: {', '.join(names)}")
    if candidates.unreported:
        return Problem("NotReported", f"no candidate node yet: {candidates.why_not}")
    return Problem("NoCandidate", f"no candidate node: {candidates.why_not}")


def _as_told(case: Case, facts: Facts) -> dict[str, Mapping[str, Any]]:
    """Return what nodes were told; demotions follow the nodes, so that a drain waits for no Secret."""
    views = [v for v in case.views if v.told is not None and v.node in facts.nodes]
    views.sort(key=lambda v: (v.told.get("advskew", 0) if v.told else 0, v.node))
    demoted = demotions(facts, [v.node for v in views])
    found: dict[str, Mapping[str, Any]] = {}
    for view in views:
        told, wanted = view.told or {}, demoted.get(view.node, [])
        if told.get("demotions", []) != wanted:
            rest = {key: value for key, value in told.items() if key != "demotions"}
            told = {**rest, "demotions": wanted} if wanted else rest
        found[view.node] = told
    return found


def _notices(vip: VirtualIP, status: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Return what a person should hear of the change from the old status to the new."""
    found = []
    before, after = vip.status.get("master", {}).get("node"), status.get("master", {}).get("node")
    if after is not None and after != before:
        text = f"{after} is master" + (f", {before} was" if before else "")
        found.append(Notice("VirtualIP", vip.name, "MasterChanged", text))
    if vip.status.get("authentication") and "authentication" not in status:
        text = "every member has the new password and addresses; the old ones are dropped"
        found.append(Notice("VirtualIP", vip.name, "Rotated", text))
    old = {c.get("type"): c.get("reason") for c in vip.status.get("conditions", ())}
    found += [
        Notice("VirtualIP", vip.name, "Conflict", each["message"], warning=True)
        for each in status["conditions"]
        if each["reason"] == "Conflict" and old.get(each["type"]) != "Conflict"
    ]
    return tuple(found)
