"""Requests: what is sent, what is made of the answer, and who is asked when one does not answer."""

from __future__ import annotations

import base64
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from carp.core.errors import ConfigError
from carp_operator.kube.access import Access, from_kubeconfig
from carp_operator.kube.client import APPLY, MERGE, Client, connect
from carp_operator.kube.errors import Conflict, Forbidden, Transient, Unauthorized, Unreachable
from carp_operator.kube.resources import CARP_NODES, NODES
from fakeapi import Asked, FakeApi, Reply, listing, thing

if TYPE_CHECKING:
    from pathlib import Path


def test_requests() -> None:
    """Each method sends the verb, path, query and type that the API documents."""
    with FakeApi(lambda _: Reply(body={"done": True})) as api:
        client = api.client()
        node: dict[str, Any] = {"metadata": {"name": "n1"}}
        client.get(NODES, "n1")
        client.create(CARP_NODES, node)
        client.patch(CARP_NODES, "n1", {"status": {}}, subresource="status", manager="m")
        client.apply(CARP_NODES, node, "m")
        client.apply_status(CARP_NODES, node, "m")
        client.delete(NODES, "n1")
    prefix = "/apis/carp.vip/v1alpha1/carpnodes"
    forced = {"fieldManager": "m", "force": "true"}
    assert [
        ("GET", "/api/v1/nodes/n1", {}, "application/json"),
        ("POST", prefix, {}, "application/json"),
        ("PATCH", f"{prefix}/n1/status", {"fieldManager": "m"}, MERGE),
        ("PATCH", f"{prefix}/n1", forced, APPLY),
        ("PATCH", f"{prefix}/n1/status", forced, APPLY),
        ("DELETE", "/api/v1/nodes/n1", {}, "application/json"),
    ] == [(asked.method, asked.path, asked.query, asked.kind) for asked in api.asked]
    assert {"t"} == {asked.token for asked in api.asked}
    assert {"status": {}} == api.asked[2].body


def test_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of a context leads to its server; the environment's is nobody's."""
    config: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "http://api.invalid:6443"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path / "config"

    def through(**proxy: str) -> Access:
        config["clusters"][0]["cluster"] = {"server": "http://api.invalid:6443", **proxy}
        path.write_text(json.dumps(config))
        return from_kubeconfig(str(path))

    with FakeApi(lambda asked: Reply(body={"done": True})) as proxy:
        access = through(**{"proxy-url": proxy.url.replace("//", "//user:p%40ss@")})
        assert {"done": True} == Client(access).get(NODES, "n1")
        assert ["/api/v1/nodes/n1"] == [asked.path for asked in proxy.asked]
        assert [f"Basic {base64.b64encode(b'user:p@ss').decode()}"] == [asked.proxy for asked in proxy.asked]
    with pytest.raises(ConfigError, match=r"proxy-url: 'socks5://10\.0\.0\.1:1080' is no proxy"):
        through(**{"proxy-url": "socks5://10.0.0.1:1080"})
    monkeypatch.setenv("http_proxy", "http://10.0.0.1:3128")
    assert "" == through().proxy


def test_list_pages() -> None:
    """A list is put together from its pages, with the same selectors for each."""
    pages = {"": listing(7, thing("a", 1), more="2"), "2": listing(7, thing("b", 2))}
    with FakeApi(lambda asked: Reply(body=pages[asked.query.get("continue", "")])) as api:
        items = api.client().list(NODES, label="a=b", field="metadata.name=x")
    assert ["a", "b"] == [item["metadata"]["name"] for item in items]
    assert {("a=b", "metadata.name=x", "500")} == {
        (each.query["labelSelector"], each.query["fieldSelector"], each.query["limit"]) for each in api.asked
    }


@pytest.mark.parametrize(("status", "kind"), [(409, Conflict), (403, Forbidden), (503, Transient)])
def test_refused(status: int, kind: type[Exception]) -> None:
    """A refusal is raised with the server's words."""
    with (
        FakeApi(lambda _: Reply(status, {"message": "no"})) as api,
        pytest.raises(kind, match=f"get nodes n1: HTTP {status}: no"),
    ):
        api.client().get(NODES, "n1")
    assert 1 == len(api.asked)


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"", b'{"a":'])
def test_garbage(body: bytes) -> None:
    """An answer that is no object is no answer."""
    with FakeApi(lambda _: Reply(body=body)) as api, pytest.raises(Unreachable, match="no JSON object"):
        api.client().get(NODES, "n1")


def test_renewed_token() -> None:
    """A refused token is read again at once, in case it was renewed; the same one is not sent twice."""
    tokens = iter(["old", "new", "new", "new"])
    with FakeApi(lambda asked: Reply(200 if asked.token == "new" else 401, {})) as api:
        assert {} == api.client(token=lambda: next(tokens)).get(NODES, "n1")
    assert ["old", "new"] == [asked.token for asked in api.asked]
    with FakeApi(lambda _: Reply(401, {"message": "Unauthorized"})) as api, pytest.raises(Unauthorized):
        api.client().get(NODES, "n1")
    assert 1 == len(api.asked)


def test_no_token() -> None:
    """A token that cannot be read is said, and nothing is sent without one."""

    def token() -> str:
        raise FileNotFoundError(2, "No such file", "/token")

    with FakeApi(lambda _: Reply(body={})) as api, pytest.raises(Unauthorized, match="token cannot be read"):
        api.client(token=token).get(NODES, "n1")
    assert [] == api.asked


def test_servers_in_turn() -> None:
    """A server that cannot be reached is left for the next one, which is then stayed with."""
    with FakeApi(lambda _: Reply(body={})) as api:
        client = Client(Access((_nobody(), api.url), lambda: ""))
        client.get(NODES, "a")
        client.get(NODES, "b")
        assert 1 == client._at
    assert 2 == len(api.asked)


def test_silent_server() -> None:
    """A server that takes the request and says nothing is left after the time limit, for the next request."""
    with FakeApi(lambda _: Reply(body={})) as api, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = Client(Access((url, api.url), lambda: ""), read_timeout=1.0)
        with pytest.raises(Unreachable, match=r"[Tt]imed out"):
            client.get(NODES, "a")
        assert {} == client.get(NODES, "a")


def test_nobody() -> None:
    """With no server to reach the line names what was tried and why it failed."""
    url = _nobody()
    with pytest.raises(Unreachable, match=rf"^get nodes a: {url}: .*Connection refused$") as caught:
        Client(Access((url,), lambda: "")).get(NODES, "a")
    assert "object at" not in str(caught.value)


def test_bad_authority(tmp_path: Path) -> None:
    """Certificates that cannot be read are named."""
    client = Client(Access(("https://127.0.0.1:1",), lambda: "", authority=str(tmp_path / "none")))
    with pytest.raises(Unauthorized, match=r"certificates cannot be used: .*No such file"):
        client.get(NODES, "a")


def test_connect(tmp_path: Path) -> None:
    """Without a kubeconfig the pod's folder is used."""
    (tmp_path / "token").write_text("x")

    def answer(asked: Asked) -> Reply:
        return Reply(body={"token": asked.token})

    with FakeApi(answer) as api:
        assert {"token": "x"} == connect(servers=[api.url], folder=str(tmp_path)).get(NODES, "a")


def _nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"
