"""ARP and ND frames: byte-equal to scapy's, and read back with care."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptDstLLAddr, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from carp import announce

MAC = bytes.fromhex("020000000001")
MAC_TEXT = "02:00:00:00:00:01"
OTHER = bytes.fromhex("020000000002")
OTHER_TEXT = "02:00:00:00:00:02"
V4 = IPv4Address("10.1.1.252")
V6 = IPv6Address("2001:db8::12:3456")


@pytest.mark.parametrize(("reply", "operation"), [(False, 1), (True, 2)])
def test_gratuitous_arp_is_what_scapy_builds(reply: bool, operation: int) -> None:
    """Broadcast, sender = target = the address, target MAC = own MAC, 42 bytes; as request and as reply."""
    arp = ARP(op=operation, hwsrc=MAC_TEXT, psrc=str(V4), hwdst=MAC_TEXT, pdst=str(V4))
    frame = announce.gratuitous_arp(MAC, V4, reply=reply)
    assert bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=MAC_TEXT) / arp) == frame
    assert 42 == len(frame)


def test_arp_probe_is_what_scapy_builds() -> None:
    """A request from 0.0.0.0, so that nobody learns a MAC from it."""
    arp = ARP(op=1, hwsrc=MAC_TEXT, psrc="0.0.0.0", hwdst="00:00:00:00:00:00", pdst=str(V4))
    assert bytes(Ether(dst="ff:ff:ff:ff:ff:ff", src=MAC_TEXT) / arp) == announce.arp_probe(MAC, V4)


@pytest.mark.parametrize("router", [False, True])
def test_unsolicited_na_is_what_scapy_builds(router: bool) -> None:
    """To ff02::1 from the address itself, hop limit 255, override, not solicited, with the MAC; 86 bytes."""
    na = ICMPv6ND_NA(R=int(router), S=0, O=1, tgt=str(V6)) / ICMPv6NDOptDstLLAddr(lladdr=MAC_TEXT)
    ip = IPv6(src=str(V6), dst="ff02::1", hlim=255)
    frame = announce.unsolicited_na(MAC, V6, router=router)
    assert bytes(Ether(dst="33:33:00:00:00:01", src=MAC_TEXT) / ip / na) == frame
    assert 86 == len(frame)


def test_nd_probe_is_what_scapy_builds() -> None:
    """A solicitation from :: to the solicited-node group, without options."""
    ip = IPv6(src="::", dst="ff02::1:ff12:3456", hlim=255)
    expected = Ether(dst="33:33:ff:12:34:56", src=MAC_TEXT) / ip / ICMPv6ND_NS(tgt=str(V6))
    assert bytes(expected) == announce.nd_probe(MAC, V6)


def arp(**fields: Any) -> bytes:
    """Build an ARP frame from another host."""
    defaults: dict[str, Any] = {
        "op": 2,
        "hwsrc": OTHER_TEXT,
        "psrc": str(V4),
        "hwdst": MAC_TEXT,
        "pdst": "10.1.1.1",
    }
    return bytes(Ether(dst=MAC_TEXT, src=OTHER_TEXT) / ARP(**(defaults | fields)))


def nd(message: object, **fields: Any) -> bytes:
    """Build an ND frame from another host."""
    defaults: dict[str, Any] = {"src": str(V6), "dst": "ff02::1", "hlim": 255}
    return bytes(Ether(dst="33:33:00:00:00:01", src=OTHER_TEXT) / IPv6(**(defaults | fields)) / message)


NA = ICMPv6ND_NA(tgt=str(V6), S=0)
NS = ICMPv6ND_NS(tgt="fe80::9")
TARGET_OPTION = ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:03")
SOURCE_OPTION = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:04")


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(arp(), (V4, OTHER), id="reply"),
        pytest.param(arp() + bytes(18), (V4, OTHER), id="padded"),
        pytest.param(arp(op=1), (V4, OTHER), id="request"),
        pytest.param(arp(op=1, pdst=str(V4)), (V4, OTHER), id="gratuitous"),
        pytest.param(announce.gratuitous_arp(MAC, V4), (V4, MAC), id="own gratuitous"),
        pytest.param(announce.unsolicited_na(MAC, V6), (V6, MAC), id="own NA"),
        pytest.param(nd(NA), (V6, OTHER), id="NA without option"),
        pytest.param(nd(NA / TARGET_OPTION), (V6, bytes.fromhex("020000000003")), id="NA"),
        pytest.param(nd(NA / SOURCE_OPTION), (V6, OTHER), id="NA with another option"),
        pytest.param(nd(NS / SOURCE_OPTION), (V6, bytes.fromhex("020000000004")), id="NS from the address"),
    ],
)
def test_answer_of_finds_who_uses_an_address(frame: bytes, expected: tuple[object, bytes]) -> None:
    """Answers, announcements and questions asked from the address all show its user."""
    assert expected == announce.answer_of(frame)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="empty"),
        pytest.param(arp()[:41], id="cut ARP"),
        pytest.param(announce.arp_probe(OTHER, V4), id="ARP probe"),
        pytest.param(announce.nd_probe(OTHER, V6), id="ND probe"),
        pytest.param(arp(op=8), id="other ARP operation"),
        pytest.param(arp(hwtype=6), id="other ARP hardware"),
        pytest.param(arp(ptype=0x86DD), id="other ARP protocol"),
        pytest.param(nd(NA)[:77], id="cut NA"),
        pytest.param(nd(NA, hlim=254), id="NA that passed a router"),
        pytest.param(nd(NA, nh=17), id="not ICMPv6"),
        pytest.param(nd(NA, version=5), id="not IPv6"),
        pytest.param(nd(NA, plen=23), id="payload too short"),
        pytest.param(nd(NA, plen=25), id="payload beyond the frame"),
        pytest.param(nd(ICMPv6ND_NA(tgt=str(V6), code=1)), id="NA with a code"),
        pytest.param(nd(ICMPv6ND_NA(type=134)), id="other ICMPv6 type"),
        pytest.param(nd(ICMPv6ND_NA(tgt="::")), id="NA for nothing"),
        pytest.param(b"\0" * 60, id="other protocol"),
    ],
)
def test_answer_of_ignores_everything_else(frame: bytes) -> None:
    """A probe claims nothing, and a frame that a host would not believe counts for nothing."""
    assert announce.answer_of(frame) is None


@given(st.sampled_from([arp(), nd(NA / TARGET_OPTION), nd(NS / SOURCE_OPTION)]), st.data())
def test_answer_of_never_raises(genuine: bytes, data: st.DataObject) -> None:
    """Whatever bytes are damaged, added or missing."""
    damaged = bytearray(genuine)
    for _ in range(data.draw(st.integers(0, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    announce.answer_of(
        bytes(damaged[: data.draw(st.integers(0, len(damaged)))]) + data.draw(st.binary(max_size=20))
    )
    announce.answer_of(data.draw(st.binary(max_size=120)))
