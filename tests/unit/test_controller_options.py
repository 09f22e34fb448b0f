from __future__ import annotations

import pytest

from carp.core.errors import ConfigError
from carp_operator.controller.options import parse


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """The namespace comes from the environment; everything else has a default."""
    monkeypatch.setenv("POD_NAMESPACE", "carp-system")
    monkeypatch.setenv("POD_NAME", "carp-controller-0")
    found = parse([])
    assert ("carp-system", None, (), "") == (found.namespace, found.kubeconfig, found.servers, found.metrics)
    assert (10.0, 60, 300.0, 300.0) == (found.rate, found.burst, found.replace_after, found.resync)
    assert ("carp-controller-0", False, False) == (found.identity, found.leader_elect, found.json)


def test_given() -> None:
    """Options win over the environment; durations have units; servers may be several."""
    words = "--namespace x --api-server https://a:1 --api-server https://b:2 --replace-after 90s --resync 1m"
    found = parse(
        [*words.split(), "--writes-per-second", "0.5", "--write-burst", "5", "--log-format", "json"]
    )
    assert ("x", ("https://a:1", "https://b:2"), 90.0, 60.0) == (
        found.namespace,
        found.servers,
        found.replace_after,
        found.resync,
    )
    assert (0.5, 5, True) == (found.rate, found.burst, found.json)


def test_interfaces() -> None:
    """Names and patterns stand with commas; nothing means all."""
    assert "" == parse(["--namespace", "x"]).interfaces
    assert "eth*,bond0" == parse(["--namespace", "x", "--interfaces", "eth*, bond0"]).interfaces


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--resync", "5"], "resync: '5' is no duration"),
        (["--resync", "1s"], "resync: '1s' is not between 10s and 86400s"),
        (["--replace-after", "soon"], "replace-after: 'soon' is no duration"),
        (["--writes-per-second", "many"], "writes-per-second: 'many' is not between 0.1 and 1000"),
        (["--interfaces", "eth0,a/b"], "interfaces: 'a/b' is no name or pattern of an interface"),
        (["--write-burst", "0"], "write-burst: '0' is not between 1 and 10000"),
    ],
)
def test_wrong_values(words: list[str], problem: str) -> None:
    """Each is refused in one line that names option and value."""
    with pytest.raises(ConfigError) as caught:
        parse(["--namespace", "x", *words])
    assert problem in str(caught.value)


def test_namespace_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a pod the namespace must be said."""
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    with pytest.raises(ConfigError, match="namespace"):
        parse([])


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """--help tells what it reads, what it writes and how to run it."""
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    for word in ("carp-keys", "examples:", "--leader-elect", "/readyz", "--write-burst"):
        assert word in text
