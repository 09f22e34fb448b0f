"""The objects that the agent follows: only what was read is taken."""

from __future__ import annotations

from typing import Any

import pytest

from carp_operator.agent.following import Following
from carp_operator.agent.troubles import Troubles
from carp_operator.kube.watch import Deleted, Event, Lost, Synced, Upsert
from fakeapi import thing

MINE, OTHER = thing("n1", 3), thing("n2", 4)


@pytest.mark.parametrize(
    ("event", "read", "problem"),
    [
        (Synced((OTHER, MINE)), [(MINE, True)], ""),
        (Upsert(MINE), [(MINE, False)], ""),
        (Upsert(OTHER), [], "before"),
        (Synced(()), [], "there is none; going on with what was known"),
        (Synced((OTHER,)), [], "there is none; going on with what was known"),
        (Deleted(MINE), [], "it was deleted; going on with what was known"),
        (Deleted(OTHER), [], "before"),
        (Lost("no answer"), [], "no answer; going on with what was known"),
        (Upsert({}), [], "before"),
    ],
)
def test_events(event: Event, read: list[Any], problem: str) -> None:
    """An object that was read is handed on; every kind of absence is said and hands on nothing."""
    got: list[Any] = []
    troubles = Troubles()
    troubles.set("CarpNode n1", "before")
    Following("CarpNode", "n1", troubles, lambda *found: got.append(found)).take(event)
    assert read == got
    assert problem == troubles._now["CarpNode n1"]
