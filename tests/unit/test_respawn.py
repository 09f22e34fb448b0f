"""The parent that starts a crashed carpd again (carp.daemon.respawn), in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from carp.daemon import respawn
from nsfix import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import os, signal, sys, time
from pathlib import Path
from carp.daemon import respawn
from carp.daemon.respawn import supervise

def note(word):
    with open(sys.argv[1], "a") as log:
        log.write(f"{word} {os.getpid()} {time.monotonic()}\\n")

def wait():
    while True:
        time.sleep(60)
"""


class Parent:
    """A supervisor whose child runs a piece of Python; the child's notes are read from a file."""

    def __init__(self, folder: Path, work: str, setup: str = "") -> None:
        self.log = folder / "notes"
        self.log.touch()
        body = "\n".join(f"    {line}" for line in work.strip().splitlines())
        code = f"{HEAD}\n{setup}\ndef work():\n{body}\n\nsys.exit(supervise(work))\n"
        # A file: a pipe would be held open by a child that outlives its parent.
        self.errors = folder / "errors"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(self.log)], cwd=ROOT, stderr=errors
            )

    def notes(self, word: str) -> list[tuple[int, float]]:
        """Return pid and time of each note of a kind."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [(int(pid), float(at)) for kind, pid, at in lines if kind == word]

    def child(self, number: int) -> int:
        """Wait for the child of this number, counted from 1, and return its pid."""
        wait_for(lambda: len(self.notes("start")) >= number, 10.0)
        return self.notes("start")[number - 1][0]

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(10)

    @property
    def said(self) -> str:
        """What parent and children have written to standard error."""
        return self.errors.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Parent]]:
    """Yield what starts a parent; all are gone afterwards."""
    parents: list[Parent] = []

    def begin(work: str, setup: str = "") -> Parent:
        parents.append(Parent(tmp_path, work, setup))
        return parents[-1]

    yield begin
    for parent in parents:
        if parent.process.poll() is None:
            parent.process.kill()
        parent.process.wait()
        for pid, _ in parent.notes("start"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


SLEEPS = 'note("start")\nwait()'
ENDS = """
signal.signal(signal.SIGTERM, lambda *_: (note("term"), os._exit(0)))
note("start")
wait()
"""


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_twenty_kills_in_a_row(start: Callable[..., Parent]) -> None:
    """Each is answered at once, with no growing pause, by a child that runs within 50 ms."""
    parent = start(SLEEPS)
    took = []
    for number in range(1, 21):
        os.kill(parent.child(number), signal.SIGKILL)
        killed = time.monotonic()
        parent.child(number + 1)
        took.append(parent.notes("start")[number][1] - killed)
    took.sort()
    print(f"back after {took[0] * 1000:.1f} to {took[-1] * 1000:.1f} ms")
    assert took[10] < 0.05
    assert took[17] < 0.1  # pauses begin at 0.1 s; the longest may be the machine's


def test_what_is_kept_outlives_the_child() -> None:
    """The next child, and the parent, find what the last one put; a value that is too large is not kept."""
    kept: respawn.Kept[list[str]] = respawn.Kept()
    assert None is kept.get()
    for value in (["a"], ["b", "c" * 100_000], ["d"]):
        child = os.fork()
        if not child:
            kept.put(value)
            os._exit(0)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert value == kept.get()
    kept.put(["x" * (9 << 20)])
    assert None is kept.get()


def test_a_crash_while_it_is_put_leaves_the_old_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new one counts only once it is there whole."""
    kept: respawn.Kept[str] = respawn.Kept()
    kept.put("old")

    def crash(_data: bytes) -> int:
        raise SystemExit

    monkeypatch.setattr(respawn.zlib, "crc32", crash)
    with pytest.raises(SystemExit):
        kept.put("new")
    monkeypatch.undo()
    assert "old" == kept.get()


def test_too_many_crashes_are_slowed_down(start: Callable[..., Parent]) -> None:
    """The first 30 crashes of a minute are answered at once, further ones after pauses that double."""
    parent = start('note("start")\nreturn 1')
    parent.child(34)
    starts = [at for _, at in parent.notes("start")]
    gaps = [after - before for before, after in pairwise(starts)]
    assert sorted(gaps[:30])[25] < 0.1  # the longest may be the machine's
    assert all(pause <= gap for pause, gap in zip((0.1, 0.2, 0.4), gaps[30:], strict=True))
    assert sum(gaps[30:]) < 0.7 + 1.0
    parent.process.send_signal(signal.SIGTERM)
    assert 0 == parent.end()


@pytest.mark.parametrize("code", [0, 2])
def test_a_wanted_end_and_bad_input_are_final(start: Callable[..., Parent], code: int) -> None:
    """The parent ends with the child's exit code 0 or 2 and starts nothing."""
    parent = start(f'note("start")\nreturn {code}')
    assert code == parent.end()
    assert 1 == len(parent.notes("start"))


@pytest.mark.parametrize("fault", ["return 1", "raise ValueError('made to fail')", "os.abort()"])
def test_every_other_end_is_a_crash(start: Callable[..., Parent], fault: str) -> None:
    """Another exit code, an exception, a signal of its own: the next child runs, and the log says why."""
    parent = start(
        f'note("start")\nif len(Path(sys.argv[1]).read_text().splitlines()) > 1:\n    return 0\n{fault}',
        "import resource\nresource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    )
    assert 0 == parent.end()
    assert 2 == len(parent.notes("start"))
    assert "starting it again" in parent.said
    assert ("signal 6" if "abort" in fault else "exit code 1") in parent.said


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_signals_are_passed_on(start: Callable[..., Parent], name: str) -> None:
    """The child gets the parent's signal and the parent lives on as long as the child does."""
    parent = start(f'signal.signal(signal.{name}, lambda *_: note("got"))\n{SLEEPS}')
    child = parent.child(1)
    parent.process.send_signal(signal.Signals[name])
    wait_for(lambda: parent.notes("got"))
    assert child == parent.notes("got")[0][0]
    assert parent.process.poll() is None


def test_sigterm_ends_both(start: Callable[..., Parent]) -> None:
    """A child that ends in good order takes the parent with it, exit code 0."""
    parent = start(ENDS)
    parent.child(1)
    parent.process.send_signal(signal.SIGTERM)
    assert 0 == parent.end()
    assert 1 == len(parent.notes("term"))


def test_sigterm_at_a_child_that_cannot_hear_it_yet(start: Callable[..., Parent]) -> None:
    """A child that the signal kills before it has a handler is not started again: the stop was wanted."""
    parent = start(SLEEPS)
    parent.child(1)
    parent.process.send_signal(signal.SIGTERM)
    parent.end()
    assert 1 == len(parent.notes("start"))


def test_sigterm_while_the_child_is_dead(start: Callable[..., Parent]) -> None:
    """A stop that comes together with a crash is a stop."""
    parent = start(ENDS)
    child = parent.child(1)
    os.kill(parent.process.pid, signal.SIGSTOP)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: _gone(child))
    parent.process.send_signal(signal.SIGTERM)
    parent.process.send_signal(signal.SIGCONT)
    parent.end()
    assert 1 == len(parent.notes("start"))


def test_the_child_hands_over_when_its_parent_dies(start: Callable[..., Parent]) -> None:
    """SIGKILL of the parent is SIGTERM for the child: an unwatched carpd does not stay behind."""
    parent = start(ENDS)
    child = parent.child(1)
    parent.process.kill()
    wait_for(lambda: parent.notes("term"))
    wait_for(lambda: _gone(child))


def test_the_watchdog_names_the_child(start: Callable[..., Parent]) -> None:
    """WATCHDOG_PID is the child's: it is the child that feeds the service manager's watchdog."""
    parent = start(
        'note("start")\nnote("pid" if os.environ["WATCHDOG_PID"] == str(os.getpid()) else "other")\nreturn 0',
        'os.environ["WATCHDOG_PID"] = "1"',
    )
    assert 0 == parent.end()
    assert 1 == len(parent.notes("pid"))
