"""The repository's own files, as the gates under tests/repo see them."""

from __future__ import annotations

import ast
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("carp", "operator")

# What .gitignore names and a plain copy of the tree may contain.
_NOT_OURS = {".git", ".venv", "build", "dist", "__pycache__"}


def _is_ours(name: str) -> bool:
    return name not in _NOT_OURS and not name.endswith(("_cache", ".egg-info"))


def files() -> list[str]:
    """List the tree's files relative to the root: tracked and new ones, or all in a copy without git."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        return sorted(name for name in listed if (ROOT / name).is_file())
    return sorted(_walk())


def _walk() -> Iterator[str]:
    for folder, names, found in os.walk(ROOT):
        names[:] = [name for name in names if _is_ours(name) and name != ".hypothesis"]
        yield from (str((Path(folder) / name).relative_to(ROOT)) for name in found if _is_ours(name))


def modules(*folders: str) -> list[str]:
    """List the Python files below the folders, relative to the root."""
    return [
        name for name in files() if name.endswith(".py") and name.startswith(tuple(f + "/" for f in folders))
    ]


def parse(name: str) -> ast.Module:
    """Parse one file of the tree."""
    return ast.parse((ROOT / name).read_text(encoding="utf-8"), filename=name)
