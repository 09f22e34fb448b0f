from __future__ import annotations

from carp.commands import words
from carp.core.errors import DropReason
from carp.core.transitions import Cause
from fakecarpd import answer, backup, check, hello, vhost


def test_every_cause_and_every_drop_has_words() -> None:
    """What carpd can say is never shown as a bare code."""
    assert {cause.value for cause in Cause} == set(words.CAUSES)
    assert {reason.value for reason in DropReason} == set(words.DROPS)
    assert {*words.DROPS} > words.ORDINARY_DROPS


def test_demotions_name_their_reasons() -> None:
    """The sum comes first; a single reason that makes it needs no amount."""
    one = [{"reason": "upgrade", "amount": 40}]
    two = [{"reason": "disk", "amount": 200}, {"reason": "maintenance", "amount": 240}]
    assert "0" == words.demotions(vhost())
    assert "40 (upgrade)" == words.demotions(vhost(demotion=40, demotions=one))
    assert "254 (disk 200, maintenance 240)" == words.demotions(vhost(demotion=254, demotions=two))


def test_drops_are_sentences() -> None:
    """Drops are told in words, the most frequent first."""
    assert "9 were VRRP, 2 had a wrong checksum" == words.drops({"checksum": 2, "vrrp": 9, "ttl": 0})


def test_a_healthy_vhost_needs_no_remark() -> None:
    """Nothing is said where nothing is wrong, and others' VRRP is not wrong."""
    assert [] == list(words.remarks(vhost(drops={"vrrp": 3, "loop": 1})))
    assert [] == list(words.problems(hello()))
    assert not words.is_troubled(backup())


def test_remarks_name_what_is_wrong() -> None:
    """A vhost that takes no part, a conflict, a failing send and bad adverts are each a remark."""
    down = vhost(state="INIT", reason="interface eth0 has no carrier")
    conflict = backup(master=None, conflict={"address": "10.1.1.252", "mac": "02:00:00:00:00:09"})
    assert ["web: takes no part: interface eth0 has no carrier"] == list(words.remarks(down))
    assert "CONFLICT: 10.1.1.252 is in use by 02:00:00:00:00:09" in next(words.remarks(conflict))
    assert words.is_troubled(down)
    assert words.is_troubled(conflict)
    assert ["web: its adverts do not leave: no buffer"] == list(words.remarks(vhost(sendProblem="no buffer")))
    assert "3 had a wrong HMAC" in next(words.remarks(vhost(drops={"hmac": 3, "vrrp": 9})))
    assert ["web: handing over now (step-down)"] == list(words.remarks(vhost(leaving="step-down")))


def test_health_checks_that_fail() -> None:
    """A check that is down or flaps is told with what it saw; one that is up or not known yet is not."""
    checks = [check(), check(health="unknown"), check(health="down", detail="refused"), check(flapping=True)]
    assert [
        "health check api (tcp 10.1.1.9:443) is down: refused",
        "health check api (tcp 10.1.1.9:443) is flapping, so it counts as down",
    ] == list(words.failing(vhost(health=checks)))
    assert next(words.remarks(vhost(health=checks))).startswith("web: health check api")


def test_problems_of_the_daemon() -> None:
    """Maintenance that is on, settings that are not on disk and whatever carpd reports are problems."""
    shown = list(words.problems(answer(maintenance=True, persisted=False, problems=["disk full"])["daemon"]))
    assert 3 == len(shown)
    assert shown[0].startswith("maintenance mode is ON")
    assert "carpd: disk full" == shown[2]


def test_maintenance_is_promised_to_last_only_when_it_is_stored() -> None:
    """What is not on disk may be forgotten by a restart, and is not said to outlive it."""
    stored = next(words.problems(hello(maintenance=True)))
    assert "maintenance mode is ON, also after a restart; end it with: carp maintenance off" == stored
    assert "also after a restart" not in next(words.problems(hello(maintenance=True, persisted=False)))
