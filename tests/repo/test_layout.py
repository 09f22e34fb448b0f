from __future__ import annotations

import re
import sys
from pathlib import PurePosixPath

from tree import ROOT, SOURCES, files, modules

TOP_LEVEL = {
    "pyproject.toml",
    "uv.lock",
    "operator",
    "carp",
    "deploy",
    "charts",
    "tests",
    "docs",
    "tools",
    "Dockerfile",
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
}

# Sub-packages whose name the design fixes: absolute imports keep them from shadowing anything.
NAMED_ALIKE = {"inspect"}

# Absolute paths of somebody's machine; lock files are written by their tool.
MACHINE_PATH = re.compile(r"/(?:work|root|home/[a-z]+)/")
LOCK_FILES = {"uv.lock"}


def test_top_level_holds_only_named_entries() -> None:
    """The root holds the agreed names and dot-files, nothing else."""
    top = {PurePosixPath(name).parts[0] for name in files()}
    assert set() == {name for name in top if not name.startswith(".")} - TOP_LEVEL


def test_operator_is_a_plain_folder() -> None:
    """operator/ has no __init__.py: with one it would replace the standard library's module."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_tests_are_not_packages() -> None:
    """No __init__.py stands under tests/: a test folder must not shadow a package."""
    assert [] == [name for name in modules("tests") if name.endswith("/__init__.py")]


def test_no_module_is_named_like_a_standard_module() -> None:
    """No module or package of ours takes a name of the standard library."""
    parts = {
        (name, part.removesuffix(".py"))
        for name in modules(*SOURCES, "tests/support")
        for part in PurePosixPath(name).parts[1:]
    }
    assert set() == {(name, part) for name, part in parts if part in sys.stdlib_module_names - NAMED_ALIKE}


def test_no_file_names_a_path_of_some_machine() -> None:
    """No file mentions an absolute path of a developer's machine."""
    found = []
    for name in set(files()) - LOCK_FILES:
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        found += [f"{name}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert [] == sorted(found)
