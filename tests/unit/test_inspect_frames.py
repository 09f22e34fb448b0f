"""From link-layer bytes to the payload of protocol 112."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IPOption_Router_Alert
from scapy.layers.inet6 import (
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q

from carp.inspect.frames import (
    ETHERNET,
    LINK_TYPES,
    LINUX_COOKED,
    LINUX_COOKED_2,
    RAW_IP,
    RAW_IPV4,
    RAW_IPV6,
    Miss,
    Packet,
    dissect,
    dissect_bytes,
    dissect_ip,
)
from crafted import OPENBSD_HEADER, UCARP_FRAME, UCARP_HEADER, frame, v4, v6

MAC = bytes.fromhex("00005e00012a")


def found(result: Packet | Miss) -> Packet:
    """Insist on a packet."""
    assert isinstance(result, Packet), result
    return result


def test_the_frame_of_a_real_ucarp() -> None:
    """Source, destination, TTL, MAC and payload of a captured frame."""
    packet = found(dissect(ETHERNET, UCARP_FRAME))
    expected = Packet(
        payload=UCARP_HEADER,
        length=36,
        source=IPv4Address("10.99.0.1"),
        destination=IPv4Address("224.0.0.18"),
        ttl=255,
        mac=bytes.fromhex("00005e00002a"),
    )
    assert expected == packet
    assert not packet.cut


@pytest.mark.parametrize("tags", [[], [Dot1Q(vlan=7)], [Dot1AD(vlan=9), Dot1Q(vlan=7)]])
def test_vlan_tags_are_stepped_over(tags: list[Any]) -> None:
    """None, one and two of them."""
    for packet in (v4(UCARP_HEADER), v6(UCARP_HEADER)):
        heard = found(dissect(ETHERNET, frame(packet, *tags)))
        assert (UCARP_HEADER, MAC) == (heard.payload, heard.mac)


def test_padding_after_the_ip_packet_is_no_payload() -> None:
    """Switches pad short frames."""
    assert found(dissect(ETHERNET, UCARP_FRAME + bytes(9))).payload == UCARP_HEADER


@pytest.mark.parametrize("tag", [False, True])
def test_linux_cooked_captures_of_both_versions(tag: bool) -> None:
    """What tcpdump -i any writes; the MAC is in the cooked header."""
    inner = Dot1Q(vlan=7) / v4(UCARP_HEADER) if tag else v4(UCARP_HEADER)
    kind = 0x8100 if tag else 0x0800
    address = MAC + b"\0\0"
    cooked = bytes(CookedLinux(lladdrlen=6, src=address, proto=kind) / inner)
    cooked_2 = bytes(CookedLinuxV2(lladdrlen=6, src=address, proto=kind) / inner)
    for linktype, data in ((LINUX_COOKED, cooked), (LINUX_COOKED_2, cooked_2)):
        heard = found(dissect(linktype, data))
        assert (UCARP_HEADER, MAC) == (heard.payload, heard.mac)


def test_raw_ip_has_no_mac() -> None:
    """The link types without a link header."""
    for linktype in (RAW_IP, RAW_IPV4):
        heard = found(dissect(linktype, bytes(v4(UCARP_HEADER))))
        assert (UCARP_HEADER, b"") == (heard.payload, heard.mac)
    assert found(dissect(RAW_IPV6, bytes(v6(UCARP_HEADER)))).source == IPv6Address("2001:db8::1")


def test_an_ipv4_header_with_options() -> None:
    """The payload starts where the header says."""
    heard = found(dissect_ip(bytes(v4(UCARP_HEADER, options=[IPOption_Router_Alert()]))))
    assert UCARP_HEADER == heard.payload


@pytest.mark.parametrize(
    "extensions",
    [
        [IPv6ExtHdrHopByHop()],
        [IPv6ExtHdrDestOpt()],
        [IPv6ExtHdrRouting()],
        [AH(icv=bytes(12), payloadlen=4)],
        [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt(), IPv6ExtHdrRouting()],
        [IPv6ExtHdrFragment(offset=0, m=0)],
    ],
)
def test_ipv6_extension_headers_are_stepped_over(extensions: list[Any]) -> None:
    """Alone and in a row; an atomic fragment is whole."""
    extensions[-1].nh = 112
    first = v6(UCARP_HEADER, *extensions)
    del first.nh
    heard = found(dissect_ip(bytes(first)))
    assert UCARP_HEADER == heard.payload
    assert not heard.fragment


def test_fragments_are_marked() -> None:
    """First, middle and last ones, of both families."""
    assert found(dissect_ip(bytes(v4(UCARP_HEADER, flags="MF")))).fragment
    assert found(dissect_ip(bytes(v4(UCARP_HEADER, frag=2)))).fragment
    assert not found(dissect_ip(bytes(v4(UCARP_HEADER, flags="DF")))).fragment
    for offset, more in ((0, 1), (2, 1), (2, 0)):
        packet = v6(UCARP_HEADER, IPv6ExtHdrFragment(nh=112, offset=offset, m=more), nh=44)
        heard = found(dissect_ip(bytes(packet)))
        assert heard.fragment
        assert UCARP_HEADER == heard.payload


def test_other_protocols_are_no_packets() -> None:
    """Neither other IP protocols nor other Ethernet types nor unknown links."""
    assert dissect_ip(bytes(v4(b"", proto=17))) is Miss.OTHER
    assert dissect_ip(bytes(v6(b"", nh=58))) is Miss.OTHER
    assert dissect(ETHERNET, UCARP_FRAME[:12] + b"\x08\x06" + bytes(28)) is Miss.OTHER
    assert dissect(147, UCARP_FRAME) is Miss.OTHER
    assert dissect(ETHERNET, UCARP_FRAME[:12] + b"\x86\xdd" + UCARP_FRAME[14:]) is Miss.OTHER


def test_impossible_ip_headers_are_no_packets() -> None:
    """A header length under 20 or beyond the packet; an extension header outside of it."""
    packet = bytes(v4(UCARP_HEADER))
    assert dissect_ip(b"\x44" + packet[1:]) is Miss.OTHER
    assert dissect_ip(packet[:2] + b"\x00\x13" + packet[4:]) is Miss.OTHER
    assert dissect_ip(bytes(v6(b"", nh=60, plen=0))) is Miss.OTHER
    assert dissect_ip(bytes(v6(bytes([112, 9]) + bytes(6), nh=60, plen=8))) is Miss.OTHER


@pytest.mark.parametrize("size", [13, 14, 33])
def test_a_frame_that_ends_in_its_headers_is_cut(size: int) -> None:
    """The protocol cannot be told."""
    assert dissect(ETHERNET, UCARP_FRAME[:size]) is Miss.CUT


def test_a_payload_that_is_not_all_there_is_cut() -> None:
    """The IP header tells how much is missing."""
    for size in (34, 40, 69):
        heard = found(dissect(ETHERNET, UCARP_FRAME[:size]))
        assert heard.cut
        assert (size - 34, 36) == (len(heard.payload), heard.length)
    assert found(dissect_ip(bytes(v6(UCARP_HEADER))[:50])).cut
    assert dissect_ip(bytes(v6(UCARP_HEADER, nh=60))[:44]) is Miss.CUT
    assert dissect(LINUX_COOKED_2, bytes(19)) is Miss.CUT


def test_a_segmented_length_of_zero_means_all_that_is_there() -> None:
    """Offloading writes 0 into the length."""
    packet = bytes(v4(UCARP_HEADER))
    assert found(dissect_ip(packet[:2] + b"\0\0" + packet[4:])).payload == UCARP_HEADER


def test_bytes_of_unknown_kind_are_recognised() -> None:
    """A frame, a tagged frame, IP of both versions, IP with padding, a header alone."""
    whole = [UCARP_FRAME, frame(v6(UCARP_HEADER), Dot1Q(vlan=3)), UCARP_FRAME[14:], bytes(v6(UCARP_HEADER))]
    for data in (*whole, UCARP_FRAME[14:] + b"\0", UCARP_HEADER):
        assert UCARP_HEADER == found(dissect_bytes(data)).payload
    assert found(dissect_bytes(OPENBSD_HEADER)).source is None
    assert found(dissect_bytes(UCARP_HEADER[:20])).payload == UCARP_HEADER[:20]


def test_a_mac_address_that_begins_like_an_ip_header_is_no_ip_packet() -> None:
    """Multicast MACs with 45 or 61 in front are odd but legal."""
    for first in (b"\x45", b"\x61"):
        assert UCARP_HEADER == found(dissect_bytes(first + UCARP_FRAME[1:])).payload


def test_bytes_that_are_nothing() -> None:
    """They are a miss, never an error."""
    assert dissect_bytes(b"") is Miss.CUT
    assert dissect_bytes(bytes(8)) is Miss.CUT
    assert dissect_bytes(bytes(100)) is Miss.OTHER


@given(st.sampled_from([*sorted(LINK_TYPES), 9999]), st.binary(max_size=200))
def test_random_bytes_never_raise(linktype: int, data: bytes) -> None:
    """The result is a packet or a miss."""
    assert isinstance(dissect(linktype, data), Packet | Miss)
    assert isinstance(dissect_bytes(data), Packet | Miss)


@given(
    st.sampled_from([UCARP_FRAME, frame(v6(UCARP_HEADER, IPv6ExtHdrHopByHop(nh=112), nh=0), Dot1Q())]),
    st.lists(st.tuples(st.integers(0, 69), st.integers(0, 255)), max_size=6),
    st.integers(0, 120),
)
def test_mutated_frames_never_raise(data: bytes, changes: list[tuple[int, int]], size: int) -> None:
    """Real frames with some bytes changed and the end cut off reach further in than noise."""
    mutated = bytearray(data)
    for position, value in changes:
        mutated[position] = value
    assert isinstance(dissect(ETHERNET, bytes(mutated[:size])), Packet | Miss)
    assert isinstance(dissect_bytes(bytes(mutated[:size])), Packet | Miss)
