from __future__ import annotations

import subprocess

import chart
from tree import ROOT


def test_generated_manifests_are_current() -> None:
    """install.yaml, uninstall.yaml and the roles in deploy/ are what the chart renders."""
    chart.helm()
    command = [str(ROOT / "tools" / "manifests"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
