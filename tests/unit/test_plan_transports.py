"""The steps of a change of transport, by table; every order is in tests/properties."""

from __future__ import annotations

from typing import Any

import pytest

from carp.core.schema import MAX_LISTEN
from carp_operator.api.objects import Transport
from carp_operator.plan.members import View
from carp_operator.plan.transports import Stage, Told, Way, advance, told
from planfix import World, cluster

V6 = "ff02::12"
OLD, NEW, ALONE = Way(), Way("Multicast", "224.0.0.99", V6), Way("Unicast", "", "")
G_OLD, G_NEW = "224.0.0.18", "224.0.0.99"


@pytest.mark.parametrize(
    ("target", "members", "expected"),
    [
        (OLD, [Told("n1", OLD), Told("n2", None)], Stage({"n1": (OLD, ()), "n2": (OLD, ())})),
        (NEW, [Told("n1", None), Told("n2", None)], Stage({"n1": (NEW, ()), "n2": (NEW, ())})),
        (
            NEW,
            [Told("n1", OLD), Told("n2", OLD)],
            Stage({"n1": (OLD, (G_NEW,)), "n2": (OLD, (G_NEW,))}),
        ),
        (
            NEW,
            [Told("n1", OLD, (G_NEW,)), Told("n2", OLD, (G_NEW,), settled=False)],
            Stage({"n1": (OLD, (G_NEW,)), "n2": (OLD, (G_NEW,))}, ("n2",)),
        ),
        (
            NEW,
            [Told("n1", OLD, (G_NEW,)), Told("n2", OLD, (G_NEW,)), Told("n3", None)],
            Stage({"n1": (NEW, (G_OLD,)), "n2": (NEW, (G_OLD,)), "n3": (NEW, (G_OLD,))}),
        ),
        (
            NEW,
            [Told("n1", NEW, (G_OLD,), settled=False), Told("n2", OLD, (G_NEW,)), Told("n3", None)],
            Stage({"n1": (NEW, (G_OLD,)), "n2": (OLD, (G_NEW,)), "n3": (NEW, (G_OLD,))}, ("n1",)),
        ),
        (
            NEW,
            [Told("n1", NEW, (G_OLD,), settled=False), Told("n2", NEW, (G_OLD,))],
            Stage({"n1": (NEW, (G_OLD,)), "n2": (NEW, (G_OLD,))}, ("n1",)),
        ),
        (NEW, [Told("n1", NEW, (G_OLD,)), Told("n2", NEW)], Stage({"n1": (NEW, ()), "n2": (NEW, ())})),
        (
            ALONE,
            [Told("n1", OLD, settled=False), Told("n2", OLD)],
            Stage({"n1": (ALONE, (G_OLD, V6)), "n2": (ALONE, (G_OLD, V6))}),
        ),
        (
            OLD,
            [Told("n1", ALONE), Told("n2", ALONE)],
            Stage({"n1": (ALONE, (G_OLD, V6)), "n2": (ALONE, (G_OLD, V6))}),
        ),
    ],
    ids=[
        "nothing to do", "all new", "listen", "waits for one", "all listen: send", "half sends: waits",
        "waits before forgetting", "forget", "unicast is heard by all", "from unicast",
    ],
)  # fmt: skip
def test_a_step_follows_from_what_members_were_told(
    target: Way, members: list[Told], expected: Stage
) -> None:
    """Listen, then send, then forget, each when everybody has stored the one before."""
    assert expected == advance(target, members)


def test_who_is_not_known_to_listen_is_waited_for() -> None:
    """What a ghost runs is unknown; with nothing to change it does not matter."""
    members = [Told("n1", OLD, (G_NEW,)), Told("n2", OLD, (G_NEW,))]
    assert ("n9",) == advance(NEW, members, ["n9"]).waiting
    assert () == advance(OLD, [Told("n1", OLD)], ["n9"]).waiting


def test_groups_do_not_add_up_for_ever() -> None:
    """After many changes that nobody could finish only the groups that are sent to are kept."""
    many = tuple(f"224.0.1.{number}" for number in range(MAX_LISTEN))
    ways = advance(NEW, [Told("n1", OLD, many, settled=False)]).ways
    assert {"n1": (OLD, (G_NEW,))} == ways


def test_a_member_that_sends_to_each_alone_listens_to_no_more_than_it_may() -> None:
    """Both groups of the target are among what it has to listen to."""
    many = tuple(f"224.0.1.{number}" for number in range(MAX_LISTEN - 1))
    ways = advance(NEW, [Told("n1", ALONE, many, settled=False)]).ways
    assert {"n1": (ALONE, (G_NEW, V6))} == ways


@pytest.mark.parametrize(
    ("transport", "way", "listen"),
    [
        ({}, OLD, ()),
        ({"mode": "Multicast", "listen": [G_NEW]}, OLD, (G_NEW,)),
        ({"mode": "Multicast", "group": G_OLD, "group6": "FF02::12"}, OLD, ()),
        ({"mode": "Unicast", "peers": ["10.0.0.1"]}, ALONE, ()),
        ({"mode": "Multicast", "group": "nonsense"}, Way("Multicast", "nonsense", V6), ()),
    ],
)
def test_what_an_entry_says(transport: dict[str, Any], way: Way, listen: tuple[str, ...]) -> None:
    """The usual groups may be left out or written in another way."""
    view = View("n1", {"name": "a", "transport": transport}, confirmed=True, state=None)
    assert Told("n1", way, listen) == told(view, settled=True)


def _sends(world: World, name: str) -> tuple[str, list[str]]:
    transport = (world.entry(name, "a") or {}).get("transport", {})
    return transport.get("group", G_OLD), transport.get("listen", [])


def _held_up() -> World:
    """Return a world in which n3 cannot be told of a new group."""
    world = cluster(3)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.down.add("n3")
    world.vip("a", "10.0.100.1", transport=Transport(group4=G_NEW))
    world.settle()
    return world


def test_a_silent_node_holds_a_change_up() -> None:
    """It would not hear the others: until it listens, they go on where it hears them, and say so."""
    world = _held_up()
    assert {(G_OLD, (G_NEW,))} == {(g, tuple(li)) for g, li in (_sends(world, n) for n in ("n1", "n2", "n3"))}
    assert (
        "transport: its change waits for n3 (or until the Node is deleted)"
        in world.condition("a", "Ready")[2]
    )
    world.down.clear()
    world.settle()
    assert [(G_NEW, [])] * 3 == [_sends(world, n) for n in ("n1", "n2", "n3")]
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]


def test_a_silent_node_that_is_deleted_is_waited_for_no_more() -> None:
    """Then it counts as gone."""
    world = _held_up()
    del world.nodes["n3"], world.carpnodes["n3"]
    world.settle()
    assert [(G_NEW, [])] * 2 == [_sends(world, n) for n in ("n1", "n2")]


def test_to_unicast_not_while_somebody_is_nobodys_peer() -> None:
    """It was told to go and cannot be told: only by the group does it hear that there is a master."""
    made = advance(ALONE, [Told("n1", OLD), Told("n2", OLD)], ["n3"])
    assert {"n1": (OLD, ()), "n2": (OLD, ())} == made.ways
    assert ("n3",) == made.waiting
    assert {"n1": (ALONE, (G_OLD, V6)), "n2": (ALONE, (G_OLD, V6))} == advance(
        ALONE, [Told("n1", OLD), Told("n2", OLD)]
    ).ways


def test_to_unicast_at_once_and_back_in_steps() -> None:
    """What is sent to a node alone it hears in any mode, so nobody needs to be waited for."""
    world = cluster(2)
    world.vip("a", "10.0.100.1")
    world.settle()
    world.down.add("n2")
    world.vip("a", "10.0.100.1", transport=Transport("Unicast"))
    world.settle()
    expected = {"mode": "Unicast", "peers": ["10.0.0.3"], "listen": [G_OLD, V6]}
    assert expected == (world.entry("n1", "a") or {})["transport"]
    world.down.clear()
    world.settle()
    del expected["listen"]
    assert expected == (world.entry("n1", "a") or {})["transport"]
    world.down.add("n2")
    world.vip("a", "10.0.100.1")
    world.settle()
    assert "Unicast" == (world.entry("n1", "a") or {})["transport"]["mode"]
    world.down.clear()
    world.settle()
    assert "transport" not in (world.entry("n1", "a") or {})
