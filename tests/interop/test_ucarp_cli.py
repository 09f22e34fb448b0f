"""The command line next to Debian's ucarp: what it takes we take, and scripts are called alike."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from carp.command import command
from carp.options import scan
from nsfix import ip, namespace, require_namespaces, wait_for
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASE = ["-i", "v0", "-s", "10.9.0.1", "-v", "7", "-p", "love", "-a", "10.9.0.9"]

# Every option that is not in BASE, and other spellings of those that are. FILE stands for a script, PASS for
# a password file.
CHOICES = [
    ["--interface=v0"],
    ["--src", "10.9.0.1"],
    ["--mcast=224.0.0.20"],
    ["-v255"],
    ["--pass", "x"],
    ["-o", "PASS"],
    ["-P"],
    ["-n"],
    ["--addr=10.9.0.10"],
    ["--advbase", "3"],
    ["-k", "254"],
    ["-u", "FILE"],
    ["--downscript=FILE"],
    ["-r7"],
    ["-D"],
    ["-z"],
    ["-B"],
    ["--ignoreif"],
    ["-M"],
    ["-f", "local1"],
    ["-f", "none"],
    ["-x", "a b"],
    ["-b", "0", "-k", "1"],
    ["-Pzn"],
]


@pytest.fixture(scope="module")
def net() -> Iterator[str]:
    """Make a namespace in which ucarp finds the interface v0 with the address 10.9.0.1."""
    require_namespaces()
    require("ucarp", shutil.which("ucarp") is not None, "the program ucarp is not installed")
    with namespace() as name:
        ip("-n", name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        for link in ("v0", "v1"):
            ip("-n", name, "link", "set", link, "up")
        ip("-n", name, "addr", "add", "10.9.0.1/24", "dev", "v0")
        try:
            yield name
        finally:
            _kill_all(name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the files that stand for FILE and PASS."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o700)
    (folder / "pass").write_text("love\n")
    return {"FILE": str(folder / "script"), "PASS": str(folder / "pass")}


def _kill_all(net: str) -> None:
    for pid in ip("netns", "pids", net).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _ucarp_starts(net: str, words: list[str]) -> bool:
    """Start ucarp and return whether it takes part; end it."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", net, "ucarp", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        if any("Switching to state" in line for line in process.stdout):
            return True
        return process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        _kill_all(net)


@pytest.mark.root
@pytest.mark.slow
def test_every_pair_of_options_that_ucarp_takes_is_taken(net: str, files: dict[str, str]) -> None:
    """Whatever pair of options ucarp starts with, our command line is correct with it."""
    taken, refused = 0, []
    for first, second in itertools.combinations(CHOICES, 2):
        words = [*BASE, *first, *second]
        for word, path in files.items():
            words = [part.replace(word, path) for part in words]
        if not _ucarp_starts(net, words):
            refused.append((first, second))
            continue
        taken += 1
        command(scan(words), {})
    # advbase 0 with skew 0 does not occur; ucarp knows all the rest.
    assert [] == refused
    assert len(CHOICES) * (len(CHOICES) - 1) // 2 == taken


def _calls(net: str, folder: Path, program: list[str], options: list[str]) -> list[str]:
    """Run a lone node until it is master, stop it, and return the calls of its scripts."""
    folder.mkdir()
    calls = folder / "calls"
    calls.touch()
    for name in ("up", "down"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "{name}" $# "$@" >> {calls}\n')
        script.chmod(0o700)
    words = [*BASE, "-u", str(folder / "up"), "-d", str(folder / "down"), "-f", "none", *options]
    process = subprocess.Popen(["ip", "netns", "exec", net, *program, *words], stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: "up" in calls.read_text(), 15)
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    finally:
        process.kill()
        process.wait()
    return calls.read_text().splitlines()


@pytest.mark.root
@pytest.mark.parametrize("options", [["-z", "-x", "a b"], ["-n", "-z"]])
def test_scripts_are_called_as_by_ucarp(net: str, tmp_path: Path, options: list[str]) -> None:
    """From start over mastership to SIGTERM a lone node calls the same scripts with the same arguments."""
    expected = _calls(net, tmp_path / "ucarp", ["ucarp"], options)
    ours = [sys.executable, "-m", "carp", "--state-dir", str(tmp_path / "state")]
    assert expected == _calls(net, tmp_path / "carp", ours, options)
    assert "up" == expected[0 if "-n" in options else 1].split()[0]


@pytest.mark.root
def test_the_background_process_takes_part_and_leaves_nothing(net: str, tmp_path: Path) -> None:
    """-B returns 0, the process holds the address, and on SIGTERM with --release the address is gone."""
    words = [*BASE, "-B", "-f", "none", "--release", "--state-dir", str(tmp_path)]
    done = subprocess.run(
        ["ip", "netns", "exec", net, sys.executable, "-m", "carp", *words],
        check=False,
        timeout=20,
        cwd=tmp_path,
    )
    assert 0 == done.returncode
    (pid,) = map(int, ip("netns", "pids", net).split())
    wait_for(lambda: "10.9.0.9/32" in ip("-n", net, "addr", "show", "dev", "v0"), 10)
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not ip("netns", "pids", net), 10)
    assert "10.9.0.9" not in ip("-n", net, "addr", "show", "dev", "v0")
