"""Commands for people: ask a running carpd, or look at this host. None takes part in an election.

Each command is imported when it is called: `carp status` has to answer at once on a host in trouble.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NAMES: Final = (
    "status",
    "explain",
    "handover",
    "maintenance",
    "demote",
    "undemote",
    "doctor",
    "completion",
)


def main(name: str, words: Sequence[str]) -> int:
    """Run the command ``name`` of `NAMES` with the words after it; return the exit code. Raises CarpError.

    A reader of our output that has seen enough is no error.
    """
    try:
        code = _command(name)(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail once more at the interpreter's exit.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _command(name: str) -> Callable[[Sequence[str]], int]:
    # ruff: noqa: PLC0415 (see the module's docstring)
    match name:
        case "status":
            from carp.commands.status import main as status

            return status
        case "explain":
            from carp.commands.explain import main as explain

            return explain
        case "handover":
            from carp.commands.handover import main as handover

            return handover
        case "maintenance":
            from carp.commands.maintenance import main as maintenance

            return maintenance
        case "demote":
            from carp.commands.demotion import demote

            return demote
        case "undemote":
            from carp.commands.demotion import undemote

            return undemote
        case "doctor":
            from carp.commands.doctor import main as doctor

            return doctor
    from carp.commands.completion import main as completion

    return completion
