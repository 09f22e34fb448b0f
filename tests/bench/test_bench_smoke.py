from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
    missing = missing_capabilities(Path("/proc/self/status").read_text(encoding="ascii"))
    require("network namespaces", not missing, f"missing {', '.join(missing)}")
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


def test_an_unknown_part_is_one_line_that_names_it() -> None:
    """`--only` with a part that does not exist says so, names the parts, and measures nothing."""
    done = bench("--only", "cut,speed")
    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("bench: --only 'speed': no such part; parts are cut, stop")


def test_help_lists_every_part() -> None:
    """`--help` teaches the names that `--only` takes."""
    done = bench("--help")
    for name in ("cut", "stop", "kill", "resume", "footprint", "fast", "micro"):
        assert f"\n  {name}" in done.stdout
