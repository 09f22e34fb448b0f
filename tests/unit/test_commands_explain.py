from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp.commands import explain
from fakecarpd import FakeCarpd, answer, backup, check, hello, seen, vhost

if TYPE_CHECKING:
    from pathlib import Path


def _told(status: dict[str, object], **daemon: object) -> str:
    return explain.paragraph(status, hello(**daemon))


def test_a_master() -> None:
    """Who, since when, why, what the wire says, that nobody can know the next, and what a death costs."""
    text = _told(vhost())
    assert text.startswith(
        "This node is master of web (10.1.1.252/32; vhid 42 on eth0) since 2026-01-02T03:04:05Z, 3m12s ago: "
        "the master before was not heard for a whole dead time."
    )
    assert "no other master has been heard" in text
    assert "backups are silent" in text
    assert "an equal backup would claim 3.20 s after the last advert" in text
    assert "at most 3.15 s after its last renewal: no time with two owners" in text
    assert text.endswith("Its settings come from the file.")


def test_a_backup() -> None:
    """The master is named with its last advert, and when this node would claim."""
    text = _told(backup(advskew=20, deadTime=3.278, source="socket"))
    assert text.startswith("10.1.1.2 is master of web (")
    assert "came from 10.1.1.2 0.4s ago: advbase 1, advskew 0, so one every 1.00 s at least" in text
    assert "by its counter it is a carp-operator" in text
    assert "claims when it has heard no master for 3.28 s" in text
    assert "it is not preferred" in text
    assert "no address would move" in text
    assert text.endswith("the control socket.")


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ({}, {"advskew": 20}, "with preempt Never it waits until that one goes"),
        ({"preempt": "Always"}, {"advskew": 20}, "takes over (preempt Always)"),
        ({"preempt": "Always"}, {}, "it is not preferred"),
        ({}, {"demotion": 40}, "The master is demoted more than this node"),
        ({"demotion": 9, "demotions": [{"reason": "disk", "amount": 9}]}, {"advskew": 20}, "not preferred"),
    ],
)
def test_who_goes_first(ours: dict[str, object], theirs: dict[str, object], words: str) -> None:
    """A living master is compared with this node as the election does it."""
    assert words in _told(backup(**ours, master=seen(**theirs)))


def test_a_backup_without_a_master() -> None:
    """A master that was heard too long ago is none."""
    text = _told(backup(master=seen(lastHeard=7.0)))
    assert "it hears no master" in text
    assert "came from 10.1.1.2 7.0s ago" in text


def test_out_of_the_election() -> None:
    """The reason why a vhost takes no part comes first."""
    text = _told(vhost(state="INIT", interface="", reason="interface eth9 does not exist", lease=None))
    assert text.startswith("This node takes no part in web (10.1.1.252/32; vhid 42): interface eth9 does not")


def test_trouble_is_told() -> None:
    """Demotions, a conflict, two masters, lost and dropped adverts, maintenance."""
    demoted = vhost(demotion=240, demotions=[{"reason": "maintenance", "amount": 240}])
    assert "demoted by 240 (maintenance)" in _told(demoted)
    assert "Maintenance mode is ON" in _told(demoted, maintenance=True)
    conflict = {"address": "10.1.1.252", "mac": "02:00:00:00:00:09"}
    assert "because 02:00:00:00:00:09 answers for it" in _told(backup(master=None, conflict=conflict))
    assert "two masters at the moment" in _told(vhost(master=seen(sealed=False)))
    assert "a ucarp, a firewall" in _told(vhost(master=seen(sealed=False)))
    assert "Health check api (tcp 10.1.1.9:443) is down." in _told(vhost(health=[check(health="down")]))
    assert "do not leave: no buffer" in _told(vhost(sendProblem="no buffer"))
    assert "3 had a wrong HMAC" in _told(vhost(drops={"hmac": 3}))
    assert "is 1h05m behind this node's: set both by NTP" in _told(backup(clockSkew=-3900.0))
    assert "handing over right now (stop)" in _told(vhost(leaving="stop"))


def test_a_lease_that_lapsed() -> None:
    """Whether the process stood still or its adverts did not leave, the sentence is true."""
    text = _told(backup(cause="lease-lapsed"))
    assert "it did not renew its lease in time (its adverts did not leave, or it stood still)" in text


def test_the_fence_is_told_as_it_is() -> None:
    """Without one the address stays, and a bound above zero is stated."""
    assert "no fence" in _told(vhost(lifetime=None, overlapBound=None, lease=None))
    assert "at most 1.7 s with two owners" in _told(vhost(lifetime=1, overlapBound=1.7, deadTime=0.5))


def test_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 where all is well, 1 where the vhost takes no part."""
    statuses = answer(vhost(), vhost("dns", state="INIT"))
    with FakeCarpd(tmp_path / "s", lambda _: statuses) as fake:
        assert 0 == explain.main(["--socket", fake.path, "web"])
        assert 1 == explain.main(["--socket", fake.path, "dns"])
    assert "This node is master of web" in capsys.readouterr().out
