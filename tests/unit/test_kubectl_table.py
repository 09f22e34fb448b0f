from __future__ import annotations

from carp_operator.kubectl.table import lines, remarks, row
from kubectlfix import NOW, carpnode, condition, part, vip

CARPNODES = {"n1": carpnode("n1", part("web", "MASTER"))}


def test_row_has_what_matters() -> None:
    """Address, vhid, master, since when, backups in order, health, and the last move with its bound."""
    found = row(vip("web", "n1", "n2", "n3"), CARPNODES, NOW)
    assert ("web", ["10.1.0.252"], 42, "n1", ["n2", "n3"]) == tuple(
        found[key] for key in ("name", "addresses", "vhid", "master", "backups")
    )
    move = {"ago": "2m00s", "to": "n1", "cause": "dead-time", "awayAtMost": "3.28s"}
    assert move == {k: v for k, v in found["lastMove"].items() if k != "at"}
    assert (True, "Ready") == (found["ready"], found["reason"])


def test_handover_was_not_away() -> None:
    """After a planned move there is no time to tell; before the first move there is none."""
    carpnodes = {"n1": carpnode("n1", part("web", "MASTER", reason="bow-out"))}
    assert "awayAtMost" not in row(vip("web", "n1"), carpnodes, NOW)["lastMove"]
    assert row(vip("web", "n1", transitions=1), carpnodes, NOW)["lastMove"] is None


def test_table() -> None:
    """One line each, heads as kubectl writes them; wide has more columns."""
    rows = [row(vip("web", "n1", "n2"), CARPNODES, NOW)]
    head, line = lines(rows, NOW, wide=False)
    assert ["NAME", "ADDRESSES", "VHID", "MASTER", "SINCE", "BACKUPS", "HEALTH"] == head.split()[:7]
    assert ["web", "10.1.0.252", "42", "n1", "2m00s", "n2", "Ready"] == line.split()[:7]
    assert line.endswith("2m00s ago (dead-time, <=3.28s)")
    wide = lines(rows, NOW, wide=True)
    assert "INTERFACE" in wide[0]
    assert "eth0" in wide[1]


def test_many_addresses_are_counted() -> None:
    """The narrow table shows two addresses and how many more there are."""
    rows = [row(vip("web", "n1", addresses=["10.1.0.1", "10.1.0.2", "10.1.0.3"]), {}, NOW)]
    assert "10.1.0.1,10.1.0.2,+1" in lines(rows, NOW, wide=False)[1]
    assert "10.1.0.1,10.1.0.2,10.1.0.3" in lines(rows, NOW, wide=True)[1]


def test_nothing_known_yet() -> None:
    """A VirtualIP without a status has dashes, and a line that says so."""
    empty = {"metadata": {"name": "web", "generation": 1}}
    shown = lines([row(empty, {}, NOW)], NOW, wide=True)
    assert ["web", "-", "-", "-"] == shown[1].split()[:4]
    assert "! web: Unknown: the controller has not answered yet" in shown


def test_remarks() -> None:
    """What is wrong, what waits and who is demoted stands below the table."""
    found = vip("web", "n1", "n2", conditions=[condition("Ready", reason="Degraded", message="n2: INIT")])
    found["status"]["nodes"][1]["demotion"] = [{"reason": "health:http", "amount": 20}]
    found["metadata"]["generation"] = 2
    assert [
        "web: Degraded: n2: INIT",
        "web: the controller has not looked at the newest spec yet",
        "web: n2 is demoted: health:http 20",
    ] == remarks(row(found, {}, NOW))
