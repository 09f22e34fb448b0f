from __future__ import annotations

import ast

import pytest

from tree import ROOT, SOURCES, modules, parse

MAX_FUNCTION = 60
MAX_MODULE = 400

# "path" or "path:function" -> why it may be longer.
EXCEPTIONS: dict[str, str] = {}


def _functions(name: str) -> dict[str, int]:
    found = (n for n in ast.walk(parse(name)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return {f"{name}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1 for node in found}


@pytest.mark.parametrize("name", modules(*SOURCES))
def test_no_function_is_longer_than_the_ceiling(name: str) -> None:
    """A function has at most 60 lines, docstring included."""
    too_long = {where: lines for where, lines in _functions(name).items() if lines > MAX_FUNCTION}
    assert {} == {where: lines for where, lines in too_long.items() if where not in EXCEPTIONS}


@pytest.mark.parametrize("name", modules(*SOURCES))
def test_no_module_is_longer_than_the_ceiling(name: str) -> None:
    """A module has at most 400 lines."""
    lines = len((ROOT / name).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_MODULE or name in EXCEPTIONS, f"{name} has {lines} lines"


def test_each_exception_is_still_needed() -> None:
    """An entry of the exception list names something that exists, is too long, and has a reason."""
    sizes = {name: len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in modules(*SOURCES)}
    needed = {name for name, lines in sizes.items() if lines > MAX_MODULE}
    for name in sizes:
        needed |= {where for where, lines in _functions(name).items() if lines > MAX_FUNCTION}
    assert set(EXCEPTIONS) <= needed
    assert all(EXCEPTIONS.values())
