from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carp import cli, commands
from carp.commands.completion import main, read_help, script, specs
from carp.core.errors import CarpError
from carp.options import OPTIONS
from fakecarpd import FakeCarpd, answer, check, vhost
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator

_HELP = """\
usage: carp x [-h] [--socket PATH] [-o {wide,json}] NAME {on,off}

Words, -x and --not-this-one, in a sentence.

positional arguments:
  NAME                  the vhost
  {on,off}

options:
  -h, --help            show this
  --socket PATH         a socket (see --other)
  -o {wide,json}, --output {wide,json}
                        more columns
  --wait TIME           how long
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `carp` on its PATH and both scripts."""
    folder = tmp_path_factory.mktemp("completion")
    tool = folder / "carp"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m carp "$@"\n', encoding="utf-8")
    tool.chmod(0o755)
    for shell in ("bash", "zsh"):
        (folder / f"carp.{shell}").write_text(script(shell), encoding="utf-8")
    return folder


@pytest.fixture
def carpd(tmp_path: Path) -> Iterator[FakeCarpd]:
    """Yield a carpd with the vhosts dns and web, a health check and an interface with names of their own."""
    statuses = answer(vhost("web", health=[check()]), vhost("dns")) | {"links": [{"name": "eth0"}]}
    with FakeCarpd(tmp_path / "s", lambda _: statuses) as fake:
        yield fake


def _environment(home: Path) -> dict[str, str]:
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PATH": f"{home}:{os.environ['PATH']}", "PYTHONPATH": root, "TERM": "dumb"}


def _bash(home: Path, *words: str) -> set[str]:
    """Return what bash offers for the last of these words of a `carp` line."""
    line = " ".join(f"'{word}'" for word in ("carp", *words))
    code = f". {home}/carp.bash; COMP_WORDS=({line}); COMP_CWORD={len(words)}; _carp; "
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", code],
        capture_output=True,
        text=True,
        env=_environment(home),
        cwd=home,
        check=True,
    )
    assert "" == done.stderr
    return set(done.stdout.split())


def test_options_are_read_from_help() -> None:
    """Names, choices and kinds of values come from a command's own help; its sentences do not."""
    spec = read_help(_HELP)
    assert {"-h": "", "--help": "", "--socket": "@files", "--wait": " "} == {
        option: value for option, value in spec.options.items() if option not in ("-o", "--output")
    }
    assert "wide json" == spec.options["-o"] == spec.options["--output"]
    assert "@vhosts" == spec.words


def test_every_tool_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    """The script knows each word that starts a tool, and each option of ucarp's."""
    with pytest.raises(CarpError) as raised:
        cli._tool("nosuch", [])
    listed = str(raised.value).partition("one of ")[2].partition(";")[0].split(", ")
    found = specs()
    assert {*listed, ""} == set(found)
    assert {f"--{option.long}" for option in OPTIONS} <= set(found[""].options)
    assert set(commands.NAMES) <= set(found[""].words.split())
    assert "" == capsys.readouterr().out
    assert all("--help" in spec.options for spec in found.values())


def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the script; another shell is refused."""
    assert 0 == main(["bash"])
    assert script("bash") + "\n" == capsys.readouterr().out
    with pytest.raises(CarpError, match="invalid choice: 'fish'"):
        main(["fish"])


def test_bash_completes_commands_options_and_values(home: Path) -> None:
    """Words, options and choices, for the command on the line."""
    assert {"demo", "demote"} == _bash(home, "demo")
    assert {"--vhid", "--version"} == _bash(home, "--v")
    assert {"wide", "json", "yaml"} == _bash(home, "status", "-o", "")
    assert {"--watch"} == _bash(home, "status", "--w")
    assert {"on", "off"} == _bash(home, "maintenance", "o")
    assert {"bash", "zsh"} == _bash(home, "completion", "")
    assert {"lo"} == _bash(home, "watch", "-i", "lo")
    assert {"carp.bash"} == _bash(home, "check", "carp.b")
    assert set() == _bash(home, "handover", "--wait", "")


def test_bash_completes_vhosts(home: Path, carpd: FakeCarpd) -> None:
    """Names come from the carpd that the line names; one already there is not offered again."""
    assert {"dns", "web"} == _bash(home, "handover", "--socket", carpd.path, "")
    assert {"dns"} == _bash(home, "status", "--socket", carpd.path, "web", "")
    assert set() == _bash(home, "handover", "--socket", carpd.path, "web", "")
    assert set() == _bash(home, "handover", "--socket", f"{carpd.path}.not", "")


def test_bash_reads_the_script_as_a_shell_with_strict_rules_does(home: Path) -> None:
    """Sourcing prints nothing and stops at no unset variable."""
    done = subprocess.run(
        ["bash", "--norc", "-euc", f". {home}/carp.bash"], capture_output=True, text=True, check=False
    )
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("carp handov", "handover"),
        ("carp maintenance of", "off"),
        ("carp status -o wi", "wide"),
        ("carp status --wat", "--watch"),
        ("carp explain --socket SOCKET d", "dns"),
        ("carp check carp.z", "carp.zsh"),
    ],
)
def test_zsh_completes(home: Path, carpd: FakeCarpd, typed: str, completed: str) -> None:
    """A real zsh, with its completion system, completes words, choices, options, vhosts and files."""
    require("zsh", shutil.which("zsh") is not None, "Debian's package zsh is not installed")
    assert completed in _zsh(home, typed.replace("SOCKET", carpd.path) + "\t", completed)


def _zsh(home: Path, typed: str, awaited: str) -> str:
    """Type into a zsh on a terminal until the awaited text has appeared; return what it showed."""
    terminal, end = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=home,
        env=_environment(home),
        start_new_session=True,
    )
    os.close(end)
    try:
        setup = f"PS1=; autoload -U compinit; compinit -D -u; . {home}/carp.zsh; echo re''ady\n"
        os.write(terminal, setup.encode())
        _read_until(terminal, "\nready")
        os.write(terminal, typed.encode())
        return _read_until(terminal, awaited)
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _read_until(terminal: int, text: str, seconds: float = 20.0) -> str:
    shown = ""
    end = time.monotonic() + seconds
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 4096).decode(errors="replace")
    return shown
