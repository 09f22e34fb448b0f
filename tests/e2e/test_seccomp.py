"""deploy/seccomp/carpd.json holds what carpd calls: recorded by strace, and proven by a life under it.

After a change that needs other system calls, `test_nothing_else_is_called` names them.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

import seccomp
from carp.lab.node import module_environment
from lanfix import need_lan
from nodefix import VIP, VIP6, Lab, first, holds, vhost, wait_until
from require import require
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROFILE = ROOT / "deploy" / "seccomp" / "carpd.json"
CAPABILITIES = ("setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--no-new-privs")
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)", flags=re.MULTILINE)
OPTIONS = ("--respawn", "--metrics", "127.0.0.1:9105", "--socket-group", "root")
EXPECTED_ERROR = "carpd ended by signal 9"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A LAN of this test's own."""
    need_lan()
    for program in ("setpriv", "openssl"):
        require(program, shutil.which(program) is not None, f"the program {program} is not installed")
    with Lab() as lab:
        yield lab


def test_a_whole_life_under_the_profile(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CAP_NET_ADMIN and CAP_NET_RAW only, everything carpd does works under the profile, although any
    other system call would kill whoever makes it, scripts included.
    """
    require("libseccomp", seccomp.available(), "Debian's package libseccomp2 is not installed")
    wrapper = [sys.executable, seccomp.__file__, str(PROFILE)]
    Life(lab, wrapper, monkeypatch).live()


def test_nothing_else_is_called(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each system call that strace sees is in the profile."""
    require("strace", shutil.which("strace") is not None, "Debian's package strace is not installed")
    record = lab.folder / "calls"
    Life(lab, ["strace", "-D", "-f", "-qq", "-A", "-o", str(record)], monkeypatch).live()
    names = set(CALL.findall(record.read_text(encoding="utf-8", errors="replace")))
    print(f"called: {' '.join(sorted(names))}")
    assert set() == names - {name for rule in _profile()["syscalls"] for name in rule["names"]}


@pytest.mark.parametrize(
    ("number", "arguments", "answer"),
    [
        pytest.param(272, (0x40000000,), errno.EPERM, id="unshare"),
        pytest.param(308, (0, 0), errno.EPERM, id="setns"),
        pytest.param(165, (0, 0, 0, 0, 0), errno.EPERM, id="mount"),
        pytest.param(101, (0, 0, 0, 0), errno.EPERM, id="ptrace"),
        pytest.param(321, (0, 0, 0), errno.EPERM, id="bpf"),
        pytest.param(56, (0x10000000 | signal.SIGCHLD, 0, 0, 0, 0), errno.EPERM, id="clone a user namespace"),
        pytest.param(435, (0, 0), errno.ENOSYS, id="clone3: the C library falls back to clone"),
        pytest.param(41, (40, 1, 0), errno.EPERM, id="socket AF_VSOCK"),
        pytest.param(41, (1, 1, 0), 0, id="socket AF_UNIX"),
    ],
)
def test_what_carpd_does_not_need_is_refused(number: int, arguments: tuple[int, ...], answer: int) -> None:
    """In a container the profile refuses namespaces, mounts, tracing and foreign socket families."""
    require("libseccomp", seccomp.available(), "Debian's package libseccomp2 is not installed")
    require("x86_64", platform.machine() == "x86_64", "the numbers are those of x86_64")
    program = (
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "numbers = [ctypes.c_long(int(word)) for word in sys.argv[1:]]\n"
        "print(ctypes.get_errno() if libc.syscall(*numbers) < 0 else 0)\n"
    )
    words = [sys.executable, "-c", program, str(number), *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, seccomp.__file__, str(PROFILE), *words],
        env={**os.environ, "SECCOMP_DEFAULT": "errno"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (f"{answer}\n", "") == (done.stdout, done.stderr)


def _profile() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(PROFILE.read_text(encoding="utf-8"))
    return result


class Manager:
    """A service manager that only listens."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self.told: set[str] = set()
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while text := self._socket.recv(4096).decode():
            self.told.update(text.split("\n"))

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()


class Life:
    """Everything that carpd does, once: what systemd, a kubelet, an agent and its neighbours make of it."""

    def __init__(self, lab: Lab, wrapper: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab = lab
        self.manager = Manager(str(lab.folder / "notify"))
        self._certificate()
        for key, value in {
            "NOTIFY_SOCKET": str(lab.folder / "notify"),
            "WATCHDOG_USEC": "3000000",
            "SSL_CERT_FILE": str(lab.folder / "cert.pem"),
        }.items():
            monkeypatch.setenv(key, value)
        self.one = lab.daemon("n1", *self.vhosts(), options=OPTIONS)
        self.wrapper = [*CAPABILITIES, *wrapper]
        self.one.argv = [*self.wrapper, *self.one.argv]
        self.socket = lab.folder / "n1.state" / "carpd.sock"

    def vhosts(self, **changes: Any) -> list[dict[str, Any]]:
        """Return the settings of n1: a vhost with everything, and a sealed unicast one."""
        often = {"period": "500ms", "timeout": "500ms", "fall": 2, "rise": 1}
        slow = {"period": "1s", "timeout": "1s"}
        checks = [
            {"name": "tcp", "tcp": {"port": 8080}, **often},
            {"name": "http", "http": {"url": "http://127.0.0.1:8080/"}, **often},
            {"name": "https", "http": {"url": "https://127.0.0.1:8443/"}, **slow},
            {"name": "exec", "exec": {"command": ["test", "-e", str(self.lab.folder / "well")]}, **often},
            {"name": "gateway", "gateway": {"address": "10.99.0.2"}, **often},
            {"name": "gateway6", "gateway": {"address": "fd99::2"}, **often},
        ]
        up = self.lab.script("up", 'echo up "$@"; ip address show dev "$1" | grep -c inet; date >/dev/null')
        down = self.lab.script("down", 'echo down "$@"; sleep 0.01; logger -s gone 2>/dev/null; exit 0')
        web = first(addresses=[VIP, VIP6], healthChecks=checks, scripts={"up": up, "down": down}, **changes)
        unicast = {"mode": "Unicast", "peers": ["10.99.0.2", "10.99.0.3"]}
        sealed = {"authentication": {"mode": "Sealed"}, "transport": unicast, "addresses": ["10.99.0.251"]}
        return [web, first("other", vhid=43, **sealed)]

    def _certificate(self) -> None:
        key, cert = self.lab.folder / "key.pem", self.lab.folder / "cert.pem"
        words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {key} -out {cert}"
        names = ["-days", "2", "-subj", "/CN=web.example", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(["openssl", *words.split(), *names], check=True, capture_output=True)

    def live(self) -> None:
        """Start, elect, hand over, reload, apply, check, crash, stop; nothing may be refused."""
        with closing(self.manager):
            for step in (self.start, self.look, self.hand_over, self.reload, self.apply):
                step()
            for step in (self.demote, self.crash, self.stop):
                step()
        self.judge()

    def start(self) -> None:
        """Serve what is checked, start both nodes, hear READY and the watchdog."""
        (self.lab.folder / "well").touch()
        node, quiet = self.lab.node("n1"), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        node.popen([sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "8080"], **quiet)
        tls = ["-key", str(self.lab.folder / "key.pem"), "-cert", str(self.lab.folder / "cert.pem")]
        node.popen(["openssl", "s_server", "-www", "-accept", "127.0.0.1:8443", *tls], **quiet)
        self.lab.node("n2")  # which is asked by the checks
        self.one.start()
        self.one.wait_state("MASTER", 20, vhost="web")
        self.told("READY=1")
        self.told("WATCHDOG=1")
        # A first result that is bad demotes at once; a second node would be given the address.
        self.until("all checks are up", lambda: {"up"} == {c["health"] for c in self.web()["health"]})
        self.two = self.lab.daemon("n2", vhost(addresses=[VIP, VIP6], advskew=20)).start().backup()
        self.lab.heard(self.two)

    def look(self) -> None:
        """Ask everything that only shows; send what is no request."""
        assert self.ask("hello")["ok"]
        assert self.ask("drops")["ok"]
        assert "carp_vip_state" in self.ask("metrics")["text"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
            client.sendall(b"nonsense\n")
            assert b'"ok":false' in client.recv(4096)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.socket))
            client.sendall(b'{"v": 1, "op": "watch"}\n')
            assert b"snapshot" in client.recv(4096)
        assert "carp_vip_state" in self.lab.node("n1").run_in(_scrape)
        self.lab.status(self.one)
        # What a kubelet's probe runs in the container.
        show = [*self.wrapper, sys.executable, "-m", "carp", "status", "--socket", str(self.socket)]
        shown = subprocess.run(show, env=module_environment(), capture_output=True, text=True, check=True)
        assert "MASTER" in shown.stdout

    def hand_over(self) -> None:
        """There and back."""
        assert self.ask("handover", name="web")["ok"]
        self.two.wait_state("MASTER", 5)
        self.one.wait_state("BACKUP", 5, vhost="web")
        self.two.signal(signal.SIGUSR2)
        self.one.wait_state("MASTER", 5, vhost="web")

    def reload(self) -> None:
        """A changed file is noticed, a bad one refused, and SIGHUP reads it at once."""
        self.lab.configure("n1", *self.vhosts(advskew=10))
        self.until("the file is noticed", lambda: self.web()["advskew"] == 10, 5)
        self.lab.configure("n1", *self.vhosts(advskew=11))
        self.one.signal(signal.SIGHUP)
        self.until("SIGHUP is heeded", lambda: self.web()["advskew"] == 11, 3)
        self.told("RELOADING=1")

    def apply(self) -> None:
        """Settings over the socket are stored; maintenance moves what can move."""
        added = first("third", vhid=44, addresses=["10.99.0.250"])
        origin = {"uid": "u", "cluster": "c"}
        answer = self.ask("apply", vhosts=[added], generation=1, **origin)
        assert (True, 1) == (answer["persisted"], answer["generation"])
        self.one.wait_state("MASTER", 10, vhost="third")
        assert self.ask("maintenance", on=True)["persisted"]
        self.one.wait_state("BACKUP", 5, vhost="web")
        assert self.ask("maintenance", on=False)["persisted"]
        self.two.signal(signal.SIGUSR2)
        self.one.wait_state("MASTER", 5, vhost="web")
        assert self.ask("apply", vhosts=[], generation=2, **origin)["persisted"]

    def demote(self) -> None:
        """A check that fails demotes, one that succeeds again does not."""
        assert 5 == self.ask("demote", name="web", reason="test", amount=5)["demotion"]
        assert 0 == self.ask("undemote", name="web", reason="test")["demotion"]
        (self.lab.folder / "well").unlink()
        self.until("the check is down", lambda: self.check("exec")["health"] == "down")
        (self.lab.folder / "well").touch()
        self.until("the check is up", lambda: self.check("exec")["health"] == "up")

    def crash(self) -> None:
        """Killed, carpd is back by itself and goes on as what it was."""
        self.two.term()
        self.one.wait_state("MASTER", 10, vhost="web")
        os.kill(self.ask("hello")["pid"], signal.SIGKILL)
        self.one.wait_text(EXPECTED_ERROR, 5)
        self.until("the new one answers and holds", self.holds_again, 10)

    def holds_again(self) -> bool:
        """Whether a carpd answers that is master of both its vhosts."""
        try:
            return {"MASTER"} == {each["state"] for each in self.ask("status")["vhosts"]}
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """Stop in order; the other node has it then."""
        self.two.start().backup()
        self.lab.heard(self.two)
        assert 0 == self.one.term(timeout=20)
        self.told("STOPPING=1")
        self.two.wait_state("MASTER", 3)
        wait_until(lambda: not holds(self.lab.node("n1")), 5, "n1 lets go", self.one)

    def judge(self) -> None:
        """Nothing in the log tells of a refused system call, and both scripts ran."""
        lines = self.one.lines()
        wrong = [x["message"] for x in lines if x["level"] == "ERROR" and EXPECTED_ERROR not in x["message"]]
        assert [] == wrong
        refused = re.compile(r"not permitted|not implemented|signal 31|Bad system call|Errno", re.IGNORECASE)
        assert [] == [x["message"] for x in lines if refused.search(x["message"])]
        assert f"up eth0 {VIP}" in self.one.text
        assert f"down eth0 {VIP}" in self.one.text

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send a request to n1's socket; return the answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(self.socket))
            client.sendall(json.dumps({"v": 1, "id": 1, "op": op, **fields}).encode() + b"\n")
            with client.makefile("rb") as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    def web(self) -> dict[str, Any]:
        """Return the status of the vhost web."""
        vhosts: list[dict[str, Any]] = self.ask("status")["vhosts"]
        return next(each for each in vhosts if each["name"] == "web")

    def check(self, name: str) -> dict[str, Any]:
        """Return the status of one of its checks."""
        checks: list[dict[str, Any]] = self.web()["health"]
        return next(each for each in checks if each["name"] == name)

    def until(self, what: str, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait for something of n1."""
        wait_until(condition, seconds, what, self.one)

    def told(self, word: str) -> None:
        """Wait until the service manager has been told something."""
        self.until(f"the manager is told {word}", lambda: word in self.manager.told)


def _scrape() -> str:
    connection = http.client.HTTPConnection("127.0.0.1", 9105, timeout=10)
    with closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
