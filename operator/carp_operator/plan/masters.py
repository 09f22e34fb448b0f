"""Who is master, from what the members say of themselves and of each other."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp_operator.api.codec import epoch, interface_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp_operator.plan.facts import Facts
    from carp_operator.plan.members import View

STALE_CLAIM: Final = 60.0
"""s; a node that died while master keeps saying so until Kubernetes finds it NotReady, 40 s later."""
MASTER: Final = "MASTER"


@dataclass(frozen=True, slots=True)
class Claims:
    """Who says that it is master, as the others hear it; ``rival`` a second one that counts."""

    master: View | None
    rival: View | None
    wake_at: float | None


def claims(views: Sequence[View], facts: Facts, now: float) -> Claims:
    """Judge the claims. Of two the one that more members hear counts, then the newer.

    The other counts for STALE_CLAIM only as not yet heard of; where its Node or its pod is not Ready it says
    for ever what was true once.
    """
    found = [v for v in views if v.state is not None and v.state.state == MASTER and v.node in facts.nodes]
    if len(found) < 2:
        return Claims(found[0] if found else None, None, None)
    heard = Counter(facts.own.get(a.ip) for v in views if v.state and (a := interface_of(v.state.seen)))
    # A node that died as master goes on saying so, and its clock may have been ahead.
    found.sort(key=lambda v: (_lives(v, facts), heard[v.node], _since(v), v.node), reverse=True)
    rival = next((v for v in found[1:] if _lives(v, facts)), None)
    if rival is None:
        return Claims(found[0], None, None)
    due = max(_since(found[0]), _since(rival)) + STALE_CLAIM
    return Claims(found[0], rival if now >= due else None, due if now < due else None)


def _lives(view: View, facts: Facts) -> bool:
    node = facts.nodes[view.node]
    return node.node.ready and not node.silent


def _since(view: View) -> float:
    return epoch(view.state.since) if view.state is not None else 0.0
