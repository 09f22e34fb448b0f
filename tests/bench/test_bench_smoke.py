from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from carp.lab.privilege import missing_capabilities
from require import require

RUN = Path(__file__).with_name("run.py")


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark as `make bench` does."""
    argv = [sys.executable, str(RUN), *options]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.root
def test_two_cheap_parts_print_a_table_and_write_json_and_a_picture(tmp_path: Path) -> None:
    """Every row has its command, the JSON says the same as the table, and no namespace is left behind."""
    require("network namespaces", not _missing(), f"missing {', '.join(_missing())}")
    for name in ("ucarp", "keepalived", "ip"):
        require(name, shutil.which(name) is not None, "not installed")
    found, picture = tmp_path / "found.json", tmp_path / "found.svg"
    done = bench("--only", "micro,resume", "--quick", "--json", str(found), "--plot", str(picture))
    figures = json.loads(found.read_text(encoding="utf-8"))["figures"]
    assert {"micro", "resume"} == {figure["part"] for figure in figures}
    assert (0 if all(figure["ok"] for figure in figures) else 1) == done.returncode
    for figure in figures:
        row = next(line for line in done.stdout.splitlines() if line.startswith(figure["what"]))
        assert f'make bench ARGS="--only {figure["part"]} --quick"' in row
        assert figure["carp"] >= 0
    assert len(figures) <= sum(element.tag.endswith("text") for element in ET.parse(picture).iter())


@pytest.mark.root
def test_a_signal_in_the_middle_leaves_nothing_behind() -> None:
    """SIGINT ends it with code 130, and the namespaces that it had made are gone."""
    require("network namespaces", not _missing(), f"missing {', '.join(_missing())}")
    argv = [sys.executable, str(RUN), "--only", "resume", "--quick"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        inside = _namespaces_of_children(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert 130 == process.returncode
    assert said.endswith("bench: interrupted\n")
    assert inside
    assert set() == inside & _namespaces()


def _missing() -> list[str]:
    return missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))


def _namespaces() -> set[str]:
    """Return the inodes of all network namespaces that some process lives in."""
    return {_namespace(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {""}


def _namespace(entry: Path) -> str:
    try:
        return str((entry / "ns/net").readlink())
    except OSError:
        return ""


def _namespaces_of_children(pid: int) -> set[str]:
    """Wait until a process has children in other namespaces than our own, and return those."""
    own = _namespace(Path("/proc/self"))
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = {_namespace(Path("/proc") / child) for child in _children(pid)} - {own, ""}
        if len(found) > 1:
            return found
        time.sleep(0.02)
    return set()


def _children(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [child for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def test_an_unknown_part_is_one_line_that_names_it() -> None:
    """`--only` with a part that does not exist says so, names the parts, and measures nothing."""
    done = bench("--only", "cut,speed")
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("bench: --only 'speed': no such part; parts are cut, stop")


def test_help_lists_every_part() -> None:
    """`--help` teaches the names that `--only` takes."""
    done = bench("--help")
    for name in ("cut", "stop", "kill", "interop", "resume", "footprint", "fast", "micro"):
        assert f"\n  {name}" in done.stdout
