"""The lab does what it says, judged by the kernel's own answers."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyroute2
import pytest

import carp
from carp.lab.client import Prober
from carp.lab.errors import LabError
from carp.lab.network import Lan
from carp.lab.node import INTERFACE, Node, cont, kill, module_environment, stop, term
from lanfix import lan, need_lan, ping, settled
from require import require

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["lan"]

VIP = "10.99.0.252"
VIP6 = "fd99::252"


def add_address(node: Node, address: str) -> None:
    length = 128 if ":" in address else 32
    node.namespace.netlink(
        lambda ipr: ipr.addr(
            "add", index=ipr.link_lookup(ifname=INTERFACE)[0], address=address, prefixlen=length, flags=0x202
        )
    )


def carrier(node: Node) -> bool:
    found = node.namespace.netlink(lambda ipr: ipr.get_links(ipr.link_lookup(ifname=INTERFACE)[0])[0])
    return bool(found.get("carrier"))


def leftovers() -> list[str]:
    """Namespaces of ours that still have a name."""
    folder = Path("/run/netns")
    return (
        [entry.name for entry in folder.iterdir() if entry.name.startswith("carp-t-")]
        if folder.exists()
        else []
    )


def test_machines_reach_each_other(lan: Lan) -> None:
    """Nodes and client answer each other by IPv4 and IPv6, with the MACs and addresses stated."""
    node = lan.nodes["n2"]
    assert "02:ca:72:00:00:02" == node.mac
    assert {"10.99.0.2", "fd99::2"} <= node.held()
    assert ping(lan.client, "10.99.0.2")
    assert ping(lan.client, "fd99::2")
    assert ping(node, "10.99.0.200")


def test_set_up_is_quick() -> None:
    """Three nodes and a client are there in less than a second, at the best of three times."""
    need_lan()
    took = []
    for _ in range(3):
        start = time.monotonic()
        with Lan() as made:
            for name in ("a", "b", "c"):
                made.add_node(name)
            made.add_client()
            took.append(time.monotonic() - start)
    assert min(took) < 1.0


def test_wide_subnet() -> None:
    """With a /16 nodes may differ in the third octet."""
    need_lan()
    with Lan(subnet="10.99.0.0/16") as made:
        made.add_node("a", ["10.99.1.9"])
        made.add_client()
        other = made.add_node("b", ["10.99.2.3"])
        assert "02:ca:72:00:00:02" == other.mac
        assert ping(other, "10.99.1.9")


def test_bad_names_are_refused(lan: Lan) -> None:
    """A second node of one name and a name too long for a port are errors that name it."""
    with pytest.raises(LabError, match="'n1'"):
        lan.add_node("n1")
    with pytest.raises(LabError, match="13"):
        lan.add_node("a-very-long-name")


def test_cut_keeps_carrier(lan: Lan) -> None:
    """A node cut behind the switch loses its frames, not its carrier; mending gives them back."""
    node = lan.nodes["n1"]
    lan.cut(node)
    assert carrier(node)
    assert not ping(lan.client, "10.99.0.1")
    lan.mend(node)
    assert settled(lan.client, "10.99.0.1")


def test_unplug_takes_carrier(lan: Lan) -> None:
    """An unplugged node sees it; plugging restores."""
    node = lan.nodes["n1"]
    lan.unplug(node)
    assert not carrier(node)
    assert not ping(lan.client, "10.99.0.1")
    lan.plug(node)
    assert settled(lan.client, "10.99.0.1")


def test_partition_and_heal(lan: Lan) -> None:
    """Groups hear themselves and nobody else, until healed."""
    first, second, third = (lan.nodes[name] for name in ("n1", "n2", "n3"))
    lan.partition(["n1"], ["n2", "n3"])
    assert not ping(first, "10.99.0.2")
    assert not ping(lan.client, "10.99.0.3")
    assert ping(lan.client, "10.99.0.1")
    assert ping(third, "10.99.0.2")
    lan.heal()
    assert settled(first, "10.99.0.2")
    assert settled(second, "10.99.0.200")


def test_cut_survives_partition(lan: Lan) -> None:
    """Healing a partition does not mend a node that is cut."""
    node = lan.nodes["n1"]
    lan.cut(node)
    lan.partition(["n1"], ["n2"])
    lan.heal()
    assert not ping(lan.client, "10.99.0.1")
    lan.mend(node)
    assert settled(lan.client, "10.99.0.1")


def test_loss(lan: Lan) -> None:
    """Half the frames lost each way loses about three answers of four; cleared, none."""
    node = lan.nodes["n1"]
    assert ping(lan.client, "10.99.0.1")
    lan.loss(node, 50)
    assert carrier(node)
    answered = len(ping(lan.client, "10.99.0.1", count=80, timeout=0.02))
    assert 5 <= answered <= 40
    lan.clear(node)
    assert settled(lan.client, "10.99.0.1")
    assert 20 == len(ping(lan.client, "10.99.0.1", count=20))


def test_delay(lan: Lan) -> None:
    """20 ms each way are 40 ms there and back."""
    node = lan.nodes["n1"]
    lan.delay(node, 20)
    assert settled(lan.client, "10.99.0.1")
    middle = statistics.median(ping(lan.client, "10.99.0.1", count=9))
    assert 40 <= middle < 60


def test_offloaded_stream_through_a_bad_cable(lan: Lan) -> None:
    """TCP with veth's checksum and segmentation offload passes the user-space link unharmed."""
    node = lan.nodes["n1"]
    lan.delay(node, 1)
    code = (
        "import socket\n"
        "s = socket.create_server(('', 7000)); print('up', flush=True)\n"
        "c, _ = s.accept(); n = 0\n"
        "while d := c.recv(65536): n += len(d)\n"
        "print(n, flush=True)"
    )
    server = node.popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert b"up\n" == server.stdout.readline()
    sender = "import socket\ns = socket.create_connection(('10.99.0.1', 7000))\ns.sendall(bytes(1_000_000))"
    assert 0 == lan.client.popen([sys.executable, "-c", sender]).wait(20)
    assert b"1000000\n" == server.stdout.readline()


def test_reboot(lan: Lan) -> None:
    """A rebooted node has lost its processes and added addresses and answers again at its own."""
    node = lan.nodes["n1"]
    process = node.popen(["sleep", "60"])
    add_address(node, VIP)
    assert ping(lan.client, VIP)
    lan.loss(node, 1)
    lan.reboot(node)
    assert -signal.SIGKILL == process.returncode
    assert VIP not in node.held()
    assert settled(lan.client, "10.99.0.1")
    assert settled(lan.client, "fd99::1")
    assert not ping(lan.client, VIP)


def test_process_control(lan: Lan) -> None:
    """The pid of a program is its own: stopped it stands, continued it runs, and each ends as told."""
    node = lan.nodes["n1"]
    process = node.popen(["sleep", "60"])
    assert [process.pid] == node.namespace.pids()
    stop(process)
    assert " T " in Path(f"/proc/{process.pid}/stat").read_text()
    cont(process)
    assert -signal.SIGTERM == term(process)
    other = node.popen(["sleep", "60"])
    kill(other)
    assert -signal.SIGKILL == other.returncode
    assert [] == node.namespace.pids()


def test_orphans_are_killed(lan: Lan) -> None:
    """What a program left running in the background is killed with the node."""
    node = lan.nodes["n1"]
    shell = node.popen(["sh", "-c", "sleep 60 & echo $!"], stdout=subprocess.PIPE)
    orphan = int(shell.stdout.readline())
    shell.wait()
    assert [orphan] == node.namespace.pids()
    lan.power_off(node)
    assert not alive(orphan)
    lan.power_on(node)


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if " Z " in Path(f"/proc/{pid}/stat").read_text():
                return False
        except FileNotFoundError:
            return False
    return True


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_prober_sees_owner_and_two_owners(lan: Lan, address: str) -> None:
    """The probe names the owner, measures an outage and the time with two owners, by each family."""
    first, second = lan.nodes["n1"], lan.nodes["n2"]
    add_address(first, address)
    with Prober(lan.client, address) as prober:
        prober.wait_owner(first, 5)
        prober.wait_answering(5)
        prober.mark("second too")
        add_address(second, address)
        wait_until(lambda: prober.status.owners == {first.mac, second.mac})
        seen = prober.status.sent
        wait_until(lambda: prober.status.sent > seen + 50)
        prober.mark("first cut")
        lan.cut(first)
        assert second.mac == prober.wait_settled(5, unlike=first.mac)
        lan.mend(first)
        result = prober.stop()
    (_, double), (_, cut) = result.per_mark()
    assert double.two_owners.questions > 0
    assert double.two_owners.longest_s > 0.004
    assert ((first.mac, second.mac)) in {change.owners for change in double.owners}
    assert (second.mac,) in {change.owners for change in cut.owners}


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait at most five seconds."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_prober_measures_an_outage(lan: Lan) -> None:
    """The outage reported is the time between cut and mend, and the answers lost are its milliseconds."""
    node = lan.nodes["n1"]
    add_address(node, VIP)
    with Prober(lan.client, VIP) as prober:
        prober.wait_answering(5)
        start = prober.mark("cut").time_ns
        lan.cut(node)
        cut = time.monotonic_ns()
        wait_until(lambda: time.monotonic_ns() > cut + 300_000_000)
        least = (time.monotonic_ns() - cut) / 1e6
        lan.mend(node)
        most = (time.monotonic_ns() - start) / 1e6
        prober.wait_answering(5)
        result = prober.stop()
    summary = result.per_mark()[0][1]
    assert 1 == len(summary.outages)
    assert least - 30 <= summary.outage_ms <= most + 50
    assert 0.8 * least <= summary.lost <= 1.05 * most


def test_prober_is_cheap(lan: Lan) -> None:
    """Probing every millisecond costs less than a quarter of a core."""
    node = lan.nodes["n1"]
    add_address(node, VIP)
    with Prober(lan.client, VIP) as prober:
        prober.wait_answering(5)
        before, start = cpu_seconds(prober.process.pid), prober.status.sent
        wait_until(lambda: prober.status.sent > start + 1000)
        used = cpu_seconds(prober.process.pid) - before
        sent = prober.status.sent - start
    assert used / (sent / 1000) < 0.25


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_nothing_left_after_an_exception() -> None:
    """An exception inside the block removes everything all the same."""
    need_lan()
    before = leftovers()
    with pytest.raises(ZeroDivisionError), Lan() as made:  # noqa: PT012 - the block is what is tested
        process = made.add_node("a").popen(["sleep", "60"])
        raise ZeroDivisionError
    assert -signal.SIGKILL == process.returncode
    assert before == leftovers()


SCRIPT = """
import sys, time
from carp.lab.network import Lan
with Lan(prefix=sys.argv[1]) as lan:
    print(lan.add_node("a").popen(["sleep", "60"]).pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_left_after_a_signal(number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end the lab's processes and namespaces."""
    need_lan()
    prefix = f"carp-t-s{int(number)}"
    lab = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, prefix],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=module_environment(),
        # Whoever started the tests may ignore the signal (nohup, a shell's background job).
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509 (no thread runs here)
    )
    with lab:
        sleeper = int(lab.stdout.readline())
        lab.send_signal(number)
        assert 0 != lab.wait(10)
    assert not alive(sleeper)
    assert [] == [name for name in leftovers() if name.startswith(prefix)]


# setpriv itself still has its capabilities when it starts a program: env is the one that has none.
NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "env"]
UNPRIVILEGED = """
from carp.lab import privilege
assert privilege.enter()
from carp.lab.network import Lan
from carp.lab.client import Prober
with Lan() as lan:
    lan.add_node("a")
    lan.add_client()
    with Prober(lan.client, "10.99.0.1") as prober:
        prober.wait_answering(5)
        print(prober.stop().summary.sent > 0)
"""


def test_without_root() -> None:
    """A user without privilege gets the same lab through a user namespace."""
    need_lan()
    allowed = subprocess.run(
        [*NOBODY, "unshare", "--user", "--net", "true"], check=False, capture_output=True
    )
    require("user namespaces", allowed.returncode == 0, "the kernel refuses them to an ordinary user")
    with tempfile.TemporaryDirectory(prefix="carp-t-") as folder:
        Path(folder).chmod(0o755)  # the checkout itself may not be readable for others
        for package in (carp, pyroute2):
            source = Path(package.__file__).parent
            shutil.copytree(source, Path(folder, source.name), ignore=shutil.ignore_patterns("__pycache__"))
        done = subprocess.run(
            [*NOBODY, public_python(), "-c", UNPRIVILEGED],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
        )
    assert (0, "True\n") == (done.returncode, done.stdout), done.stderr


def public_python() -> str:
    """An interpreter that an ordinary user may run."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        if Path(candidate).exists():
            done = subprocess.run(
                [*NOBODY, candidate, "-c", check], check=False, capture_output=True, cwd="/"
            )
            if done.returncode == 0:
                return candidate
    require("an interpreter", ok=False, why="no Python 3.11 that an ordinary user may run")
    raise AssertionError
