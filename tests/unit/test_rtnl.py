"""The rtnetlink codec: byte-equal to pyroute2's encoder, and at ease with anything it is given to parse."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from carp import rtnl
from carp.rtnl import Addr, DelAddr, DelLink, DumpDone, Failure, Interrupted, Link, NewAddr, NewLink

V4 = IPv4Interface("10.1.1.252/32")
V4_SUBNET = IPv4Interface("10.1.1.252/24")
V6 = IPv6Interface("2001:db8::252/128")
V6_SUBNET = IPv6Interface("2001:db8::252/64")
INTERFACES = [V4, V4_SUBNET, V6, V6_SUBNET]

Header = tuple[int, int, int]  # type, flags, sequence number


def pyroute2_encode(
    message: Any, header: Header, fields: dict[str, int], attrs: list[tuple[str, Any]]
) -> bytes:
    """Encode with pyroute2."""
    for field, value in fields.items():
        message[field] = value
    message["attrs"] = attrs
    message["header"]["type"], message["header"]["flags"], message["header"]["sequence_number"] = header
    message["header"]["pid"] = 0
    message.encode()
    return bytes(message.data)


def theirs(interface: rtnl.Interface, header: Header, extra: list[tuple[str, Any]]) -> bytes:
    """Encode an address request with pyroute2, with the attributes that its own IPRoute.addr() sends."""
    address = str(interface.ip)
    attrs: list[tuple[str, Any]] = [("IFA_ADDRESS", address)]
    if interface.version == 4:
        attrs.append(("IFA_LOCAL", address))
    fields = {
        "family": 2 if interface.version == 4 else 10,
        "prefixlen": interface.network.prefixlen,
        "index": 7,
    }
    return pyroute2_encode(ifaddrmsg(), header, fields, attrs + extra)


@pytest.mark.parametrize("interface", INTERFACES, ids=str)
@pytest.mark.parametrize(("create", "flags"), [(True, 0x501), (False, 0x101)])
def test_set_address_is_what_pyroute2_encodes(interface: rtnl.Interface, create: bool, flags: int) -> None:
    """A finite lifetime, noprefixroute, in IPv6 no duplicate detection, valid = preferred, proto."""
    extra = [
        ("IFA_FLAGS", 0x200 if interface.version == 4 else 0x202),
        ("IFA_CACHEINFO", {"ifa_preferred": 2, "ifa_valid": 2}),
        ("IFA_PROTO", 112),
    ]
    ours = rtnl.set_address(7, interface, lifetime=2, proto=112, seq=9, create=create)
    assert theirs(interface, (20, flags, 9), extra) == ours


@pytest.mark.parametrize("interface", INTERFACES, ids=str)
def test_delete_address_is_what_pyroute2_encodes(interface: rtnl.Interface) -> None:
    """A removal names index, address and prefix length."""
    assert theirs(interface, (21, 0x001, 9), []) == rtnl.delete_address(7, interface, seq=9)


def test_dumps_are_what_pyroute2_encodes() -> None:
    """The questions for all links and for the addresses of a family."""
    assert pyroute2_encode(ifinfmsg(), (18, 0x301, 3), {}, []) == rtnl.dump_links(3)
    for family in (0, 2, 10):
        expected = pyroute2_encode(ifaddrmsg(), (22, 0x301, 4), {"family": family}, [])
        assert expected == rtnl.dump_addresses(4, family)


@pytest.mark.parametrize("name", ["eth0", "br-1", "abcdefghijklmno"])
def test_get_link_is_what_pyroute2_encodes(name: str) -> None:
    """The question for one link by its name."""
    expected = pyroute2_encode(ifinfmsg(), (18, 0x001, 5), {}, [("IFLA_IFNAME", name)])
    assert expected == rtnl.get_link(name, 5)


def test_with_seq_changes_the_sequence_number_only() -> None:
    """A prepared message renumbered is the message made with that number."""
    template = rtnl.set_address(7, V6, lifetime=2, proto=112, create=False)
    expected = rtnl.set_address(7, V6, lifetime=2, proto=112, create=False, seq=0xFFFFFFFF)
    assert expected == rtnl.with_seq(template, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("lifetime", "proto", "field"),
    [(0, 0, "lifetime"), (1 << 32, 0, "lifetime"), (2, 256, "proto"), (2, -1, "proto")],
)
def test_set_address_names_the_value_that_is_out_of_range(lifetime: int, proto: int, field: str) -> None:
    """Lifetimes are 1 s to for ever, protos one byte."""
    with pytest.raises(ValueError, match=f"^{field}: "):
        rtnl.set_address(7, V4, lifetime=lifetime, proto=proto, create=True)


@pytest.mark.parametrize("interface", INTERFACES, ids=str)
def test_parse_reads_an_address_with_its_lifetime_and_proto(interface: rtnl.Interface) -> None:
    """What set_address writes, parse reads; of two messages in one read both are seen."""
    flags = 0x200 if interface.version == 4 else 0x202
    message = rtnl.set_address(7, interface, lifetime=2, proto=113, create=True)
    addr = Addr(7, interface.ip, interface.network.prefixlen, flags, 113, 2)
    removal = rtnl.delete_address(7, interface)
    gone = Addr(7, interface.ip, interface.network.prefixlen, 0, 0, rtnl.FOR_EVER)
    assert [NewAddr(addr), DelAddr(gone)] == list(rtnl.parse(message + removal))


def test_parse_takes_our_end_of_a_point_to_point_address() -> None:
    """IFA_LOCAL is ours, IFA_ADDRESS the peer's."""
    attrs = [("IFA_ADDRESS", "10.0.0.2"), ("IFA_LOCAL", "10.0.0.1")]
    message = pyroute2_encode(ifaddrmsg(), (20, 0, 0), {"family": 2, "prefixlen": 32, "index": 3}, attrs)
    assert [NewAddr(Addr(3, IPv4Address("10.0.0.1"), 32, 0, 0, rtnl.FOR_EVER))] == list(rtnl.parse(message))


def test_parse_reads_a_link() -> None:
    """Name, MAC, MTU, operational state and kind come from the attributes."""
    attrs = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_ADDRESS", "02:00:00:00:00:01"),
        ("IFLA_MTU", 1500),
        ("IFLA_OPERSTATE", "UP"),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
    ]
    message = pyroute2_encode(ifinfmsg(), (16, 0, 0), {"index": 4, "flags": 0x1043}, attrs)
    link = Link(4, "eth0", bytes.fromhex("020000000001"), 0x1043, 1500, 6, "veth")
    assert [NewLink(link)] == list(rtnl.parse(message))
    assert (True, True) == (link.up, link.running)


def test_parse_ignores_a_bridge_that_speaks_of_its_port() -> None:
    """A port that leaves its bridge sends RTM_DELLINK in family AF_BRIDGE; the interface is still there."""
    message = pyroute2_encode(ifinfmsg(), (17, 0, 0), {"family": 7, "index": 4}, [("IFLA_IFNAME", "eth0")])
    assert [] == list(rtnl.parse(message))
    plain = pyroute2_encode(ifinfmsg(), (17, 0, 0), {"index": 4}, [("IFLA_IFNAME", "eth0")])
    assert [DelLink(Link(4, "eth0", b"", 0, 0, 0, ""))] == list(rtnl.parse(plain))


def message(kind: int, body: bytes, *, flags: int = 0, seq: int = 1) -> bytes:
    """Build a message by hand."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, seq, 0) + body


def test_parse_tells_answers_apart_by_sequence_number() -> None:
    """A refusal carries its number and errno; an acknowledgement says nothing; a list has an end."""
    refusal = message(2, struct.pack("=i", -19) + bytes(16), seq=5)
    data = refusal + message(2, struct.pack("=i", 0) + bytes(16), seq=6) + message(3, bytes(4), seq=7)
    assert [Failure(5, 19), DumpDone()] == list(rtnl.parse(data))
    assert [DumpDone()] == list(rtnl.parse(data, 7))


def test_parse_reports_a_list_that_changed_while_it_was_read() -> None:
    """The mark can stand on any message of the list, not on the last one only."""
    data = message(20, rtnl.set_address(7, V4, lifetime=2, proto=0, create=True)[16:], flags=0x10)
    assert Interrupted() == next(rtnl.parse(data + message(3, bytes(4))))
    assert [Interrupted(), DumpDone()] == list(rtnl.parse(message(3, bytes(4), flags=0x10)))


def test_parse_skips_what_is_not_for_us() -> None:
    """Routes, address families other than IP, and a list's end without a body."""
    other = struct.pack("=BBBBI", 45, 0, 0, 0, 1)
    assert [DumpDone()] == list(rtnl.parse(message(24, bytes(12)) + message(20, other) + message(3, b"")))


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        message(20, b"\0" * 7),
        message(16, b"\0" * 15),
        message(2, b"\0\0"),
        message(20, bytes(8))[:-1],
        message(20, struct.pack("=BBBBI", 2, 32, 0, 0, 1)),
        message(20, struct.pack("=BBBBIHH4s", 10, 32, 0, 0, 1, 8, 1, b"abcd")),
        message(20, struct.pack("=BBBBIHH4sHH", 2, 32, 0, 0, 1, 8, 1, b"abcd", 4, 6)),
        message(20, struct.pack("=BBBBIHH4sHH", 2, 32, 0, 0, 1, 8, 1, b"abcd", 4, 8)),
        message(20, struct.pack("=BBBBIHH", 2, 32, 0, 0, 1, 3, 1)),
    ],
    ids=range(10),
)
def test_parse_raises_value_error_for_malformed_data(data: bytes) -> None:
    """Every length is checked before it is believed."""
    with pytest.raises(ValueError, match=r"^netlink: "):
        list(rtnl.parse(data))


GENUINE = [
    rtnl.set_address(7, V4, lifetime=2, proto=112, create=True),
    rtnl.set_address(7, V6, lifetime=2, proto=112, create=True),
    rtnl.get_link("eth0", 1),
    message(16, rtnl.get_link("eth0", 1)[16:] + struct.pack("=HHHH4s", 12, 18, 8, 1, b"veth")),
    message(2, struct.pack("=i", -19) + bytes(16)),
]


@given(st.binary(max_size=200))
@example(b"")
def test_parse_of_any_bytes_raises_value_error_at_most(data: bytes) -> None:
    """Whatever the bytes: events, or ValueError."""
    try:
        list(rtnl.parse(data))
    except ValueError:
        return


@given(st.sampled_from(GENUINE), st.data())
def test_parse_of_damaged_messages_raises_value_error_at_most(genuine: bytes, data: st.DataObject) -> None:
    """Likewise for genuine messages with some bytes changed and the end cut off."""
    damaged = bytearray(genuine)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        list(rtnl.parse(cut))
    except ValueError:
        return


def test_flags_of_an_address() -> None:
    """Bit 0 is "secondary" in IPv4 and "temporary" in IPv6; the others mean the same."""
    assert Addr(1, IPv4Address("10.0.0.1"), 24, 0x01, 0, 2).secondary
    assert not Addr(1, IPv6Address("::2"), 64, 0x01, 0, 2).secondary
    assert Addr(1, IPv6Address("::2"), 64, 0x40, 0, 2).tentative
    assert Addr(1, IPv6Address("::2"), 64, 0x08, 0, 2).dadfailed
