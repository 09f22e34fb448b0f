"""Probes and metrics over HTTP."""

from __future__ import annotations

import asyncio

import pytest

from carp.core.errors import ConfigError
from carp_operator.agent import pages as module
from carp_operator.agent.metrics import Tally
from carp_operator.agent.pages import Pages


def ask(
    *requests: bytes, problem: str = "", address: str = "127.0.0.1", host: str = "127.0.0.1"
) -> list[str]:
    """Return the answers to requests, each on a connection of its own to ``host``."""

    async def run() -> list[str]:
        pages = Pages(Tally().text, lambda: problem)
        await pages.start(f"{address}:0")
        found = []
        try:
            for request in requests:
                reader, writer = await asyncio.open_connection(host, pages.port)
                writer.write(request)
                found.append((await asyncio.wait_for(reader.read(), 5)).decode())
                writer.close()
        finally:
            pages.close()
        return found

    return asyncio.run(run())


def get(path: str, method: str = "GET") -> bytes:
    """Return a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("request_", "line", "body"),
    [
        (get("/healthz"), "200 OK", "ok\n"),
        (get("/readyz?a=b"), "200 OK", "ok\n"),
        (get("/healthz", "HEAD"), "200 OK", ""),
        (get("/"), "404 Not Found", "only /metrics, /healthz and /readyz\n"),
        (get("/healthz", "POST"), "405 Method Not Allowed", "only GET and HEAD\n"),
        (b"nonsense\r\n\r\n", "405 Method Not Allowed", "only GET and HEAD\n"),
    ],
)
def test_answers(request_: bytes, line: str, body: str) -> None:
    """Each path has its answer."""
    (found,) = ask(request_)
    head, _, text = found.partition("\r\n\r\n")
    assert (f"HTTP/1.1 {line}", body) == (head.split("\r\n")[0], text)


@pytest.mark.parametrize(
    ("address", "host"),
    [("0.0.0.0", "127.0.0.1"), ("[::]", "127.0.0.1"), ("[::]", "::1"), ("[::1]", "::1")],
)
def test_addresses(address: str, host: str) -> None:
    """The IPv6 wildcard answers over IPv4 too: the kubelet's probes ask 127.0.0.1."""
    (found,) = ask(get("/healthz"), address=address, host=host)
    assert found.startswith("HTTP/1.1 200 ")


def test_loopback_of_ipv6_is_not_open_to_ipv4() -> None:
    """Only the wildcard takes both."""
    with pytest.raises(ConnectionRefusedError):
        ask(get("/healthz"), address="[::1]", host="127.0.0.1")


def test_not_ready() -> None:
    """Readiness fails with the reason; health does not."""
    ready, healthy = ask(get("/readyz"), get("/healthz"), problem="web: INIT")
    assert ready.startswith("HTTP/1.1 503 ")
    assert ready.endswith("\r\n\r\nweb: INIT\n")
    assert healthy.startswith("HTTP/1.1 200 ")


def test_metrics() -> None:
    """Metrics are in Prometheus' format."""
    (found,) = ask(get("/metrics"))
    assert "Content-Type: text/plain; version=0.0.4" in found
    assert '\ncarp_agent_status_writes_total{result="done"} 0\n' in found


def test_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a request, or one too long, is cut off."""
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    assert ["", ""] == ask(b"GET /", b"GET /" + 9000 * b"x" + b"\r\n\r\n")


@pytest.mark.parametrize("address", ["9106", "unix:/tmp/x", "localhost:1"])
def test_bad_address(address: str) -> None:
    """What is no address and port is refused by name."""
    with pytest.raises(ConfigError, match=f"metrics: '{address}'"):
        asyncio.run(Pages(str, str).start(address))
