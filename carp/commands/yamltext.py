"""Write plain data as YAML, for `-o yaml`: block style, each string quoted as JSON quotes it.

A library for it would double the time that `carp status` takes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def dump(data: Any) -> str:
    """Return the YAML text of what JSON can hold; it ends with a newline."""
    return "".join(f"{line}\n" for line in _block(data))


def _block(data: Any) -> Iterator[str]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from _entry(f"{_scalar(str(key)) if not str(key).isidentifier() else key}:", value)
    elif isinstance(data, list) and data:
        for value in data:
            first, *rest = _block(value)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(data)


def _entry(head: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield head
        yield from (f"  {line}" for line in _block(value))
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:
    # A JSON scalar, an empty list and an empty mapping are YAML too (YAML 1.2 section 1.3).
    return json.dumps(value)
