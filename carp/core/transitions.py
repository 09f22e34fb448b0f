"""The states of a vhost and every way between them. What is not in this table does not happen.

A vhost is INIT while it cannot take part (no link, no source address, not started), BACKUP while it
listens, MASTER while it holds the addresses. There is no way from INIT to MASTER but one: a lease that an
earlier run of ours left in the kernel and that is still valid (design.md rule 3). Within MASTER a vhost
may be bowing out, within BACKUP it may be listening before a first claim; neither changes what it holds.

The diagram in the docs is generated from `TABLE`.
"""

from __future__ import annotations

import enum
from typing import Final

from carp.core.errors import MisuseError


class State(enum.StrEnum):
    """CARP's three states, in the words of every implementation."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"


class Cause(enum.StrEnum):
    """Why a state changed: the reason in logs, statuses and metrics."""

    LINK_UP = "link-up"
    LINK_DOWN = "link-down"
    STOPPED = "stopped"
    LEASE_RESUMED = "lease-resumed"
    FIRST_CLAIM = "first-claim"
    DEAD_TIME = "dead-time"
    BOW_OUT = "bow-out"
    PREEMPTED = "preempted"
    PEER_DEMOTED = "peer-demoted"
    PEER_TOO_SLOW = "peer-too-slow"
    BETTER_MASTER = "better-master"
    TIE_LOST = "tie-lost"
    HANDED_OVER = "handed-over"
    LEASE_LAPSED = "lease-lapsed"
    CLAIM_FAILED = "claim-failed"


TABLE: Final[dict[tuple[State, Cause], State]] = {
    # The link came up: listen first (section 5.1).
    (State.INIT, Cause.LINK_UP): State.BACKUP,
    # The kernel still honours the lease of an earlier run, and the runtime state proves it is ours.
    (State.INIT, Cause.LEASE_RESUMED): State.MASTER,
    # Ways to become master: nobody was ever there, nobody is there any more, the master goes, ...
    (State.BACKUP, Cause.FIRST_CLAIM): State.MASTER,
    (State.BACKUP, Cause.DEAD_TIME): State.MASTER,
    (State.BACKUP, Cause.BOW_OUT): State.MASTER,
    # ... we are preferred and may say so (5.3 line 1), or the master is demoted more than we are
    # (line 2), or it advertises so slowly that we would time out anyway (line 3).
    (State.BACKUP, Cause.PREEMPTED): State.MASTER,
    (State.BACKUP, Cause.PEER_DEMOTED): State.MASTER,
    (State.BACKUP, Cause.PEER_TOO_SLOW): State.MASTER,
    # Two masters met (5.2).
    (State.MASTER, Cause.BETTER_MASTER): State.BACKUP,
    (State.MASTER, Cause.TIE_LOST): State.BACKUP,
    # A successor answered our bow-out.
    (State.MASTER, Cause.HANDED_OVER): State.BACKUP,
    # The fence: the last renewal is older than the lifetime it gave, so the kernel may have let go.
    (State.MASTER, Cause.LEASE_LAPSED): State.BACKUP,
    # The takeover's advert was not sent, or too long before the address would have been added.
    (State.MASTER, Cause.CLAIM_FAILED): State.BACKUP,
    # The interface went away; on lost carrier a master lets go at once.
    (State.BACKUP, Cause.LINK_DOWN): State.INIT,
    (State.MASTER, Cause.LINK_DOWN): State.INIT,
    (State.BACKUP, Cause.STOPPED): State.INIT,
    (State.MASTER, Cause.STOPPED): State.INIT,
}


def next_state(state: State, cause: Cause) -> State:
    """Return where a cause leads. Raises MisuseError for a way that is not in the table."""
    try:
        return TABLE[state, cause]
    except KeyError:
        msg = f"no transition from {state} by {cause}"
        raise MisuseError(msg) from None
