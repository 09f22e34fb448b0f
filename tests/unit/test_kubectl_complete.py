from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from carp.core.errors import ConfigError
from carp_operator.kubectl import complete
from carp_operator.kubectl import main as plugin
from kubectlfix import FakeCluster, healthy

if TYPE_CHECKING:
    import argparse


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """Return what the cluster was asked with."""
    found: list[argparse.Namespace] = []

    def client(given: argparse.Namespace) -> FakeCluster:
        found.append(given)
        return healthy("dns", "web")

    monkeypatch.setattr("carp_operator.kubectl.access.client", client)
    return found


@pytest.mark.parametrize(
    ("words", "found", "directive"),
    [
        (["s"], ["status", "support-bundle"], 4),
        (["nonsense", ""], [], 4),
        (["status", ""], ["dns", "web"], 4),
        (["status", "dns", ""], ["web"], 4),
        (["status", "-o", ""], ["json", "wide", "yaml"], 4),
        (["status", "--output=j"], ["--output=json"], 4),
        (["status", "--w"], ["--watch"], 4),
        (["explain", "w"], ["web"], 4),
        (["explain", "web", ""], [], 4),
        (["handover", "web", "--to", ""], ["n1", "n2", "n3"], 4),
        (["handover", "--to", "n1", ""], ["dns", "web"], 4),
        (["handover", "web", "--wait=f"], ["--wait=false"], 4),
        (["handover", "web", "--timeout", ""], [], 4),
        (["maintenance", "n"], ["n1", "n2", "n3"], 4),
        (["maintenance", "n1", "o"], ["on", "off"], 4),
        (["diff", "-f", "x"], [], 0),
        (["completion", ""], ["bash", "zsh", "kubectl"], 4),
    ],
)
def test_candidates(
    words: list[str], found: list[str], directive: int, asked: list[argparse.Namespace]
) -> None:
    """Commands, options, their values, and names of objects, in the convention of kubectl."""
    assert (found, directive) == complete.candidates(words)


def test_the_cluster_that_is_meant(asked: list[argparse.Namespace]) -> None:
    """Names come from the cluster that the options before them name."""
    complete.candidates(["status", "--kubeconfig", "other", "--context=two", ""])
    assert [("other", "two")] == [(given.kubeconfig, given.context) for given in asked]


def test_no_cluster(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a cluster there are no names, and no error."""

    def client(given: argparse.Namespace) -> FakeCluster:
        raise ConfigError("kubeconfig", None, "there is none")

    monkeypatch.setattr("carp_operator.kubectl.access.client", client)
    assert 0 == plugin.main(["__complete", "status", ""])
    assert (":4\n", "") == tuple(capsys.readouterr())


def test_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`kubectl_complete-carp` takes its words from the command line."""
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-carp", "sta"])
    assert 0 == complete.run()
    assert "status\n:4\n" == capsys.readouterr().out
