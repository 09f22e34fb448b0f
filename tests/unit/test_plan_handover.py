"""A handover on request (design.md rule 4): the annotation, what it does, what the status says of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carp_operator.plan.handover import ANNOTATION, PATIENCE, STAND_BACK, request
from carp_operator.plan.model import KeyState
from planfix import World, cluster

HANDOVER = [{"reason": "Handover", "amount": 200}]


def _asked(node: str, *, away: bool = False, count: int = 3) -> tuple[World, list[str]]:
    """Return a world in which somebody asked for it, and the members; ``node`` by rank or name."""
    world = cluster(count)
    world.vip("a", "10.0.100.1")
    world.settle()
    members = world.members("a")
    name = members[int(node)] if node.isdigit() else node
    text = request(name, away=away, now=world.now)
    world.vips["a"] = replace(world.vips["a"], annotations={ANNOTATION: text})
    return world, members


def _demoted(world: World) -> list[str]:
    return [n for n in world.members("a") if (world.entry(n, "a") or {}).get("demotions") == HANDOVER]


def _master(world: World, name: str) -> None:
    """Let the master's role move, as the members report it."""
    for node, carp in world.carpnodes.items():
        states = tuple(replace(s, state="MASTER" if node == name else "BACKUP") for s in carp.states)
        world.carp(node, states=states)
    world.masters["a"] = name


def _result(world: World) -> str:
    found: str = world.vips["a"].status["handover"]["result"]
    return found


def _finished(world: World, members: list[str]) -> None:
    """Check that, once the second is master, nothing is left but the result; ranks and members stay."""
    assert members == world.members("a")
    _master(world, members[1])
    world.settle()
    assert [] == _demoted(world)
    assert members == world.members("a")
    assert f"done: {members[1]} is master" == _result(world)


def test_away_from_a_node_the_master_alone_is_demoted() -> None:
    """At once: whoever is best placed takes over."""
    world, members = _asked("0", away=True)
    assert world.plan().wake_at == world.now + PATIENCE
    world.step()
    assert [members[0]] == _demoted(world)
    _finished(world, members)


def test_to_a_node_the_master_is_demoted_when_the_other_backups_stand_back() -> None:
    """One that heard the bow-out before its own demotion would be master in between."""
    world, members = _asked("1")
    world.down.add(members[2])
    assert world.plan().wake_at == world.now + STAND_BACK
    world.step()
    world.step()
    assert [members[2]] == _demoted(world)
    world.down.clear()
    world.step()  # it confirms
    world.step()
    assert [members[0], members[2]] == _demoted(world)
    _finished(world, members)


def test_a_backup_that_does_not_confirm_is_waited_for_a_little() -> None:
    """It may be dead."""
    world, members = _asked("1")
    world.down.add(members[2])
    world.step()
    world.now += STAND_BACK
    world.down.clear()
    assert world.plan().wake_at == world.now - STAND_BACK + PATIENCE
    world.step()
    assert [members[0], members[2]] == _demoted(world)
    _finished(world, members)


def test_a_master_that_bows_out_goes_on_when_a_backup_gets_other_settings_meanwhile() -> None:
    """That backup has not confirmed those: nothing to stop for."""
    world, members = _asked("1")
    world.step()
    world.step()
    world.down.add(members[2])
    world.carp(members[2], generation=world.carpnodes[members[2]].generation + 1)
    world.step()
    assert [members[0], members[2]] == _demoted(world)
    world.down.clear()
    _finished(world, members)


@pytest.mark.parametrize("away", [False, True])
def test_other_settings_of_the_successor_call_nothing_off(away: bool) -> None:
    """It takes part all the same, whatever it has not confirmed yet."""
    world, members = _asked("0" if away else "1", away=away)
    world.step()
    world.step()
    demoted = _demoted(world)
    assert members[0] in demoted
    for name in members[1:]:
        world.down.add(name)
        world.carp(name, generation=world.carpnodes[name].generation + 1)
    world.step()
    assert demoted == _demoted(world)
    world.down.clear()
    _finished(world, members)


def test_the_next_request_waits_for_who_was_demoted_for_the_last() -> None:
    """Who takes over must know first that it no longer stands back."""
    world, members = _asked("1")
    world.step()
    world.step()
    _master(world, members[1])
    text = request(members[2], away=False, now=world.now + 5)
    world.vips["a"] = replace(world.vips["a"], annotations={ANNOTATION: text})
    world.down.add(members[2])
    world.step()
    assert members[1] not in _demoted(world)
    world.down.clear()
    world.step()
    world.step()
    world.step()
    assert members[:2] == _demoted(world)


def test_a_request_that_moves_nothing_is_given_up() -> None:
    """After a minute: the demotions go, and the status says so."""
    world, members = _asked("1")
    world.step()
    world.now += PATIENCE
    world.settle()
    assert [] == _demoted(world)
    assert f"failed: {members[0]} is still master after 60 s" == _result(world)


@pytest.mark.parametrize(
    ("node", "away", "count", "expected"),
    [
        ("0", False, 2, "done: n{0} is master"),
        ("1", True, 2, "done: n{0} is master"),
        ("elsewhere", False, 2, "refused: elsewhere is no member; members are n1, n2"),
        ("0", True, 1, "refused: no other member is ready to take over"),
    ],
)
def test_what_needs_or_allows_no_move_is_answered_at_once(
    node: str, away: bool, count: int, expected: str
) -> None:
    """Nobody is demoted for it."""
    world, members = _asked(node, away=away, count=count)
    world.settle()
    assert [] == _demoted(world)
    assert expected.replace("n{0}", members[0]) == _result(world)


def test_a_node_that_is_not_ready_to_take_over_is_refused() -> None:
    """Its last word was INIT."""
    world, members = _asked("1")
    last = world.carpnodes[members[1]]
    world.carp(members[1], states=tuple(replace(s, state="INIT") for s in last.states))
    made = world.plan()
    expected = f"refused: {members[1]} is not ready to take over"
    assert expected == made.vip_statuses["a"]["handover"]["result"]


def test_a_request_is_carried_out_once() -> None:
    """The annotation stays; only another time makes it another request."""
    world, members = _asked("1")
    world.step()
    _master(world, members[1])
    world.settle()
    _master(world, members[0])
    world.settle()
    assert [] == _demoted(world)
    world.now += 5
    text = request(members[1], away=False, now=world.now)
    world.vips["a"] = replace(world.vips["a"], annotations={ANNOTATION: text})
    world.step()
    world.step()
    assert [members[0], members[2]] == _demoted(world)


def test_of_what_is_not_served_a_request_is_refused() -> None:
    """Whoever waits for an answer hears why nothing moves."""
    world, _ = _asked("1")
    world.keys["a"] = KeyState("", "SecretMissing", "authentication.secretRef: there is none")
    world.settle()
    assert "refused: authentication.secretRef: there is none" == _result(world)
