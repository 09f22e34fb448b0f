"""Get the right to make network namespaces: as root, or through a user namespace."""

from __future__ import annotations

import os
from pathlib import Path

from carp.lab import kernel
from carp.lab.errors import LabError

# Bit numbers of capabilities(7).
_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}

_ADVICE = (
    "run this as root, or allow user namespaces (sysctl user.max_user_namespaces above 0; where they exist "
    "kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0)"
)


def missing_capabilities(status: str) -> list[str]:
    """Name the needed capabilities that the text of a `/proc/PID/status` does not show as effective."""
    effective = 0
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            effective = int(line.split()[1], 16)
    return [name for name, bit in _NEEDED.items() if not effective >> bit & 1]


def enter() -> bool:
    """Make sure that this process may build a lab; return True if a user namespace was needed.

    Must run before the process has a second thread: the kernel refuses CLONE_NEWUSER otherwise.

    Raises:
        LabError: neither the capabilities nor a user namespace can be had; says what to do.
    """
    missing = missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    if not missing:
        return False
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWNS)
        _map_to_root(uid, gid)
    except OSError as error:
        reason = (
            f"network namespaces need {', '.join(missing)}; a user namespace is refused ({error.strerror})"
        )
        raise LabError(f"{reason}: {_ADVICE}") from error
    # Ubuntu's AppArmor lets the call succeed and then takes every capability away.
    if missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii")):
        msg = f"the user namespace was made but has no capabilities: {_ADVICE}"
        raise LabError(msg)
    return True


def _map_to_root(uid: int, gid: int) -> None:
    """Become root inside the new user namespace; setgroups must be denied first (user_namespaces(7))."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text, encoding="ascii")
