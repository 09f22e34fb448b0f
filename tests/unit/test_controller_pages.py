"""Probes and metrics over HTTP."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from carp.core.errors import ConfigError
from carp_operator.controller.counts import METRICS, Counts
from carp_operator.controller.pages import Page, Pages

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def port() -> Iterator[int]:
    """Yield the port of a running server."""
    counts = Counts()
    counts.wrote("carpnodes", "done")
    counts.plans.observe(0.02)
    pages = Pages(
        "127.0.0.1:0",
        {
            "/readyz": lambda: Page(good=False, text="not ready: because\n"),
            "/metrics": lambda: Page(good=True, text=counts.text()),
        },
    )
    pages.start()
    yield pages.port
    pages.close()


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    """Return status, type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"] or "", error.read().decode()


def test_pages(port: int) -> None:
    """A page that is not good is 503 with its text; others are named; methods but GET and HEAD refused."""
    assert (503, "not ready: because\n") == ask(port, "/readyz?verbose")[::2]
    assert (404, "only /readyz, /metrics\n") == ask(port, "/")[::2]
    assert (200, "") == ask(port, "/metrics", "HEAD")[::2]
    assert 501 == ask(port, "/metrics", "POST")[0]


def test_metrics(port: int) -> None:
    """Every metric of the table is there, in Prometheus' format."""
    status, kind, text = ask(port, "/metrics")
    assert (200, True) == (status, kind.startswith("text/plain; version=0.0.4"))
    assert [family.name for family in METRICS] == [
        line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")
    ]
    assert 'carp_controller_writes_total{kind="carpnodes",result="done"} 1' in text
    assert "carp_controller_plan_seconds_count 1" in text


def test_broken_client_harms_nobody(port: int) -> None:
    """Who connects and goes away costs no answer to others."""
    for _ in range(40):
        socket.create_connection(("127.0.0.1", port)).close()
    assert 503 == ask(port, "/readyz")[0]


@pytest.mark.parametrize("address", ["nowhere", "unix:/run/x", "1.2.3.4"])
def test_wrong_address(address: str) -> None:
    """Probes need a port."""
    with pytest.raises(ConfigError, match="metrics"):
        Pages(address, {})


def test_wildcard_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is IPv4's where the kernel has no IPv6, as the chart's default is to work everywhere."""
    monkeypatch.setattr("socket.has_dualstack_ipv6", lambda: False)
    pages = Pages("[::]:0", {"/healthz": lambda: Page(good=True, text="ok\n")})
    try:
        assert socket.AF_INET == pages._server.address_family
    finally:
        pages._server.server_close()
