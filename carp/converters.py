"""Converters for argparse that say what is wrong in one line, by option and value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from carp.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path: 108 with its closing NUL (unix(7))."""


def socket_path(option: str, path: str) -> str:
    """Return the path of a Unix socket. Raises ConfigError for one that the kernel has no room for."""
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH:
        raise ConfigError(
            option, path, f"has {length} bytes; a socket's path has at most {_MAX_SOCKET_PATH}: give another"
        )
    return path


def number(option: str, low: int, high: int) -> Callable[[str], int]:
    """Return a converter that raises ConfigError for anything but a whole number in the range."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise ConfigError(option, text, f"is not a number from {low} to {high}")
        return int(text)

    return convert
