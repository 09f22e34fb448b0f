"""Control planes as fixtures; `tests/apiserver/conftest.py` shows which names a folder's conftest imports."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controlplane import ControlPlane, lonely_node
from lanfix import need_lan
from require import require
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from carp.lab.node import Node

_NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")


def assets(config: pytest.Config) -> Path:
    """Return the folder of the control plane's programs; while they are built, the terminal shows progress.

    Skips the running test, or fails it under REQUIRE_ALL=1, when they cannot be had.
    """
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        command = [str(ROOT / "tools" / "assets"), *_NEEDED]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    require("control plane", done.returncode == 0, "tools/assets can neither find nor build its programs")
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """Yield the control plane that the tests of a session share, reached from its own namespace only."""
    with _running(request.config, tmp_path_factory) as made:
        yield made


@pytest.fixture
def make_control_plane(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ControlPlane]]:
    """Return a function that starts another one, on a node of the lab if given; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def make(node: Node | None = None, **options: Any) -> ControlPlane:
            return stack.enter_context(_running(request.config, tmp_path_factory, node, **options))

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the logs of a failed test's control planes."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, ControlPlane):
                report.sections.append(("control plane", value.logs()))
    return report


@contextlib.contextmanager
def _running(
    config: pytest.Config, factory: pytest.TempPathFactory, node: Node | None = None, **options: Any
) -> Iterator[ControlPlane]:
    need_lan()
    programs = assets(config)
    with contextlib.ExitStack() as stack:
        place = node or stack.enter_context(lonely_node())
        yield stack.enter_context(ControlPlane(place, programs, factory.mktemp("control-plane"), **options))
