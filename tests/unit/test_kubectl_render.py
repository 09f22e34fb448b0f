from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from carp.daemon.check import main as check
from carp_operator.kubectl import render
from carp_operator.kubectl.usage import UsageError
from manifests import manifest
from tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = ROOT / "deploy" / "examples"
NODES = ["--node", "n1=10.99.0.1/24", "--node", "n2=10.99.0.2/24", "--node", "n3=10.99.0.3/24"]
DEMO = ["-f", str(EXAMPLES / "demo.yaml")]
CONTROL_PLANE = """\
- {name: cp1, addresses: [192.0.2.1/24], interface: eth0, labels: {node-role.kubernetes.io/control-plane: ""}}
- {name: cp2, addresses: [192.0.2.2/24], labels: {node-role.kubernetes.io/control-plane: ""}}
- {name: worker, addresses: [192.0.2.3/24]}
"""


def lines(text: str) -> list[str]:
    """Return the lines of an output."""
    return text.splitlines()


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """The pattern of password files of which all that the examples need are there."""
    for name in ("demo", "apiserver"):
        path = tmp_path / f"{name}.pass"
        path.touch(mode=0o600)
        path.write_text("secret")
    return str(tmp_path / "{vip}.pass")


@pytest.mark.parametrize(
    ("name", "expected"), [("demo.yaml", ["n1", "n2", "n3"]), ("control-plane.yaml", ["cp1", "cp2"])]
)
def test_examples(name: str, expected: list[str], secret: str, tmp_path: Path) -> None:
    """The examples become one file for each node that is to serve them, and `carp check` finds them sound."""
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text(CONTROL_PLANE)
    where = NODES if name == "demo.yaml" else ["--nodes", str(nodes)]
    out = tmp_path / "out"
    words = ["-f", str(EXAMPLES / name), *where, "-o", str(out), "--password-file", secret]
    assert 0 == render.main(words)
    assert expected == sorted(path.name for path in out.iterdir())
    for node in expected:
        assert ["carp.yaml"] == [path.name for path in (out / node).iterdir()]
        assert 0 == check([str(out / node / "carp.yaml")])


def test_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder the files are printed one after the other, each a document; notes go beside them."""
    assert 0 == render.main([*DEMO, *NODES])
    shown = capsys.readouterr()
    documents = shown.out.split("---\n")
    assert [f"# n{n}: /etc/carp/carp.yaml" for n in (1, 2, 3)] == [lines(d)[0] for d in documents]
    assert [
        "note: demo: needs /etc/carp/demo.pass on n1, n2, n3, the same on each, mode 0600",
        (
            "note: a password has 1 to 19 bytes; to make one: "
            "(umask 077; tr -dc A-Za-z0-9 </dev/urandom | head -c 19 >demo.pass)"
        ),
    ] == lines(shown.err)


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """--quiet leaves out the notes."""
    assert 0 == render.main([*DEMO, *NODES, "--quiet"])
    assert "" == capsys.readouterr().err


def test_password_of_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the manifest names a Secret, the note says whose value the file has."""
    spec = {"addresses": ["10.99.0.9"], "vhid": 1, "authentication": {"secretRef": {"name": "s", "key": "k"}}}
    path = tmp_path / "vip.json"
    path.write_text(json.dumps(manifest("VirtualIP", "a", spec)))
    assert 0 == render.main(["-f", str(path), *NODES])
    assert lines(capsys.readouterr().err)[0].endswith("mode 0600, with the value of k in the Secret s")


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`-f -` reads standard input, and problems call it so."""
    spec = {"addresses": ["10.99.0.9"], "vhid": 300}
    data = json.dumps(manifest("VirtualIP", "ingress", spec)).encode()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert 1 == render.main(["-f", "-", *NODES])
    assert (
        "error: stdin: VirtualIP ingress: spec.vhid: 300 is not between 1 and 255\n"
        == capsys.readouterr().err
    )


def test_every_problem_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each problem of each file is one line; nothing is printed or written."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    bad = manifest("VirtualIP", "a", {"addresses": ["10.99.0.9"], "vhid": 0, "maxNodes": 99})
    far = manifest("VirtualIP", "far", {"addresses": ["10.1.0.9"]})
    first.write_text(f"{json.dumps(bad)}\n---\n{json.dumps(far)}\n")
    second.write_text("a: [")
    out = tmp_path / "out"
    words = ["-f", str(first), "-f", str(second), "-f", str(tmp_path / "none"), *DEMO, *NODES, "-o", str(out)]
    assert 1 == render.main(words)
    shown = capsys.readouterr()
    errors = [line.replace(f"{tmp_path}/", "") for line in lines(shown.err)]
    assert errors[0].startswith("error: b.yaml: line ")
    assert [
        "error: none: cannot be read: No such file or directory",
        "error: a.yaml: VirtualIP a: spec.vhid: 0 is not between 1 and 255",
        "error: a.yaml: VirtualIP a: spec.maxNodes: 99 is not between 1 and 64",
        (
            "error: a.yaml: VirtualIP far: no candidate node: 3 nodes: "
            "has no interface whose subnet contains 10.1.0.9"
        ),
    ] == errors[1:]
    assert ("", False) == (shown.out, out.exists())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["-f", "x", "--node", "n1=10.1"], "--node: n1: '10.1' is no address with its prefix length"),
        (["-f", "{tmp}/empty", *NODES], "{tmp}/empty: there is no VirtualIP"),
        ([*DEMO, "--nodes", "{tmp}/empty"], "{tmp}/empty: there is no node"),
        ([*DEMO, "--nodes", "{tmp}/none"], "{tmp}/none: cannot be read"),
        ([*DEMO, *NODES, "-o", "{tmp}/empty"], "cannot be written: Not a directory"),
    ],
)
def test_problems(words: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with files and nodes is an error, exit code 1."""
    (tmp_path / "empty").write_text("")
    assert 1 == render.main([word.replace("{tmp}", str(tmp_path)) for word in words])
    assert problem.replace("{tmp}", str(tmp_path)) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (NODES, "the following arguments are required: -f/--filename; see 'kubectl carp render --help'"),
        (DEMO, "--nodes or --node: at least one node is required"),
        (["-f", "-", "--nodes", "-"], "standard input (-) can be read once only"),
        ([*DEMO, *NODES, "--password-file", "x"], "--password-file: 'x' is no absolute path"),
        ([*DEMO, *NODES, "--what"], "unrecognized arguments: --what"),
    ],
)
def test_wrong_use(words: list[str], problem: str) -> None:
    """A command line that makes no sense is refused before anything is read."""
    with pytest.raises(UsageError) as caught:
        render.main(words)
    assert str(caught.value).startswith(problem)


def test_written_whole_or_not_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where one file cannot be written, those of the other nodes stay as they were."""
    (tmp_path / "n1").mkdir()
    (tmp_path / "n1" / "carp.yaml").write_text("old")
    (tmp_path / "n2").write_text("a file where the folder should be")
    assert 1 == render.main([*DEMO, *NODES, "-o", str(tmp_path)])
    assert "cannot be written" in capsys.readouterr().err
    assert "old" == (tmp_path / "n1" / "carp.yaml").read_text()
    assert ["carp.yaml"] == [path.name for path in (tmp_path / "n1").iterdir()]


def test_older_files_are_mentioned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node that has no part any more keeps its file, and that is said."""
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "carp.yaml").write_text("old")
    assert 0 == render.main([*DEMO, *NODES, "-o", str(tmp_path)])
    note = f"note: {tmp_path}/gone/carp.yaml: is older: nothing was rendered for gone"
    assert note in lines(capsys.readouterr().err)


def test_twice_is_the_same(tmp_path: Path) -> None:
    """Rendering again changes nothing."""
    words = [*DEMO, *NODES, "-o", str(tmp_path)]
    render.main(words)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    render.main(words)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    assert 3 == len(before)
