"""What ucarp cannot do or does not check (carp-protocol.md section 9, B13 to B25), each by its number."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from beside import Measured, beside, labs
from carp.core import wire
from carp.lab.node import module_environment
from nodefix import PASSWORD, VIP, VIP6, Lab, first, holds, idle, in_time, run_ip, wait_until

__all__ = ["labs"]


@beside
def test_b13_sends_from_its_real_mac(lab: Lab) -> None:
    """Adverts and announcements leave with the interface's own MAC."""
    node = lab.node("n1")
    with lab.sniffer() as sniffer:
        lab.daemon("n1", first()).start().master()
        wait_until(lambda: sniffer.adverts() and sniffer.gratuitous(node.mac), 3, "adverts and announcements")
        assert {node.mac} == {frame.source_mac for frame in sniffer.adverts()}
        announced = sniffer.gratuitous(node.mac)[0]
    assert node.mac == announced.packet[8:14].hex(":")


@beside
def test_b14_unicast_peers(lab: Lab) -> None:
    """With --peer two nodes need no multicast."""
    lab.node("n1"), lab.node("n2")
    one = lab.carp("n1", "--peer", "10.99.0.2").start().master()
    two = lab.carp("n2", "--peer", "10.99.0.1", "-k", "20").start()
    lab.heard(two)
    with lab.sniffer() as sniffer:
        idle(1.2)
        assert [] == [f for f in sniffer.adverts() if f.destination.startswith("224.")]
    assert 0 == one.term()
    two.master(1)


@beside
def test_b15_ipv6(lab: Lab) -> None:
    """An IPv6 address on the command line is elected by adverts over IPv6."""
    one = lab.carp("n1", address=VIP6).start().master()
    wait_until(lambda: holds(lab.node("n1"), VIP6), 2, "it holds the address", one)
    with lab.sniffer() as sniffer:
        wait_until(sniffer.adverts, 3, "adverts", one)
        assert all(frame.is_v6 for frame in sniffer.adverts())


@beside
def test_b16_several_addresses_stay_together(lab: Lab) -> None:
    """All addresses of one vhid are with one node, and move together."""
    vips = [VIP, "10.99.0.253", VIP6]
    more = ("-a", vips[1], "-a", vips[2])
    one = lab.carp("n1", *more).start().master()
    two = lab.carp("n2", *more, "-k", "20").start()
    lab.heard(two)
    assert [(True, False)] * 3 == [(holds(lab.node("n1"), v), holds(lab.node("n2"), v)) for v in vips]
    assert 0 == one.term()
    wait_until(lambda: all(holds(lab.node("n2"), v) for v in vips), 2, "all moved", two)
    assert not any(holds(lab.node("n1"), v) for v in vips)


@beside
def test_b17_network_restart_brings_the_address_back(lab: Lab) -> None:
    """When a network restart flushes the interface, a master that still is one has its address again."""
    node = lab.node("n1")
    one = lab.daemon("n1", first()).start().master()
    run_ip(node, "link", "set", "eth0", "down")
    run_ip(node, "address", "flush", "dev", "eth0")
    run_ip(node, "address", "add", "10.99.0.1/24", "dev", "eth0")
    run_ip(node, "link", "set", "eth0", "up")
    wait_until(lambda: one.state() == "MASTER" and holds(node), 6, "it holds the address again", one)


@beside
def test_b18_password_is_not_shown(lab: Lab) -> None:
    """The password of CARP_PASSWORD is in no argument, no log, no file and no script's environment."""
    secret = "Xy7-secret"
    up = lab.script("up", f"env > {lab.folder}/environment")
    words = [
        sys.executable,
        "-m",
        "carp",
        "-i",
        "eth0",
        "-v",
        "42",
        "-a",
        VIP,
        "-u",
        up,
        "--json",
        "-f",
        "none",
    ]
    words += ["--state-dir", str(lab.folder / "state"), "-D"]
    log = lab.folder / "out"
    with log.open("wb") as out:
        environment = {**module_environment(), "CARP_PASSWORD": secret}
        process = lab.node("n1").popen(words, env=environment, stdout=out, stderr=out)
    wait_until((lab.folder / "environment").exists, 8, "the script runs")
    process.send_signal(signal.SIGUSR1)
    idle(0.5)
    texts = [
        log,
        lab.folder / "environment",
        Path(f"/proc/{process.pid}/cmdline"),
        *(lab.folder / "state").iterdir(),
    ]
    assert [] == [str(path) for path in texts if secret.encode() in path.read_bytes()]


@beside
def test_b19_foreign_packets_do_not_flood_the_log(lab: Lab) -> Measured:
    """Hundreds of VRRP, foreign, mangled and routed packets make a few log lines and change nothing."""
    one, two = lab.pair()
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "an advert", one)
        good = sniffer.adverts("10.99.0.1")[0]
    before = one.count
    payloads = [
        bytes.fromhex("310bc8010064e4f10a000002"),  # VRRPv3
        good.payload[:1] + b"\x63" + good.payload[2:],  # another vhid, so a wrong checksum
        _resum(good.payload, {1: 99}),  # another vhid
        _resum(good.payload, {20: good.payload[20] ^ 1}),  # a wrong digest
        good.payload[:20],
        b"",
    ]
    for _ in range(100):
        for payload in payloads:
            _inject(lab, payload)
        _inject(lab, good.payload, ttl=64)
    idle(0.5)
    lines = one.count - before
    assert lines < 10
    assert [] == one.events("state", since=before)
    assert ("MASTER", "BACKUP") == (one.state(), two.state())
    return {"packets": 700, "log_lines": lines}


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["-B", "-i", "nosuch0", "-v", "1", "-a", VIP, "-o", "PASS"], []]
)
@beside
def test_b20_failures_have_exit_codes(lab: Lab, words: list[str]) -> None:
    """An unknown option, a missing interface with -B and no option at all end with 2 and one line."""
    secret = str(lab.write("secret", PASSWORD))
    code, text = _try(lab, [secret if word == "PASS" else word for word in words])
    assert (2, 1) == (code, len(text.splitlines())), text


@beside
def test_b20_background(lab: Lab) -> None:
    """With -B the command returns 0 once the vhost has started, and SIGTERM ends the process behind it."""
    node = lab.node("n1")
    secret = str(lab.write("secret", PASSWORD))
    words = ["-B", "-i", "eth0", "-v", "42", "-a", VIP, "-o", secret, "-f", "none"]
    assert (0, "") == _try(lab, [*words, "--state-dir", str(lab.folder / "state"), "--release"])
    wait_until(lambda: holds(node), 8, "it holds the address")
    (pid,) = node.namespace.pids()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not node.namespace.pids(), 5, "it ends")
    assert not holds(node)


@pytest.mark.parametrize(
    ("option", "value"),
    [("-b", "256"), ("-k", "300"), ("-v", "7abc"), ("-v", "0x10"), ("-v", "010"), ("-r", "-1")],
)
@beside
def test_b21_numbers_are_not_bent(lab: Lab, option: str, value: str) -> None:
    """A number out of range, octal, hexadecimal or with something behind it is refused by name and value."""
    secret = str(lab.write("secret", PASSWORD))
    words = [
        "-i",
        "eth0",
        "-a",
        VIP,
        "-o",
        secret,
        *(["-v", "42"] if option != "-v" else []),
        f"{option}{value}",
    ]
    code, text = _try(lab, words)
    assert 2 == code
    assert value in text
    assert f"({option})" in text
    assert not holds(lab.node("n1"))


@beside
def test_b22_lost_interface_leaves_a_working_process(lab: Lab) -> None:
    """With its interface deleted the process still answers signals and ends with 0 when told to."""
    one = lab.carp("n1").start().backup()
    lab.lan.switch.unwire("n1")
    one.wait_state("INIT")
    assert "INIT" in lab.status(one)
    assert 0 == one.term()


@beside
def test_b23_winner_announces_again(lab: Lab) -> Measured:
    """After a partition heals the winner announces at once, so that every cache turns to it."""
    daemons = [lab.daemon(name, first(advskew=skew)) for name, skew in (("n1", 0), ("n2", 50))]
    lab.node("n1"), lab.node("n2")
    lab.lan.partition(["n2", "client"], ["n1"])
    for each in daemons:
        each.start().master()
    with lab.prober() as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n2"), 5)
        idle(5)  # the announcements of the takeovers are over
        healed = time.monotonic()
        lab.lan.heal()
        prober.wait_owner(lab.node("n1"), 4)
        wait_until(lambda: sniffer.gratuitous(lab.node("n1").mac, since=healed), 3, "it announces", *daemons)
        announced = sniffer.gratuitous(lab.node("n1").mac, since=healed)[0].at - healed
        result = prober.stop()
    assert ("MASTER", "BACKUP") == (daemons[0].state(), daemons[1].state())
    in_time(announced, 1.5)
    return {"announced_after_s": announced, "lost": result.summary.lost}


@pytest.mark.parametrize("better", [False, True])
@beside
def test_b25_recorded_adverts_gain_nothing(lab: Lab, better: bool) -> None:
    """In Sealed mode a recorded advert sent again, as it was or with a better skew, moves no master."""
    one, two = lab.pair(advskew=30, authentication={"mode": "Sealed"})
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "an advert", one)
        good = sniffer.adverts("10.99.0.1")[0]
    marks = one.count, two.count
    payload = _resum(good.payload, {2: 0}) if better else good.payload
    one.stop()  # so that replays, not its own adverts, would keep the backup quiet
    begin = time.monotonic()
    while time.monotonic() - begin < 3:
        _inject(lab, payload)
        idle(0.2)
    two.master(1.5)
    one.cont()
    one.backup(3)
    assert 1 == len(two.events("state", since=marks[1]))


def _resum(payload: bytes, changes: dict[int, int]) -> bytes:
    """Return a payload with these bytes changed and a correct checksum."""
    changed = bytearray(payload)
    for offset, value in changes.items():
        changed[offset] = value
    changed[6:8] = b"\0\0"
    changed[6:8] = wire.checksum(bytes(changed)).to_bytes(2, "big")
    return bytes(changed)


def _inject(lab: Lab, payload: bytes, *, ttl: int = 255) -> None:
    """Multicast a payload of protocol 112 from the client."""

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, wire.PROTOCOL) as sock:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(lab.client.address))
            sock.sendto(payload, (wire.GROUP4, 0))

    lab.client.run_in(send)


def _try(lab: Lab, words: list[str]) -> tuple[int, str]:
    """Run carp on n1 to its end and return its exit code and what it prints to standard error."""
    program = [sys.executable, "-m", "carp", *words]
    environment = module_environment()
    node = lab.node("n1")
    done = node.run_in(
        lambda: subprocess.run(
            program, env=environment, capture_output=True, text=True, timeout=20, check=False
        )
    )
    return done.returncode, done.stderr
