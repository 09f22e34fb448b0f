from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.kubectl import documents

if TYPE_CHECKING:
    from pathlib import Path


def read(folder: Path, text: str) -> tuple[list[documents.Document], list[str]]:
    """Read a file with this text; its name stands in problems as FILE."""
    path = folder / "vip.yaml"
    path.write_text(text, encoding="utf-8")
    found, problems = documents.read(str(path))
    return found, [problem.replace(str(path), "FILE") for problem in problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("---\n---\n# nothing\n", []),
        ("a: 1\n---\nb: 2\n", [{"a": 1}, {"b": 2}]),
        ('{"a": 1}', [{"a": 1}]),
        ('{\n\t"a": "\\/"\n}', [{"a": "/"}]),
        ("{a: 1}", [{"a": 1}]),
        ("kind: List\nitems: [{a: 1}, {kind: VirtualIPList, items: [{b: 2}]}]", [{"a": 1}, {"b": 2}]),
        ("base: &b {x: 1}\nv: {<<: *b, y: 2}", [{"base": {"x": 1}, "v": {"x": 1, "y": 2}}]),
        ("- 1\n- x", [[1, "x"]]),
    ],
)
def test_objects(tmp_path: Path, text: str, expected: list[Any]) -> None:
    """Documents of YAML, an object of JSON and the items of Lists come one by one; empty ones are none."""
    found, problems = read(tmp_path, text)
    assert [] == problems
    assert expected == [document.data for document in found]


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        ("Off", False),
        ("yes", True),
        ("~", None),
        ("0", 0),
        ("-42", -42),
        ("010", 8),
        ("09", "09"),
        ("0x1f", 31),
        ("0b11", 3),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        ("2001:10:20:30:40:50:1:2", "2001:10:20:30:40:50:1:2"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("10.1.1.1", "10.1.1.1"),
        ('"Off"', "Off"),
    ],
)
def test_scalars(tmp_path: Path, scalar: str, expected: Any) -> None:
    """A plain scalar is what kubectl takes it for."""
    ((document,), _) = read(tmp_path, f"v: {scalar}")
    assert (expected, type(expected)) == (document.data["v"], type(document.data["v"]))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1\n]]", "FILE: line 2: is no YAML: "),
        ("a: 1\n---\nb: {\n", "FILE: line 4: is no YAML: "),
        ("a: !!python/object:os.system x", "FILE: line 1: is no YAML: could not determine a constructor"),
        ("a: {b: 1, c: 2, b: 3}", "FILE: document 1: a.b: stands twice (line 1)"),
        ("x: 1\n---\na: 1\na: 2", "FILE: document 2: a: stands twice (line 4)"),
        ('{"a": 1, "a": 2}', "FILE: document 1: a: stands twice in one object"),
        ("a: " + "[" * 60 + "]" * 60, "FILE: is no YAML: it has more than "),
    ],
)
def test_problems(tmp_path: Path, text: str, problem: str) -> None:
    """What cannot be understood is named with its file and line or document."""
    _, problems = read(tmp_path, text)
    assert [True] == [found.startswith(problem) for found in problems], problems


def test_aliases_that_multiply(tmp_path: Path) -> None:
    """Aliases of aliases are refused before they fill the memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    found, problems = read(tmp_path, "\n".join(lines))
    assert [] == found
    assert "is no YAML: it has more than" in problems[0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff", "is not UTF-8 at byte 0"),
        (b"a: \x00", "is no YAML"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_bytes(tmp_path: Path, data: bytes | None, problem: str) -> None:
    """A file that is missing or no text is one line."""
    path = tmp_path / "x"
    if data is not None:
        path.write_bytes(data)
    found, problems = documents.read(str(path))
    assert [] == found
    assert 1 == len(problems)
    assert problem in problems[0]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is standard input, called so."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a: 1\n---\na: ]")))
    found, problems = documents.read("-")
    assert ["stdin: document 1"] == [document.title for document in found]
    assert problems[0].startswith("stdin: line 3: is no YAML")


@pytest.mark.parametrize(
    ("data", "title"),
    [
        ({"kind": "VirtualIP", "metadata": {"name": "ingress"}}, "f: VirtualIP ingress"),
        ({"kind": "VirtualIP", "metadata": "x"}, "f: document 2"),
        ({"kind": 1, "metadata": {"name": "ingress"}}, "f: document 2"),
        ([], "f: document 2"),
    ],
)
def test_titles(data: Any, title: str) -> None:
    """An object is called by kind and name, or by its place where it lacks them."""
    assert title == documents.Document("f", "document 2", data).title


def test_place_in_a_list(tmp_path: Path) -> None:
    """An item of a List is found by its index."""
    found, _ = read(tmp_path, json.dumps({"kind": "List", "items": [{}, {"a": 1}]}))
    assert ["document 1, items[0]", "document 1, items[1]"] == [document.place for document in found]
