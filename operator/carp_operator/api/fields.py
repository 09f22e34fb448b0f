"""A table of fields with two uses: an OpenAPI schema for the API server, and a reader of the same rules.

So `kubectl apply` and a command without a cluster say the same about a manifest. A field that is given as
null counts as not given where it has a default, and as wrong where it has none, as on the server.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from carp.core.errors import ConfigError
from carp.core.reader import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Schema: TypeAlias = dict[str, Any]
Errors: TypeAlias = list[ConfigError]

DURATION: Final = r"^([0-9]+([.][0-9]+)?(ms|s|m|h))+$"
_DURATION: Final = re.compile(DURATION)


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold for a value, said once for the server (``cel``) and once for us (``holds``).

    ``problem`` follows the value where it is ``shown`` ("'3x' is not a duration…"), else it stands alone.
    ``at`` is the field below that the rule is about (``.advertisement``). An empty ``cel`` marks a rule that
    CEL cannot say: the server stores the object, and a condition tells the problem.
    """

    cel: str
    holds: Callable[[Any], bool]
    problem: str
    at: str = ""
    shown: bool = False

    def schema(self) -> Schema:
        """Return an entry of x-kubernetes-validations."""
        # Of the other reasons the server answers with words of its own, without the message.
        result = {"rule": self.cel, "message": self.problem, "reason": "FieldValueInvalid"}
        if self.shown:
            # A JSON string is a CEL string.
            tail = json.dumps(f"' {self.problem}", ensure_ascii=False)
            result["messageExpression"] = f'"\'" + self + {tail}'
        if self.at:
            result["fieldPath"] = self.at
        return result

    def judge(self, value: Any, path: str, errors: Errors) -> None:
        """Report the problem where the rule does not hold."""
        if not self.holds(value):
            errors.append(ConfigError(path + self.at, value if self.shown else None, self.problem))


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field. ``default`` is the JSON value that the server fills in; None: none."""

    description: str = ""
    default: Any = None
    rules: tuple[Rule, ...] = ()

    def schema(self, *, plain: bool = False) -> Schema:
        """Return the structural schema; ``plain`` leaves out rules and defaults."""
        result: Schema = {"description": self.description} if self.description else {}
        result |= self._shape(plain=plain)
        if plain:
            return result
        if self.default is not None:
            result["default"] = self.default
        rules = [rule.schema() for rule in self.every_rule if rule.cel]
        return {**result, "x-kubernetes-validations": rules} if rules else result

    @cached_property
    def every_rule(self) -> tuple[Rule, ...]:
        """The rules, with those that the kind of field brings along first."""
        return (*self._own_rules(), *self.rules)

    def read(self, value: Any, path: str, errors: Errors) -> Any:
        """Return the value with defaults filled in; what is wrong goes to ``errors``.

        Rules are asked only where everything inside is right; so ``holds`` sees whole values.
        """
        before = len(errors)
        result = self._take(value, path, errors)
        if len(errors) == before:
            for rule in self.every_rule:
                rule.judge(result, path, errors)
        return result

    def unknown(self, value: Any, path: str) -> Iterator[ConfigError]:  # noqa: ARG002 (leaves have no fields)
        """Report fields that do not exist: the server drops them with a warning, or refuses them."""
        yield from ()

    def _own_rules(self) -> tuple[Rule, ...]:
        return ()

    def _shape(self, *, plain: bool) -> Schema:
        raise NotImplementedError

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """A string. ``pattern`` is a whole-value regular expression and the problem that it means."""

    least: int = 0
    most: int
    pattern: tuple[str, str] | None = None
    format: str = ""

    def _own_rules(self) -> tuple[Rule, ...]:
        if not self.pattern:
            return ()
        regex, problem = self.pattern
        whole = re.compile(regex)
        cel = f"self.matches({quoted(f'^({regex})$')})"
        return (Rule(cel, lambda v: bool(whole.fullmatch(v)), problem, shown=True),)

    def _shape(self, *, plain: bool) -> Schema:
        result: Schema = {"type": "string", "maxLength": self.most}
        if self.format:
            result["format"] = self.format
        return result if plain or not self.least else {**result, "minLength": self.least}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            errors.append(ConfigError(path, value, "is not a text: put it into quotes"))
        elif len(value) > self.most:
            errors.append(ConfigError(path, value, f"is longer than {self.most} characters"))
        elif len(value) < self.least:
            errors.append(ConfigError(path, value, "is empty"))
        return value


@dataclass(frozen=True, kw_only=True)
class Duration(Field):
    """A text such as 3s, 500ms or 1m30s between ``low`` and ``high``; read as seconds."""

    low: str
    high: str

    def _own_rules(self) -> tuple[Rule, ...]:
        low, high = _seconds(self.low), _seconds(self.high)
        form = f"self.matches({quoted(DURATION)})"
        span = f"duration(self) >= duration('{self.low}') && duration(self) <= duration('{self.high}')"
        return (
            Rule(form, _is_duration, "is not a duration: write 3s, 500ms or 1m30s", shown=True),
            Rule(
                f"!{form} || {span}",
                lambda v: not _is_duration(v) or low <= _seconds(v) <= high,
                f"is not between {self.low} and {self.high}",
                shown=True,
            ),
        )

    def _shape(self, *, plain: bool) -> Schema:  # noqa: ARG002
        return {"type": "string", "maxLength": 20}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, str):
            errors.append(ConfigError(path, value, "is not a duration: write 3s, 500ms or 1m30s"))
        elif len(value) > 20:
            errors.append(ConfigError(path, value, "is longer than 20 characters"))
        return value


@dataclass(frozen=True, kw_only=True)
class Integer(Field):
    """A whole number."""

    low: int = 0
    high: int = 2**53

    def _shape(self, *, plain: bool) -> Schema:  # noqa: ARG002
        limits = {} if self.high >= 2**53 else {"maximum": self.high}
        # More than 32 bits: clients generated from the schema must not take a smaller type.
        wide = {"format": "int64"} if self.high >= 2**31 else {}
        return {"type": "integer", **wide, "minimum": self.low, **limits}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            errors.append(ConfigError(path, value, "is not a whole number"))
        elif not self.low <= value <= self.high:
            errors.append(ConfigError(path, value, f"is not between {self.low} and {self.high}"))
        return value


@dataclass(frozen=True, kw_only=True)
class Flag(Field):
    """true or false."""

    def _shape(self, *, plain: bool) -> Schema:  # noqa: ARG002
        return {"type": "boolean"}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, bool):
            errors.append(ConfigError(path, value, "is neither true nor false"))
        return value


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of some words."""

    of: tuple[str, ...]

    def _shape(self, *, plain: bool) -> Schema:  # noqa: ARG002
        return {"type": "string", "enum": list(self.of)}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if value is False and "Off" in self.of:
            errors.append(ConfigError(path, value, 'is what YAML makes of a bare Off: write "Off" in quotes'))
        elif value not in self.of:
            errors.append(ConfigError(path, value, f"is not one of {', '.join(self.of)}"))
        return value


@dataclass(frozen=True, kw_only=True)
class Array(Field):
    """A list. ``key`` makes it a list-map with that key, ``unique`` a set; else it is replaced whole."""

    items: Field
    most: int
    least: int = 0
    unique: bool = False
    key: str = ""

    def _shape(self, *, plain: bool) -> Schema:
        kind = "map" if self.key else "set" if self.unique else "atomic"
        result: Schema = {"type": "array", "maxItems": self.most, "x-kubernetes-list-type": kind}
        if plain:
            result["x-kubernetes-list-type"] = "atomic"
            return {**result, "items": self.items.schema(plain=True)}
        if self.least:
            result["minItems"] = self.least
        if self.key:
            result["x-kubernetes-list-map-keys"] = [self.key]
        return {**result, "items": self.items.schema()}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, list | tuple):
            errors.append(ConfigError(path, value, "is not a list"))
            return value
        if not self.least <= len(value) <= self.most:
            problem = f"has {len(value)} entries, not {self.least} to {self.most}"
            errors.append(ConfigError(path, None, problem))
        result = [self.items.read(item, f"{path}[{i}]", errors) for i, item in enumerate(value)]
        if self.key or self.unique:
            self._report_twice(result, path, errors)
        return result

    def _report_twice(self, items: list[Any], path: str, errors: Errors) -> None:
        seen: list[Any] = []
        for index, item in enumerate(items):
            name = item.get(self.key) if self.key and isinstance(item, dict) else item
            if name in seen:
                where = f"{path}[{index}]" + (f".{self.key}" if self.key else "")
                errors.append(ConfigError(where, name, "stands in the list twice"))
            seen.append(name)

    def unknown(self, value: Any, path: str) -> Iterator[ConfigError]:
        """Report those of the entries."""
        for index, item in enumerate(value if isinstance(value, list | tuple) else ()):
            yield from self.items.unknown(item, f"{path}[{index}]")


@dataclass(frozen=True, kw_only=True)
class Map(Field):
    """A mapping of free names to values of one kind. ``most`` entries, said in CEL for a readable message."""

    values: Field
    most: int

    def _own_rules(self) -> tuple[Rule, ...]:
        problem = f"has more than {self.most} entries"
        return (Rule(f"size(self) <= {self.most}", lambda v: len(v) <= self.most, problem),)

    def _shape(self, *, plain: bool) -> Schema:
        return {"type": "object", "additionalProperties": self.values.schema(plain=plain)}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, dict):
            errors.append(ConfigError(path, value, "is not a mapping"))
            return value
        return {key: self.values.read(item, f"{path}.{key}", errors) for key, item in value.items()}


@dataclass(frozen=True, kw_only=True)
class Object(Field):
    """A mapping of known fields."""

    fields: Mapping[str, Field]
    required: tuple[str, ...] = ()

    def _shape(self, *, plain: bool) -> Schema:
        properties = {name: item.schema(plain=plain) for name, item in self.fields.items()}
        needed = {"required": list(self.required)} if self.required else {}
        return {"type": "object", **needed, "properties": properties}

    def _take(self, value: Any, path: str, errors: Errors) -> Any:
        if not isinstance(value, dict):
            errors.append(ConfigError(path, value, "is not a mapping of fields"))
            return value
        result: dict[str, Any] = {}
        for name, item in self.fields.items():
            given = value.get(name)
            if given is None:
                if item.default is None:
                    self._report_missing(name, value, path, errors)
                    continue
                given = item.default
            result[name] = item.read(given, f"{path}.{name}", errors)
        return result

    def _report_missing(self, name: str, value: Mapping[str, Any], path: str, errors: Errors) -> None:
        if name in value:
            errors.append(ConfigError(f"{path}.{name}", None, "is null: give a value or leave it out"))
        elif name in self.required:
            errors.append(ConfigError(f"{path}.{name}", None, "is required"))

    def unknown(self, value: Any, path: str) -> Iterator[ConfigError]:
        """Report names that the table lacks, here and below."""
        if not isinstance(value, dict):
            return
        for name, item in value.items():
            where = f"{path}.{name}"
            if name in self.fields:
                yield from self.fields[name].unknown(item, where)
            else:
                yield ConfigError(where, None, f"is not a known field{_hint(str(name), self.fields)}")


def quoted(text: str) -> str:
    """Return a text as a CEL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@lru_cache(1024)
def _is_duration(text: str) -> bool:
    return bool(_DURATION.fullmatch(text))


@lru_cache(1024)
def _seconds(text: str) -> float:
    return parse_duration(text) or 0.0


def _hint(name: str, known: Mapping[str, Field]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 (only where a field is wrong)

    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
