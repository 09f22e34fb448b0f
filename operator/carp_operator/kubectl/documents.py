"""Read what people give kubectl: YAML with several documents, JSON, and Lists of either.

A plain YAML scalar means what it means to kubectl (YAML 1.1, but for times and numbers to the base 60), so
that the same file says the same here and there.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from carp.core.errors import CarpError

if TYPE_CHECKING:
    from collections.abc import Iterator

    # PyYAML's stubs leave out `id`, which says what kind of node it is.
    Node: TypeAlias = Any

STDIN: Final = "-"
_MAX_BYTES: Final = 32 << 20
_MAX_VALUES: Final = 2_000_000
"""With aliases expanded: what only an attack multiplies so."""
_MAX_DEPTH: Final = 50
_SCALARS: Final = (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0b[01_]+|0[0-7_]*|[1-9][0-9_]*|0x[0-9a-fA-F_]+)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("merge", r"<<", "<"),
)


class ReadError(CarpError):
    """A file, or one of its documents, cannot be understood; the text names it."""


@dataclass(frozen=True, slots=True)
class Document:
    """One object. ``place`` is where it stands in its file (``document 2``)."""

    file: str
    place: str
    data: Any

    @property
    def title(self) -> str:
        """The file with kind and name of the object, or with its place where it lacks them."""
        data = self.data if isinstance(self.data, dict) else {}
        meta = data.get("metadata")
        kind, name = data.get("kind"), meta.get("name") if isinstance(meta, dict) else None
        known = isinstance(kind, str) and isinstance(name, str) and kind and name
        return f"{self.file}: {f'{kind} {name}' if known else self.place}"


def read(path: str) -> tuple[list[Document], list[str]]:
    """Return the objects of a file (``-`` standard input), those of Lists one by one, and what is wrong."""
    name = "stdin" if path == STDIN else path
    try:
        text = _content(path, name)
    except ReadError as error:
        return [], [str(error)]
    found: list[Document] = []
    problems: list[str] = []
    number = 0
    try:
        for number, (data, wrong) in enumerate(_parsed(text, name), 1):
            problems += [f"{name}: document {number}: {problem}" for problem in wrong]
            if data is not None:
                found += _flat(Document(name, f"document {number}", data))
    except ReadError as error:
        problems.append(str(error))
    return found, problems


def _content(path: str, name: str) -> str:
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        if len(data) <= _MAX_BYTES:
            return data.decode("utf-8-sig")
    except OSError as error:
        raise ReadError(f"{name}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ReadError(f"{name}: is not UTF-8 at byte {error.start}") from None
    raise ReadError(f"{name}: has more than {_MAX_BYTES >> 20} MiB")


def _parsed(text: str, name: str) -> Iterator[tuple[Any, list[str]]]:
    """Yield each document with the keys that stand twice in it. Raises ReadError."""
    if text.lstrip()[:1] == "{":
        twice: list[str] = []
        try:
            data = json.loads(text, object_pairs_hook=lambda pairs: _once(pairs, twice))
        except (ValueError, RecursionError):
            pass  # Then it is YAML in flow style, or wrong, which YAML's reader says with a line.
        else:
            yield data, twice
            return
    yield from _yaml(text, name)


def _once(pairs: list[tuple[str, Any]], twice: list[str]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [key for key, _ in pairs]
        twice += [f"{key}: stands twice in one object" for key in result if names.count(key) > 1]
    return result


def _yaml(text: str, name: str) -> Iterator[tuple[Any, list[str]]]:
    import yaml  # noqa: PLC0415 (only where a YAML file is read)

    try:
        loader = _loader()(text)
        try:
            while loader.check_node():
                root = loader.get_node()
                wrong = _survey(root)
                yield loader.construct_document(root), wrong
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        context = f" ({error.context})" if error.context else ""
        raise ReadError(f"{name}: {line}is no YAML: {error.problem}{context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ReadError(f"{name}: is no YAML: {' '.join(str(error).split())}") from None


def _survey(root: Node) -> list[str]:
    """Return the keys that stand twice. Raises ValueError for what is nested or multiplied beyond reason."""
    found: list[str] = []
    stack: list[tuple[str, Node, int]] = [("", root, 0)]
    count = 0
    while stack:
        path, node, depth = stack.pop()
        count += 1
        if count > _MAX_VALUES or depth > _MAX_DEPTH:
            msg = f"it has more than {_MAX_VALUES} values, or {_MAX_DEPTH} levels"
            raise ValueError(msg)
        if node.id == "sequence":
            stack.extend((f"{path}[{i}]", item, depth + 1) for i, item in enumerate(node.value))
        if node.id != "mapping":
            continue
        seen: set[str] = set()
        for key, value in node.value:
            field = f"{path}.{key.value}" if path else str(key.value)
            if key.id == "scalar" and key.value in seen:
                found.append(f"{field}: stands twice (line {key.start_mark.line + 1})")
            seen.add(str(key.value))
            stack.append((field, value, depth + 1))
    return found


@cache
def _loader() -> type[Any]:
    """Return a safe loader, in C where there is one, that takes plain scalars as kubectl does.

    PyYAML would make a number to the base 60 of the IPv6 address 2001:10:20:30:40:50:1:2, and a time of
    2026-01-01; to kubectl both are texts. A bare Off is false to both.
    """
    import yaml  # noqa: PLC0415 (see _yaml)

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute)

    for tag, pattern, first in _SCALARS:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    return Loader


def _flat(document: Document) -> Iterator[Document]:
    """Yield the objects of a List, or the document itself."""
    data = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    items = data.get("items") if isinstance(kind, str) and kind.endswith("List") else None
    if not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        yield from _flat(Document(document.file, f"{document.place}, items[{index}]", item))
