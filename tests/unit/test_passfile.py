from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp.core.errors import ConfigError
from carp.passfile import read_password_file

if TYPE_CHECKING:
    from pathlib import Path


def _file(folder: Path, content: bytes, mode: int = 0o600) -> str:
    path = folder / "pass"
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("content", [b"love", b"love\n", b"love\nhate\n"])
def test_the_first_line_is_the_password(tmp_path: Path, content: bytes) -> None:
    """The first line without its LF is the password, and there is nothing to say about it."""
    assert (b"love", ()) == read_password_file(_file(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "password", "word"), [(b"love\r\n", b"love", "CR"), (b" love \n", b" love ", "blanks")]
)
def test_invisible_bytes_are_pointed_out(tmp_path: Path, content: bytes, password: bytes, word: str) -> None:
    """A closing CR is left out and blanks are kept, each with a note (B18)."""
    found, notes = read_password_file(_file(tmp_path, content))
    assert password == found
    assert 1 == len(notes)
    assert word in notes[0]


@pytest.mark.parametrize(("mode", "noted"), [(0o600, False), (0o640, True), (0o604, True), (0o400, False)])
def test_a_file_that_others_can_read_is_pointed_out(tmp_path: Path, mode: int, noted: bool) -> None:
    """A password file that group or world can read gets a note that names its mode."""
    path = _file(tmp_path, b"love\n", mode)
    _, notes = read_password_file(path)
    assert ([f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}"] if noted else []) == list(
        notes
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n", b"\nlove\n"])
def test_an_empty_first_line_is_an_error(tmp_path: Path, content: bytes) -> None:
    """An empty first line is refused."""
    with pytest.raises(ConfigError, match="has an empty first line"):
        read_password_file(_file(tmp_path, content))


def test_the_reason_why_a_file_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A missing file and a folder are refused with the kernel's reason."""
    with pytest.raises(ConfigError, match="cannot be read: No such file or directory"):
        read_password_file(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_password_file(str(tmp_path))
