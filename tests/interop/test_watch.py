"""`carp watch` and `carp decode` against Debian's ucarp, keepalived and tcpdump."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from nsfix import ip, namespace, require_namespaces
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

WATCH = [
    sys.executable,
    "-c",
    "import sys; from carp.inspect import watch_main as m; sys.exit(m(sys.argv[1:]))",
]
DECODE = [
    sys.executable,
    "-c",
    "import sys; from carp.inspect import decode_main as m; sys.exit(m(sys.argv[1:]))",
]
LOVE = ["-p", "love", "-a", "10.99.0.252"]


def enter(space: str, *command: str) -> list[str]:
    """Return the command that runs in a namespace, in the place of the caller."""
    return ["ip", "netns", "exec", space, *command]


@contextmanager
def running(*command: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(10)


@pytest.fixture
def segment() -> Iterator[tuple[str, str]]:
    """Two hosts, 10.99.0.1 and 10.99.0.2, on one wire; each one's interface is called w0."""
    require_namespaces()
    with namespace() as one, namespace() as two:
        ip("-n", one, "link", "add", "w0", "type", "veth", "peer", "name", "w0", "netns", two)
        for number, space in enumerate((one, two), 1):
            ip("-n", space, "link", "set", "w0", "up")
            ip("-n", space, "address", "add", f"10.99.0.{number}/24", "dev", "w0")
        yield one, two


@pytest.fixture
def ucarp(segment: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """A ucarp that becomes master of vhid 42 on the first host."""
    require("ucarp", shutil.which("ucarp") is not None, "the Debian package ucarp is not installed")
    options = ["-i", "w0", "-s", "10.99.0.1", "-v", "42", "-b", "1", "-k", "50", *LOVE, "-n"]
    scripts = ["-u", "/bin/true", "-d", "/bin/true"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(*enter(segment[0], "ucarp", *options, *scripts), **quiet):
        yield segment


def lines(command: list[str], **options: Any) -> list[dict[str, Any]]:
    """Run to the end and return the JSON lines."""
    done = subprocess.run(command, capture_output=True, check=True, timeout=30, **options)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("side", [0, 1])
def test_a_real_ucarp_is_seen_on_either_side(ucarp: tuple[str, str], side: int) -> None:
    """On the sender's own host its injected frames are outgoing ones, on the other incoming."""
    records = lines(enter(ucarp[side], *WATCH, "-i", "w0", *LOVE, "--count", "2"))
    for record in records:
        expected = {
            "source": "10.99.0.1",
            "destination": "224.0.0.18",
            "ttl": 255,
            "vhid": 42,
            "advbase": 1,
            "advskew": 50,
            "demotion": 0,
            "checksum": "ok",
            "hmac": "ok",
            "form": "plain",
            "sealed": False,
            "drop": None,
            "mac": "00:00:5e:00:00:2a",
            "interface": "w0",
        }
        assert expected.items() <= record.items()
    assert 1.0 < records[1]["time"] - records[0]["time"] < 1.5


def test_another_password_is_told(ucarp: tuple[str, str]) -> None:
    """As a receiver with that password would judge."""
    (record,) = lines(enter(ucarp[1], *WATCH, "-i", "w0", "-p", "hate", *LOVE[2:], "--count", "1"))
    assert ("bad", "hmac") == (record["hmac"], record["drop"])


def test_what_tcpdump_pipes_is_decoded(ucarp: tuple[str, str]) -> None:
    """As the help of `carp decode` shows it, live."""
    require("tcpdump", shutil.which("tcpdump") is not None, "the program tcpdump is not installed")
    capture = ["tcpdump", "-U", "-c", "2", "-w", "-", "-i", "w0", "ip", "proto", "112"]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with running(*enter(ucarp[1], *capture), **quiet) as tcpdump:
        records = lines([*DECODE, "--pcap", "-", *LOVE], stdin=tcpdump.stdout)
    assert [(42, "ok")] * 2 == [(record["vhid"], record["hmac"]) for record in records]


@pytest.mark.parametrize("version", [2, 3])
def test_a_real_keepalived_is_named(segment: tuple[str, str], version: int, tmp_path: Path) -> None:
    """VRRP with its version, VRID and priority."""
    require("keepalived", shutil.which("keepalived") is not None, "the Debian package is not installed")
    config = tmp_path / "keepalived.conf"
    config.write_text(
        f"global_defs {{\n vrrp_version {version}\n}}\n"
        "vrrp_instance one {\n state MASTER\n interface w0\n virtual_router_id 77\n priority 123\n"
        " advert_int 1\n virtual_ipaddress {\n 10.99.0.77\n }\n}\n",
        encoding="utf-8",
    )
    options = ["-n", "-l", "-P", "-f", str(config), "-p", str(tmp_path / "k"), "-r", str(tmp_path / "v")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with running(*enter(segment[0], "keepalived", *options), **quiet):
        (record,) = lines(enter(segment[1], *WATCH, "-i", "w0", "--vhid", "77", "--count", "1"))
    named = {"protocol": "vrrp", "version": version, "vrid": 77, "priority": 123, "drop": "vrrp"}
    assert named.items() <= record.items()


def read_until(terminal: int, pattern: str, seconds: float = 15.0) -> str:
    """Read a terminal until the pattern has been seen."""
    seen, end = "", time.monotonic() + seconds
    while re.search(pattern, seen) is None:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            pytest.fail(f"{pattern!r} not seen in {seen!r}")
        seen += os.read(terminal, 65536).decode()
    return seen


def test_the_table_on_a_terminal_and_ctrl_c(ucarp: tuple[str, str]) -> None:
    """The master is in a line; Ctrl-C ends with exit code 0 and no traceback."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "120", "LINES": "24"}
    with running(
        *enter(ucarp[1], *WATCH, "-i", "w0", *LOVE),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        seen = read_until(
            ours, r"carp +42 +10\.99\.0\.1 +master +1/50 +0 +1\.\d{3} +\d\.\d +\d+ +ok +00:00:5e:00:00:2a"
        )
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(10)
    os.close(ours)
    assert "Traceback" not in seen


def test_without_the_capability_it_is_named(segment: tuple[str, str]) -> None:
    """Root alone does not do: the capability does."""
    require("setpriv", shutil.which("setpriv") is not None, "the program setpriv is not installed")
    drop = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    done = subprocess.run(
        enter(segment[0], *drop, *WATCH, "-i", "w0"), capture_output=True, text=True, check=False
    )
    problem = "cannot be watched without the capability CAP_NET_RAW (run it as root)"
    assert (2, f"carp watch: --interface: 'w0' {problem}\n") == (done.returncode, done.stderr)
