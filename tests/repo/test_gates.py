from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from tree import ROOT, files

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, flags=re.MULTILINE))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _recipe(target: str) -> str:
    match = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, flags=re.MULTILINE)
    assert match, f"no recipe for {target}"
    return match.group(1)


def test_ci_runs_make_test_and_nothing_else() -> None:
    """What CI runs is what a contributor runs."""
    script = ROOT / ".ci" / "run"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert ["#!/bin/bash", "set -euo pipefail", 'cd "$(dirname "$0")/.."', "make test"] == lines
    assert script.stat().st_mode & 0o111


def test_check_calls_every_configured_tool() -> None:
    """A tool with a configuration is called by `make check`, and `make test` runs `make check` first."""
    recipe = _recipe("check")
    for call in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest --quiet tests/repo"):
        assert f"$(BIN)/{call}" in recipe
    assert re.search(r"^test: check\b", MAKEFILE, flags=re.MULTILINE)


def test_nothing_weakens_a_gate() -> None:
    """No recipe ignores a failure, and `make test` lets no test skip for want of something."""
    assert [] == re.findall(r"^\t-.*|\|\| true", MAKEFILE, flags=re.MULTILINE)
    assert "REQUIRE_ALL=1" in _recipe("test")


def test_every_ruff_exception_has_a_reason() -> None:
    """Each ignored rule has its reason on its line or above its entry."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.pydocstyle]")]
    bare = [line for line in section.splitlines() if re.match(r'\s+"[A-Z]+[0-9]*",\s*$', line)]
    assert [] == bare


def test_documented_targets_exist() -> None:
    """Each `make target` that a document names exists."""
    for name in (name for name in files() if name.endswith(".md")):
        text = (ROOT / name).read_text(encoding="utf-8")
        named = set(re.findall(r"(?:`|^\s*|\$ )make ([a-z]+)\b", text, flags=re.MULTILINE))
        assert set() == named - TARGETS, name


def test_scripts_of_the_makefile_exist() -> None:
    """Each script that a recipe calls is in the tree."""
    called = set(re.findall(r"\b((?:tests|tools)/[\w/.]+)", MAKEFILE))
    assert set() == {name for name in called if not (ROOT / name).exists()}


def test_lock_file_names_public_sources_only() -> None:
    """The lock file carries the public default addresses, whatever mirror wrote it."""
    hosts = set(re.findall(r"https?://([^/\"]+)/", (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert {"files.pythonhosted.org", "pypi.org"} == hosts


def test_version_is_written_the_same_everywhere() -> None:
    """The package's version is the project's."""
    text = (ROOT / "carp" / "__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{PYPROJECT["project"]["version"]}"' in text


def test_wheel_holds_exactly_both_packages(tmp_path: Path) -> None:
    """The wheel has carp, carp_operator and its metadata at top level, and nothing misplaced inside."""
    tree = tmp_path / "tree"
    for name in files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    version = PYPROJECT["project"]["version"]
    assert {"carp", "carp_operator", f"carp_operator-{version}.dist-info"} == {n.split("/")[0] for n in names}
    assert {"carp/py.typed", "carp_operator/py.typed"} <= set(names)
    checker = Path(sys.executable).with_name("check-wheel-contents")
    checked = subprocess.run(
        [str(checker), str(wheel)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (0, "") == (checked.returncode, checked.stderr), checked.stdout
