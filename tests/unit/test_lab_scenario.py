"""The bounds of the demo's faults."""

from __future__ import annotations

import pytest

from carp.core.timing import Timing
from carp.lab import scenario
from carp.lab.measure import Summary, TwoOwners
from carp.lab.scenario import Scenario


@pytest.mark.parametrize(
    ("bound", "timing", "outage_ms", "two_owners_s"),
    [
        (scenario._TIMEOUT, Timing(1, 10, 3), 3269, 0.0),
        (scenario._TIMEOUT, Timing(1, 20, 3), 3308, 0.0),
        (scenario._TIMEOUT, Timing(1, 0, 1), 1230, 1.0),
        (scenario._PLANNED, Timing(1, 20, 3), 0, 0.3),
        (scenario._QUIET, Timing(1, 20, 3), 0, 0.0),
        (scenario._REUNION, Timing(1, 20, 3), 500, 0.8),
    ],
)
def test_bounds_follow_the_timing(
    bound: scenario.Bound, timing: Timing, outage_ms: float, two_owners_s: float
) -> None:
    """What a fault may cost comes from the successor's own dead time, period and lifetime."""
    nothing = Summary(0, 0, (), 0.0, TwoOwners(), ())
    row = Scenario._row("fault", nothing, bound, timing)
    assert outage_ms == pytest.approx(row.outage_bound_ms, abs=1)
    assert two_owners_s == pytest.approx(row.two_owners_bound_s, abs=0.001)
    assert () == row.problems
