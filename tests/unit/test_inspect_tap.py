"""What the packet socket of `carp watch` hears, in a namespace of its own."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest
from scapy.layers.inet6 import IPv6ExtHdrHopByHop
from scapy.layers.l2 import Dot1Q

from carp import bpf
from carp.core.errors import CarpError, ConfigError
from carp.inspect.tap import Tap, filter_program
from crafted import UCARP_FRAME, UCARP_HEADER, VRRP3, frame, v4, v6
from nsfix import inside, ip, namespace, wait_up

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.inspect.frames import Packet

MARKER = frame(v4(VRRP3))
"""Sent last: what was heard before it is all that passed the filter."""


class Wire:
    """A veth pair whose near end has a tap."""

    def __init__(self, space: str) -> None:
        self.space = space
        ip("-n", space, "link", "add", "near", "type", "veth", "peer", "name", "far")
        for name in ("near", "far"):
            ip("-n", space, "link", "set", name, "addrgenmode", "none", "up")
        wait_up(space, "near", "far")
        with inside(space):
            self.tap = Tap("near")

    def send(self, data: bytes, side: str = "far") -> None:
        """Send one frame."""
        with inside(self.space), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
            out.bind((side, 0))
            out.send(data)

    def receive(self, timeout: float) -> Packet | None:
        """Receive as a process of this namespace does."""
        with inside(self.space):
            return self.tap.receive(timeout)

    def heard(self, side: str = "far") -> list[tuple[bytes, str]]:
        """Return payload and MAC of all that came before a marker."""
        self.send(MARKER, side)
        packets: list[tuple[bytes, str]] = []
        while (packet := self.receive(5.0)) is not None:
            if packet.payload == VRRP3:
                return packets
            packets.append((packet.payload, packet.mac.hex(":")))
        pytest.fail("the marker was not heard")


@pytest.fixture
def wire() -> Iterator[Wire]:
    """Make a namespace with a wire."""
    with namespace() as space:
        made = Wire(space)
        with made.tap:
            yield made


@pytest.mark.root
@pytest.mark.parametrize("side", ["far", "near"])
def test_adverts_of_others_and_of_this_host_are_heard_once(wire: Wire, side: str) -> None:
    """Both families, IPv6 with an extension header, and a frame as ucarp injects it."""
    for data in (
        UCARP_FRAME,
        frame(v6(UCARP_HEADER)),
        frame(v6(UCARP_HEADER, IPv6ExtHdrHopByHop(nh=112), nh=0)),
        frame(v4(UCARP_HEADER), Dot1Q(vlan=0)),
    ):
        wire.send(data, side)
        mac = "00:00:5e:00:00:2a" if data == UCARP_FRAME else "00:00:5e:00:01:2a"
        expected = [] if side == "near" and data[12:14] == b"\x81\x00" else [(UCARP_HEADER, mac)]
        assert expected == wire.heard(side)


@pytest.mark.root
def test_other_traffic_is_not_heard(wire: Wire) -> None:
    """Other protocols, ARP, and what belongs to a VLAN on top of the interface."""
    wire.send(frame(v4(b"x" * 40, proto=17)))
    wire.send(frame(v6(b"x" * 40, nh=17)))
    wire.send(UCARP_FRAME[:12] + b"\x08\x06" + bytes(28))
    wire.send(frame(v4(UCARP_HEADER), Dot1Q(vlan=7)))
    assert [] == wire.heard()


@pytest.mark.root
def test_what_passes_the_filter_and_is_something_else(wire: Wire) -> None:
    """An extension header hides the protocol from the filter, not from the dissection."""
    wire.send(frame(v6(b"x" * 40, IPv6ExtHdrHopByHop(nh=17), nh=0)))
    assert wire.receive(5.0) is None
    assert [] == wire.heard()


@pytest.mark.root
def test_nothing_within_the_time(wire: Wire) -> None:
    """None, also for a time that has already passed."""
    assert wire.receive(0.01) is None
    assert wire.receive(-1.0) is None


@pytest.mark.root
def test_an_interface_that_is_down_is_waited_for(wire: Wire) -> None:
    """It may come back, also by another name, and then it is heard again."""
    ip("-n", wire.space, "link", "set", "near", "down")
    assert wire.receive(1.0) is None
    assert wire.receive(0.01) is None
    ip("-n", wire.space, "link", "set", "near", "name", "other", "up")
    wire.send(UCARP_FRAME)
    assert [(UCARP_HEADER, "00:00:5e:00:00:2a")] == wire.heard()


@pytest.mark.root
@pytest.mark.parametrize("down_before", [False, True])
@pytest.mark.parametrize("made_again", [False, True])
def test_an_interface_that_has_gone_is_an_error(wire: Wire, down_before: bool, made_again: bool) -> None:
    """Also when it was down before, and when another one has taken its name."""
    if down_before:
        ip("-n", wire.space, "link", "set", "near", "down")
        assert wire.receive(1.0) is None
    ip("-n", wire.space, "link", "del", "near")
    if made_again:
        ip("-n", wire.space, "link", "add", "near", "type", "veth", "peer", "name", "far")
    with pytest.raises(CarpError, match="--interface: 'near' has gone"):
        wire.receive(0.01)


@pytest.mark.parametrize("name", ["nosuch0", "", "x" * 40, "a\0b"])
def test_an_interface_that_does_not_exist_is_named(name: str) -> None:
    """Before any privilege is asked for."""
    with pytest.raises(ConfigError) as caught:
        Tap(name)
    assert f"--interface: {name!r} does not exist" == str(caught.value)


def _refuse(number: int) -> type:
    class Refusing:
        def __init__(self, *arguments: object) -> None:
            raise OSError(number, "refused")

    return Refusing


def test_without_the_capability_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a bare "Operation not permitted"."""
    monkeypatch.setattr(socket, "socket", _refuse(errno.EPERM))
    with pytest.raises(
        ConfigError, match="--interface: 'lo' cannot be watched without the capability CAP_NET_RAW"
    ):
        Tap("lo")


@pytest.mark.root
def test_an_interface_that_cannot_be_watched_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernel's own words."""
    monkeypatch.setattr("carp.inspect.tap._ADD_MEMBERSHIP", 9999)
    with pytest.raises(ConfigError, match="--interface: 'lo' cannot be watched: Protocol not available"):
        Tap("lo")


def test_the_filter_jumps_forward_to_one_of_two_ends() -> None:
    """The last two instructions drop and accept; no jump goes past them."""
    lines = filter_program()
    assert [bpf.DROP, bpf.ACCEPT] == lines[-2:]
    for position, (code, true, false, _) in enumerate(lines):
        if code == bpf.IF_EQUAL:
            assert position + 1 + max(true, false) < len(lines)
