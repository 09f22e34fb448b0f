"""The table of ways between states."""

from __future__ import annotations

from itertools import product

import pytest

from carp.core.errors import MisuseError
from carp.core.transitions import TABLE, Cause, State, next_state


@pytest.mark.parametrize(("state", "cause"), list(product(State, Cause)))
def test_only_what_stands_in_the_table_happens(state: State, cause: Cause) -> None:
    """A way of the table leads where it says; any other is our own error."""
    if (state, cause) in TABLE:
        assert TABLE[state, cause] is next_state(state, cause)
    else:
        with pytest.raises(MisuseError, match=f"no transition from {state} by {cause}"):
            next_state(state, cause)


def test_a_lease_is_the_only_way_from_init_to_master() -> None:
    """Never INIT -> MASTER directly, except by a resumed lease (section 5.1, rule 3)."""
    ways = [cause for (old, cause), new in TABLE.items() if (old, new) == (State.INIT, State.MASTER)]
    assert [Cause.LEASE_RESUMED] == ways


def test_every_cause_is_used() -> None:
    """There is no cause without a way."""
    assert set(Cause) == {cause for _, cause in TABLE}


def test_no_way_leads_nowhere() -> None:
    """Every way changes the state."""
    assert all(old is not new for (old, _), new in TABLE.items())
