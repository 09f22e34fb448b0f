from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp_operator.controller.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--resync", "1s"], "--resync: '1s' is not between"),
        (["--kubeconfig", "missing.conf"], "--kubeconfig: 'missing.conf' cannot be used"),
        (["--api-server", "nonsense", "--kubeconfig", "good"], "--api-server: 'nonsense' is no URL"),
        (["--kubeconfig", "good", "--metrics", "nowhere"], "--metrics: 'nowhere' is not ADDRESS:PORT"),
    ],
)
def test_wrong_use_is_one_line(
    words: list[str], problem: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What cannot work is said in one line that names option and value, and the exit code is 2."""
    config = tmp_path / "good"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\n"
    )
    given = [str(config) if word == "good" else word for word in words]
    assert 2 == main(["--namespace", "x", *given])
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("carp-controller: ")
    assert problem in line


def test_taken_port_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An address that cannot be used is named; the exit code is 1."""
    config = tmp_path / "good"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n"
        "users: [{name: u, user: {}}]\n"
    )
    words = ["--namespace", "x", "--kubeconfig", str(config), "--metrics", "192.0.2.1:80"]
    assert 1 == main(words)
    assert "--metrics: 192.0.2.1:80" in capfd.readouterr().err
