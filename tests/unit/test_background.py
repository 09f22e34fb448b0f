from __future__ import annotations

import os
import subprocess
import sys

import pytest

from carp.background import _Verdict

HEAD = "import os, sys\nfrom carp.background import in_background\n"


def _foreground(work: str) -> subprocess.CompletedProcess[str]:
    """Run a process that goes to the background with this work, until both have closed their output."""
    code = f"{HEAD}def work(ready):\n{work}\nsys.exit(in_background(work))\n"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20
    )


def test_the_foreground_waits_until_ready() -> None:
    """The foreground returns 0 after `ready`, which lets go of its output; what came before is shown."""
    reader, writer = os.pipe()
    work = (
        "    print('starting', file=sys.stderr)\n"
        "    ready()\n"
        "    print('unseen', file=sys.stderr)\n"
        f"    os.write({writer}, f'{{os.getcwd()}} {{os.getsid(0) != os.getpid()}}'.encode())\n"
        "    return 5"
    )
    code = f"{HEAD}def work(ready):\n{work}\nsys.exit(in_background(work))\n"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        pass_fds=(writer,),
    )
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    assert (0, "", "starting\n") == (done.returncode, done.stdout, done.stderr)
    assert "/ True" == told


@pytest.mark.parametrize(
    ("work", "code"),
    [
        ("    return 2", 2),
        ("    return 0", 0),
        ("    sys.exit(4)", 4),
        ("    sys.exit('no')", 1),
        ("    1 / 0", 1),
    ],
)
def test_the_foreground_passes_on_the_exit_code(work: str, code: int) -> None:
    """A background process that ends before it is ready gives its exit code to the foreground."""
    assert code == _foreground(work).returncode


def test_an_error_is_shown() -> None:
    """An exception in the background shows in the foreground's terminal."""
    assert "ZeroDivisionError" in _foreground("    1 / 0").stderr


def test_a_killed_background_process_is_a_failure() -> None:
    """A process that is killed before it is ready fails in the foreground with a line of its own (B20)."""
    done = _foreground("    os.kill(os.getpid(), 9)")
    assert (1, "carp: the process in the background ended before it had started\n") == (
        done.returncode,
        done.stderr,
    )


def test_the_verdict_is_given_once() -> None:
    """After the verdict its descriptor may be another file's: nothing is written there."""
    reader, writer = os.pipe()
    strange_reader, strange_writer = os.pipe()
    os.set_blocking(strange_reader, False)
    verdict = _Verdict(writer)
    verdict.give(0)
    os.dup2(strange_writer, writer)
    verdict.give(1)
    assert (b"\0", b"") == (os.read(reader, 9), os.read(reader, 9))
    with pytest.raises(BlockingIOError):
        os.read(strange_reader, 9)
    for descriptor in (reader, writer, strange_reader, strange_writer):
        os.close(descriptor)
