"""Read typed values out of untyped mappings and collect every error, each with the path of its field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from carp.core.errors import ConfigError

if TYPE_CHECKING:
    import enum

    E = TypeVar("E", bound=enum.StrEnum)

NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
"""What vhosts and checks may be called."""
_SECRET: Final = re.compile(
    r"^$|(?:^|\.)(?:accept\b.*|"
    r"(?:vhosts|authentication|password\w*|healthChecks|http|exec|command|scripts)(?:\[\d+\])?)$"
)
"""Paths, "" for all settings, of fields whose value may hold a secret when it is not what it should be."""
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: object) -> float | None:
    """Return the seconds in ``3s``, ``500ms`` or ``1m30s``; None when it is no duration."""
    if not isinstance(text, str) or not text:
        return None
    parts = _DURATION.findall(text)
    if "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def _mistyped(path: str, value: object, problem: str) -> ConfigError:
    """Return the error for a value of another type; a text or number that may be a secret is not shown."""
    if _SECRET.search(path) and not isinstance(value, Mapping | list | tuple):
        kind = "text" if isinstance(value, str) else "value"
        value, problem = None, f"a {kind} {problem}"
    return ConfigError(path or "settings", value, problem)


class Reader:
    """One mapping of settings. Every method returns its default where it reports an error."""

    def __init__(self, data: object, path: str, errors: list[ConfigError]) -> None:
        """``path`` is the field that ``data`` stands in; ``errors`` is shared with the sections."""
        self.path = path
        self.errors = errors
        self._seen: set[str] = set()
        self._data: Mapping[str, Any] = {}
        if isinstance(data, Mapping):
            self._data = data
        elif data is not None:
            errors.append(_mistyped(path, data, "is not a mapping of fields"))

    def field(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.path}.{key}" if self.path else key

    def fail(self, key: str, value: object, problem: str) -> None:
        """Report that a key's value is wrong."""
        self.errors.append(ConfigError(self.field(key), value, problem))

    def has(self, key: str) -> bool:
        """Whether a key is given; an explicit null counts as not given."""
        return self._data.get(key) is not None

    def raw(self, key: str) -> Any:
        """Return what is there, None for nothing, and count the key as known."""
        self._seen.add(key)
        return self._data.get(key)

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        """Return a whole number between ``low`` and ``high``; without default it is required."""
        value = self.raw(key)
        if value is None:
            if default is None:
                self.fail(key, None, f"is required: a number from {low} to {high}")
            return low if default is None else default
        if isinstance(value, bool) or not isinstance(value, int):
            self.fail(key, value, "is not a whole number")
        elif not low <= value <= high:
            self.fail(key, value, f"is not between {low} and {high}")
        else:
            return value
        return low if default is None else default

    def text(self, key: str, default: str = "", *, secret: bool = False) -> str:
        """Return a string; a ``secret`` never stands in an error."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, str):
            shown = None if secret or _SECRET.search(self.field(key)) else value
            self.fail(key, shown, "is not a text: put it into quotes")
            return default
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self.raw(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fail(key, value, "is neither true nor false")
            return default
        return value

    def choice(self, key: str, default: E) -> E:
        """Return a member of the default's enumeration."""
        value = self.raw(key)
        if value is None:
            return default
        kind = type(default)
        try:
            return kind(value)
        except ValueError:
            self.fail(key, value, f"is not one of {', '.join(kind)}")
            return default

    def seconds(self, key: str, default: float, low: float, high: float) -> float:
        """Return a duration such as 30s or 500ms in seconds, between ``low`` and ``high`` seconds."""
        value = self.raw(key)
        if value is None:
            return default
        parsed = parse_duration(value)
        if parsed is None:
            self.fail(key, value, "is not a duration: write 3s, 500ms or 1m30s")
        elif not low <= parsed <= high:
            self.fail(key, value, f"is not between {low:g}s and {high:g}s")
        else:
            return parsed
        return default

    def sequence(self, key: str) -> list[Any]:
        """Return a list, empty when not given."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            self.errors.append(_mistyped(self.field(key), value, "is not a list"))
            return []
        return list(value)

    def section(self, key: str) -> Reader:
        """Return a reader of a nested mapping."""
        return Reader(self.raw(key), self.field(key), self.errors)

    def finish(self) -> None:
        """Report each field that nobody asked for."""
        from difflib import get_close_matches  # noqa: PLC0415 (not at every start)

        for key, value in self._data.items():
            if key in self._seen:
                continue
            close = get_close_matches(str(key), self._seen, 1)
            if value is None and not close and _SECRET.search(self.path):
                # `accept: [{s3cret}]` is a mapping in YAML, of the key s3cret.
                problem = "has a field without value that is not known"
                self.errors.append(ConfigError(self.path or "settings", None, problem))
                continue
            hint = f"; did you mean {close[0]}?" if close else ""
            self.errors.append(ConfigError(self.field(str(key)), None, f"is not a known field{hint}"))
