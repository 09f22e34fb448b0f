from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.errors import CarpError, ConfigError
from carp_operator.kube.errors import Fatal, Forbidden, NotFound, Unauthorized, Unreachable
from carp_operator.kubectl import access
from kubectlfix import FakeCluster

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CarpError("x"), "error: x"),
        (
            Forbidden("patch virtualips.carp.vip web", "no", status=403),
            "Error from server (Forbidden): no (needed: the right to patch virtualips.carp.vip web)",
        ),
        (
            NotFound("get nodes n", 'nodes "n" not found', status=404),
            'Error from server (NotFound): nodes "n" not found',
        ),
        (
            NotFound("list virtualips.carp.vip", "could not find", status=404),
            "error: the cluster does not serve virtualips.carp.vip: install the CRDs of carp-operator",
        ),
        (Unreachable("get x", "refused"), "Unable to connect to the server: refused"),
        (Unauthorized("get x", "no", status=401), "error: You must be logged in to the server (no)"),
        (Fatal("get x", "bad", status=422), "Error from server (Fatal): bad"),
    ],
)
def test_errors_in_the_style_of_kubectl(error: CarpError, line: str) -> None:
    """Each is one line, and says what is needed."""
    assert line == access.explained(error)


def _config(path: Path) -> None:
    parts: dict[str, Any] = {"current-context": "one", "users": [{"name": "u", "user": {"token": "t"}}]}
    parts["clusters"] = [{"name": n, "cluster": {"server": f"https://{n}.invalid"}} for n in ("one", "two")]
    parts["contexts"] = [{"name": n, "context": {"cluster": n, "user": "u"}} for n in ("one", "two")]
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **parts}))


def _given(kubeconfig: Path | None = None, context: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(kubeconfig=str(kubeconfig) if kubeconfig else None, context=context)


def _servers(given: argparse.Namespace) -> tuple[str, ...]:
    return access.client(given)._access.servers


def test_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig's current context counts unless one is named; $KUBECONFIG and the home are looked at."""
    config = tmp_path / ".kube" / "config"
    config.parent.mkdir()
    _config(config)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert ("https://one.invalid",) == _servers(_given(config))
    assert ("https://two.invalid",) == _servers(_given(config, "two"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ("https://two.invalid",) == _servers(_given(None, "two"))
    assert ("https://one.invalid",) == _servers(_given())
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("KUBECONFIG", str(config))
    assert ("https://one.invalid",) == _servers(_given())


def test_what_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kubeconfig at all, one that is missing, and a context that is not in it are one line each."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(access, "FOLDER", str(tmp_path))
    with pytest.raises(ConfigError, match="there is none: --kubeconfig FILE"):
        access.client(_given())
    with pytest.raises(ConfigError, match="there is none"):
        access.client(_given(None, "two"))
    with pytest.raises(ConfigError, match="does not exist"):
        access.client(_given(tmp_path / "none"))
    config = tmp_path / "config"
    _config(config)
    with pytest.raises(ConfigError, match=r"^kubeconfig: .*/config' cannot be used: .* name three in "):
        access.client(_given(config, "three"))


def test_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kubeconfig a pod's service account is used."""
    (tmp_path / "token").write_text("t")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(access, "FOLDER", str(tmp_path))
    asked: list[object] = []
    monkeypatch.setattr("carp_operator.kube.client.connect", asked.append)
    access.client(_given())
    assert [None] == asked


def test_names() -> None:
    """A name may stand with its kind; another kind is refused."""
    assert ("web", "web") == (access.named("web", "vip"), access.named("vip/web", "vip"))
    for word in ("pod/web", "vip/"):
        with pytest.raises(ConfigError, match="is no vip"):
            access.named(word, "vip")


def test_text() -> None:
    """A path that answers no JSON is read whole."""
    fake: Any = FakeCluster()
    fake.texts["/x/log?main"] = b"one\ntwo\n"
    assert b"one\ntwo\n" == access.text(fake, "/x/log", access.query_of(container="main", previous=None))
