"""Which entry of the Secret `carp-keys` stands for which password. Pure.

An entry is named ``<vip>.<n>`` and never changes its value; ``n`` is never used again (design.md section 9).
Values are bytes in memory only: nothing here puts one into a text.
"""

from __future__ import annotations

import base64
import binascii
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp.core.schema import check_password
from carp_operator.plan.model import KeyState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEYS: Final = "carp-keys"
"""Name of the Secret that holds every password in use."""
COUNTER: Final = "carp.vip/last-number"
"""Its annotation with the highest number ever given."""
REASON: Final = "NoPassword"


@dataclass(frozen=True, slots=True)
class Source:
    """The password that a user wants now, or why there is none."""

    value: bytes | None = field(default=None, repr=False)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Assigned:
    """The name for each VirtualIP's password, and what `carp-keys` then holds."""

    states: Mapping[str, KeyState]
    entries: Mapping[str, bytes] = field(repr=False)
    counter: int


def decoded(data: object) -> dict[str, bytes]:
    """Return the readable values of a Secret's ``data``."""
    found = {}
    for name, text in data.items() if isinstance(data, dict) else ():
        try:
            found[name] = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError, TypeError):
            continue
    return found


def encoded(values: Mapping[str, bytes]) -> dict[str, str]:
    """Return values as a Secret's ``data``."""
    return {name: base64.b64encode(value).decode("ascii") for name, value in values.items()}


def source(data: Mapping[str, bytes] | None, where: str, key: str) -> Source:
    """Return the password under a key of the Secret at ``where`` (namespace/name); None: no such Secret.

    A closing line end is no part of it: ``kubectl create secret --from-file`` keeps what an editor adds.
    """
    if data is None:
        return Source(problem=f"Secret {where} does not exist")
    if key not in data:
        return Source(problem=f"Secret {where} has no key {key}")
    value = data[key].removesuffix(b"\n").removesuffix(b"\r")
    try:
        value.decode()
        check_password(value)
    except UnicodeDecodeError:
        return Source(problem=f"Secret {where}: key {key} is no text in UTF-8")
    except ValueError as error:
        return Source(problem=f"Secret {where}: key {key} {error}")
    return Source(value)


def used(vhosts: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the entries that vhosts of CarpNodes name."""
    found = set()
    for entry in vhosts:
        accepted = entry.get("accept")
        for context in (entry, *(accepted if isinstance(accepted, list | tuple) else ())):
            name = context.get("passwordRef") if isinstance(context, dict) else None
            if isinstance(name, str) and name:
                found.add(name)
    return found


def number(name: str) -> int:
    """Return the number in an entry's name; 0 where there is none."""
    text = name.rpartition(".")[2]
    return int(text) if text.isascii() and text.isdigit() else 0


def owner(name: str) -> str:
    """Return the VirtualIP of an entry."""
    return name.rpartition(".")[0]


def newest(entries: Iterable[str]) -> dict[str, str]:
    """Return the entry that each VirtualIP got last."""
    return {vip: max(names, key=number) for vip, names in by_owner(entries).items()}


def older(current: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the other entries of a VirtualIP, the newest first."""
    return tuple(sorted((name for name in names if name != current), key=number, reverse=True))


def assign(
    sources: Mapping[str, Source], entries: Mapping[str, bytes], counter: int, told: Iterable[str]
) -> Assigned:
    """Name every password; a value that an entry of its VirtualIP has keeps that name.

    ``told``: the entries that CarpNodes name. Where `carp-keys` was lost, the value goes under the name that
    the CarpNodes use, if they use one only.
    """
    told = set(told)
    made, counter = dict(entries), max([counter, *map(number, entries), *map(number, told)])
    own, named = by_owner(entries), by_owner(told)
    states = {}
    for vip in sorted(sources):
        wanted = sources[vip]
        if wanted.value is None:
            states[vip] = KeyState("", REASON, wanted.problem)
            continue
        same = [name for name in own[vip] if entries[name] == wanted.value]
        if same:
            name = max(same, key=lambda n: (n in told, number(n)))
        elif not own[vip] and len(named[vip]) == 1:
            name = named[vip][0]
        else:
            counter += 1
            name = f"{vip}.{counter}"
        made[name] = wanted.value
        states[vip] = KeyState(name, older=older(name, own[vip]))
    return Assigned(states, made, counter)


def by_owner(names: Iterable[str]) -> defaultdict[str, list[str]]:
    """Return the entries of each VirtualIP."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        found[owner(name)].append(name)
    return found
