"""The few system calls that Python has no function for (unshare and setns only from 3.12)."""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

_MS_BIND = 0x1000
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (unshare(2)).

    Raises:
        OSError: EPERM without privilege, EINVAL for CLONE_NEWUSER in a process with several threads,
            ENOSPC when `user.max_*_namespaces` is reached.
    """
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into the namespace behind `fd` (setns(2)); raises OSError."""
    _check(_libc.setns(fd, kind), "setns")


def bind_mount(source: str, target: str) -> None:
    """Mount `source` on the existing file `target`; raises OSError."""
    _check(_libc.mount(source.encode(), target.encode(), b"none", _MS_BIND, None), f"mount {target}")


def unmount(target: str) -> None:
    """Detach what is mounted on `target`; raises OSError."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), f"umount {target}")
