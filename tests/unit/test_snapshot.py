"""What is known of the master heard last."""

from __future__ import annotations

import pytest

from carp.core.seal import from_wall
from carp.core.snapshot import MasterSeen
from pair import WALL, address, config, plain, sealed

A4, A6, B4, B6 = "10.1.1.1", "2001:db8::1", "10.1.1.2", "2001:db8::2"


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ([A4], [A4]),
        ([A4, A6], [A6, A4]),
        ([A4, A6, A4], [A6, A4]),
        ([A4, B4], [B4]),
        ([A4, A6, B4, B6], [B6, B4]),
    ],
)
def test_one_source_per_family(heard: list[str], expected: list[str]) -> None:
    """A dual-stack master is known by both sources; a new source replaces that of its family."""
    seen = None
    for number, source in enumerate(heard):
        seen = MasterSeen.after(seen, plain(config(), 1, 7, 3), address(source), float(number), sealed=True)
    assert seen is not None
    assert [address(e) for e in expected] == list(seen.sources)
    assert (1, 7, 3, float(len(heard) - 1), True) == (
        seen.advbase,
        seen.advskew,
        seen.demotion,
        seen.heard_at,
        seen.sealed,
    )


def test_how_far_its_clock_is() -> None:
    """By the time in the seal; without one it is not known."""
    settings = config()
    advert = sealed(settings, A4, from_wall(WALL + 90.5))
    ahead = MasterSeen.after(None, advert, address(A4), 1.0, sealed=True)
    assert 90.5 == ahead.drift(WALL)
    assert None is MasterSeen.after(ahead, plain(settings), address(B4), 2.0, sealed=False).drift(WALL)
