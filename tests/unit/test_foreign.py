"""Who else speaks on a segment, and how much of that is kept (carp.daemon.foreign)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp.core.errors import DropReason
from carp.daemon import foreign
from carp.daemon.foreign import FORGOTTEN_AFTER, MAX_SPEAKERS, REPLACEABLE_AFTER, Foreign
from carp.rawsock import Packet
from crafted import VRRP2
from pair import address

if TYPE_CHECKING:
    from pathlib import Path

CARP = Packet(address("10.1.1.7"), 255, bytes(36))
VRRP = Packet(address("10.1.1.8"), 255, VRRP2)


@pytest.fixture(autouse=True)
def arp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the kernel know one neighbour on eth0, fail to find another, and know a third elsewhere."""
    table = tmp_path / "arp"
    table.write_text(
        "IP address       HW type     Flags       HW address            Mask     Device\n"
        "10.1.1.7         0x1         0x2         02:00:00:00:00:07     *        eth0\n"
        "10.1.1.8         0x1         0x0         00:00:00:00:00:00     *        eth0\n"
        "10.1.1.9         0x1         0x2         02:00:00:00:00:09     *        eth1\n"
    )
    monkeypatch.setattr(foreign, "_ARP", table)
    return table


def test_each_speaker_is_new_once() -> None:
    """By protocol, id and source on an interface; what it does later renews it."""
    speakers = Foreign()
    assert speakers.note("eth0", 43, CARP, DropReason.VHID, 100.0)
    assert not speakers.note("eth0", 43, CARP, DropReason.VHID, 101.0)
    assert speakers.note("eth0", 42, CARP, DropReason.HMAC, 101.0)
    assert speakers.note("eth0", None, VRRP, DropReason.VRRP, 101.5)
    assert speakers.note("eth1", 43, CARP, DropReason.VHID, 102.0)
    assert [
        {"protocol": "carp", "id": 42, "source": "10.1.1.7", "mac": "02:00:00:00:00:07"}
        | {"lastHeard": 1.0, "reason": "hmac"},
        {"protocol": "carp", "id": 43, "source": "10.1.1.7", "mac": "02:00:00:00:00:07"}
        | {"lastHeard": 1.0, "reason": "vhid"},
        {"protocol": "vrrp", "id": VRRP2[1], "source": "10.1.1.8", "mac": None}
        | {"lastHeard": 0.5, "reason": "vrrp"},
    ] == speakers.shown("eth0", 102.0)
    assert 1 == len(speakers.shown("eth1", 102.0))


@pytest.mark.parametrize(
    "reason", set(DropReason) - {DropReason.VRRP, DropReason.VHID, DropReason.HMAC, DropReason.UNSEALED}
)
def test_what_tells_of_nobody(reason: DropReason) -> None:
    """Damaged, delayed, routed, echoed: not another speaker of this segment."""
    speakers = Foreign()
    assert not speakers.note("eth0", 42, CARP, reason, 100.0)
    assert [] == speakers.shown("eth0", 100.0)


def test_made_up_sources_do_not_grow_it() -> None:
    """At most 64 are kept; newcomers replace only those that have been silent for a while."""
    speakers = Foreign()
    for last in range(200):
        packet = Packet(address(f"10.1.2.{last}"), 255, bytes(36))
        assert (last < MAX_SPEAKERS) == speakers.note("eth0", 43, packet, DropReason.VHID, 100.0 + last / 256)
    assert MAX_SPEAKERS == len(speakers.shown("eth0", 101.0))
    assert speakers.note("eth0", 43, CARP, DropReason.VHID, 100.0 + REPLACEABLE_AFTER)
    shown = speakers.shown("eth0", 101.0 + REPLACEABLE_AFTER)
    assert MAX_SPEAKERS == len(shown)
    assert "10.1.2.0" not in {each["source"] for each in shown}


def test_the_silent_are_forgotten() -> None:
    """After ten minutes; when they speak again they are new."""
    speakers = Foreign()
    speakers.note("eth0", 43, CARP, DropReason.VHID, 100.0)
    assert [] == speakers.shown("eth0", 100.0 + FORGOTTEN_AFTER)
    assert speakers.note("eth0", 43, CARP, DropReason.VHID, 101.0 + FORGOTTEN_AFTER)


def test_without_a_table_of_neighbours_no_mac_is_known(arp: Path) -> None:
    """The speaker is shown all the same."""
    arp.unlink()
    speakers = Foreign()
    speakers.note("eth0", 43, CARP, DropReason.VHID, 100.0)
    assert [None] == [each["mac"] for each in speakers.shown("eth0", 100.0)]
