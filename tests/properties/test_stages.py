"""Changes of failoverTime and transport that overtake one another: each series comes to an end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from carp_operator.api.objects import Transport
from planfix import cluster

FAILOVERS = (0.04, 0.5, 0.9, 3.0, 10.0, 30.0)
TRANSPORTS = (
    Transport(),
    Transport(mode="Unicast"),
    Transport(group4="224.0.0.99"),
    Transport(group4="224.0.0.98", group6="ff02::99"),
)
CHANGE = st.tuples(
    st.sampled_from(FAILOVERS),
    st.sampled_from(TRANSPORTS),
    st.sampled_from(["", "n1", "n2", "n3"]),
    st.integers(0, 2),
)


@settings(max_examples=200)
@given(st.lists(CHANGE, min_size=2, max_size=5))
def test_every_series_of_changes_comes_to_an_end(
    series: list[tuple[float, Transport, str, int]],
) -> None:
    """Whoever was away meanwhile; and nobody's rank has changed by it."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    world.settle()
    ranks = world.members("a")
    for failover, transport, away, steps in series:
        world.down = {away} - {""}
        world.vip("a", "10.0.100.1", failover_time=failover, transport=transport)
        for _ in range(steps):
            world.step()
    world.down = set()
    world.settle()
    parts = [world.entry(name, "a") or {} for name in ranks]
    assert 1 == len({(entry["advbase"], entry["deadRatio"]) for entry in parts})
    assert 1 == len({entry.get("transport", {}).get("mode") for entry in parts})
    assert ranks == world.members("a")
    assert not any(entry.get("transport", {}).get("listen") for entry in parts)
    failover = series[-1][0]
    assert (failover < 1) == (parts[0]["advbase"] == 0)
