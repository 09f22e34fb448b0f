"""Network namespaces for tests that need the real kernel and nothing of the lab."""

from __future__ import annotations

import ctypes
import os
import re
import secrets
import select
import shutil
import subprocess
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from require import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """Run iproute2 and return what it prints."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def namespace() -> Iterator[str]:
    """Make a namespace with its loopback up and remove it afterwards."""
    name = f"carp-t-{secrets.token_hex(4)}"
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        ip("netns", "del", name)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Have this thread make its sockets in a namespace; they stay there afterwards."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    target = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _setns(target)
        yield
    finally:
        _setns(home)
        os.close(target)
        os.close(home)


def sysctl(name: str, key: str, value: str) -> None:
    """Set a kernel parameter such as "ipv6/conf/all/accept_dad" in a namespace."""
    with inside(name):
        Path("/proc/sys/net", key).write_text(value, encoding="ascii")


def require_namespaces() -> None:
    """Skip, or fail under REQUIRE_ALL=1, where namespaces cannot be made."""
    require("root", os.geteuid() == 0, "network namespaces and raw sockets need root")
    require("iproute2", shutil.which("ip") is not None, "the program ip is not installed")


def wait_for(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until the condition holds; fail the test when it does not within this time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {seconds} s")
        select.select([], [], [], 0.002)


def wait_up(name: str, *interfaces: str) -> None:
    """Wait until interfaces that were set up pass frames, and take those to their IPv6 addresses.

    For both a work queue of the kernel has to see to it; until then they vanish.
    """

    def ready(interface: str) -> bool:
        shown = ip("-n", name, "address", "show", interface)
        local = ip("-n", name, "-6", "route", "show", "table", "local", "dev", interface)
        own = re.findall(r"inet6 ([^/ ]+)", shown)
        return "state UP" in shown and all(f"local {address} " in local for address in own)

    for interface in interfaces:
        wait_for(partial(ready, interface))


def _setns(descriptor: int) -> None:
    if _LIBC.setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
