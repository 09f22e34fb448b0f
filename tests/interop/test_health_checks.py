"""Health checks against real kernels, a real web server, and certificates."""

from __future__ import annotations

import asyncio
import http.server
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import pytest

from carp.announce import FrameSocket, answer_of, arp_probe, nd_probe
from carp.core.health import parse_checks
from carp.core.reader import Reader
from carp.health import Checks
from carp.netlink import Netlink
from nsfix import inside, ip, namespace, require_namespaces, sysctl, wait_up
from require import require
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

FAST = {"period": "100ms", "timeout": "100ms", "rise": 1, "fall": 2}
Told = tuple[str, int, str]


class Neighbours:
    """Asks for addresses by ARP and ND on one interface, as the daemon does for `gateway` checks."""

    def __init__(self, ifindex: int, mac: bytes) -> None:
        self._mac = mac
        self._socket = FrameSocket(ifindex, listen=True)
        self._waiting: dict[object, asyncio.Event] = {}
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._hear)

    async def ask(self, vhost: str, address: IPv4Address | IPv6Address) -> bool:
        answered = self._waiting.setdefault(address, asyncio.Event())
        answered.clear()
        is_v4 = isinstance(address, IPv4Address)
        self._socket.send(arp_probe(self._mac, address) if is_v4 else nd_probe(self._mac, address))
        return await answered.wait()

    def _hear(self) -> None:
        for frame in self._socket.receive():
            answer = answer_of(frame)
            if answer is not None and answer[0] in self._waiting:
                self._waiting[answer[0]].set()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


@dataclass
class Lan:
    """A checks .1 and ::1 of b, each with interface e0."""

    a: str
    b: str
    index: int
    mac: bytes


@pytest.fixture
def lan() -> Iterator[Lan]:
    """Two hosts on a veth, without duplicate address detection."""
    require_namespaces()
    with ExitStack() as stack:
        a, b = stack.enter_context(namespace()), stack.enter_context(namespace())
        ip("-n", a, "link", "add", "e0", "type", "veth", "peer", "name", "e0", "netns", b)
        for host, last in ((a, 2), (b, 1)):
            sysctl(host, "ipv6/conf/e0/accept_dad", "0")
            ip("-n", host, "link", "set", "e0", "up")
            ip("-n", host, "address", "add", f"10.77.0.{last}/24", "dev", "e0")
            ip("-n", host, "address", "add", f"fd77::{last}/64", "dev", "e0", "nodad")
        for host in (a, b):
            wait_up(host, "e0")
        with inside(a):
            netlink = Netlink()
        link = netlink.link("e0")
        netlink.close()
        assert link is not None
        yield Lan(a, b, link.ifindex, link.mac)


class Page(http.server.BaseHTTPRequestHandler):
    """Answers 200 with the Host header that was asked for, or the status that the path names."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:] or 200))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(b"a page that nobody waits for\n" * 1000)

    def log_message(self, *_: object) -> None:
        pass


class Quiet(http.server.ThreadingHTTPServer):
    """Does not print what a client that goes away causes."""

    def handle_error(self, *_: object) -> None:
        pass


@contextmanager
def site(host: str | None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run a web server on port 8080 or, on loopback, any; give the port."""
    with ExitStack() as stack:
        if host is not None:
            stack.enter_context(inside(host))
        server = Quiet(("127.0.0.1", 0) if host is None else ("10.77.0.1", 8080), Page)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Scene:
    """The checks of one vhost, and what they tell."""

    def __init__(self, ask: Callable[..., Awaitable[bool]]) -> None:
        self.checks = Checks(ask)
        self.told: list[Told] = []

    def start(self, *items: dict[str, Any]) -> None:
        errors: list[Any] = []
        given = [{"name": f"c{number}", **FAST, **item} for number, item in enumerate(items)]
        parsed = parse_checks(Reader({"healthChecks": given}, "", errors))
        assert [] == errors
        self.checks.start("web", parsed, lambda *told: self.told.append(told))

    async def until(self, *expected: Told) -> None:
        """Wait until this was told, in any order."""
        while len(self.told) < len(expected):  # noqa: ASYNC110 (the report is a plain call)
            await asyncio.sleep(0.005)
        assert sorted(expected) == sorted(self.told)
        self.told.clear()


async def nobody(vhost: str, address: object) -> bool:
    """Answer for no address."""
    return False


def play(host: str | None, scene: Callable[[], Awaitable[None]]) -> None:
    """Run a scene on a host within twenty seconds."""

    async def limited() -> None:
        async with asyncio.timeout(20):
            await scene()

    with ExitStack() as stack:
        if host is not None:
            stack.enter_context(inside(host))
        asyncio.run(limited())


def test_gateway_follows_arp_and_nd(lan: Lan) -> None:
    """A neighbour is well while its kernel answers, in both families, and fails with its cable."""

    async def scene() -> None:
        neighbours = Neighbours(lan.index, lan.mac)
        seen = Scene(neighbours.ask)
        seen.start(*({"gateway": {"address": address}} for address in ("10.77.0.1", "fd77::1", "10.77.0.9")))
        silent = "no answer within 0.1 s"
        up, lost = (0, "answers"), (100, silent)
        await seen.until(("health:c0", *up), ("health:c1", *up), ("health:c2", *lost))
        ip("-n", lan.b, "link", "set", "e0", "down")
        await asyncio.sleep(0)
        while len(seen.told) < 2:  # noqa: ASYNC110 (the report is a plain call)
            await asyncio.sleep(0.005)
        assert {("health:c0", 100), ("health:c1", 100)} == {told[:2] for told in seen.told}
        seen.told.clear()
        ip("-n", lan.b, "link", "set", "e0", "up")
        ip("-n", lan.b, "address", "replace", "fd77::1/64", "dev", "e0", "nodad")
        await seen.until(("health:c0", *up), ("health:c1", *up))
        await seen.checks.close()
        neighbours.close()

    play(lan.a, scene)


def test_a_web_server_that_is_far_away(lan: Lan) -> None:
    """Over a real link: a port that listens, one that does not, pages, and a host that is not there."""

    async def scene() -> None:
        seen = Scene(nobody)
        seen.start(
            {"tcp": {"host": "10.77.0.1", "port": 8080}},
            {"tcp": {"host": "fd77::1", "port": 8080}},
            {"http": {"url": "http://10.77.0.1:8080/"}},
            {"http": {"url": "http://10.77.0.1:8080/503"}},
            {"tcp": {"host": "10.77.0.9", "port": 8080}},
        )
        await seen.until(
            ("health:c0", 0, "connected"),
            ("health:c1", 100, "Connection refused"),
            ("health:c2", 0, "status 200"),
            ("health:c3", 100, "status 503 is not between 200 and 399"),
            ("health:c4", 100, "no answer within 0.1 s"),
        )
        ip("-n", lan.b, "address", "del", "10.77.0.1/24", "dev", "e0")
        while len(seen.told) < 2:  # noqa: ASYNC110 (the report is a plain call)
            await asyncio.sleep(0.005)
        assert {("health:c0", 100), ("health:c2", 100)} == {told[:2] for told in seen.told}
        await seen.checks.close()

    with site(lan.b):
        play(lan.a, scene)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A self-signed certificate for web.example and 127.0.0.1, trusted by this process."""
    require("openssl", shutil.which("openssl") is not None, "the program openssl is not installed")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    names = "subjectAltName=DNS:web.example,IP:127.0.0.1"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {cert}"
    )
    subprocess.run(
        [*command.split(), "-days", "2", "-subj", "/CN=web.example", "-addext", names],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_https(certificate: ssl.SSLContext) -> None:
    """A certificate has to be for the Host header's name, or the address, and trusted, unless that is off."""

    async def scene(port: int, plain: int) -> None:
        seen = Scene(nobody)
        url, slow = f"https://127.0.0.1:{port}/", {"period": "1s", "timeout": "1s"}
        seen.start(
            {**slow, "http": {"url": url}},
            {**slow, "http": {"url": url, "host": "web.example:443"}},
            {**slow, "http": {"url": url, "host": "other.example"}, "fall": 1},
            {**slow, "http": {"url": url, "host": "other.example", "insecureTLS": True}},
            {**slow, "http": {"url": f"https://127.0.0.1:{plain}/"}, "fall": 1},
            {**slow, "http": {"url": f"{url}500"}, "fall": 1},
        )
        while len(seen.told) < 6:  # noqa: ASYNC110 (the report is a plain call)
            await asyncio.sleep(0.005)
        told = {name: (amount, detail) for name, amount, detail in seen.told}
        good = (0, "status 200")
        assert [good, good, good] == [told[f"health:c{number}"] for number in (0, 1, 3)]
        assert (100, "status 500 is not between 200 and 399") == told["health:c5"]
        assert 100 == told["health:c2"][0]
        assert "not valid for 'other.example'" in told["health:c2"][1]
        assert 100 == told["health:c4"][0]
        await seen.checks.close()

    with site(None, certificate) as port, site(None) as plain:
        play(None, lambda: scene(port, plain))


COST = """
import asyncio, gc, sys, time
from ipaddress import ip_address
from carp.core.health import Check, Tcp
from carp.health import Checks

async def main():
    checks, told = Checks(None), []
    target = Tcp(ip_address("127.0.0.1"), int(sys.argv[1]))
    for vhost in range(200):
        checks.start(str(vhost), [Check("web", target, period=1.0)], lambda *verdict: told.append(verdict))
    await asyncio.sleep(2)
    gc.freeze()
    begun, spent = time.monotonic(), time.process_time()
    await asyncio.sleep(4)
    share = (time.process_time() - spent) / (time.monotonic() - begun)
    await checks.close()
    print(share, len(told), sum(amount for _, amount, _ in told))

asyncio.run(main())
"""


@pytest.mark.slow
def test_two_hundred_checks_cost_little() -> None:
    """200 checks a second take less than 3 % of a core; twice that is allowed to a busy machine."""
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        end = threading.Event()
        thread = threading.Thread(target=_accept, args=(server, end))
        thread.start()
        try:
            port = str(server.getsockname()[1])
            done = subprocess.run(
                [sys.executable, "-c", COST, port], cwd=ROOT, capture_output=True, text=True, check=False
            )
        finally:
            end.set()
            thread.join()
    assert (0, "") == (done.returncode, done.stderr)
    share, verdicts, demotions = done.stdout.split()
    print(f"200 checks at 1 s: {float(share):.1%} of a core")
    assert ("200", "0") == (verdicts, demotions)
    assert float(share) < 0.06


def _accept(server: socket.socket, end: threading.Event) -> None:
    server.settimeout(0.1)
    while not end.is_set():
        with suppress(OSError):
            server.accept()[0].close()
