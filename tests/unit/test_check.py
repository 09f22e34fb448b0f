from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from carp import cli
from carp.daemon import jsonschema
from carp.daemon.check import main

if TYPE_CHECKING:
    from pathlib import Path

SOUND = """\
vhosts:
  - name: ingress
    vhid: 42
    interface: eth0
    addresses: [10.1.1.252, "2001:db8::252/64"]
    password: love
  - name: b
    vhid: 7
    interface: {subnet: auto}
    addresses: [10.1.1.253]
    password: love
    deadRatio: 1
"""
WRONG = """\
vhosts:
  - name: a
    vhid: 300
    interface: eth0
    addresses: [10.1.1.252]
    password: [s3cret]
    advskew: 300
"""


def _file(tmp_path: Path, text: str) -> str:
    file = tmp_path / "carp.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return str(file)


def test_a_sound_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0; a line per vhost with what its settings amount to; warnings on standard error."""
    assert 0 == main([_file(tmp_path, SOUND)])
    out, err = capsys.readouterr()
    assert (
        "NAME     VHID  INTERFACE    ADDRESSES                  DEAD TIME  LIFETIME  TWO OWNERS\n"
        "ingress  42    eth0         10.1.1.252, 2001:db8::252  3.200 s    2 s       0.00 s\n"
        "b        7     subnet auto  10.1.1.253                 1.200 s    1 s       1.00 s\n"
    ) == out
    assert (
        "warning: b: two owners for up to 1.00 s after a kill or stall: a lifetime of whole seconds needs a "
        "dead time of at least 2.2 s, such as deadRatio x advbase 2\n"
    ) == err


def test_a_sound_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same as an object, without a password."""
    assert 0 == main([_file(tmp_path, SOUND), "--json"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert ("", True, []) == (err, report["valid"], report["errors"])
    assert 1 == len(report["warnings"])
    assert {
        "name": "ingress",
        "vhid": 42,
        "interface": "eth0",
        "addresses": ["10.1.1.252/32", "2001:db8::252/64"],
        "deadTime": 3.2,
        "lifetime": 2,
        "overlapBound": 0.0,
    } == report["vhosts"][0]
    assert "love" not in out


def test_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; every error on a line of its own, with path, line and value, but never a password."""
    assert 2 == main([_file(tmp_path, WRONG)])
    out, err = capsys.readouterr()
    assert "" == out
    assert [
        "vhosts[0].vhid (line 3): 300 is not between 1 and 255",
        "vhosts[0].password (line 6): is not a text: put it into quotes",
        "vhosts[0].password (line 6): is required: exactly one of password and passwordFile",
        "vhosts[0].advskew (line 7): 300 is not between 0 and 254",
    ] == err.splitlines()


def test_a_wrong_file_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each error in its parts; null where there is no line or no value to show."""
    file = _file(tmp_path, WRONG)
    assert 2 == main([file, "--json"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert ("", False, [], 4) == (err, report["valid"], report["vhosts"], len(report["errors"]))
    assert {
        "file": file,
        "path": "vhosts[0].advskew",
        "line": 7,
        "value": 300,
        "problem": "is not between 0 and 254",
    } == report["errors"][-1]
    assert "s3cret" not in out
    assert 2 == main([f"{file}.absent", "--json"])
    (error,) = json.loads(capsys.readouterr().out)["errors"]
    assert ("", None, None) == (error["path"], error["line"], error["value"])


def _warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str], *vhosts: dict[str, Any]) -> list[str]:
    """Return the warnings about vhosts with these settings."""
    base = {"interface": "eth0", "password": "love"}
    data = [
        {"name": f"v{i}", "vhid": i + 1, "addresses": [f"10.1.1.{i + 1}"], **base, **changes}
        for i, changes in enumerate(vhosts)
    ]
    assert 0 == main([_file(tmp_path, json.dumps({"vhosts": data})), "--json"])
    warnings: list[str] = json.loads(capsys.readouterr().out)["warnings"]
    return warnings


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({}, []),
        ({"advbase": 0, "advskew": 254}, ["advbase 0 goes among own members only"]),
        ({"fencing": "Off"}, ["fencing Off: a dead owner keeps the addresses"]),
        ({"manageAddresses": False}, ["manageAddresses false: the scripts set the addresses"]),
        ({"fencing": "Off", "deadRatio": 1}, ["fencing Off: a dead owner keeps the addresses"]),
        (
            {"advbase": 0, "advskew": 26},
            ["advbase 0 goes among own members only", "two owners for up to 1.90 s after a kill"],
        ),
    ],
)
def test_warnings(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    warnings: list[str],
) -> None:
    """What is allowed but may not be meant is said, behind the vhost's name."""
    found = _warnings(tmp_path, capsys, changes)
    assert len(warnings) == len(found)
    assert all(text.startswith(f"v0: {start}") for text, start in zip(found, warnings, strict=True))


def test_one_warning_for_many_vhosts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same warning is given once, with a few of the names."""
    (text,) = _warnings(tmp_path, capsys, *[{"fencing": "Off"}] * 6)
    assert "v0, v1, v2, v3 and 2 more: fencing Off: a dead owner keeps the addresses" == text


def test_an_unfenced_vhost_has_no_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the kernel has no part in it, neither a lifetime nor a bound is stated."""
    assert 0 == main([_file(tmp_path, SOUND.replace("deadRatio: 1", "fencing: Off"))])
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.endswith("  3.200 s    -         no bound")


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """--schema needs no file."""
    assert 0 == main(["--schema"])
    assert jsonschema.text() == capsys.readouterr().out


def test_a_file_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file and without --schema there is nothing to do: exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main([])
    assert 2 == caught.value.code
    assert "FILE is required" in capsys.readouterr().err


def test_the_command_line_knows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`carp check FILE` is this command."""
    assert 2 == cli.main(["check", _file(tmp_path, WRONG)])
    assert 4 == capsys.readouterr().err.count("\n")


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """A closed pipe is no error and no traceback."""
    script = f"{sys.executable} -m carp check --schema | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert ("0\n", "") == (done.stdout, done.stderr)
