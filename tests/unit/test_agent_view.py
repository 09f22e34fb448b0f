"""What is known of carpd."""

from __future__ import annotations

from typing import Any

from carp_operator.agent.view import STOPPED, View
from fakecarpd import answer, backup, vhost


def snapshot(*vhosts: dict[str, Any], **daemon: Any) -> dict[str, Any]:
    """Return what carpd says first."""
    return {"event": "snapshot", **answer(*vhosts, **daemon)}


def test_changes() -> None:
    """Changes replace vhosts by name, and take away those that are gone; what they leave out stays."""
    view = View()
    view.take(snapshot(vhost("a"), vhost("b"), generation=3) | {"links": [{"name": "eth0"}]}, 1.0)
    view.take({"event": "changes", "vhosts": [backup("a")], "gone": ["b"]}, 2.0)
    assert ["BACKUP"] == [each["state"] for each in view.vhosts.values()]
    assert (3, [{"name": "eth0"}]) == (view.daemon["generation"], view.links)
    view.take({"event": "changes", "vhosts": [], "gone": [], "daemon": {"generation": 4}, "links": []}, 3.0)
    assert (4, []) == (view.daemon["generation"], view.links)


def test_new_snapshot() -> None:
    """A snapshot is all there is."""
    view = View()
    view.take(snapshot(vhost("a"), vhost("b")), 1.0)
    view.take(snapshot(vhost("b")), 2.0)
    assert {"b"} == view.vhosts.keys()


def test_loss() -> None:
    """When carpd is gone what it said stays, with the time of the loss; a goodbye is not forgotten."""
    view = View(lost_at=0.5)
    view.take(snapshot(vhost("a")), 1.0)
    view.lose("closed", 2.0)
    view.lose("no such file", 9.0)
    assert (False, 2.0, "no such file", False) == (view.connected, view.lost_at, view.problem, view.stopped)
    assert {"a"} == view.vhosts.keys()
    view.take(snapshot(), 10.0)
    view.lose(STOPPED, 11.0)
    view.lose("no such file", 12.0)
    assert (STOPPED, True) == (view.problem, view.stopped)
    view.take(snapshot(), 13.0)
    assert not view.stopped


def test_ready() -> None:
    """A node is ready when carpd answers and each vhost has taken part for one dead time."""
    view = View()
    assert "carpd was not reached yet" == view.unready(0.0)
    view.take(snapshot(backup("a", seconds=1.0), vhost("b", seconds=100.0)), 10.0)
    assert "a: has not listened for 3.2 s yet" == view.unready(11.0)
    assert "" == view.unready(12.3)
    view.take({"event": "changes", "vhosts": [vhost("a", seconds=0.0)], "gone": []}, 12.3)
    assert "" == view.unready(12.3)
    view.lose("closed", 13.0)
    assert "closed" == view.unready(13.0)


def test_ready_with_trouble() -> None:
    """A vhost that cannot take part holds up nothing, one that has only begun does."""
    view = View()
    view.take(snapshot(vhost("a", state="INIT", error="no interface eth7")), 10.0)
    assert "" == view.unready(10.0)
    view.take({"event": "changes", "vhosts": [vhost("a", state="INIT")], "gone": []}, 11.0)
    assert "a: INIT" == view.unready(11.0)
    view.take({"event": "changes", "vhosts": [], "gone": ["a"]}, 11.0)
    assert "" == view.unready(11.0)
