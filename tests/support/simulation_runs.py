"""Run a scenario with a seed; the same seed gives the same run."""

from __future__ import annotations

from typing import NamedTuple

from simulation_scenarios import SCENARIOS
from simulation_world import EPOCH, Violation, World


class Outcome(NamedTuple):
    """One run. ``hours`` are cluster-hours of virtual time; ``failure`` is empty when all held."""

    scenario: str
    seed: int
    hours: float
    failure: str
    trace: list[str]


def run_once(scenario: str, seed: int, *, traced: bool = False) -> Outcome:
    """Run one scenario; a failure is run again for its trace."""
    world = World(seed, traced=traced)
    failure = ""
    try:
        SCENARIOS[scenario](world)
    except Violation as violation:
        failure = str(violation)
        if not traced:
            return run_once(scenario, seed, traced=True)
    return Outcome(scenario, seed, (world.now - EPOCH) / 3600, failure, list(world.trace) if failure else [])
