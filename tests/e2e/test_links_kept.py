"""What happens to interfaces beside and under a vhost, and must not move or stop it."""

from __future__ import annotations

import sys
import time
from typing import Any

from beside import Measured, beside, labs
from carpd import call, shown
from nodefix import VIP, Daemon, Lab, add, first, found, holds, idle, in_time, run_ip, vhost, wait_until

__all__ = ["labs"]

MULTICAST = "224.0.0.18"
REFUSING = """\
import errno, sys
from pathlib import Path
import carp.netlink
from carp.cli import main
from carp.rtnl import RTM_DELADDR

flag = Path(sys.argv.pop(1))
submit = carp.netlink.Netlink.submit

def refusing(self, messages):
    if flag.exists() and any(int.from_bytes(m[4:6], sys.byteorder) == RTM_DELADDR for m in messages):
        raise OSError(errno.ENOBUFS, "No buffer space available")
    return submit(self, messages)

carp.netlink.Netlink.submit = refusing
sys.exit(main())
"""


def _cable(lab: Lab, name: str, other: str, *addresses: str, node: str = "n1", index: str = "") -> None:
    """Make an interface whose cable ends in the same node, with a carrier."""
    where = lab.node(node)
    number = ["index", index] if index else []
    run_ip(where, "link", "add", name, *number, "type", "veth", "peer", "name", other)
    run_ip(where, "link", "set", other, "up")
    for address in addresses:
        run_ip(where, "address", "add", address, "dev", name)
    run_ip(where, "link", "set", name, "up")


def _states(daemon: Daemon, since: int) -> list[tuple[str, str]]:
    return [(line["vhost"], line["new"]) for line in daemon.events("state", since=since)]


@beside
def test_kube_proxy_in_ipvs_mode(lab: Lab) -> Measured:
    """kube-proxy puts a Service's address onto an interface of its own on every node: with arp_ignore the
    master stays what it is, the backup takes over, and a node that starts takes part.
    """
    one, two = lab.pair()
    marks = one.count, two.count
    for name in ("n1", "n2"):
        node = lab.node(name)
        node.namespace.sysctl("ipv4/conf/eth0/arp_ignore", "1")
        run_ip(node, "link", "add", "kube-ipvs0", "type", "bridge")
        run_ip(node, "address", "add", f"{VIP}/32", "dev", "kube-ipvs0")
        run_ip(node, "link", "set", "eth0", "mtu", "1400")  # an event of the interface in use
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        idle(1.5)
        assert [[], []] == [_states(d, since) for d, since in zip((one, two), marks, strict=True)]
        assert 0 == one.term()
        two.master(5)
        prober.wait_owner(lab.node("n2"), 5)
        lab.heard(one.start())
        idle(0.3)
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [holds(lab.node(name)) for name in ("n1", "n2")] == [False, True]
    return {"lost": 0}


@beside
def test_another_interface_of_the_subnet(lab: Lab) -> None:
    """A bridge that gets an address of the same subnet, first by its name, takes nothing away from eth0."""
    auto = {"interface": {"subnet": "auto"}}
    one, two = lab.pair(**auto)
    marks = one.count, two.count
    _cable(lab, "ab0", "far", "10.99.0.77/24")
    run_ip(lab.node("n1"), "link", "set", "eth0", "mtu", "1400")
    idle(1.5)
    assert [[], []] == [_states(d, since) for d, since in zip((one, two), marks, strict=True)]
    lab.lan.unplug(lab.node("n1"))
    two.master(6)
    idle(0.5)
    assert "interface eth0 has no carrier" == shown(lab, "n1")["reason"]
    assert VIP not in run_ip(lab.node("n1"), "address", "show", "dev", "ab0")
    lab.lan.plug(lab.node("n1"))
    one.backup(5)


@beside
def test_an_address_of_another_interface_s_subnet(lab: Lab) -> Measured:
    """New settings can mean another interface: the vhost hands over, and goes on there."""
    auto = {"interface": {"subnet": "auto"}}
    one, two = lab.pair(**auto)
    for name, own in (("n1", "10.77.0.1/24"), ("n2", "10.77.0.2/24")):
        _cable(lab, "eth1", "far", own, node=name)
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        lab.configure("n1", first(**auto, addresses=["10.77.0.252"]))
        call(lab, "n1", "reload")
        two.master(3)
        prober.wait_owner(lab.node("n2"), 3)
        result = prober.stop()
    wait_until(lambda: "eth1" == shown(lab, "n1")["interface"], 5, "it moved", one)
    one.master(8)
    assert "10.77.0.252/32" in run_ip(lab.node("n1"), "address", "show", "dev", "eth1")
    assert 0 == result.summary.lost
    return {"lost": 0}


@beside
def test_settings_that_the_host_is_not_ready_for(lab: Lab) -> None:
    """What runs goes on with the old ones until the host is; nobody has to say so."""
    one = lab.daemon("n1", first()).start().master()
    lab.configure("n1", first(source="10.99.0.77"))
    call(lab, "n1", "reload")

    def problems() -> list[str]:
        found: list[str] = call(lab, "n1", "status")["daemon"]["problems"]
        return found

    assert ["web: interface eth0 does not have the source address 10.99.0.77"] == problems()
    with lab.sniffer() as sniffer:
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 3, "it goes on", one)
        run_ip(lab.node("n1"), "address", "add", "10.99.0.77/24", "dev", "eth0")
        wait_until(lambda: sniffer.adverts("10.99.0.77"), 8, "it changes", one)
    assert [] == problems()
    assert holds(lab.node("n1"))


@beside
def test_a_link_local_address_on_a_second_interface(lab: Lab) -> None:
    """The vhost that gets it later begins: it is another address there."""
    _cable(lab, "eth1", "far", "10.77.0.1/24")
    local = first(addresses=["fe80::252"])
    one = lab.daemon("n1", local).start().master()
    lab.configure("n1", local, first("other", interface="eth1", addresses=["fe80::252"]))
    call(lab, "n1", "reload")
    one.wait_state("MASTER", 6, vhost="other")
    for name in ("eth0", "eth1"):
        assert "fe80::252/128" in run_ip(lab.node("n1"), "address", "show", "dev", name)


def _refusing(lab: Lab, **changes: Any) -> Daemon:
    """Return a carpd on n1 whose kernel deletes no address while a file of this name exists."""
    one = lab.daemon("n1", first(**changes))
    script = lab.write("refusing.py", REFUSING)
    one.argv[: one.argv.index("daemon")] = [sys.executable, str(script), str(lab.folder / "refuse")]
    return one


@beside
def test_an_address_that_could_not_be_deleted(lab: Lab) -> None:
    """The kernel has no memory for a moment, when a master lets go and when it cleans up at a start: the
    vhost takes part again by itself.
    """
    one = _refusing(lab).start().master()
    flag = lab.write("refuse", "")
    lab.lan.unplug(lab.node("n1"))
    one.wait_state("INIT", 3)
    flag.unlink()
    lab.lan.plug(lab.node("n1"))
    one.master(8)
    one.kill()
    add(lab.node("n1"), f"{VIP}/32", lifetime=600, proto=112)
    lab.configure("n1", first(password="peace"))
    flag.touch()
    one.start().wait_text("No buffer space available", 5)
    idle(0.5)
    flag.unlink()
    one.master(8)
    again = found(lab.node("n1"))
    assert again is not None
    assert again.valid <= 2


@beside
def test_another_interface_of_the_same_number(lab: Lab) -> None:
    """What was made again while carpd stood still is listened to, though number and name are the same."""
    _cable(lab, "eth1", "far", "10.77.0.1/24", index="777")
    node = lab.node("n1")
    one = lab.daemon("n1", first(interface="eth1", addresses=["10.77.0.252"])).start().master()
    one.stop()
    run_ip(node, "link", "del", "eth1")
    _cable(lab, "eth1", "far", "10.77.0.1/24", index="777")
    one.cont()
    wait_until(lambda: MULTICAST in run_ip(node, "maddress", "show", "dev", "eth1"), 5, "it listens", one)
    wait_until(lambda: "10.77.0.252" in run_ip(node, "address", "show", "dev", "eth1"), 8, "it holds", one)


@beside
def test_from_unicast_to_multicast_and_back(lab: Lab) -> Measured:
    """A pair is changed node by node, the master first: the backup hears it all the time."""
    peers = ["10.99.0.1", "10.99.0.2"]
    unicast: dict[str, Any] = {"transport": {"mode": "Unicast", "peers": peers}}
    one, two = lab.pair(**unicast)
    marks = one.count, two.count
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for changes in ({}, unicast):
            for name, settings in (("n1", first(**changes)), ("n2", vhost(advskew=20, **changes))):
                lab.configure(name, settings)
                call(lab, name, "reload")
                idle(4.5)
        result = prober.stop()
    assert [[], []] == [_states(d, since) for d, since in zip((one, two), marks, strict=True)]
    assert 0 == result.summary.lost
    return {"two_owners_s": result.summary.two_owners.total_s}


@beside
def test_a_new_mac_moves_nothing(lab: Lab) -> Measured:
    """The MAC of an interface changes, as a bridge's does with a new port: its masters stay, adverts go on,
    and neighbours learn the new one of every address at once.
    """
    second = first("other", vhid=43, addresses=["10.99.0.251"])
    one = lab.daemon("n1", first(), second).start()
    one.wait_state("MASTER", vhost="web")
    one.wait_state("MASTER", vhost="other")
    two = lab.daemon("n2", vhost(advskew=20)).start().backup()
    lab.heard(two)
    marks = one.count, two.count
    mac, took = "02:ca:72:00:09:09", []
    with lab.sniffer() as sniffer:
        since = time.monotonic()
        run_ip(lab.node("n1"), "link", "set", "eth0", "address", mac)
        wait_until(lambda: len(sniffer.gratuitous(mac)) >= 4, 3, "announcements", one)
        took = [frame.at - since for frame in sniffer.gratuitous(mac)]
        idle(4.0)
        adverts = [frame.at for frame in sniffer.adverts("10.99.0.1", since=since)]
    in_time(took[3], 0.2)
    assert len(adverts) >= 14
    assert [[], []] == [_states(d, since) for d, since in zip((one, two), marks, strict=True)]
    assert mac == call(lab, "n1", "status")["interfaces"][0]["mac"]
    return {"announced_after_s": took[0]}
