"""Write plain data as YAML, for `-o yaml`: block style, each string quoted as JSON quotes it.

A library for it would double the time that `carp status` takes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLAIN: Final = re.compile(r"(?!(?i:null|true|false|yes|no|on|off|y|n)$)[A-Za-z_]\w*", re.ASCII)
"""Keys that no reader of YAML takes for anything but a text."""
_LONGEST_KEY: Final = 1024
"""Characters of a key before its colon (1.2 section 8.2.2); a longer one has a line of its own."""


def dump(data: Any) -> str:
    """Return the YAML text of what JSON can hold; it ends with a newline."""
    return "".join(f"{line}\n" for line in _block(data))


def _block(data: Any) -> Iterator[str]:
    if isinstance(data, dict) and data:
        for key, value in data.items():
            written = key if _PLAIN.fullmatch(key) else _scalar(key)
            if len(written) > _LONGEST_KEY:
                yield f"? {written}"
                written = ""
            yield from _entry(f"{written}:", value)
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
    """Return a scalar, an empty list or an empty mapping: as JSON, but for two differences.

    YAML has no surrogate pairs (1.2 section 5.7), and many readers take 1e-7 for a text.
    """
    if isinstance(value, str):
        return '"' + "".join(map(_character, value)) + '"'
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def _character(one: str) -> str:
    return json.dumps(one)[1:-1] if ord(one) < 0x10000 else f"\\U{ord(one):08x}"
