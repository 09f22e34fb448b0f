"""A vhost's port to its interface."""

from __future__ import annotations

import contextlib
import socket
from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from carp import announce
from carp.core.wire import Advert, unpack
from carp.links import Place
from carp.rawsock import Packet
from carp.segment import LinkPort, Segment
from linkfix import NAME, End, cable
from nsfix import ip, sysctl, wait_for
from pair import address, config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp.core.config import VhostConfig, Vip
    from carp.fence import Fence

__all__ = ["cable"]
MAC = b"\2\0\0\0\0\1"
US, US6 = address("10.1.1.1"), address("fd00::1")
ADVERT = bytes.fromhex("212a000700010ca60123456789abcdef055c5da8911cf2a311659afb98e4e262b116747e")


class _Fence:
    """Notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.problems: list[str] = []

    def hold(self, ifindex: int, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool) -> str | None:
        self.asked.append(("hold", ifindex, vips, lifetime, ceded))
        return self.problems[0] if self.problems else None

    def release(self, ifindex: int, vips: Sequence[Vip]) -> list[str]:
        self.asked.append(("release", ifindex, vips))
        return self.problems


def _port(settings: VhostConfig, fence: _Fence | None = None) -> LinkPort:
    return LinkPort(
        settings,
        cast("Fence", fence or _Fence()),
        script=lambda _: None,
        listen=lambda _: None,
        remember=lambda: None,
    )


@contextlib.contextmanager
def _segment(end: End) -> Iterator[Segment]:
    with end.enter():
        made = Segment(Place(end.ifindex, NAME, MAC, (US, US6)))
        with contextlib.closing(made):
            yield made


@contextlib.contextmanager
def _tap(end: End) -> Iterator[socket.socket]:
    with end.enter():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with contextlib.closing(tap):
        tap.bind((NAME, 3))
        tap.setblocking(False)
        yield tap


def _frames(tap: socket.socket, count: int, wanted: Any) -> list[bytes]:
    """Return the first frames that are wanted."""
    found: list[bytes] = []

    def enough() -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = tap.recv(2000)
                if wanted(frame):
                    found.append(frame)
        return len(found) >= count

    wait_for(enough)
    return found


def _is_carp(frame: bytes) -> bool:
    return (frame[12:14], frame[23:24]) == (b"\x08\0", b"\x70") or (frame[12:14], frame[20:21]) == (
        b"\x86\xdd",
        b"\x70",
    )


def test_without_a_segment_everything_fails_with_a_reason() -> None:
    """A vhost whose interface is away sends nothing and holds nothing."""
    fence = _Fence()
    port = _port(config(), fence)
    assert -1 == port.ifindex
    assert "no interface" == port.send([(US, ADVERT)])
    assert "no interface" == port.hold(config().addresses, 2)
    port.release(config().addresses)
    port.announce(config().addresses)
    port.probe(config().addresses)
    assert [] == fence.asked


def test_addresses_go_to_the_fence(caplog: pytest.LogCaptureFixture) -> None:
    """With the interface's index; what cannot be deleted is logged with the vhost's name."""
    fence = _Fence()
    port = _port(config(), fence)
    port.attach(Segment(Place(7, NAME, MAC, (US,))))
    vips = config().addresses
    assert port.hold(vips, 2) is None
    assert port.hold(vips, 1, ceded=True) is None
    fence.problems = ["address 10.1.1.252/32: Operation not permitted"]
    assert fence.problems[0] == port.hold(vips, None)
    port.release(vips)
    expected = [("hold", 7, vips, 2, False), ("hold", 7, vips, 1, True), ("hold", 7, vips, None, False)]
    assert [*expected, ("release", 7, vips)] == fence.asked
    assert "ingress: cannot delete: address 10.1.1.252/32: Operation not permitted" in caplog.text
    assert 7 == port.ifindex


def test_scripts_and_floors_are_passed_on() -> None:
    """The port starts the script and stores the seal's floor by what it was given."""
    calls: list[object] = []
    port = LinkPort(
        config(),
        cast("Fence", _Fence()),
        script=calls.append,
        listen=lambda _: None,
        remember=lambda: calls.append("remember"),
    )
    port.script(up=True)
    port.remember()
    assert [True, "remember"] == calls


@pytest.mark.root
@pytest.mark.parametrize(
    ("transport", "destinations"),
    [
        ({}, ["01005e000012", "333300000012"]),
        ({"group": "224.0.0.99", "group6": "ff02::99"}, ["01005e000063", "333300000099"]),
        ({"mode": "Unicast", "peers": ["10.1.1.2", "10.1.1.1", "fd00::2"]}, ["far", "far"]),
        ({"mode": "Broadcast"}, ["ffffffffffff", "333300000012"]),
    ],
)
def test_where_adverts_go(cable: tuple[End, End], transport: dict[str, Any], destinations: list[str]) -> None:
    """To the group, to every peer but ourselves, or in an Ethernet broadcast (IPv4, as ucarp --nomcast)."""
    near, far = cable
    port = _port(config(addresses=["10.1.1.252", "fd00::252"], transport=transport))
    far_mac = ip("-n", far.namespace, "-o", "link", "show", NAME).split("link/ether ")[1][:17]
    with _segment(near) as segment, _tap(far) as tap:
        port.attach(segment)
        for _ in range(2):
            assert port.send([(US, ADVERT), (US6, ADVERT)]) is None
        frames = _frames(tap, 4, _is_carp)
    expected = {far_mac.replace(":", "") if d == "far" else d for d in destinations}
    assert expected == {frame[:6].hex() for frame in frames}
    assert 4 == len(frames)
    for frame in frames:
        payload = frame[34:70] if frame[12:14] == b"\x08\0" else frame[54:90]
        assert isinstance(unpack(payload), Advert)


@pytest.mark.root
def test_a_broadcast_is_a_correct_ip_packet(cable: tuple[End, End]) -> None:
    """Own MAC, group address, TTL 255, a checksum that the receiving kernel accepts."""
    near, far = cable
    port = _port(config(transport={"mode": "Broadcast"}))
    packets: list[Packet] = []

    def arrived() -> bool:
        packets.extend(receiver.receive())
        return bool(packets)

    with _segment(far) as other:
        (receiver,) = other.join(config())
        with _segment(near) as segment:
            port.attach(segment)
            assert port.send([(US, ADVERT)]) is None
            wait_for(arrived)
    assert [Packet(US, 255, ADVERT)] == packets


def _member(settings: VhostConfig) -> Any:
    return SimpleNamespace(vhost=SimpleNamespace(config=settings, sources=(US,)))


def _unicast(*peers: str) -> VhostConfig:
    return config(transport={"mode": "Unicast", "peers": list(peers)})


@pytest.mark.root
def test_sockets_to_old_peers_are_closed(cable: tuple[End, End]) -> None:
    """Peers come and go for months; who is nobody's peer any more costs nothing."""
    with _segment(cable[0]) as segment:
        for number in range(2, 50):
            settings = _unicast(f"10.1.1.{number}", "10.1.1.200")
            segment.members[42] = _member(settings)
            port = _port(settings)
            port.attach(segment)
            port.send([(US, ADVERT)])
            segment.tidy()
        assert {(US, address("10.1.1.49")), (US, address("10.1.1.200"))} == set(segment._senders)
        segment.members.clear()
        segment.tidy()
        assert {} == segment._senders


@pytest.mark.root
def test_a_group_after_many_others_is_heard(cable: tuple[End, End]) -> None:
    """The kernel allows a socket 20 groups: old ones are left, but for the few last."""
    near, far = cable
    packets: list[Packet] = []
    groups = [f"224.0.1.{number}" for number in range(1, 41)]
    with _segment(near) as segment:
        for group in groups:
            settings = config(transport={"mode": "Multicast", "group": group})
            segment.members[42] = _member(settings)
            segment.join(settings)
            segment.tidy()
        with _segment(far) as other:
            for group in (groups[-1], groups[-2], groups[0]):
                port = _port(config(transport={"mode": "Multicast", "group": group}))
                port.attach(other)
                assert port.send([(address("10.1.1.2"), ADVERT)]) is None
        wait_for(lambda: packets.extend(segment.receivers[4].receive()) or len(packets) >= 2)
    assert 2 == len(packets)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["Unicast", "Multicast"])
def test_old_groups_make_room_for_new_ones(cable: tuple[End, End], mode: str) -> None:
    """Several changes before the old groups are left; what a vhost needs now comes first."""
    near, _ = cable
    sysctl(near.namespace, "ipv4/igmp_max_memberships", "3")
    with _segment(near) as segment:
        for number in range(1, 6):
            peers = {"peers": ["10.1.1.2"]} if mode == "Unicast" else {}
            settings = config(transport={"mode": mode, "group": f"224.0.1.{number}", **peers})
            segment.members[42] = _member(settings)
            segment.join(settings)
            assert address(f"224.0.1.{number}") in segment.receivers[4]._groups


@pytest.mark.root
def test_a_receiver_that_cannot_join_is_not_kept(
    cable: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would read it; the next try opens it anew."""

    def refuse(_self: object, _groups: object) -> None:
        raise OSError(105, "No buffer space available")

    with _segment(cable[0]) as segment:
        with monkeypatch.context() as patch:
            patch.setattr("carp.rawsock.Receiver.join", refuse)
            with pytest.raises(OSError, match="buffer"):
                segment.join(config())
        assert {} == segment.receivers
        assert 1 == len(segment.join(config()))


@pytest.mark.root
@pytest.mark.parametrize("group", ["224.0.0.18", "224.0.0.99"])
def test_a_unicast_member_hears_those_that_have_changed_already(cable: tuple[End, End], group: str) -> None:
    """Members change one after another; one that is deaf to those that send to the group would claim."""
    near, far = cable
    packets: list[Packet] = []
    own = {"mode": "Unicast", "peers": ["10.1.1.2"], "listen": ["224.0.0.77"], "group": group}
    with _segment(near) as segment:
        (receiver,) = segment.join(config(transport=own))
        with _segment(far) as other:
            for each in (group, "224.0.0.77"):
                port = _port(config(transport={"group": each}))
                port.attach(other)
                assert port.send([(address("10.1.1.2"), ADVERT)]) is None
        wait_for(lambda: packets.extend(receiver.receive()) or len(packets) == 2)


@pytest.mark.root
@pytest.mark.parametrize("mode", ["Unicast", "Multicast"])
def test_unicast_does_without_its_group(cable: tuple[End, End], mode: str) -> None:
    """A host that allows no memberships still runs it, as what is sent to it alone arrives."""
    near, _ = cable
    sysctl(near.namespace, "ipv4/igmp_max_memberships", "0")
    peers = {"peers": ["10.1.1.2"]} if mode == "Unicast" else {}
    settings = config(transport={"mode": mode, **peers})
    with _segment(near) as segment:
        if mode == "Unicast":
            assert [4] == [receiver.version for receiver in segment.join(settings)]
        else:
            with pytest.raises(OSError, match="buffer"):
                segment.join(settings)


@pytest.mark.root
def test_new_settings_change_where_adverts_go(cable: tuple[End, End]) -> None:
    """A port forgets its routes when its settings change."""
    near, far = cable
    port = _port(config())
    with _segment(near) as segment, _tap(far) as tap:
        port.attach(segment)
        port.send([(US, ADVERT)])
        port.reconfigure(config(transport={"group": "224.0.0.99"}))
        port.send([(US, ADVERT)])
        assert ["01005e000012", "01005e000063"] == [f[:6].hex() for f in _frames(tap, 2, _is_carp)]


@pytest.mark.root
def test_a_failed_send_names_the_interface(cable: tuple[End, End]) -> None:
    """One line for the log."""
    near, _ = cable
    port = _port(config())
    with _segment(near) as segment:
        port.attach(segment)
        ip("-n", near.namespace, "link", "set", NAME, "down")
        assert str(port.send([(US, ADVERT)])).startswith("cannot send on c0: Network is")


@pytest.mark.root
def test_a_receiver_per_family_and_a_membership_per_group(cable: tuple[End, End]) -> None:
    """The second vhost on an interface shares the sockets."""
    near, _ = cable
    both = config(addresses=["10.1.1.252", "fd00::252"])
    with _segment(near) as segment:
        assert [4] == [receiver.version for receiver in segment.join(config())]
        assert "ff02::12" not in ip("-n", near.namespace, "maddr", "show", "dev", NAME)
        assert [6] == [receiver.version for receiver in segment.join(both)]
        assert [] == segment.join(both)
        shown = ip("-n", near.namespace, "maddr", "show", "dev", NAME)
        assert "224.0.0.18" in shown
        assert "ff02::12" in shown


@pytest.mark.root
def test_announcements_and_probes(cable: tuple[End, End]) -> None:
    """Gratuitous ARP as request and reply, one unsolicited NA; probes ask and make sure to hear answers."""
    near, far = cable
    asked: list[Segment] = []
    settings = config(addresses=["10.1.1.252", "fd00::252"])
    port = LinkPort(
        settings,
        cast("Fence", _Fence()),
        script=lambda _: None,
        listen=asked.append,
        remember=lambda: None,
    )
    vip, vip6 = IPv4Address("10.1.1.252"), IPv6Address("fd00::252")
    with _segment(near) as segment, _tap(far) as tap:
        port.attach(segment)
        port.announce(settings.addresses)
        port.probe(settings.addresses)
        frames = _frames(tap, 5, lambda f: f[6:12] == MAC)
        assert [segment] == asked
    expected = [
        announce.gratuitous_arp(MAC, vip),
        announce.gratuitous_arp(MAC, vip, reply=True),
        announce.unsolicited_na(MAC, vip6, router=False),
        announce.arp_probe(MAC, vip),
        announce.nd_probe(MAC, vip6),
    ]
    assert expected == [frame[: len(e)] for frame, e in zip(frames, expected, strict=True)]


@pytest.mark.root
def test_an_announcement_that_cannot_leave_is_logged(
    cable: tuple[End, End], caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning with the vhost's name, never an exception."""
    near, _ = cable
    port = _port(config())
    with _segment(near) as segment:
        port.attach(segment)
        ip("-n", near.namespace, "link", "set", NAME, "down")
        port.announce(config().addresses)
    assert "ingress: cannot announce on c0: " in caplog.text
    assert "Network is down" in caplog.text


@pytest.mark.root
def test_a_router_says_so(cable: tuple[End, End]) -> None:
    """The router flag of each announcement is what the interface's forwarding says by then."""
    near, far = cable
    port = _port(config(addresses=["fd00::252"]))
    with _segment(near) as segment, _tap(far) as tap:
        port.attach(segment)
        for value in ("0", "1", "0"):
            sysctl(near.namespace, f"ipv6/conf/{NAME}/forwarding", value)
            port.announce(port.config.addresses)
            (frame,) = _frames(tap, 1, lambda f: f[6:12] == MAC)
            assert announce.unsolicited_na(MAC, IPv6Address("fd00::252"), router=value == "1") == frame
