from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tree import ROOT, files, modules, parse

HEAVY = {"pyroute2", "scapy", "yaml", "kopf", "kubernetes"}

# Everything the protocol may use. Adding a name here is a decision about purity.
CORE_MAY_USE = {
    "__future__",
    "bisect",
    "carp.core",
    "collections",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "ipaddress",
    "itertools",
    "math",
    "re",
    "struct",
    "types",
    "typing",
}


def _loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    return set(done.stdout.split())


def _imported(name: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(parse(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{name}: imports are absolute"
            found.add(node.module or "")
    return found


def test_importing_carp_loads_nothing_heavy() -> None:
    """`import carp` loads neither third-party packages nor asyncio."""
    assert set() == _loaded_by("carp") & (HEAVY | {"asyncio"})


@pytest.mark.parametrize("module", ["carp.engine", "carp.cli"])
def test_engine_and_command_stay_light(module: str) -> None:
    """The engine and the command line load no third-party package: the whole process has 32 MiB."""
    assert set() == _loaded_by(module) & HEAVY


@pytest.mark.parametrize("name", modules("carp/core"))
def test_core_uses_only_what_the_list_allows(name: str) -> None:
    """A module of carp.core imports carp.core and the pure part of the standard library only."""
    allowed = tuple(f"{module}." for module in CORE_MAY_USE)
    assert set() == {m for m in _imported(name) if not f"{m}.".startswith(allowed)}


def test_every_contract_names_its_package() -> None:
    """Each third-party dependency of the project has an import contract of its own."""
    contracts = (ROOT / ".importlinter").read_text(encoding="utf-8")
    assert ".importlinter" in files()
    assert HEAVY == {name for name in HEAVY if f"[importlinter:contract:{name}]" in contracts}
