"""What a VirtualIP's status says (design.md section 3)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from carp_operator.plan.masters import STALE_CLAIM
from carp_operator.plan.status import stamp
from planfix import World, cluster


def _settled(count: int = 3, **spec: Any) -> World:
    world = cluster(count)
    world.vip("a", "10.0.100.1", **spec)
    world.settle()
    return world


def _says(world: World, node: str, **changes: Any) -> None:
    """Let a node say something else about its vhost."""
    world.carp(node, states=tuple(replace(s, **changes) for s in world.carpnodes[node].states))


def _status(world: World) -> dict[str, Any]:
    return dict(world.plan().vip_statuses["a"])


def _condition(status: dict[str, Any], kind: str) -> tuple[str, str, str]:
    found = next(c for c in status["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def test_the_status_of_a_vip_that_is_well() -> None:
    """Everything that design.md lists."""
    world = _settled(2, vhid=7)
    first, second = world.members("a")
    status = dict(world.vips["a"].status)
    conditions = status.pop("conditions")
    expected = {
        "observedGeneration": 1,
        "vhid": 7,
        "addresses": ["10.0.100.1"],
        "failoverBound": "3.28s",
        "interface": "eth0",
        "transitions": 1,
        "master": {"node": first, "since": stamp(world.now)},
        "nodes": [
            {"name": first, "state": "MASTER", "advskew": 0},
            {"name": second, "state": "BACKUP", "advskew": 20},
        ],
        "backups": [second],
    }
    assert expected == status
    found = [(c["type"], c["status"], c["reason"], c["observedGeneration"]) for c in conditions]
    wanted = [("Accepted", "Planned"), ("Advertised", "Mastered"), ("Ready", "Ready")]
    assert [(kind, "True", reason, 1) for kind, reason in wanted] == found


def test_pool_and_several_interfaces_are_shown() -> None:
    """As columns."""
    world = cluster(2)
    world.pool("p", "10.0.100.1-10.0.100.9")
    world.hardware["n2"] = (replace(world.hardware["n2"][0], name="ens3"),)
    world.vip("a", pool="p")
    world.settle()
    world.step()
    world.settle()
    status = world.vips["a"].status
    assert ("p", "ens3,eth0") == (status["pool"], status["interface"])


def test_a_lone_member_has_no_bound_and_that_is_said() -> None:
    """Nobody can take over; with maxNodes 1 that is what was asked for."""
    world = _settled(1)
    assert "failoverBound" not in world.vips["a"].status
    message = "n1 is the only member: nobody can take over"
    assert ("True", "Degraded", message) == world.condition("a", "Ready")
    world = _settled(3, max_nodes=1)
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]


def test_a_dead_master_whose_clock_is_ahead_is_not_master() -> None:
    """It says so until its Node is gone; who is Ready and says so counts, now and later."""
    world = _settled()
    first = world.masters["a"]
    _says(world, first, since=stamp(world.now + 3600))
    world.settle()
    world.down.add(first)
    world.change_node(first, ready=False, ready_since=world.now)
    for seconds in (0, 3700):
        world.now += seconds
        world.settle()
        assert world.masters["a"] != first
        assert world.masters["a"] == world.vips["a"].status["master"]["node"]
        assert ("True", "Mastered") == world.condition("a", "Advertised")[:2]


def test_a_new_master_counts_as_a_transition() -> None:
    """The time of the condition stays, since its value does."""
    world = _settled()
    first, second, _ = world.members("a")
    since = world.vips["a"].status["conditions"][1]["lastTransitionTime"]
    world.now += 10
    _says(world, first, state="BACKUP")
    _says(world, second, state="MASTER", since=stamp(world.now))
    status = _status(world)
    assert {"node": second, "since": stamp(world.now)} == status["master"]
    assert 2 == status["transitions"]
    assert since == status["conditions"][1]["lastTransitionTime"]
    notice = world.plan().notices
    assert [("MasterChanged", f"{second} is master, {first} was")] == [(n.reason, n.message) for n in notice]


def test_nobody_says_master() -> None:
    """Advertised and Ready are False, with the time of now; the count stays."""
    world = _settled()
    world.now += 10
    _says(world, world.members("a")[0], state="INIT")
    status = _status(world)
    assert ("False", "NoMaster", "no member says that it is master") == _condition(status, "Advertised")
    assert ("False", "NotAdvertised") == _condition(status, "Ready")[:2]
    assert {stamp(world.now)} == {c["lastTransitionTime"] for c in status["conditions"][1:]}
    assert 1 == status["transitions"]
    assert "master" not in status


def test_two_masters_are_a_conflict_only_after_a_while() -> None:
    """The older claim may not have heard yet; the plan is woken when that time is over."""
    world = _settled()
    first, second, _ = world.members("a")
    world.now += 10
    _says(world, second, state="MASTER", since=stamp(world.now))
    made = world.plan()
    assert (second, world.now + STALE_CLAIM) == (made.vip_statuses["a"]["master"]["node"], made.wake_at)
    world.vips["a"] = replace(world.vips["a"], status=made.vip_statuses["a"])
    world.now += STALE_CLAIM
    made = world.plan()
    message = f"both {second} and {first} say that they are master"
    assert ("False", "Conflict", message) == _condition(dict(made.vip_statuses["a"]), "Advertised")
    assert [("Conflict", True)] == [(n.reason, n.warning) for n in made.notices]
    world.vips["a"] = replace(world.vips["a"], status=made.vip_statuses["a"])
    assert () == world.plan().notices


def test_the_claim_of_a_node_without_a_pod_is_no_rival() -> None:
    """It was true when it was written; the Node may be Ready, and its clock ahead."""
    world = _settled()
    first, second, _ = world.members("a")
    world.now += 10
    _says(world, first, since=stamp(world.now + 3600))
    _says(world, second, state="MASTER", since=stamp(world.now))
    world.agents = {first: world.now, second: 0.0}
    world.now += STALE_CLAIM
    assert ("True", "Mastered", f"{second} is master") == _condition(_status(world), "Advertised")
    troubles = f"{first}: its pod has not been ready for a while: kubectl get pods in our namespace tells why"
    assert ("True", "Degraded", troubles) == _condition(_status(world), "Ready")


def test_whom_the_others_hear_is_master() -> None:
    """Clocks may be wrong: the claim that a backup hears counts more than a newer one."""
    world = _settled()
    first, second, third = world.members("a")
    heard = str(world.carpnodes[second].links[0].addresses[0].ip)
    _says(world, first, since=stamp(world.now + 3600))
    _says(world, second, state="MASTER", since=stamp(world.now))
    _says(world, third, seen=heard)
    assert second == _status(world)["master"]["node"]
    world.now += 3600 + STALE_CLAIM
    message = f"both {second} and {first} say that they are master"
    assert ("False", "Conflict", message) == _condition(_status(world), "Advertised")


@pytest.mark.parametrize(
    ("confirmed", "says", "behind"),
    [
        (False, {"advbase": 2}, True),
        (False, {"interface": "eth9"}, True),
        (False, {"advskew": 77}, True),
        (False, {"vhid": 7}, True),
        (False, {"advskew": 77, "demotions": (("health", 57),)}, False),
        (False, {}, False),
        (True, {"advbase": 2}, False),
    ],
)
def test_a_member_that_has_not_taken_its_newest_settings(
    confirmed: bool, says: dict[str, Any], behind: bool
) -> None:
    """What it reports tells; that something else on its node is not confirmed says nothing."""
    world = _settled()
    _says(world, "n2", **says)
    if not confirmed:
        world.carp("n2", observed_generation=0)
    ready = _condition(dict(world.plan().vip_statuses.get("a", world.vips["a"].status)), "Ready")
    assert behind == ("n2: has not taken its newest settings yet" in ready[2])


def test_a_dead_node_that_was_master_is_no_rival() -> None:
    """It said so before it died; Kubernetes calls it NotReady."""
    world = _settled()
    first, second, _ = world.members("a")
    world.now += 10
    world.change_node(first, ready=False, ready_since=world.now)
    _says(world, second, state="MASTER", since=stamp(world.now))
    world.now += STALE_CLAIM
    assert ("True", "Mastered", f"{second} is master") == _condition(_status(world), "Advertised")


def test_another_host_that_answers_is_a_conflict() -> None:
    """Its MAC is named."""
    world = _settled()
    _says(world, "n2", conflict="10.0.100.1 is answered by 02:00:00:00:00:99")
    expected = ("False", "Conflict", "n2: 10.0.100.1 is answered by 02:00:00:00:00:99")
    assert expected == _condition(_status(world), "Advertised")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"refused": "vhid: no"}, "n2: refused the settings: vhid: no"),
        ({"problem": "interface eth0 is down"}, "n2: interface eth0 is down"),
        ({"state": "INIT"}, "n2: INIT"),
    ],
)
def test_a_members_trouble_is_degraded(changes: dict[str, str], expected: str) -> None:
    """It still answers, so it is Ready; the message says what is wrong and where."""
    world = _settled()
    if world.members("a")[0] == "n2":
        _says(world, "n2", **({"state": "MASTER"} | changes))
    _says(world, "n2", **changes)
    ready = _condition(_status(world), "Ready")
    assert expected in ready[2]


def test_a_node_that_is_not_ready_is_named_with_the_time_it_last_wrote() -> None:
    """Only then: else each write of an agent would cause one of ours."""
    world = _settled()
    last = world.members("a")[2]
    world.carp(last, written="2026-01-01T00:00:00Z")
    assert {} == world.plan().vip_statuses
    world.change_node(last, ready=False, ready_since=world.now)
    status = _status(world)
    assert "2026-01-01T00:00:00Z" == status["nodes"][2]["lastHeard"]
    assert f"{last}: the Node is not Ready" == _condition(status, "Ready")[2]


def test_demotions_are_shown_as_the_node_reports_them() -> None:
    """A health check's, a cordon's."""
    world = _settled()
    last = world.members("a")[2]
    _says(world, last, demotions=(("Cordoned", 100), ("web", 50)))
    wanted = [{"reason": "Cordoned", "amount": 100}, {"reason": "web", "amount": 50}]
    assert wanted == _status(world)["nodes"][2]["demotion"]


def test_a_member_that_has_not_reported_is_unknown() -> None:
    """No state is invented."""
    world = _settled(2)
    world.down.add("n9")
    world.node("n9")
    world.step()
    status = dict(world.vips["a"].status)
    assert {"name": "n9", "state": "Unknown", "advskew": 40} == status["nodes"][2]
    assert "n9: has not reported it yet" in _condition(status, "Ready")[2]


def test_a_change_of_password_shows_its_step_and_whom_it_waits_for() -> None:
    """Until the last has dropped the old one; then an Event says so."""
    world = _settled()
    world.down.add("n2")
    world.vip("a", "10.0.100.1", key="a.2")
    world.settle()
    assert {"step": "Accept", "waitingFor": ["n2"]} == world.vips["a"].status["authentication"]
    assert "authentication: step Accept waits for n2" in world.condition("a", "Ready")[2]
    world.down.discard("n2")
    reasons, steps = [], []
    for _ in range(10):
        reasons += [n.reason for n in world.plan().notices]
        world.step()
        steps.append(world.vips["a"].status.get("authentication", {}).get("step"))
    assert ["Rotated"] == reasons
    assert ["Accept", "Sign", "Drop"] == [s for s in dict.fromkeys(steps) if s]
    assert ("True", "Ready") == world.condition("a", "Ready")[:2]


def test_a_long_message_is_cut() -> None:
    """A condition's message is bounded by the schema; nodes say what they like."""
    world = _settled()
    _says(world, world.members("a")[1], problem="x" * 5000)
    assert 1000 == len(_condition(_status(world), "Ready")[2])


def test_an_edit_changes_only_the_observed_generation_of_what_stays() -> None:
    """It says up to which edit the status is right."""
    world = _settled()
    world.vip("a", "10.0.100.1")
    before = world.vips["a"].status
    status = _status(world)
    assert 2 == status["observedGeneration"]
    assert {2} == {c["observedGeneration"] for c in status["conditions"]}
    times = [c["lastTransitionTime"] for c in before["conditions"]]
    assert times == [c["lastTransitionTime"] for c in status["conditions"]]
