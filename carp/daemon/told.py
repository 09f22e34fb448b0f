"""A set of vhosts as somebody gave it, read in small steps: large or wrong, the election goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp.changes import breathe
from carp.core.errors import ConfigError, ConfigErrors
from carp.core.schema import parse_vhost
from carp.daemon.configfile import MAX_VHOSTS, claims
from carp.daemon.status import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carp.core.config import VhostConfig

MAX_VALUES: Final = 1000
"""Values in one vhost, 64 characters counting as one: a vhost is read in one go, some 30 µs a mistake."""
MAX_ERRORS: Final = 16
"""Mistakes told of one vhost."""
_MAX_LINE: Final = 300
"""Characters of one told mistake."""


@dataclass(slots=True)
class Told:
    """A set of vhosts as it was given: what is sound in it, and what is wrong with the rest."""

    configs: list[VhostConfig] = field(default_factory=list)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the sound ones were read from, by name."""
    kept: list[dict[str, Any]] = field(default_factory=list)
    """Items of the set before that stay, since new ones of their names are wrong."""
    errors: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)
    """By name, why a vhost is not among the sound."""


@dataclass(slots=True)
class _Item:
    """One item of a set: sound, or what is wrong with it."""

    path: str
    given: Any
    config: VhostConfig | None = None
    wrong: list[ConfigError] = field(default_factory=list)

    @property
    def name(self) -> str | None:
        """What it calls itself."""
        name = self.given.get("name") if isinstance(self.given, dict) else None
        return name if isinstance(name, str) else None

    @property
    def errors(self) -> list[str]:
        """What is wrong, in lines of bounded number and length."""
        lines = [_printable(str(error)) for error in self.wrong[:MAX_ERRORS]]
        return some(lines, MAX_ERRORS, len(self.wrong), where=f"{self.path}: ")


async def read_set(items: Sequence[Any], held: Iterable[dict[str, Any]] = ()) -> Told:
    """Read a whole set; ``held`` are the items of the set before. The election gets its turn between items.

    An item that is wrong by itself, or clashes with one before it or with one that stays, is an error. What
    was held of its name stays: nobody else may have its vhid and addresses meanwhile.
    """
    found = [await _read(f"vhosts[{index}]", item) for index, item in enumerate(items)]
    before = {item["name"]: item for item in held}
    kept: dict[str, VhostConfig | None] = {}
    while True:
        sound = await _exclusive(found, kept)
        broken = {each.name for each in found if each.name is not None} - {each.name for each in sound}
        more = [name for name in before if name in broken and name not in kept]
        if not more:
            break
        kept |= {name: (await _read("", before[name])).config for name in more}
    told = Told(kept=[before[name] for name in kept])
    for each in sound:
        assert each.config is not None  # noqa: S101 (what makes it sound)
        told.configs.append(each.config)
        told.items[each.config.name] = each.given
    for each in found:
        if each.wrong:
            await breathe()
            told.errors += each.errors
            if each.name is not None and each.name in broken:
                lines = [line.removeprefix(f"{each.path}.") for line in each.errors]
                told.problems[_printable(each.name)] = "; ".join(some(lines, 4, len(each.wrong)))
    told.errors = some(told.errors, MAX_VHOSTS, where="vhosts: ")
    return told


async def _read(path: str, given: Any) -> _Item:
    await breathe()
    item = _Item(path, given)
    if not _is_bounded(given):
        item.wrong = [ConfigError(path, None, f"has more than {MAX_VALUES} values, or very long ones")]
        return item
    try:
        item.config = parse_vhost(given, path=path)
    except ConfigErrors as found:
        item.wrong = found.errors
    return item


async def _exclusive(found: Sequence[_Item], kept: dict[str, VhostConfig | None]) -> list[_Item]:
    """Return the items that are sound beside those before them and those kept; note clashes in the others."""
    sound = []
    seen = {
        (scope, value): config.name
        for config in kept.values()
        if config is not None
        for _, value, scope in claims(config)
    }
    for item in found:
        config = item.config
        if config is None or config.name in kept:
            continue
        await breathe()
        taken = [(field, value, seen.get((scope, value))) for field, value, scope in claims(config)]
        item.wrong = [
            ConfigError(f"{item.path}.{field}", value, f"is already used by vhost {other}")
            for field, value, other in taken
            if other is not None
        ]
        if not item.wrong:
            sound.append(item)
            seen.update({(scope, value): config.name for _, value, scope in claims(config)})
    return sound


def _is_bounded(given: Any) -> bool:
    """Whether an item is no larger than a vhost can be."""
    left, open_ = MAX_VALUES, [given]
    while open_ and left > 0:
        value = open_.pop()
        left -= 1
        if isinstance(value, str):
            left -= len(value) // 64
        elif isinstance(value, dict):
            left -= sum(len(key) // 64 for key in value)
            open_ += value.values()
        elif isinstance(value, list):
            open_ += value
    return left > 0


def _printable(text: str) -> str:
    """Return a line that every terminal, log and client can take."""
    line = text.encode(errors="backslashreplace").decode()
    return line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}…"
