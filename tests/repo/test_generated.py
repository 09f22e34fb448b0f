from __future__ import annotations

import subprocess
import sys

from carp.commands.completion import specs
from carp.core.transitions import TABLE
from tree import ROOT


def test_generated_pages_are_current() -> None:
    """The pages on states, settings and commands say what the code says."""
    command = [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_each_command_is_in_its_page() -> None:
    """What completes as a command has a heading; the page cannot forget one."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## carp").strip() for line in page.splitlines() if line.startswith("## ")}
    assert set(specs()) == headings


def test_a_stale_page_is_noticed() -> None:
    """Each way between states is in the page, so that a new one makes it stale."""
    page = (ROOT / "docs" / "states.md").read_text(encoding="utf-8")
    for (old, cause), new in TABLE.items():
        assert f"| {old} | {cause} | {new} |" in page
