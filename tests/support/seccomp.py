"""Run a program under a container runtime's seccomp profile, without a container.

    python seccomp.py PROFILE PROGRAM [ARGUMENT]...

Compiled by libseccomp, as runc and crun do it, and put on just before the exec. One difference: a call
that the profile refuses by its default kills the process (SIGSYS), so that none can go unnoticed. With
SECCOMP_DEFAULT=errno it fails with EPERM, as in a container.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_OPERATORS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_uint),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def available() -> bool:
    """Whether libseccomp is here."""
    return find_library("seccomp") is not None


def load_profile(profile: dict[str, Any], *, default: int) -> None:
    """Put this process and all its children under a profile for ever. Raises OSError."""
    library = ctypes.CDLL(find_library("seccomp"))
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    for rule in profile["syscalls"]:
        comparisons = [_comparison(each) for each in rule.get("args", [])]
        array = (_Comparison * len(comparisons))(*comparisons)
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:  # like a runtime, pass over what this architecture does not have
                _check(
                    library.seccomp_rule_add_array(
                        context, ctypes.c_uint32(_action(rule)), number, len(comparisons), array
                    ),
                    name,
                )
    _check(library.seccomp_load(context), "seccomp_load")


def _action(rule: dict[str, Any]) -> int:
    if rule["action"] == "SCMP_ACT_ERRNO":
        return _ERRNO | int(rule.get("errnoRet", errno.EPERM))
    assert rule["action"] == "SCMP_ACT_ALLOW", rule
    return _ALLOW


def _comparison(argument: dict[str, Any]) -> _Comparison:
    operator = _OPERATORS[argument["op"]]
    return _Comparison(argument["index"], operator, argument["value"], argument.get("valueTwo", 0))


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(-result, os.strerror(-result), what)


def main() -> None:
    """Become the program."""
    profile = json.loads(Path(sys.argv[1]).read_bytes())
    lenient = os.environ.pop("SECCOMP_DEFAULT", "") == "errno"
    load_profile(profile, default=_ERRNO | errno.EPERM if lenient else _KILL_PROCESS)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
