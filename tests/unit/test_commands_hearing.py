from __future__ import annotations

from ipaddress import ip_address, ip_interface

import pytest

from carp import announce
from carp.commands.finding import Target
from carp.commands.hearing import Heard, Speaker, listen
from carp.commands.host import Host, read_host
from carp.core.seal import from_wall
from carp.inspect.frames import Packet
from carp.rtnl import FOR_EVER, Addr, Link
from crafted import UCARP_HEADER, VRRP3
from nsfix import inside, ip, namespace, wait_up

WALL = 1_700_000_000.0
_LINK = Link(2, "eth0", b"\2\0\0\0\0\1", 0x41, 1500, 6, "veth")
_HOST = Host({"eth0": _LINK}, [Addr(2, ip_address("10.1.1.1"), 24, 0, 0, FOR_EVER)])
_TARGET = Target("web", 42, "eth0", (ip_interface("10.1.1.252/32"),))


def _packet(payload: bytes, source: str = "10.1.1.2", mac: bytes = b"\2\0\0\0\0\2") -> Packet:
    return Packet(
        source=ip_address(source),
        destination=ip_address("224.0.0.18"),
        ttl=255,
        payload=payload,
        mac=mac,
        length=len(payload),
    )


def _at(wall: float) -> bytes:
    """Return an advert of vhid 42 whose counter carries the seal time of a wall clock."""
    header = bytearray(UCARP_HEADER)
    header[8:12] = from_wall(wall).to_bytes(4, "big")
    return bytes(header)


def _hear(*packets: Packet) -> Heard:
    heard = Heard()
    for number, packet in enumerate(packets):
        heard.note("eth0", packet, _HOST, float(number), WALL)
    return heard


def test_speakers_are_counted_by_source() -> None:
    """Each source of an id is one speaker, with its first and last advert."""
    heard = _hear(_packet(UCARP_HEADER), _packet(UCARP_HEADER), _packet(UCARP_HEADER, "10.1.1.3"))
    one, two = heard.of(_TARGET)
    assert ("10.1.1.2", "02:00:00:00:00:02", 2, 0.0, 1.0) == (
        str(one.source),
        one.mac,
        one.count,
        one.first,
        one.last,
    )
    assert (1, False, False) == (two.count, one.ours, two.ours)


@pytest.mark.parametrize(("source", "mac"), [("10.1.1.1", b"\2\0\0\0\0\7"), ("10.1.1.7", b"\2\0\0\0\0\1")])
def test_what_this_host_sends_is_its_own(source: str, mac: bytes) -> None:
    """By its address, also from a virtual MAC, or by its MAC."""
    (speaker,) = _hear(_packet(UCARP_HEADER, source, mac)).of(_TARGET)
    assert speaker.ours


def test_vrrp_is_another_protocol_in_the_same_name_space() -> None:
    """A VRRP router is found by its id, and is no CARP speaker."""
    router = Target("web", 11, "eth0", ())
    heard = _hear(_packet(VRRP3))
    assert [] == heard.of(router)
    assert ["vrrp"] == [each.protocol for each in heard.of(router, "vrrp")]


def test_other_ids_are_not_ours() -> None:
    """Only the target's vhid on its interface counts."""
    heard = _hear(_packet(UCARP_HEADER))
    assert [] == heard.of(Target("dns", 7, "eth0", ()))
    assert [] == heard.of(Target("web", 42, "eth1", ()))


@pytest.mark.parametrize("drift", [0.0, 3600.0, -3600.0, 86400.0 * 50])
def test_the_counter_tells_its_senders_clock(drift: float) -> None:
    """The difference is found in both directions, over the wrap of 32 bits too."""
    for wall in (WALL, 256.0 * (1 << 24) * 7 + 1):
        heard = Heard()
        heard.note("eth0", _packet(_at(wall + drift)), _HOST, 0.0, wall)
        (speaker,) = heard.of(_TARGET)
        assert drift == pytest.approx(speaker.drift, abs=0.01)


@pytest.mark.parametrize("payload", [b"", b"\x21\x2a", bytes(36), bytes(range(200))])
def test_garbage_is_nobody(payload: bytes) -> None:
    """What is neither CARP nor VRRP is not a speaker."""
    assert {} == _hear(_packet(payload)).speakers


def test_a_handover_is_no_double_master() -> None:
    """Two that advertise one after the other do not overlap; two that go on while the other does, do."""

    def speaker(first: float, last: float) -> Speaker:
        return Speaker("eth0", "carp", 42, ip_address("10.1.1.2"), "", False, first, last)

    assert not speaker(0, 1).overlaps(speaker(1.1, 3))
    assert not speaker(0, 1.1).overlaps(speaker(1, 3))
    assert speaker(0, 2).overlaps(speaker(1, 1))
    assert speaker(0, 2).overlaps(speaker(1, 3))


@pytest.mark.root
def test_answers_and_adverts_on_a_real_link() -> None:
    """Who answers by ARP and ND is found with its MAC; an interface that is down is a problem, told."""
    with namespace() as here, namespace() as there:
        ip("-n", here, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", there)
        ip("-n", there, "link", "set", "eth0", "address", "02:00:00:00:00:09")
        for name in (here, there):
            ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", there, "address", "add", "10.1.1.252/24", "dev", "eth0")
        ip("-n", there, "address", "add", "fd99::252/64", "dev", "eth0", "nodad")
        for name in (here, there):
            wait_up(name, "eth0")
        vips = tuple(ip_interface(text) for text in ("10.1.1.252/32", "fd99::252/128"))
        with inside(here):
            heard = listen([Target("web", 42, "eth0", vips)], read_host(["eth0"]), 0.3)
            ip("-n", here, "link", "set", "eth0", "down")
            down = listen([Target("web", 42, "eth0", vips)], read_host(["eth0"]), 0.1)
        assert {("eth0", vip.ip): {"02:00:00:00:00:09"} for vip in vips} == heard.answers
        assert {} == heard.problems
        assert ["eth0"] == list(down.problems)


def test_the_probes_claim_nothing() -> None:
    """What is sent has no sender address, so no cache takes it over."""
    assert None is announce.answer_of(announce.arp_probe(b"\2" * 6, ip_address("10.1.1.252")))
