from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from carp.core.errors import ConfigError
from carp.daemon import yamlfile
from carp.daemon.yamlfile import Document, FileError, read

if TYPE_CHECKING:
    from collections.abc import Iterator


def _read(tmp_path: Path, text: str | bytes) -> Document:
    file = tmp_path / "carp.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(str(file))


def _error(tmp_path: Path, text: str | bytes) -> str:
    with pytest.raises(FileError) as caught:
        _read(tmp_path, text)
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.fixture(params=["c", "python"])
def _parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Read with libyaml, and as where PyYAML was built without it."""
    if request.param == "python":
        monkeypatch.delattr(yaml, "CSafeLoader")
    yamlfile._loader.cache_clear()
    yield
    yamlfile._loader.cache_clear()


@pytest.mark.usefixtures("_parser")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Off", "Off"),
        ("on", "on"),
        ("yes", "yes"),
        ("n", "n"),
        ("true", True),
        ("False", False),
        ("2001:10:20:30:40:50:1:2", "2001:10:20:30:40:50:1:2"),
        ("1:30", "1:30"),
        ("10.1.1.252", "10.1.1.252"),
        ("2001-01-01", "2001-01-01"),
        ("42", 42),
        ("-1", -1),
        ("0", 0),
        ("0x10", 16),
        ("010", "010"),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", "1e3"),
        ("null", None),
        ("~", None),
        ("", None),
        ('"42"', "42"),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    """Off is a word, an IPv6 address of decimal groups is no number, what could be octal stays a text."""
    assert {"a": value} == _read(tmp_path, f"a: {text}\n").data


@pytest.mark.usefixtures("_parser")
def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    """Settings can be shared; an own key beside a merged one is no duplicate."""
    document = _read(tmp_path, "a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n")
    assert {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}} == document.data
    assert [] == document.errors
    assert (4, 1) == (document.line("b.q"), document.line("b.p"))


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("vhosts", 2),
        ("vhosts[0]", 3),
        ("vhosts[0].name", 3),
        ("vhosts[0].interface.name", 4),
        ("vhosts[0].addresses[0]", 6),
        ("vhosts[0].addresses[1]", 7),
        ("vhosts[0].addresses[9]", 5),
        ("vhosts[0].preempt.after", 8),
        ("vhosts[1]", 11),
        ("vhosts[1].absent", 11),
        ("vhosts[1].dotted.key", 12),
        ("vhosts[1].dotted.key.sub", 14),
        ("vhosts[1].dotted.other", 11),
        ("vhosts[2].name", 2),
        ("absent", 2),
        ("", 2),
    ],
)
def test_each_path_has_its_line(tmp_path: Path, path: str, line: int) -> None:
    """A value's line is its key's or its item's; what is missing stands where it should have been."""
    document = _read(
        tmp_path,
        "# comment\n"
        "vhosts:\n"
        "  - name: a\n"
        "    interface: eth0\n"
        "    addresses:\n"
        "      - 10.0.0.1\n"
        "      - 10.0.0.2\n"
        "    preempt:\n"
        "      # comment\n"
        "      mode: After\n"
        "  - vhid: 3\n"
        "    dotted.key:\n"
        "      # comment\n"
        "      sub: 1\n",
    )
    assert line == document.line(path)


def test_keys_that_stand_twice_are_errors(tmp_path: Path) -> None:
    """YAML would take the last one silently; each is named with the line of the last and the first."""
    document = _read(tmp_path, "a: 1\nb: [{c: 1,\n  c: 2}]\n'a': 3\n")
    assert {"a": 3, "b": [{"c": 2}]} == document.data
    found = {(str(error), document.line(error.field)) for error in document.errors}
    assert {
        ("a: stands twice in this mapping, first in line 1", 4),
        ("b[0].c: stands twice in this mapping, first in line 2", 3),
    } == found


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    """A file of comments has no data and no lines, and is no error."""
    document = _read(tmp_path, "# nothing\n")
    assert (None, [], 0) == (document.data, document.errors, document.line("vhosts"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: [1\nb: 2\n", "(line 2): is no YAML: did not find expected ',' or ']'"),
        ("a: b: c\n", "(line 1): is no YAML: mapping values are not allowed in this context"),
        ("a: 1\n---\nb: 1\n", "(line 2): is no YAML: but found another document"),
        ("a: *x\n", "(line 1): is no YAML: found undefined alias"),
        ("\n? [1]\n: 2\n", "(line 2): is no YAML: found unhashable key"),
        ("a: !!python/object:os.system {}\n", "(line 1): is no YAML: could not determine a constructor"),
        (b"a: \xff\n", ": is no YAML: "),
        ("a: " + "9" * 5000, ": is no YAML: "),
        ("[" * 30 + "]" * 30, ": is no YAML: more than 20 levels"),
        ("[" * 5000, ": is no YAML: "),
        ("a: &a [*a]\n", ": is no YAML: "),
    ],
)
def test_what_is_no_yaml_is_one_line(tmp_path: Path, text: str | bytes, error: str) -> None:
    """Whatever the bytes, the error is one line with the file, and the line where it is known."""
    found = _error(tmp_path, text)
    assert found.startswith("carp.yaml")
    assert error in found
    assert "\n" not in found


@pytest.mark.usefixtures("_parser")
def test_a_syntax_error_does_not_quote_the_file(tmp_path: Path) -> None:
    """A password on the wrong line does not end up in a log."""
    assert "s3cret" not in _error(tmp_path, "a: 1\n  password: s3cret: x\n")


def test_aliases_that_multiply_are_refused_quickly(tmp_path: Path) -> None:
    """Ten lines that stand for a billion values are refused, not expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    began = time.monotonic()
    assert "more than 200000 values" in _error(tmp_path, "\n".join(lines))
    assert time.monotonic() - began < 5


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, and a file without end are one line each."""
    for path, error in (
        (tmp_path / "absent", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: Is a directory"),
        (Path("/dev/zero"), "has more than 4 MiB"),
    ):
        with pytest.raises(FileError) as caught:
            read(str(path))
        assert f"{path}: {error}" == str(caught.value)
        assert (str(path), "", 0) == (caught.value.file, caught.value.path, caught.value.line)


@pytest.mark.parametrize(
    ("text", "mode", "exposed"),
    [
        ("vhosts: [{password: x}]", 0o644, 0o644),
        ("vhosts: [{accept: [{password: x}]}]", 0o640, 0o640),
        ("vhosts: [{password: x}]", 0o600, None),
        ("vhosts: [{passwordFile: x}]", 0o644, None),
    ],
)
def test_passwords_that_others_can_read(tmp_path: Path, text: str, mode: int, exposed: int | None) -> None:
    """A file with a password in it, anywhere, says so when group or others may read it."""
    file = tmp_path / "carp.yaml"
    file.write_text(text)
    file.chmod(mode)
    assert exposed == read(str(file)).exposed


@pytest.mark.parametrize(
    ("error", "line", "named", "text"),
    [
        (
            ConfigError("vhosts[2].advskew", 300, "is wrong"),
            14,
            False,
            "vhosts[2].advskew (line 14): 300 is wrong",
        ),
        (ConfigError("a", "x", "is wrong"), 14, True, "/f.yaml: a (line 14): 'x' is wrong"),
        (ConfigError("a", None, "is wrong"), 0, False, "a: is wrong"),
        (ConfigError("", None, "is wrong"), 3, False, "/f.yaml (line 3): is wrong"),
        (ConfigError("", None, "is wrong"), 3, True, "/f.yaml (line 3): is wrong"),
        (
            ConfigError("a", {"password": "s3cret"}, "is no list"),
            1,
            False,
            "a (line 1): a mapping is no list",
        ),
        (ConfigError("a", ["s3cret"], "is no text"), 1, False, "a (line 1): a list is no text"),
        (ConfigError("a", "x" * 500, "is wrong"), 1, False, f"a (line 1): '{'x' * 120}…' is wrong"),
    ],
)
def test_text_of_an_error(error: ConfigError, line: int, named: bool, text: str) -> None:
    """Path, line and value, the file where there are several; never what may hold a password, never pages."""
    assert text == str(FileError(error, "/f.yaml", line, named=named))


def test_importing_costs_no_yaml() -> None:
    """PyYAML is loaded by the first file, not by the import."""
    code = "import sys, carp.daemon.configfile; sys.exit('yaml' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.usefixtures("_parser")
@pytest.mark.parametrize(
    "text",
    [
        "password: !s3cret",
        "password: *s3cret",
        "password: !!int s3cret",
        "password: !!bool s3cret",
        "password: !!timestamp s3cret",
        "a: &s3cret 1\nb: &s3cret 2",
        "password: !s3cret!more x",
    ],
)
def test_what_a_parser_quotes_is_left_out(tmp_path: Path, text: str) -> None:
    """A password that begins like a tag or an alias is an error, and is not shown in it."""
    error = _error(tmp_path, text)
    assert "is no YAML: " in error
    assert "s3cret" not in error
