from __future__ import annotations

from typing import TYPE_CHECKING

from carp.commands import following
from carp.commands.following import changes, follow
from fakecarpd import FakeCarpd, answer, backup, seen, vhost

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    import pytest


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


def test_a_carpd_that_stops_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That carpd says it stops is told once; then it is asked again, until it answers and Ctrl-C ends it."""
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise KeyboardInterrupt

    def handler(request: dict[str, Any]) -> dict[str, Any]:
        up = request["op"] == "watch" and len(pauses) in (0, 3)
        return answer(backup() if not pauses else vhost(transitions=3)) if up else {"error": "carpd stops"}

    monkeypatch.setattr(following.time, "sleep", sleep)
    monkeypatch.setattr(following, "_REFRESH", 0.01)
    with FakeCarpd(tmp_path / "s", handler) as fake:
        assert 0 == follow(fake.path, [], None)
    told = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert "web: BACKUP, demotion 0, master seen 10.1.1.2" == told[0]
    assert ["carpd stops"] * 2 == [told[1], told[3]]
    assert told[2].startswith("web: BACKUP -> MASTER (")
    assert 4 == len(told)
