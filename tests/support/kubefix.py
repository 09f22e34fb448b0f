"""A real Kubernetes cluster as a fixture, for a folder's conftest to import."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kubecluster import KubeCluster, obstacle
from lanfix import need_lan
from require import require
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def kube(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeCluster]:
    """Yield three nodes, Ready, with the image on them, that the tests of a module share."""
    need_lan()
    why = obstacle()
    rest = 'ARGS="--ignore=tests/e2e/cluster" runs all other tests'
    require("a machine for Kubernetes nodes", not why, f"{why} ({rest})")
    images, programs = _provided(request.config, "image"), _provided(request.config, "assets")
    folder = tmp_path_factory.mktemp("kube")
    try:
        with KubeCluster(programs, images, folder) as made:
            yield made
    finally:
        shutil.rmtree(folder / "helm", ignore_errors=True)


def _provided(config: pytest.Config, tool: str) -> Path:
    """Return the folder that a tool prints; while it builds, the terminal shows its progress."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        command = [str(ROOT / "tools" / tool)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    require(f"tools/{tool}", done.returncode == 0, "it can neither find nor build what is needed")
    return Path(done.stdout.strip())
