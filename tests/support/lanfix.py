"""The LAN of namespaces as a fixture, and a ping for it: `from lanfix import lan, ping`."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carp.lab import frames
from carp.lab.network import Lan
from carp.lab.privilege import missing_capabilities
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp.lab.node import Node


def need_lan() -> None:
    """Skip (or fail, under REQUIRE_ALL) where this process may not make namespaces."""
    missing = missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    require("network namespaces", not missing, f"missing {', '.join(missing)}")


@pytest.fixture
def lan() -> Iterator[Lan]:
    """Yield a LAN with the nodes n1, n2, n3 and a client."""
    need_lan()
    with Lan(prefix="carp-t-") as made:
        for name in ("n1", "n2", "n3"):
            made.add_node(name)
        made.add_client()
        yield made


def ping(node: Node, address: str, *, count: int = 1, timeout: float = 0.3) -> list[float]:
    """Ask `address` from `node` one request at a time; return the times of the answers in ms."""
    return node.run_in(lambda: _ping(address, count, timeout))


def settled(node: Node, address: str, *, within: float = 5.0) -> bool:
    """Wait until `address` answers `node`; False if it does not within this many seconds."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        if ping(node, address):
            return True
    return False


def _ping(address: str, count: int, timeout: float) -> list[float]:
    version = 6 if ":" in address else 4
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if version == 6 else socket.IPPROTO_ICMP
    times = []
    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        for index in range(count):
            start = time.monotonic()
            try:
                sock.sendto(frames.echo_request(version, os.getpid() & 0xFFFF, index), (address, 0))
                if _answered(sock, version, index, start + timeout):
                    times.append((time.monotonic() - start) * 1000)
            except OSError:  # no neighbour: no answer
                continue
    return times


def _answered(sock: socket.socket, version: int, index: int, end: float) -> bool:
    while (left := end - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            message = sock.recv(256)
        except TimeoutError:
            return False
        body = message[(message[0] & 15) * 4 :] if version == 4 else message
        if frames.echo_reply_index(body, os.getpid() & 0xFFFF) == index:
            return True
    return False
