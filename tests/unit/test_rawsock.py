"""Sockets for protocol 112 between two namespaces (libraries.md, carp-protocol.md section 1.2)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from carp.rawsock import Packet, Receiver, Sender
from linkfix import NAME, End, cable
from nsfix import ip, sysctl, wait_for
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["cable"]
pytestmark = pytest.mark.root
ADVERT = bytes(range(36))
GROUPS = {4: ip_address("224.0.0.18"), 6: ip_address("ff02::12")}
SOURCES = {4: ip_address("10.1.1.1"), 6: ip_address("fd00::1")}
PEERS = {4: ip_address("10.1.1.2"), 6: ip_address("fd00::2")}


@contextlib.contextmanager
def _sender(end: End, version: int, *, to_peer: bool = False) -> Iterator[Sender]:
    destination = PEERS[version] if to_peer else GROUPS[version]
    with end.enter():
        made = Sender(SOURCES[version], destination, NAME, end.ifindex)
    with contextlib.closing(made):
        yield made


@contextlib.contextmanager
def _receiver(end: End, version: int, *, joins: bool = True) -> Iterator[Receiver]:
    with end.enter():
        made = Receiver(version, NAME, end.ifindex)
    with contextlib.closing(made):
        if joins:
            made.join([GROUPS[version]])
            made.join([GROUPS[version]])
        yield made


def _heard(receiver: Receiver, count: int = 1) -> list[Packet]:
    packets: list[Packet] = []

    def enough() -> bool:
        packets.extend(receiver.receive())
        return len(packets) >= count

    wait_for(enough)
    return packets


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("to_peer", [False, True])
def test_an_advert_arrives_as_it_was_sent(cable: tuple[End, End], version: int, to_peer: bool) -> None:
    """From the source asked for, with TTL or hop limit 255, by group and by peer."""
    near, far = cable
    with _receiver(far, version) as receiver, _sender(near, version, to_peer=to_peer) as sender:
        sender.send(ADVERT)
        assert [Packet(SOURCES[version], 255, ADVERT)] == _heard(receiver)


@pytest.mark.parametrize("version", [4, 6])
def test_without_membership_a_group_is_not_heard(cable: tuple[End, End], version: int) -> None:
    """A receiver hears groups that it joined and its own host only."""
    near, far = cable
    with (
        _receiver(far, version, joins=False) as receiver,
        _sender(near, version) as to_group,
        _sender(near, version, to_peer=True) as to_peer,
    ):
        to_group.send(b"group" * 8)
        to_peer.send(ADVERT)
        assert [ADVERT] == [packet.payload for packet in _heard(receiver)]


@pytest.mark.parametrize("version", [4, 6])
def test_we_do_not_hear_ourselves(cable: tuple[End, End], version: int) -> None:
    """What we send does not come back by loopback."""
    near, far = cable
    with (
        _receiver(near, version) as own,
        _receiver(far, version) as other,
        _sender(near, version) as sender,
    ):
        sender.send(ADVERT)
        _heard(other)
        assert [] == list(own.receive())


def test_what_is_on_the_wire(cable: tuple[End, End]) -> None:
    """IPv4: TOS 0x10, DF, TTL 255, protocol 112, 56 bytes; Ethernet to the group's address."""
    near, far = cable
    with far.enter():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    with contextlib.closing(tap), _sender(near, 4) as sender:
        tap.bind((NAME, 0x0800))
        tap.settimeout(5.0)
        sender.send(ADVERT)
        frame = tap.recv(200)
    assert bytes.fromhex("01005e000012") == frame[:6]
    version, tos, length, _, fragment, ttl, protocol = struct.unpack("!BBHHHBB", frame[14:24])
    assert (0x45, 0x10, 56, 0x4000, 255, 112) == (version, tos, length, fragment, ttl, protocol)


def test_the_ttl_is_reported_and_long_packets_are_not(cable: tuple[End, End]) -> None:
    """What crossed a router shows its TTL; what is longer than any advert or VRRP packet is not queued."""
    near, far = cable
    with near.enter():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    with contextlib.closing(raw), _receiver(far, 4) as receiver:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 64)
        raw.sendto(bytes(1000), (str(PEERS[4]), 0))
        raw.sendto(b"x", (str(PEERS[4]), 0))
        assert [Packet(SOURCES[4], 64, b"x")] == _heard(receiver)


def test_ip_options_are_no_payload(cable: tuple[End, End]) -> None:
    """The payload begins behind the options of the IPv4 header."""
    near, far = cable
    with near.enter():
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 112)
    with contextlib.closing(raw), _receiver(far, 4) as receiver:
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x01\x01\x01\x01")
        raw.sendto(ADVERT, (str(PEERS[4]), 0))
        assert [ADVERT] == [packet.payload for packet in _heard(receiver)]


def test_a_link_that_goes_down_is_no_error_for_a_receiver(cable: tuple[End, End]) -> None:
    """ENETDOWN is taken in silence, and adverts are heard again when the link is back."""
    near, far = cable
    with _receiver(far, 4) as receiver, _sender(near, 4) as sender:
        ip("-n", far.namespace, "link", "set", NAME, "down")
        assert [] == list(receiver.receive())
        ip("-n", far.namespace, "link", "set", NAME, "up")

        def arrives() -> bool:
            with contextlib.suppress(OSError):
                sender.send(ADVERT)
            return bool(list(receiver.receive()))

        wait_for(arrives)


def test_a_send_that_cannot_leave_is_an_error(cable: tuple[End, End]) -> None:
    """On an interface that is down the kernel says so."""
    near, _ = cable
    with _sender(near, 4) as sender:
        ip("-n", near.namespace, "link", "set", NAME, "down")
        with pytest.raises(OSError, match="Network is"):
            sender.send(ADVERT)


def test_a_dropping_egress_is_an_error(cable: tuple[End, End]) -> None:
    """With IP_RECVERR an egress filter that drops shows, where send otherwise reports success."""
    near, _ = cable
    rules = "table ip t { chain c { type filter hook output priority 0; ip protocol 112 drop; }; }"
    require("nftables", shutil.which("nft") is not None, "the program nft is not installed")
    subprocess.run(["ip", "netns", "exec", near.namespace, "nft", rules], check=True)
    with _sender(near, 4) as sender, pytest.raises(OSError, match="Operation not permitted"):
        sender.send(ADVERT)


@pytest.mark.parametrize("version", [4, 6])
def test_an_absent_peer_is_no_error(cable: tuple[End, End], version: int) -> None:
    """Nobody answers for the peer: adverts go on, since that says nothing about us."""
    near, far = cable
    ip("-n", far.namespace, "addr", "flush", "dev", NAME)
    ip("-n", near.namespace, "neigh", "flush", "dev", NAME)
    for key, value in (("retrans_time_ms", "50"), ("mcast_solicit", "1")):
        sysctl(near.namespace, f"ipv{version}/neigh/{NAME}/{key}", value)
    with _sender(near, version, to_peer=True) as sender:
        state: list[str] = []

        def failed() -> bool:
            sender.send(ADVERT)
            state.append(ip("-n", near.namespace, "neigh", "show", str(PEERS[version])))
            return "FAILED" in state[-1]

        wait_for(failed, 15.0)
        sender.send(ADVERT)


def test_no_such_interface_is_an_error() -> None:
    """Neither socket is made, and none is left open."""
    with pytest.raises(OSError, match="No such device"):
        Receiver(4, "nosuch0", 99)
    with pytest.raises(OSError, match="No such device"):
        Sender(SOURCES[4], GROUPS[4], "nosuch0", 99)


def test_a_source_that_is_not_ours_is_an_error(cable: tuple[End, End]) -> None:
    """Adverts cannot leave from an address that the host does not have."""
    near, _ = cable
    with near.enter(), pytest.raises(OSError, match="Cannot assign requested address"):
        Sender(ip_address("10.1.1.77"), GROUPS[4], NAME, near.ifindex)
