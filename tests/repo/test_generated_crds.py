from __future__ import annotations

import subprocess
import sys

from carp_operator.api import generate
from tree import ROOT


def test_generated_files_are_current() -> None:
    """The chart's CRDs and docs/reference.md say what the tables say."""
    command = [sys.executable, "-m", "carp_operator.api.generate", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "operator")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_nothing_else_lies_in_the_folder_of_crds() -> None:
    """A CRD that the tables no longer have would be installed for ever."""
    written = {(ROOT / path).name for path in generate.files() if path.suffix == ".yaml"}
    assert written == {path.name for path in (ROOT / "charts/carp-operator/files/crds").iterdir()}
