"""Converters for argparse that say what is wrong in one line, by option and value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carp.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


def number(option: str, low: int, high: int) -> Callable[[str], int]:
    """Return a converter that raises ConfigError for anything but a whole number in the range."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and low <= int(text[:12]) <= high):
            raise ConfigError(option, text, f"is not a number from {low} to {high}")
        return int(text)

    return convert
