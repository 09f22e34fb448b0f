from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

import pytest

from carp import __version__
from carp_operator.kubectl import main as plugin


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return exit code, output and errors."""
    code = plugin.main(words)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The help has a line for each command."""
    code, out, err = run(capsys, *words)
    assert (0, "") == (code, err)
    for name, text in plugin.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)


@pytest.mark.parametrize("name", plugin.COMMANDS)
def test_every_command_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of the table has help with examples and exit codes."""
    assert callable(import_module(f"carp_operator.kubectl.{name.replace('-', '_')}").main)
    with pytest.raises(SystemExit) as caught:
        plugin.main([name, "--help"])
    out = capsys.readouterr().out
    assert 0 == caught.value.code
    assert out.startswith(f"usage: kubectl carp {name} ")
    assert "examples:" in out
    assert "exit codes:" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version."""
    assert (0, f"kubectl carp {__version__}\n", "") == run(capsys, "--version")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["rendr"],
            "unknown command 'rendr' for 'kubectl carp'; did you mean render?; see 'kubectl carp --help'",
        ),
        (["--foo"], "unknown flag '--foo' for 'kubectl carp'; see 'kubectl carp --help'"),
        (["render", "-f", "x"], "--nodes or --node: at least one node is required; see"),
    ],
)
def test_errors(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors are one line, exit code 1."""
    code, out, err = run(capsys, *words)
    assert (1, "", 1) == (code, out, err.count("\n"))
    assert err.startswith(f"error: {error}")


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it with 130 and no traceback."""

    def interrupt(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("carp_operator.kubectl.render.main", interrupt)
    assert 130 == plugin.main(["render"])


def test_render_needs_no_cluster() -> None:
    """Rendering loads none of the packages that talk to a cluster: they need not be installed."""
    code = "import sys, carp_operator.kubectl.render; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set() == set(done.stdout.split()) & {
        "kopf",
        "kubernetes",
        "urllib3",
        "asyncio",
        "scapy",
        "pyroute2",
    }
