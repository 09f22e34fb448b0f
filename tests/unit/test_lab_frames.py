"""The bytes of the measuring client, against scapy's reading of them."""

from __future__ import annotations

import ipaddress

import pytest
from scapy.layers.inet import ICMP
from scapy.layers.inet6 import ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from carp.lab import frames
from carp.lab.errors import LabError

MAC = bytes.fromhex("02ca720000c8")
OWNER = bytes.fromhex("02ca72000001")
VIP = ipaddress.ip_address("10.99.0.252").packed
VIP6 = ipaddress.ip_address("fd99::252").packed


def test_echo_request_is_valid() -> None:
    """The IPv4 request has a right checksum and the wanted identifier."""
    raw = frames.echo_request(4, 0x1234, 70_000)
    packet = ICMP(raw)
    assert (8, 0x1234, 70_000 & 0xFFFF) == (packet.type, packet.id, packet.seq)
    assert 0 == frames.checksum(raw)


@pytest.mark.parametrize(("version", "reply"), [(4, 0), (6, 129)])
def test_echo_reply_names_its_request(version: int, reply: int) -> None:
    """A reply carries the index over the 16 bits of the sequence number; others are not ours."""
    raw = bytes([reply]) + frames.echo_request(version, 7, 70_000)[1:]
    assert 70_000 == frames.echo_reply_index(raw, 7)
    assert frames.echo_reply_index(raw, 8) is None
    assert frames.echo_reply_index(raw[:-1], 7) is None
    assert frames.echo_reply_index(frames.echo_request(version, 7, 1), 7) is None


def test_arp_request_is_a_probe() -> None:
    """The question is a broadcast from sender address 0, so nobody learns anything from it."""
    packet = Ether(frames.arp_request(MAC, VIP, 5))
    assert ("ff:ff:ff:ff:ff:ff", "02:ca:72:00:00:c8") == (packet.dst, packet.src)
    arp = packet[ARP]
    assert (1, "0.0.0.0", "10.99.0.252", "02:cb:00:00:00:05") == (arp.op, arp.psrc, arp.pdst, arp.hwsrc)


def test_arp_answer_names_its_question() -> None:
    """The answer to question 5 says 5 and who owns the address; other frames say nothing."""
    reply = Ether(dst="02:cb:00:00:00:05") / ARP(
        op=2, hwsrc=frames.mac_text(OWNER), psrc="10.99.0.252", hwdst="02:cb:00:00:00:05", pdst="0.0.0.0"
    )
    assert (5, OWNER) == frames.arp_answer(bytes(reply), VIP)
    assert frames.arp_answer(bytes(reply), VIP6[:4]) is None
    assert frames.arp_answer(frames.arp_request(MAC, VIP, 5), VIP) is None
    assert frames.arp_answer(b"short", VIP) is None


def test_nd_request_is_valid() -> None:
    """The solicitation goes to the solicited-node group with a right checksum and our hardware address."""
    raw = frames.nd_request(MAC, VIP6, 18)
    packet = Ether(raw)
    assert "33:33:ff:00:02:52" == packet.dst
    assert ("ff02::1:ff00:252", 255) == (packet[IPv6].dst, packet[IPv6].hlim)
    assert ("fd99::252", "02:ca:72:00:00:c8") == (
        packet[ICMPv6ND_NS].tgt,
        packet[ICMPv6NDOptSrcLLAddr].lladdr,
    )
    rebuilt = packet[IPv6].copy()
    del rebuilt[ICMPv6ND_NS].cksum
    assert raw[14:] == bytes(rebuilt)


def advertisement(question: int, *, option: bytes = b"\x02\x01" + OWNER) -> bytes:
    """Answer as an owner would: to the address that the question came from."""
    asked = frames.nd_request(MAC, VIP6, question)
    body = bytes([136, 0, 0, 0, 0x60, 0, 0, 0]) + VIP6 + option
    header = asked[14:18] + len(body).to_bytes(2, "big") + b"\x3a\xff"
    return MAC + OWNER + b"\x86\xdd" + header + VIP6 + asked[22:38] + body


def test_nd_answer_names_its_question() -> None:
    """Among the last 16 questions the answer's destination tells which; the option, who."""
    assert (18, OWNER) == frames.nd_answer(advertisement(18), VIP6, 20)
    assert (18, OWNER) == frames.nd_answer(advertisement(18, option=b""), VIP6, 20)
    assert frames.nd_answer(advertisement(18), VIP6, 1) is None
    assert frames.nd_answer(advertisement(18), MAC, 20) is None
    assert frames.nd_answer(frames.nd_request(MAC, VIP6, 18), VIP6, 20) is None


def test_hardware_addresses() -> None:
    """Text and bytes go both ways; nonsense is an error that quotes it."""
    assert OWNER == frames.mac_bytes(frames.mac_text(OWNER))
    for wrong in ("x", "02:00"):
        with pytest.raises(LabError, match=wrong):
            frames.mac_bytes(wrong)
