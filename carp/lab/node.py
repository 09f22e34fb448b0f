"""One machine of the lab: a namespace with a cable `eth0`, its addresses and its processes."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import carp
from carp.lab.netns import Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

INTERFACE = "eth0"

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Process = subprocess.Popen[Any]

_IFA_F_NODAD = 0x02
_RT_TABLE_LOCAL = 255
_T = TypeVar("_T")


class Node:
    """A machine on the LAN; made by `Lan.add_node`. Its interface is always `eth0`."""

    def __init__(self, name: str, mac: str, addresses: Sequence[Interface], namespace: str) -> None:
        self.name = name
        self.mac = mac
        self.addresses = list(addresses)
        self._namespace_name = namespace
        self._processes: list[Process] = []
        self.namespace = self._boot()

    def __repr__(self) -> str:
        return f"Node({self.name!r}, {self.mac}, {[str(a) for a in self.addresses]})"

    @property
    def address(self) -> str:
        """The first address, without its prefix length."""
        return str(self.addresses[0].ip)

    def popen(self, argv: Sequence[str], **options: Any) -> Process:
        """Start a program inside the node; the result's pid is the program's own.

        It gets a session of its own, so that a Ctrl-C on the terminal reaches the lab only. `options` are
        those of subprocess.Popen.
        """
        options.setdefault("start_new_session", True)
        # A child starts in the namespace of the thread that forks it, so no helper program is needed.
        process: Process = self.namespace.call(lambda: subprocess.Popen(argv, **options))
        self._processes.append(process)
        return process

    def popen_module(self, module: str, argv: Sequence[str], **options: Any) -> Process:
        """Start `python -m MODULE` with this interpreter and this copy of the package inside the node."""
        return self.popen([sys.executable, "-m", module, *argv], env=module_environment(), **options)

    def run_in(self, function: Callable[[], _T]) -> _T:
        """Run a short function inside the node (on its thread) and return its result."""
        return self.namespace.call(function)

    def held(self) -> set[str]:
        """Return the addresses that the kernel holds on `eth0` now, without prefix lengths."""
        index = self.namespace.netlink(lambda ipr: ipr.link_lookup(ifname=INTERFACE))
        if not index:
            return set()
        found = self.namespace.netlink(lambda ipr: list(ipr.get_addr(index=index[0])))
        return {str(message.get("local") or message.get("address")) for message in found}

    def configure(self) -> None:
        """Bring `eth0` up with the node's own addresses; called when the cable has been put in."""

        def work(ipr: Any) -> None:
            index = ipr.link_lookup(ifname=INTERFACE)[0]
            ipr.link("set", index=index, state="up")
            for each in self.addresses:
                flags = {"flags": _IFA_F_NODAD} if each.version == 6 else {}
                ipr.addr("add", index=index, address=str(each.ip), prefixlen=each.network.prefixlen, **flags)

        self.namespace.netlink(work)

    def wait_up(self) -> None:
        """Wait until `eth0` passes frames and the node takes those to its IPv6 addresses for its own.

        The kernel makes the routes to them in its own time, even where it does not look for duplicates.
        """
        self.namespace.wait_up(INTERFACE)
        own = {str(each.ip) for each in self.addresses if each.version == 6}

        def routed(ipr: Any) -> bool:
            routes = ipr.get_routes(family=socket.AF_INET6, table=_RT_TABLE_LOCAL)
            return own <= {str(message.get("dst")) for message in routes}

        self.namespace.wait(routed, "routes to its own addresses")

    def kill_all(self) -> None:
        """SIGKILL every process of the node, also those that other programs started, and reap ours."""
        for pid in self.namespace.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError, ValueError):
                        stream.close()
        self._processes.clear()

    def power_off(self) -> None:
        """Kill everything and forget the namespace with all that was set in it."""
        self.kill_all()
        self.namespace.close()

    def power_on(self) -> None:
        """Start again as a machine does: a new kernel state without the old addresses and caches."""
        self.namespace = self._boot()

    def _boot(self) -> Namespace:
        namespace = Namespace(self._namespace_name)
        # It begins with the host's, and a router would pass on what it should not get any more.
        namespace.sysctl("ipv4/ip_forward", "0")
        if Path("/proc/sys/net/ipv6").exists():
            for scope in ("all", "default"):
                namespace.sysctl(f"ipv6/conf/{scope}/disable_ipv6", "0")
                namespace.sysctl(f"ipv6/conf/{scope}/accept_ra", "0")
                namespace.sysctl(f"ipv6/conf/{scope}/accept_dad", "0")
        namespace.netlink(lambda ipr: ipr.link("set", index=1, state="up"))
        return namespace


def module_environment() -> Mapping[str, str]:
    """Environment in which a child interpreter finds the same copy of this package."""
    root = str(Path(carp.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root}


def kill(process: Process) -> None:
    """SIGKILL a program of the lab and wait until it is gone."""
    process.kill()
    process.wait()


def stop(process: Process) -> None:
    """SIGSTOP a program of the lab and wait until it stands still."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def cont(process: Process) -> None:
    """SIGCONT a stopped program of the lab."""
    process.send_signal(signal.SIGCONT)


def term(process: Process, timeout: float = 10.0) -> int:
    """SIGTERM a program of the lab, wait until it is gone and return its exit code.

    Raises:
        subprocess.TimeoutExpired: it is still there after `timeout` seconds.
    """
    process.terminate()
    return process.wait(timeout)
