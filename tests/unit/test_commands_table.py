from __future__ import annotations

from carp.commands import table
from fakecarpd import answer, backup, seen, vhost


def _cells(lines: list[str], row: int = 1) -> dict[str, str]:
    """Return a row by the heads of its columns."""
    heads = [head for head, _ in (table.WIDE if "CAUSE" in lines[0] else table.NARROW)]
    starts = [lines[0].index(head) for head in heads]
    ends = [*starts[1:], 1000]
    return {h: lines[row][a:b].strip() for h, a, b in zip(heads, starts, ends, strict=True)}


def test_columns_are_opnsenses_words() -> None:
    """The heads are the agreed ones."""
    heads = "NAME VIP VHID INTERFACE STATE SINCE ADVSKEW DEMOTION MASTER|SEEN DROPS"
    assert heads.split() == table.lines([], wide=False)[0].replace("MASTER SEEN", "MASTER|SEEN").split()


def test_a_master_and_a_backup() -> None:
    """Each vhost is one line: who, what, since when, why demoted, whom it hears, what it drops."""
    demoted = [{"reason": "upgrade", "amount": 40}]
    lines = table.lines(
        [
            vhost(),
            backup("dns", demotion=40, demotions=demoted, advskew=60, drops={"hmac": 3, "vrrp": 1}),
        ],
        wide=False,
    )
    assert 3 == len(lines)
    one, two = _cells(lines), _cells(lines, 2)
    assert ("web", "10.1.1.252", "42", "eth0") == (one["NAME"], one["VIP"], one["VHID"], one["INTERFACE"])
    assert ("MASTER", "3m12s", "0", "0") == (one["STATE"], one["SINCE"], one["DEMOTION"], one["DROPS"])
    assert "-" == one["MASTER SEEN"]
    assert ("60", "40 (upgrade)") == (two["ADVSKEW"], two["DEMOTION"])
    assert ("10.1.1.2, 0.4s", "hmac 3,vrrp 1") == (two["MASTER SEEN"], two["DROPS"])


def test_many_addresses_are_counted_and_all_in_the_wide_table() -> None:
    """The narrow table keeps its lines short; host lengths are left out, others shown."""
    addresses = ["10.1.1.252/32", "fd99::252/128", "10.1.1.253/24"]
    assert "10.1.1.252,fd99::252,+1" in table.lines([vhost(addresses=addresses)], wide=False)[1]
    assert "10.1.1.252,fd99::252,10.1.1.253/24" in table.lines([vhost(addresses=addresses)], wide=True)[1]


def test_wide_table() -> None:
    """The wide table adds what an election is about."""
    cells = _cells(table.lines([vhost()], wide=True))
    expected = {
        "SINCE": "2026-01-02T03:04:05Z (3m12s)",
        "ADVBASE": "1",
        "TRANSITIONS": "2",
        "CAUSE": "dead-time",
        "DEAD TIME": "3.2s",
        "LIFETIME": "2s",
        "TWO OWNERS": "0s",
        "LEASE": "1.7s",
        "FROM": "file",
    }
    assert expected == {head: cells[head] for head in expected}


def test_what_is_not_there_is_a_dash() -> None:
    """Without interface, fence or lease there is a dash, and no line ends in spaces."""
    bare = vhost(state="INIT", interface="", lifetime=None, overlapBound=None, lease=None)
    lines = table.lines([bare], wide=True)
    cells = _cells(lines)
    assert ["-", "none", "-", "-"] == [cells[h] for h in ("INTERFACE", "LIFETIME", "TWO OWNERS", "LEASE")]
    assert lines == [line.rstrip() for line in lines]


def test_a_conflict_shows_in_the_state() -> None:
    """A conflict cannot be overlooked."""
    conflict = {"address": "10.1.1.252", "mac": "02:00:00:00:00:09"}
    assert "BACKUP CONFLICT" in table.lines([backup(conflict=conflict)], wide=False)[1]


def test_below_stands_what_wants_attention() -> None:
    """First what concerns carpd, then each vhost."""
    found = table.below(answer(maintenance=True), [vhost(), vhost("dns", state="INIT", reason="no link")])
    assert found[0].startswith("! maintenance mode is ON")
    assert ["! dns: takes no part: no link"] == found[1:]


def test_an_old_master_shows_its_age() -> None:
    """The age grows with a unit that can be read."""
    assert "10.1.1.2, 2h05m" in table.lines([vhost(master=seen(lastHeard=7500.0))], wide=False)[1]
