"""The command line of the agent."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from carp_operator.agent.main import _options, _parser, main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NODE_NAME", "POD_NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names every option and shows how it is called."""
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for word in (
        "--node",
        "--namespace",
        "--socket",
        "--kubeconfig",
        "--api-server",
        "--metrics",
        "examples:",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "node: is required"),
        (["--node", "n1", "--service-account", "/nonexistent"], "namespace: is required"),
        (
            ["--node", "n1", "--namespace", "ns", "--service-account", "/nonexistent"],
            "kubeconfig: is required",
        ),
        (["--node", "n1", "--namespace", "ns", "--kubeconfig", "/nonexistent"], "kubeconfig: '/nonexistent'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--stay", "soon"], "stay: 'soon' is not a time"),
    ],
)
def test_wrong_use(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use is one line that names the option, and exit code 2."""
    assert 2 == main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"carp-agent: {problem}")


def test_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pod's manifest says who and where by its environment; the namespace is also in the pod's folder."""
    monkeypatch.setenv("NODE_NAME", "n1")
    (tmp_path / "namespace").write_text("carp-system")
    options = _options(_parser().parse_args(["--service-account", str(tmp_path)]))
    assert ("n1", "carp-system", "carp-keys", 13.0) == (
        options.node,
        options.namespace,
        options.secret,
        options.stay,
    )
    monkeypatch.setenv("POD_NAMESPACE", "elsewhere")
    assert "elsewhere" == _options(_parser().parse_args([])).namespace


def test_light() -> None:
    """Neither kopf nor pyroute2 nor the models of a Kubernetes client are loaded in a pod."""
    code = "import sys, carp_operator.agent.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"kopf", "pyroute2", "kubernetes", "scapy", "aiohttp", "yaml"} & set(loaded)
