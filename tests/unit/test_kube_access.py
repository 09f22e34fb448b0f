"""Credentials: a pod's folder, a kubeconfig."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from carp.core.errors import ConfigError
from carp_operator.kube.access import Access, from_kubeconfig, in_cluster, namespace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder as a kubelet fills it: links to a folder that it replaces as a whole."""
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "token").write_text("one\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    (tmp_path / "namespace").write_text("carp-system")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "2001:db8::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    return tmp_path


def test_pod(pod: Path) -> None:
    """A pod has its server from the environment and its token from the folder."""
    access = in_cluster(folder=str(pod))
    assert ("https://[2001:db8::1]:6443",) == access.servers
    assert "one" == access.token()
    assert "carp-system" == namespace(str(pod))


def test_rotation(pod: Path) -> None:
    """A token that the kubelet has renewed is read again."""
    access = in_cluster(folder=str(pod))
    assert "one" == access.token()
    (pod / "..2").mkdir()
    (pod / "..2" / "token").write_text("two")
    (pod / "..new").symlink_to("..2")
    (pod / "..new").replace(pod / "..data")
    assert "two" == access.token()


def test_files_that_somebody_cleaned_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files of a kubeconfig's inline data may go: what was made of them serves on."""
    monkeypatch.setattr("ssl.create_default_context", lambda cafile: object())
    file = tmp_path / "authority"
    file.touch()
    access = Access(("https://[2001:db8::1]:6443",), str, authority=str(file))
    made = access.tls()
    file.unlink()
    assert made is access.tls()
    with pytest.raises(FileNotFoundError):
        Access(access.servers, str, authority=str(file)).tls()


def test_several_servers(pod: Path) -> None:
    """Servers that are named win over the environment's."""
    servers = ["https://10.0.0.1:6443/", "https://10.0.0.2:6443"]
    assert ("https://10.0.0.1:6443", "https://10.0.0.2:6443") == in_cluster(servers, str(pod)).servers


@pytest.mark.parametrize("url", ["10.0.0.1:6443", "ftp://x", "https://"])
def test_no_url(pod: Path, url: str) -> None:
    """What is no URL is refused by name."""
    with pytest.raises(ConfigError, match=f"api-server: '{url}' is no URL"):
        in_cluster([url], str(pod))


def test_outside(tmp_path: Path, pod: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a pod, or without an address, the line says what to give."""
    with pytest.raises(ConfigError, match="kubeconfig: is required outside a pod"):
        in_cluster(folder=str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(ConfigError, match="api-server: is required"):
        in_cluster(folder=str(pod))
    assert "" == namespace(str(tmp_path / "none"))


def kubeconfig(path: Path, **user: str) -> str:
    """Write a kubeconfig with these credentials."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(content))
    return str(path)


def test_kubeconfig(tmp_path: Path) -> None:
    """A kubeconfig gives its context's server and token."""
    access = from_kubeconfig(kubeconfig(tmp_path / "config", token="abc"))
    assert ("https://10.0.0.1:6443",) == access.servers
    assert "abc" == access.token()
    assert "" == from_kubeconfig(kubeconfig(tmp_path / "other")).token()


@pytest.mark.parametrize("content", [None, "", "[", "{}", "nonsense"])
def test_bad_kubeconfig(tmp_path: Path, content: str | None) -> None:
    """One that is missing or no kubeconfig is named in one line."""
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"kubeconfig: '.*config' cannot be used: ") as caught:
        from_kubeconfig(os.fspath(path))
    assert "\n" not in str(caught.value)
