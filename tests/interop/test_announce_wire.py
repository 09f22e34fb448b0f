"""Announcements and probes between two real kernels on a veth."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from carp import announce
from carp.announce import FrameSocket
from carp.netlink import Netlink
from nsfix import inside, ip, namespace, require_namespaces, sysctl, wait_for, wait_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

V4 = IPv4Address("10.77.0.252")
V6 = IPv6Address("fd77::252")
CLAIMANT = bytes.fromhex("020000000aaa")


@dataclass
class Segment:
    """Two hosts, a and b, with interface e0 each."""

    a: str
    b: str
    index: dict[str, int]
    mac: dict[str, bytes]

    def socket(self, host: str, *, listen: bool = False) -> FrameSocket:
        """Open a frame socket on a host."""
        with inside(host):
            return FrameSocket(self.index[host], listen=listen)


@pytest.fixture
def segment() -> Iterator[Segment]:
    """A has .1 and both virtual addresses, b has .2; no duplicate address detection."""
    require_namespaces()
    with ExitStack() as stack:
        a, b = stack.enter_context(namespace()), stack.enter_context(namespace())
        ip("-n", a, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", b)
        made = Segment(a, b, {}, {})
        for host, last in ((a, 1), (b, 2)):
            sysctl(host, "ipv6/conf/e0/accept_dad", "0")
            ip("-n", host, "link", "set", "e0", "up")
            ip("-n", host, "address", "add", f"10.77.0.{last}/24", "dev", "e0")
            ip("-n", host, "address", "add", f"fd77::{last}/64", "dev", "e0", "nodad")
            with inside(host):
                netlink = Netlink()
            link = netlink.link("e0")
            netlink.close()
            assert link is not None
            made.index[host], made.mac[host] = link.ifindex, link.mac
        ip("-n", a, "address", "add", f"{V4}/32", "dev", "e0")
        ip("-n", a, "address", "add", f"{V6}/128", "dev", "e0", "nodad")
        for host in (a, b):
            wait_up(host, "e0")
        yield made


def neighbour(host: str, address: object) -> str | None:
    """Return the MAC that a host has for an address."""
    entries: list[dict[str, Any]] = json.loads(
        ip("-json", "-n", host, "neighbour", "show", str(address)) or "[]"
    )
    return entries[0].get("lladdr") if entries else None


@pytest.mark.parametrize("address", [V4, V6], ids=str)
def test_probe_is_answered_with_the_owners_mac(segment: Segment, address: IPv4Address | IPv6Address) -> None:
    """The owner's kernel answers a probe that claims nothing, and the listening socket hears it."""
    probe = announce.arp_probe if isinstance(address, IPv4Address) else announce.nd_probe
    listener, sender = segment.socket(segment.b, listen=True), segment.socket(segment.b)
    sender.send(probe(segment.mac[segment.b], address))  # type: ignore[arg-type]
    heard: list[bytes] = []

    def answered() -> bool:
        heard.extend(listener.receive())
        return (address, segment.mac[segment.a]) in [announce.answer_of(frame) for frame in heard]

    wait_for(answered)
    # Our own question is not among them: what this host sends is not what it hears.
    assert [] == [frame for frame in heard if frame[6:12] == segment.mac[segment.b]]
    listener.close()
    sender.close()


def test_probe_for_a_free_address_is_not_answered(segment: Segment) -> None:
    """Only the owner answers: a probe for a taken address sent afterwards is answered, the first one not."""
    mac = segment.mac[segment.b]
    listener = segment.socket(segment.b, listen=True)
    listener.send(announce.arp_probe(mac, IPv4Address("10.77.0.9")))
    listener.send(announce.nd_probe(mac, IPv6Address("fd77::9")))
    listener.send(announce.arp_probe(mac, V4))
    answers: list[object] = []

    def answered() -> bool:
        answers.extend(announce.answer_of(frame) for frame in listener.receive())
        return (V4, segment.mac[segment.a]) in answers

    wait_for(answered)
    assert {V4} == {answer[0] for answer in answers if isinstance(answer, tuple)}
    listener.close()


@pytest.mark.parametrize(
    ("address", "build"),
    [
        pytest.param(V4, lambda: announce.gratuitous_arp(CLAIMANT, V4), id="ARP request"),
        pytest.param(V4, lambda: announce.gratuitous_arp(CLAIMANT, V4, reply=True), id="ARP reply"),
        pytest.param(V6, lambda: announce.unsolicited_na(CLAIMANT, V6), id="NA"),
        pytest.param(V6, lambda: announce.unsolicited_na(CLAIMANT, V6, router=True), id="NA of a router"),
    ],
)
def test_announcement_changes_the_neighbours_entry(
    segment: Segment, address: object, build: Callable[[], bytes]
) -> None:
    """A host that has talked to the old owner talks to the new one right after the announcement."""
    # Stale, so that the kernel's one second of loyalty to a fresh entry (locktime) is over.
    old = segment.mac[segment.a].hex(":")
    ip("-n", segment.b, "neighbour", "replace", str(address), "lladdr", old, "dev", "e0", "nud", "stale")
    sysctl(segment.b, "ipv4/neigh/e0/locktime", "0")
    sender = segment.socket(segment.a)
    sender.send(build())
    wait_for(lambda: neighbour(segment.b, address) == CLAIMANT.hex(":"))
    sender.close()


def test_send_only_socket_receives_nothing(segment: Segment) -> None:
    """A socket that was not asked to listen queues no frame, however much arrives."""
    silent, listener = segment.socket(segment.b), segment.socket(segment.b, listen=True)
    other = segment.socket(segment.a)
    other.send(announce.gratuitous_arp(CLAIMANT, V4))
    wait_for(listener.receive)
    assert [] == silent.receive()
    for sock in (silent, listener, other):
        sock.close()


def test_listener_hears_its_own_segment_only(segment: Segment) -> None:
    """A frame of a VLAN above the interface, which arrives with its tag taken off, is another segment's."""
    listener, other = segment.socket(segment.b, listen=True), segment.socket(segment.a)
    frame = announce.gratuitous_arp(CLAIMANT, V4)
    tagged = frame[:12] + bytes.fromhex("81000005") + frame[12:]
    priority = frame[:12] + bytes.fromhex("8100e000") + frame[12:]
    for sent in (tagged, priority):
        other.send(sent)
    other.send(announce.unsolicited_na(CLAIMANT, V6))
    heard: list[bytes] = []

    def arrived() -> bool:
        heard.extend(frame for frame in listener.receive() if frame[6:12] == CLAIMANT)
        return any(frame[12:14] == b"\x86\xdd" for frame in heard)

    wait_for(arrived)
    # VLAN 0 is a priority only: the same segment.
    assert [frame, announce.unsolicited_na(CLAIMANT, V6)] == heard
    listener.close()
    other.close()


def test_listener_joins_all_nodes(segment: Segment) -> None:
    """Answers to nd_probe go to ff02::1, which an interface without IPv6 has not joined by itself."""
    sysctl(segment.b, "ipv6/conf/e0/disable_ipv6", "1")
    groups = [ip("-n", segment.b, "maddress", "show", "dev", "e0")]
    listener = segment.socket(segment.b, listen=True)
    groups.append(ip("-n", segment.b, "maddress", "show", "dev", "e0"))
    listener.close()
    groups.append(ip("-n", segment.b, "maddress", "show", "dev", "e0"))
    assert [False, True, False] == ["33:33:00:00:00:01" in listed for listed in groups]


def test_socket_on_a_missing_interface_is_refused(segment: Segment) -> None:
    """The error is the kernel's own."""
    with inside(segment.a), pytest.raises(OSError, match="No such device"):
        FrameSocket(9999)


def test_interface_that_goes_down_fails_the_send_only(segment: Segment) -> None:
    """Sending says that the interface is down; receiving has nothing to say."""
    listener = segment.socket(segment.b, listen=True)
    ip("-n", segment.b, "link", "set", "e0", "down")
    assert [] == [frame for frame in listener.receive() if announce.answer_of(frame) == (V4, CLAIMANT)]
    assert [] == listener.receive()
    with pytest.raises(OSError, match="Network is down"):
        listener.send(announce.gratuitous_arp(CLAIMANT, V4))
    listener.close()
