"""What may stand next on a command line: `kubectl-carp __complete WORDS...`, in the convention of kubectl.

kubectl runs `kubectl_complete-carp WORDS...` for the words after `kubectl carp`, the last one unfinished, and
takes a candidate from each line and a colon with a number at the end: 0 complete files, 4 do not.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from carp.core.errors import CarpError
from carp_operator.kubectl import access
from carp_operator.kubectl.main import COMMANDS
from carp_operator.kubectl.usage import OK, put

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES: Final = 0
NO_FILES: Final = 4
_FILE_LIKE: Final = ("FILE", "FOLDER", "NODES", "PATTERN")
_OBJECTS: Final = {"VIP": "virtualips", "NODE": "carpnodes"}
"""What an argument's value is called -> the kind of objects that it names."""


def main(words: Sequence[str]) -> int:
    """Print the candidates and the directive; never fails."""
    found, directive = candidates(list(words) or [""])
    put("".join(f"{each}\n" for each in found) + f":{directive}\n")
    return OK


def run() -> int:
    """Be `kubectl_complete-carp`."""
    return main(sys.argv[1:])


def candidates(words: Sequence[str]) -> tuple[list[str], int]:
    """Return what the last word may become, and the directive."""
    *before, current = words
    if not before:
        return _fitting([*COMMANDS, "--help", "--version"], current), NO_FILES
    if before[0] not in COMMANDS:
        return [], NO_FILES
    parser = import_module(f"carp_operator.kubectl.{before[0].replace('-', '_')}").parser()
    # argparse has no public list of a parser's arguments.
    actions: list[argparse.Action] = parser._actions  # noqa: SLF001
    options = {name: action for action in actions for name in action.option_strings}
    previous = before[-1]
    if previous in options and options[previous].nargs is None:
        return _values(options[previous], before, current)
    name, equals, value = current.partition("=")
    if equals and name in options:
        found, directive = _values(options[name], before, value)
        return [f"{name}={each}" for each in found], directive
    if current.startswith("-"):
        return _fitting(sorted(options), current), NO_FILES
    action = _positional(actions, options, before[1:])
    return _values(action, before, current) if action is not None else ([], NO_FILES)


def _positional(
    actions: Sequence[argparse.Action], options: dict[str, argparse.Action], before: Sequence[str]
) -> argparse.Action | None:
    """Return the argument without a name that stands next."""
    taken = 0
    for at, word in enumerate(before):
        previous = before[at - 1] if at else ""
        valued = previous in options and options[previous].nargs is None
        taken += not (word.startswith("-") or valued)
    places = [action for action in actions if not action.option_strings]
    if taken < len(places):
        return places[taken]
    return places[-1] if places and places[-1].nargs == "*" else None


def _values(action: argparse.Action, before: Sequence[str], current: str) -> tuple[list[str], int]:
    if action.choices is not None:
        return _fitting([str(choice) for choice in action.choices], current), NO_FILES
    metavar = str(action.metavar)
    if metavar in _FILE_LIKE:
        return [], FILES
    if metavar not in _OBJECTS:
        return [], NO_FILES
    names = [name for name in _names(_OBJECTS[metavar], before) if name not in before[1:]]
    return _fitting(names, current), NO_FILES


def _fitting(found: Sequence[str], current: str) -> list[str]:
    return [each for each in found if each.startswith(current)]


def _names(plural: str, before: Sequence[str]) -> list[str]:
    """Return the names of objects in the cluster that is meant; none where it cannot be asked."""
    from carp_operator.kube.resources import CARP_NODES, VIRTUAL_IPS  # noqa: PLC0415 (only where it is asked)
    from carp_operator.kubectl.reading import by_name  # noqa: PLC0415

    chosen = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    access.add_options(chosen)
    given, _ = chosen.parse_known_args(list(before))
    try:
        client = access.client(given)
        return list(by_name(client.list(VIRTUAL_IPS if plural == VIRTUAL_IPS.plural else CARP_NODES)))
    except (CarpError, OSError):
        return []
