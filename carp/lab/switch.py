"""The switch of the LAN: a namespace with bridges, one port per node, and bad cables on request."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from carp.lab.errors import LabError
from carp.lab.netns import Namespace
from carp.lab.node import INTERFACE, Node, module_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.lab.link import Quality

_T = TypeVar("_T")


class Switch:
    """Bridges `br0`, `br1`, …: one segment each; a node's port is `p-NAME` and stands in one of them."""

    def __init__(self, name: str, *, snooping: bool, ipv6: bool) -> None:
        self._snooping = snooping
        self._cables: dict[str, subprocess.Popen[bytes]] = {}
        self._segments: dict[str, int] = {}
        self._dead: set[str] = set()
        self._namespace = Namespace(name)
        if ipv6:
            for scope in ("all", "default"):
                self._namespace.sysctl(f"ipv6/conf/{scope}/disable_ipv6", "1")
        self.add_segment(0)

    def add_segment(self, number: int) -> None:
        """Make sure that segment `number` exists."""
        name = f"br{number}"
        if self._lookup(name):
            return
        options = {"br_mcast_snooping": int(self._snooping), "br_stp_state": 0, "br_forward_delay": 0}
        self._netlink(lambda ipr: ipr.link("add", ifname=name, kind="bridge", **options))
        self._set(name, state="up")

    def wire(self, node: Node) -> None:
        """Lay the cable, `eth0` in the node, `p-NAME` in segment 0, and wait until frames pass."""
        peer = {"ifname": INTERFACE, "address": node.mac, "net_ns_fd": node.namespace.fd}
        self._netlink(lambda ipr: ipr.link("add", ifname=_port(node.name), kind="veth", peer=peer))
        node.configure()
        self._set(_port(node.name), state="up")
        self._segments.setdefault(node.name, 0)
        self._attach(node.name)
        self._namespace.wait_up(_port(node.name))
        node.wait_up()

    def unwire(self, name: str) -> None:
        """Take the cable away at both ends, and a bad cable with it."""
        self.replace_cable(name)
        self._delete(_port(name))

    def set_carrier(self, name: str, *, up: bool) -> None:
        """Pull or put back the plug at the switch: the node sees its carrier change."""
        self._set(_port(name), state="up" if up else "down")

    def set_forwarding(self, name: str, *, on: bool) -> None:
        """Forward the port's frames or drop them all; the node's carrier stays up."""
        if on:
            self._dead.discard(name)
        else:
            self._dead.add(name)
        self._attach(name)

    def move(self, name: str, number: int) -> None:
        """Put the port into another segment."""
        self._segments[name] = number
        self._attach(name)

    def spoil_cable(self, name: str, quality: Quality, seed: int) -> None:
        """Make the cable this bad, by a user-space link between the node's port and the bridge."""
        if name not in self._cables:
            self._insert(name, seed)
        stdin = self._cables[name].stdin
        if stdin is not None:
            stdin.write(json.dumps(asdict(quality)).encode() + b"\n")
            stdin.flush()

    def replace_cable(self, name: str) -> None:
        """Undo `spoil_cable`."""
        cable = self._cables.pop(name, None)
        if cable is not None:
            cable.communicate()
            self._delete(f"x-{name}")
            self._attach(name)

    def close(self) -> None:
        """Kill what runs in the switch and remove every port (synchronously) and the namespace."""
        for pid in self._namespace.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for cable in self._cables.values():
            cable.communicate()
        self._cables.clear()
        names = self._netlink(lambda ipr: [str(message.get("ifname")) for message in ipr.get_links()])
        for name in names:
            if name.startswith(("p-", "x-", "br")):
                self._delete(name)
        self._namespace.close()

    def _insert(self, name: str, seed: int) -> None:
        """Port - process - inner veth end; its outer end takes the port's place in the segment."""
        inner, outer = f"x-{name}", f"y-{name}"
        self._netlink(lambda ipr: ipr.link("add", ifname=inner, kind="veth", peer={"ifname": outer}))
        self._set(inner, state="up")
        self._set(_port(name), master=0)
        self._set(outer, state="up")
        argv = [sys.executable, "-m", "carp.lab.link", _port(name), inner, str(seed)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = module_environment()
        cable = self._namespace.call(
            lambda: subprocess.Popen(argv, env=environment, start_new_session=True, **pipes)
        )
        self._cables[name] = cable
        if cable.stdout is None or cable.stdout.readline() != b"ready\n":
            msg = f"the user-space link of {name} did not start"
            raise LabError(msg)
        self._attach(name)

    def _attach(self, name: str) -> None:
        """Let the node's port (or the far end of its bad cable) stand where it belongs.

        A dead port belongs to no bridge: its frames end in this namespace, which has no address.
        """
        port = f"y-{name}" if name in self._cables else _port(name)
        self._set(port, master=0 if name in self._dead else self._index(f"br{self._segments[name]}"))

    def _set(self, port: str, **settings: Any) -> None:
        index = self._index(port)
        self._netlink(lambda ipr: ipr.link("set", index=index, **settings))

    def _delete(self, name: str) -> None:
        if self._lookup(name):
            self._netlink(lambda ipr: ipr.link("del", ifname=name))

    def _index(self, name: str) -> int:
        found = self._lookup(name)
        if not found:
            msg = f"the switch has no port {name}"
            raise LabError(msg)
        return found[0]

    def _lookup(self, name: str) -> list[int]:
        return [int(index) for index in self._netlink(lambda ipr: ipr.link_lookup(ifname=name))]

    def _netlink(self, function: Callable[[Any], _T]) -> _T:
        return self._namespace.netlink(function)


def _port(name: str) -> str:
    return f"p-{name}"
