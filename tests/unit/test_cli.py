from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

from carp import __version__, cli
from carp import run as running
from carp.core.errors import CarpError

if TYPE_CHECKING:
    from pathlib import Path

    from carp.core.config import VhostConfig

BASE = ["-i", "lo", "-v", "7", "-a", "10.1.1.252", "-f", "none"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[VhostConfig], running.RunOptions]]:
    """Replace the engine; collect what it is asked to run."""
    calls: list[tuple[list[VhostConfig], running.RunOptions]] = []

    def run(configs: list[VhostConfig], options: running.RunOptions) -> int:
        calls.append((configs, options))
        options.ready()
        return 0

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setenv("CARP_PASSWORD", "love")
    return calls


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(configs: list[VhostConfig], options: running.RunOptions) -> int:
        raise error

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setenv("CARP_PASSWORD", "love")


def test_no_argument_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments the usage goes to standard error, exit code 2; ucarp exits 0 (B20)."""
    assert 2 == cli.main([])
    out, err = capsys.readouterr()
    assert ("", 1) == (out, err.count("\n"))
    assert err.startswith("usage: carp ")


@pytest.mark.parametrize(
    "words", [["--bogus"], ["-q"], ["--vhid"], ["-P", "stray"], ["frobnicate"], ["-v", "0"]]
)
def test_a_mistake_is_exit_code_2(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong words are told on standard error, each line begins with the command's name; exit code 2."""
    assert 2 == cli.main(words)
    out, err = capfd.readouterr()
    assert "" == out
    assert all(line.startswith("carp: ") for line in err.splitlines())


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--help and --version go to standard output, exit code 0, whatever else is given."""
    assert 0 == cli.main(["-v", "999", "-h"])
    assert "--vhid" in capsys.readouterr().out
    assert 0 == cli.main(["--version"])
    assert f"carp {__version__}\n" == capsys.readouterr().out


def test_an_interface_that_does_not_exist(capfd: pytest.CaptureFixture[str]) -> None:
    """An unknown interface is one line with its name and those that exist, exit code 2."""
    assert 2 == cli.main(["-i", "nosuch0", "-v", "7", "-a", "10.1.1.252", "-p", "love"])
    err = capfd.readouterr().err
    assert err.startswith("carp: --interface (-i): 'nosuch0' is no interface here; there are ")
    assert 1 == err.count("\n")


def test_the_vhost_is_run(started: list[tuple[list[VhostConfig], running.RunOptions]]) -> None:
    """The checked vhost and the process's options reach the engine, whose exit code is ours."""
    assert 0 == cli.main([*BASE, "--release", "--state-dir", "/some/where"])
    ((configs, options),) = started
    assert ["lo.7"] == [config.name for config in configs]
    assert ("/some/where", True) == (options.state_dir, options.release)


def test_notes_are_logged_at_the_start(
    started: list[tuple[list[VhostConfig], running.RunOptions]], capfd: pytest.CaptureFixture[str]
) -> None:
    """What an operator should know is logged once the vhost runs: --pass, and scripts without a fence."""
    assert 0 == cli.main([*BASE, "-p", "love", "-u", "/bin/true"])
    err = capfd.readouterr().err
    assert 2 == err.count(" WARNING lo.7 ")
    assert "better use --passfile" in err
    assert "the scripts set the address" in err


def test_what_the_engine_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error at the start is its one line, without notes before it; exit code 2."""
    _fail_with(monkeypatch, CarpError("address 10.1.1.252 is taken"))
    assert 2 == cli.main([*BASE, "-p", "love"])
    assert ("", "carp: address 10.1.1.252 is taken\n") == capfd.readouterr()


def test_a_missing_privilege_says_which_and_how(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a capability the line names it and two ways to get it; exit code 2."""
    _fail_with(monkeypatch, running.NoPrivilegeError("CAP_NET_RAW missing"))
    assert 2 == cli.main(BASE)
    err = capfd.readouterr().err
    assert err.startswith("carp: CAP_NET_RAW missing (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW")
    assert 1 == err.count("\n")


def test_what_the_kernel_refuses_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An OSError of the engine is one line, exit code 1."""
    _fail_with(monkeypatch, OSError(97, "Address family not supported"))
    assert 1 == cli.main(BASE)
    assert "carp: [Errno 97] Address family not supported\n" == capfd.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C before the engine handles signals ends quietly, with the shell's exit code for it."""
    _fail_with(monkeypatch, KeyboardInterrupt())
    assert 130 == cli.main(BASE)
    assert "" == capfd.readouterr().err


@pytest.mark.parametrize(
    ("word", "module", "function"),
    [
        ("decode", "carp.inspect", "decode_main"),
        ("watch", "carp.inspect", "watch_main"),
        ("demo", "carp.lab.demo", "main"),
        ("daemon", "carp.daemon.main", "main"),
    ],
)
def test_the_first_word_chooses_the_tool(
    word: str, module: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool gets the words after its name, and its exit code is ours."""
    calls = []
    fake = types.ModuleType(module)

    def main(words: list[str]) -> int:
        calls.append(words)
        return 3

    setattr(fake, function, main)
    monkeypatch.setitem(sys.modules, module, fake)
    assert 3 == cli.main([word, "--help", "-x"])
    assert [["--help", "-x"]] == calls


def test_importing_the_command_is_light() -> None:
    """The command itself imports neither asyncio nor a third-party package."""
    heavy = "{'asyncio', 'pyroute2', 'scapy', 'yaml', 'kopf', 'kubernetes'}"
    code = f"import sys, carp.cli; print(sorted({heavy} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "[]\n" == printed


def test_the_daemon_is_started_when_the_parent_ends(tmp_path: Path) -> None:
    """-B returns 0 only after the engine is ready, and then nothing holds the terminal."""
    code = (
        "import os, signal, sys\n"
        "from carp import cli, run\n"
        "def fake(configs, options):\n"
        "    options.ready()\n"
        "    open('pid', 'w').write('in the wrong folder') if os.getcwd() != '/' else None\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    signal.pause()\n"
        "run.run = fake\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    words = [sys.executable, "-c", code, *BASE, "-p", "love", "-B"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    pid = int(fifo.read_text())
    try:
        assert 0 == done.returncode
        assert "better use --passfile" in done.stderr
        assert pid == os.getsid(pid) or os.getsid(pid) != os.getsid(0)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_the_parent_passes_on_why_the_daemon_did_not_start() -> None:
    """-B fails with the child's one line and exit code where the engine refuses to start."""
    code = (
        "import sys\n"
        "from carp import cli, run\n"
        "def fake(configs, options):\n"
        "    raise run.NoPrivilegeError('CAP_NET_RAW missing')\n"
        "run.run = fake\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", code, *BASE, "-p", "love", "-B"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=20)
    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert done.stderr.startswith("carp: CAP_NET_RAW missing")
