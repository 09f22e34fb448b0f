"""What a VirtualIP's status should say, from what its members report. Nothing in it changes by itself."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp_operator.plan.masters import MASTER, claims

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.api.objects import VirtualIP
    from carp_operator.plan.claims import Problem
    from carp_operator.plan.contexts import Step
    from carp_operator.plan.facts import Facts, NodeFacts
    from carp_operator.plan.masters import Claims
    from carp_operator.plan.members import Membership, View

_LONGEST: Final = 1000
"""Characters of a condition's message: it repeats what nodes say."""


def stamp(epoch: float) -> str:
    """Return a moment as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))


@dataclass(frozen=True, slots=True)
class Served:
    """All that a status is made of."""

    vip: VirtualIP
    addresses: tuple[str, ...]
    vhid: int | None
    bound: str
    problem: Problem | None
    membership: Membership
    views: Sequence[View]
    entries: Mapping[str, Mapping[str, Any]]
    step: Step | None
    changes: tuple[tuple[str, tuple[str, ...]], ...]
    """Fields that change in steps, and whom each waits for."""
    foreign: str
    """A foreign speaker of the same vhid."""
    handover: Mapping[str, Any] | None
    """The last handover that was asked for, and what came of it."""
    note: str = ""
    """What a person should know of its addresses, although it is accepted."""


def condition(
    old: Mapping[str, Any], kind: str, value: str, reason: str, message: str, now: float
) -> dict[str, Any]:
    """Return a condition; the time of its last change is kept while its value is."""
    before = next((c for c in old.get("conditions", ()) if c.get("type") == kind), None)
    same = before is not None and before.get("status") == value and "lastTransitionTime" in before
    since = before["lastTransitionTime"] if before is not None and same else stamp(now)
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": message[:_LONGEST],
        "lastTransitionTime": since,
    }


def compose(
    served: Served, facts: Facts, written: Mapping[str, str], now: float
) -> tuple[dict[str, Any], float | None]:
    """Return the whole status, and when time alone will change it.

    ``written``: when each agent last wrote.
    """
    old, views = served.vip.status, {v.node: v for v in served.views}
    judged = claims(served.views, facts, now)
    status: dict[str, Any] = {"observedGeneration": served.vip.generation}
    if served.vhid is not None:
        status["vhid"] = served.vhid
    if served.addresses:
        status["addresses"] = list(served.addresses)
    if served.bound and len(served.membership.members) > 1:
        status["failoverBound"] = served.bound
    interfaces = sorted({e["interface"]["name"] for e in served.entries.values()} - {""})
    if interfaces:
        status["interface"] = ",".join(interfaces)
    pool = _pool(served)
    if pool:
        status["pool"] = pool
    before = old.get("master") or {}
    status["transitions"] = old.get("transitions", 0)
    if judged.master is not None and judged.master.state is not None:
        master = judged.master
        status["master"] = {"node": master.node, "since": judged.master.state.since}
        if before.get("node") != master.node:
            status["transitions"] += 1
    # When it last wrote tells something only of a node that may be gone; else each write would cause another.
    silent = {n: written.get(n, "") for n in served.entries if not facts.nodes[n].node.ready}
    status["nodes"] = [_node(name, entry, views.get(name), silent) for name, entry in served.entries.items()]
    status["backups"] = [n["name"] for n in status["nodes"] if n["state"] == "BACKUP"]
    if served.step is not None and served.step.step != "Done":
        waiting = {"waitingFor": list(served.step.waiting)} if served.step.waiting else {}
        status["authentication"] = {"step": served.step.step, **waiting}
    if served.handover:
        status["handover"] = dict(served.handover)
    status["conditions"] = _conditions(served, facts, judged, now)
    return status, judged.wake_at


def _pool(served: Served) -> str:
    """Return the pool that the addresses come from: the planner keeps what that one gave."""
    if served.problem is not None and served.entries:
        return str(served.vip.status.get("pool", ""))
    return served.vip.spec.pool if served.vip.spec is not None else ""


def _node(
    name: str, entry: Mapping[str, Any], view: View | None, silent: Mapping[str, str]
) -> dict[str, Any]:
    state = view.state if view is not None else None
    result: dict[str, Any] = {
        "name": name,
        "state": state.state if state else "Unknown",
        "advskew": entry["advskew"],
    }
    if state is not None and state.demotions:
        result["demotion"] = [{"reason": r, "amount": a} for r, a in state.demotions]
    if silent.get(name):
        result["lastHeard"] = silent[name]
    return result


def _conditions(served: Served, facts: Facts, judged: Claims, now: float) -> list[dict[str, Any]]:
    old = served.vip.status
    accepted = _accepted(served)
    advertised = _advertised(served, judged)
    ready = _ready(served, facts, accepted, advertised)
    kinds = (("Accepted", accepted), ("Advertised", advertised), ("Ready", ready))
    return [
        {**condition(old, kind, *values, now), "observedGeneration": served.vip.generation}
        for kind, values in kinds
    ]


def _accepted(served: Served) -> tuple[str, str, str]:
    if served.problem is not None:
        return "False", served.problem.reason, served.problem.message
    members = served.membership.members
    text = f"{len(members)} member{'s'[: len(members) != 1]}: {', '.join(members)}"
    return "True", "Planned", text + (f"; {served.note}" if served.note else "")


def _advertised(served: Served, judged: Claims) -> tuple[str, str, str]:
    conflict = next((v for v in served.views if v.state is not None and v.state.conflict), None)
    if judged.rival is not None and judged.master is not None:
        return (
            "False",
            "Conflict",
            f"both {judged.master.node} and {judged.rival.node} say that they are master",
        )
    if conflict is not None and conflict.state is not None:
        return "False", "Conflict", f"{conflict.node}: {conflict.state.conflict}"
    if judged.master is None:
        return "False", "NoMaster", "no member says that it is master"
    return "True", "Mastered", f"{judged.master.node} is master"


def _ready(
    served: Served, facts: Facts, accepted: tuple[str, str, str], advertised: tuple[str, str, str]
) -> tuple[str, str, str]:
    if advertised[0] != "True":
        # What runs stays although a later edit was not accepted; it counts as ready while it answers.
        return "False", "NotAdvertised" if accepted[0] == "True" else "NotAccepted", advertised[2]
    troubles = _troubles(served, facts)
    if accepted[0] != "True":
        troubles.insert(0, accepted[2])
    if troubles:
        return "True", "Degraded", "; ".join(troubles)
    return "True", "Ready", "every member takes part"


def _trouble(view: View | None, node: NodeFacts) -> str:
    """Return why a member takes no part, or may not; empty where it does."""
    if not node.node.ready:
        return "the Node is not Ready"
    if node.silent:
        return "its pod has not been ready for a while: kubectl get pods in our namespace tells why"
    state = view.state if view is not None else None
    if view is None or state is None:
        return "has not reported it yet"
    if state.refused:
        return f"refused the settings: {state.refused}"
    if state.problem or state.state not in ("BACKUP", MASTER):
        return state.problem or state.state
    return "" if view.up_to_date else "has not taken its newest settings yet"


def _waits(nodes: Sequence[str]) -> str:
    return f"waits for {', '.join(nodes)} (or until the Node is deleted)"


def _troubles(served: Served, facts: Facts) -> list[str]:
    views = {v.node: v for v in served.views}
    members = served.membership.members
    each = {name: _trouble(views.get(name), facts.nodes[name]) for name in members}
    found = [f"{name}: {trouble}" for name, trouble in each.items() if trouble]
    found += [f"{name}: {why}" for name, why in served.membership.kept]
    if len(members) == 1 and served.vip.spec is not None and served.vip.spec.max_nodes > 1:
        found.append(f"{members[0]} is the only member: nobody can take over")
    if served.step is not None and served.step.waiting and served.step.step != "Done":
        found.append(f"authentication: step {served.step.step} {_waits(served.step.waiting)}")
    found += [f"{field}: its change {_waits(waiting)}" for field, waiting in served.changes if waiting]
    if served.foreign:
        found.append(f"vhid {served.vhid} is also spoken by {served.foreign}")
    return found
