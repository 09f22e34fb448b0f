"""The LAN: nodes and a client on a switch, and the faults.

Every fault has its reverse: `cut`/`mend`, `unplug`/`plug`, `partition`/`heal`, `loss` and `delay`/`clear`,
`power_off`/`power_on`. All work is netlink; no program is run for it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from carp.lab.errors import LabError
from carp.lab.link import Quality
from carp.lab.node import Interface, Node
from carp.lab.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType, TracebackType

_CLIENT = "client"
_CLIENT_HOST = 200
_NAME_MAX = 13  # a port is named "p-NAME" and an interface name has at most 15 characters
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Lan:
    """A switched network that exists as long as the `with` block.

    Nodes get 10.99.0.1, .2, … and fd99::1, … in this order, the client number 200; addresses given without a
    prefix length get the subnet's. On exit, also by an exception, SIGINT, SIGTERM or SIGHUP, every process
    in it is killed and every namespace removed.

    Args:
        prefix: namespace names begin with it; a random part is added.
        subnet: the LAN's IPv4 network; a /16 gives addresses that differ in the third octet.
        subnet6: its IPv6 network, or None.
        snooping: let the switch watch IGMP and MLD instead of flooding multicast.
        seed: of everything random in the faults.
    """

    def __init__(
        self,
        prefix: str = "carp-t-",
        *,
        subnet: str = "10.99.0.0/24",
        subnet6: str | None = "fd99::/64",
        snooping: bool = False,
        seed: int = 0,
    ) -> None:
        self._prefix = f"{prefix}{secrets.token_hex(2)}"
        self._ipv6 = Path("/proc/sys/net/ipv6").exists()
        self._subnets = [
            ipaddress.ip_network(text) for text in (subnet, subnet6 if self._ipv6 else None) if text
        ]
        self._snooping = snooping
        self._seed = seed
        self._switch: Switch | None = None
        self._quality: dict[str, Quality] = {}
        self._handlers: dict[signal.Signals, Any] = {}
        self.nodes: dict[str, Node] = {}

    def __enter__(self) -> Self:
        self._handlers = _turn_signals_into_exits()
        try:
            self._switch = Switch(f"{self._prefix}-switch", snooping=self._snooping, ipv6=self._ipv6)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process and remove every namespace; signals that arrive meanwhile are ignored."""
        with _signals_ignored():
            for node in self.nodes.values():
                node.kill_all()
            if self._switch is not None:
                self._switch.close()
            for node in self.nodes.values():
                node.power_off()
        self.nodes.clear()
        self._switch = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    @property
    def client(self) -> Node:
        """The node that `add_client` made."""
        return self.nodes[_CLIENT]

    @property
    def switch(self) -> Switch:
        """The switch; raises LabError outside of the `with` block."""
        if self._switch is None:
            msg = "the LAN is not open"
            raise LabError(msg)
        return self._switch

    def add_node(self, name: str, addresses: Sequence[str] = ()) -> Node:
        """Put a machine on the LAN; `addresses` replace the automatic ones.

        Raises:
            LabError: the name is taken or has more than 13 characters.
        """
        return self._add(name, addresses, len(self.nodes.keys() - {_CLIENT}) + 1)

    def add_client(self, addresses: Sequence[str] = ()) -> Node:
        """Put the client on the LAN (host number 200 unless told otherwise)."""
        return self._add(_CLIENT, addresses, _CLIENT_HOST)

    def cut(self, node: Node) -> None:
        """Lose all frames of the node behind the switch: its own carrier stays up."""
        self.switch.set_forwarding(node.name, on=False)

    def mend(self, node: Node) -> None:
        """Undo `cut`."""
        self.switch.set_forwarding(node.name, on=True)

    def unplug(self, node: Node) -> None:
        """Pull the node's cable: it sees its carrier go."""
        self.switch.set_carrier(node.name, up=False)

    def plug(self, node: Node) -> None:
        """Undo `unplug`."""
        self.switch.set_carrier(node.name, up=True)

    def partition(self, *groups: Iterable[str]) -> None:
        """Split the LAN: nodes of different groups cannot hear each other; others stay with the first."""
        for number, group in enumerate(groups):
            self.switch.add_segment(number)
            for name in group:
                self.switch.move(name, number)

    def heal(self) -> None:
        """Undo `partition`."""
        for name in self.nodes:
            self.switch.move(name, 0)

    def loss(self, node: Node, percent: float) -> None:
        """Lose this share (0-100) of the node's frames in each direction, at random."""
        self.impair(node, replace(self._quality.get(node.name, Quality()), loss=percent))

    def delay(self, node: Node, milliseconds: float, jitter: float = 0.0) -> None:
        """Delay the node's frames in each direction; `jitter` (ms) makes them overtake each other."""
        quality = self._quality.get(node.name, Quality())
        self.impair(node, replace(quality, delay_ms=milliseconds, jitter_ms=jitter))

    def impair(self, node: Node, quality: Quality) -> None:
        """Give the node's cable all these faults at once, instead of those it had."""
        self._quality[node.name] = quality
        self.switch.spoil_cable(node.name, quality, self._seed)

    def clear(self, node: Node) -> None:
        """Undo `loss`, `delay` and `impair`."""
        self._quality.pop(node.name, None)
        self.switch.replace_cable(node.name)

    def power_off(self, node: Node) -> None:
        """Take the node's power: carrier, processes, addresses and caches are gone at once."""
        self._quality.pop(node.name, None)
        self.switch.unwire(node.name)
        node.power_off()

    def power_on(self, node: Node) -> None:
        """Start a powered-off node with its own addresses and nothing else."""
        node.power_on()
        self.switch.wire(node)

    def reboot(self, node: Node) -> None:
        """Power off, power on."""
        self.power_off(node)
        self.power_on(node)

    def _add(self, name: str, addresses: Sequence[str], host: int) -> Node:
        if name in self.nodes or len(name) > _NAME_MAX:
            msg = f"node name {name!r} is taken or longer than {_NAME_MAX} characters"
            raise LabError(msg)
        parsed = [self._interface(text) for text in addresses]
        automatic = [ipaddress.ip_interface(f"{net[host]}/{net.prefixlen}") for net in self._subnets]
        mac = f"02:ca:72:00:{host >> 8:02x}:{host & 255:02x}"
        switch = self.switch
        self.nodes[name] = node = Node(name, mac, parsed or automatic, f"{self._prefix}-{name}")
        switch.wire(node)
        return node

    def _interface(self, text: str) -> Interface:
        if "/" in text:
            return ipaddress.ip_interface(text)
        address = ipaddress.ip_address(text)
        lengths = [net.prefixlen for net in self._subnets if net.version == address.version]
        return ipaddress.ip_interface(f"{text}/{(lengths or [address.max_prefixlen])[0]}")


def _exit_by_signal(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _turn_signals_into_exits() -> dict[signal.Signals, Any]:
    """Make SIGTERM and SIGHUP unwind the stack as SIGINT does; return what stood there before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    changed = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            changed[number] = signal.signal(number, _exit_by_signal)
    return changed


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Let a second Ctrl-C not interrupt the clean-up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
