"""One network namespace: a file descriptor that keeps it alive and a thread that lives in it."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pyroute2 import IPRoute

from carp.lab import kernel
from carp.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Callable

_RUN = Path("/run/netns")
_PATIENCE = 5.0  # seconds for the kernel to carry out what it has been told
_T = TypeVar("_T")


class Namespace:
    """A network namespace; where the machine allows it, also visible to `ip netns` under `name`.

    Everything that must happen inside runs on the namespace's own thread (`call`): sockets and programs
    started there belong to the namespace, and the rest of the process never leaves its own. pyroute2 opens
    a socket per thread, so its objects too are used on that thread only.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._fd = -1
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        try:
            self._fd, self.inode = self._thread.submit(_create).result()
            self._ipr: IPRoute = self._thread.submit(IPRoute).result()
        except OSError as error:
            self.close()
            msg = f"cannot make the network namespace {name}: {error.strerror}"
            raise LabError(msg) from error
        self._published = _publish(self._fd, name)

    @property
    def fd(self) -> int:
        """Descriptor of the namespace, for netlink's IFLA_NET_NS_FD."""
        return self._fd

    def call(self, function: Callable[[], _T]) -> _T:
        """Run `function` inside the namespace and return its result; its exceptions come through."""
        return self._thread.submit(function).result()

    def netlink(self, function: Callable[[IPRoute], _T]) -> _T:
        """Run `function(IPRoute)` inside the namespace."""
        return self._thread.submit(function, self._ipr).result()

    def wait(self, condition: Callable[[IPRoute], bool], what: str) -> None:
        """Wait until the kernel has done in its own time what follows from what it was told.

        Raises:
            LabError: the condition does not hold after 5 s; the message names `what`.
        """
        end = time.monotonic() + _PATIENCE
        while not self.netlink(condition):
            if time.monotonic() > end:
                msg = f"not after {_PATIENCE:g} s in {self.name}: {what}"
                raise LabError(msg)
            time.sleep(0.001)

    def wait_up(self, interface: str) -> None:
        """Wait until an interface that was set up passes frames, for which a work queue has to see to it.

        Raises:
            LabError: it does not within 5 s.
        """

        def operational(ipr: IPRoute) -> bool:
            return bool(ipr.link("get", ifname=interface)[0].get("operstate") == "UP")

        self.wait(operational, f"{interface} is operational")

    def sysctl(self, name: str, value: str) -> None:
        """Write `/proc/sys/net/NAME` of this namespace.

        Raises:
            LabError: `/proc/sys` is read-only or the setting does not exist.
        """
        path = Path("/proc/sys/net") / name
        try:
            self.call(lambda: path.write_text(value, encoding="ascii"))
        except OSError as error:
            msg = f"cannot write {path} in {self.name}: {error.strerror}"
            raise LabError(msg) from error

    def pids(self) -> list[int]:
        """List the processes of this namespace, whoever started them; never this one."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if (entry / "ns/net").stat().st_ino == self.inode:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """Give the namespace up; the kernel removes it when nothing else holds it."""
        if self._fd >= 0:
            self._thread.submit(self._ipr.close).result()
            os.close(self._fd)
            self._fd = -1
            if self._published:
                _withdraw(self.name)
        self._thread.shutdown(wait=True)


def _create() -> tuple[int, int]:
    kernel.unshare(kernel.CLONE_NEWNET)
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    return fd, os.fstat(fd).st_ino


def _publish(fd: int, name: str) -> bool:
    """Give the namespace a name for `ip netns`; without the right to do so it simply has none."""
    target = _RUN / name
    try:
        _RUN.mkdir(exist_ok=True)
        target.touch(mode=0o444, exist_ok=False)
    except OSError:
        return False
    try:
        kernel.bind_mount(f"/proc/self/fd/{fd}", str(target))
    except OSError:
        target.unlink(missing_ok=True)
        return False
    return True


def _withdraw(name: str) -> None:
    target = _RUN / name
    with contextlib.suppress(OSError):
        kernel.unmount(str(target))
    target.unlink(missing_ok=True)
