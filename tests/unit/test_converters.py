"""Converters for command lines (carp.converters)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from carp.converters import number, socket_path
from carp.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["", "0", "256", "-1", "1.5", "one", "\u0661", "9" * 30])
def test_what_is_no_number_of_the_range(text: str) -> None:
    """The error has option, value and range."""
    with pytest.raises(ConfigError, match=r"^--vhid: .*is not a number from 1 to 255$"):
        number("--vhid", 1, 255)(text)


def test_a_number() -> None:
    """Both ends are in the range."""
    assert (1, 255) == (number("--vhid", 1, 255)("1"), number("--vhid", 1, 255)("255"))


def test_the_limit_of_a_sockets_path_is_the_kernels(tmp_path: Path) -> None:
    """The longest that is let through can be bound; one more byte is refused; letters can have several."""
    longest = str(tmp_path / "x") + "x" * (107 - len(str(tmp_path / "x")))
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(socket_path("--socket", longest))
    with pytest.raises(ConfigError, match=r"^--socket: .* has 108 bytes; a socket's path has at most 107"):
        socket_path("--socket", longest + "x")
    with pytest.raises(ConfigError, match="has 108 bytes"):
        socket_path("--socket", "/" + "\u00e4" * 53 + "x")
