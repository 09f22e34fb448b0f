"""The master heard last, and who has our interval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.core.others import MAX_RIVALS, Others
from pair import address, config, plain

if TYPE_CHECKING:
    from carp.core.wire import Advert

SETTINGS = config(advskew=10)
RIVAL = plain(SETTINGS, 1, 10)
BETTER = plain(SETTINGS, 1, 0)


def _hear(others: Others, source: str, advert: Advert = RIVAL) -> None:
    others.note(advert, address(source), 1.0, SETTINGS.timing, sealed=True)


def test_the_master_is_who_was_heard_last() -> None:
    """Only the last sender is the master; before anybody is heard there is none."""
    others = Others()
    assert not others.is_master(address("10.1.1.1"))
    _hear(others, "10.1.1.1")
    _hear(others, "10.1.1.2")
    assert not others.is_master(address("10.1.1.1"))
    assert others.is_master(address("10.1.1.2"))


def test_one_of_our_interval_is_known_until_it_changes() -> None:
    """Who was heard with our interval may act when we do, until it is heard with another."""
    others = Others()
    assert not others.have_our_interval()
    _hear(others, "10.1.1.1")
    assert others.have_our_interval()
    _hear(others, "10.1.1.1", BETTER)
    assert not others.have_our_interval()


def test_memory_of_rivals_is_bounded() -> None:
    """At most 64 are remembered."""
    others = Others()
    for number in range(MAX_RIVALS + 5):
        _hear(others, f"10.1.1.{number}")
    for number in range(MAX_RIVALS):
        _hear(others, f"10.1.1.{number}", BETTER)
    assert not others.have_our_interval()
