from __future__ import annotations

from carp.commands.following import changes
from fakecarpd import backup, seen, vhost


def test_the_first_look_is_the_whole_of_it() -> None:
    """Before there is something to compare with, state, demotion and master are told."""
    assert ["web: BACKUP, demotion 0, master seen 10.1.1.2"] == changes(None, backup())
    assert ["web: MASTER, demotion 0"] == changes(None, vhost())


def test_a_change_of_state_has_its_cause_in_words() -> None:
    """Old, new and why."""
    (line,) = changes(backup(transitions=1), vhost(cause="bow-out", master=seen()))
    assert "web: BACKUP -> MASTER (the master before bowed out (a planned handover))" == line


def test_a_change_of_master_and_of_demotion() -> None:
    """Each is a line of its own."""
    demoted = [{"reason": "upgrade", "amount": 40}]
    found = changes(backup(), backup(master=seen(source="10.1.1.3"), demotion=40, demotions=demoted))
    assert [
        "web: demotion 0 -> 40 (upgrade)",
        "web: master seen 10.1.1.2 (1/0) -> 10.1.1.3 (1/0)",
    ] == found


def test_new_trouble_is_told_once() -> None:
    """A remark that was there before is not repeated."""
    down = vhost(state="INIT", reason="interface eth0 is down", transitions=3)
    assert "web: takes no part: interface eth0 is down" in changes(vhost(), down)
    assert ["web: settings changed"] == changes(down, down | {"addresses": ["10.1.1.253/32"]})
