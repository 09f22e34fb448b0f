"""Read a password from a file: its first line, as ucarp does, with a word about what may not be meant."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from carp.core.errors import ConfigError

_MAX_LINE: Final = 512
"""Bytes; far over what a password may have, and little enough for a mistaken path."""


def read_password_file(path: str) -> tuple[bytes, tuple[str, ...]]:
    """Return the password and what an operator should know about the file, one line each.

    The first line counts. A closing CR goes with its LF; blanks stay, because ucarp keeps them and members
    must agree (carp-protocol.md section 7). Raises ConfigError when there is nothing to read.
    """
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(_MAX_LINE).removesuffix(b"\n")
    except OSError as error:
        raise ConfigError("passwordFile", path, f"cannot be read: {error.strerror}") from None
    notes = []
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        notes.append(f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}")
    password = line.removesuffix(b"\r")
    if password != line:
        notes.append(f"{path} has a CR after its password: it is left out here, ucarp takes it as a part")
    if password != password.strip():
        notes.append(f"{path} has blanks around its password: they are part of it, as with ucarp")
    if not password:
        raise ConfigError("passwordFile", path, "has an empty first line: write the password there")
    return password, tuple(notes)
