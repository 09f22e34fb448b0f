"""What carpd shows of its host and of the segment: links with and without vhosts, and who else speaks."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from beside import beside, labs
from carpd import call, client, shown
from crafted import VRRP2
from nodefix import VIP, Lab, first, run_ip, wait_until

if TYPE_CHECKING:
    from carp.commands.client import Client

__all__ = ["labs"]


def _links(answer: dict[str, Any]) -> dict[str, list[str]]:
    return {link["name"]: link["addresses"] for link in answer["links"]}


def _next_links(watcher: Client, wanted: dict[str, list[str]]) -> None:
    """Wait until a watcher has been told of these interfaces and their IPv4 addresses."""
    told: list[dict[str, list[str]]] = []

    def comes() -> bool:
        event = watcher.receive(0.1)
        if event is not None and "links" in event:
            told.append({n: [a for a in shown if ":" not in a] for n, shown in _links(event).items()})
        return bool(told) and told[-1] == wanted

    wait_until(comes, 5, f"{wanted} is told, not {told}")


@beside
def test_links_are_shown_and_told(lab: Lab) -> None:
    """Interfaces without a vhost too; a watcher hears of new ones, of their addresses and of their end.

    A failover tells nothing about links: a shared address is not the host's.
    """
    one = lab.daemon("n1", first()).start()
    with client(lab, "n1") as watcher:
        begun = watcher.call("watch")
        assert ["10.99.0.1/24"] == [a for a in _links(begun)["eth0"] if ":" not in a]
        one.master()
        eth0 = {"eth0": ["10.99.0.1/24"]}
        run_ip(lab.node("n1"), "link", "add", "lan1", "type", "bridge")
        _next_links(watcher, eth0 | {"lan1": []})
        run_ip(lab.node("n1"), "address", "add", "10.5.0.1/16", "dev", "lan1")
        _next_links(watcher, eth0 | {"lan1": ["10.5.0.1/16"]})
        run_ip(lab.node("n1"), "link", "set", "lan1", "up")
        run_ip(lab.node("n1"), "link", "del", "lan1")
        _next_links(watcher, eth0)
    (eth,) = call(lab, "n1", "status")["interfaces"]
    assert ("eth0", 1500, True, [42]) == (eth["interface"], eth["mtu"], eth["carrier"], eth["vhids"])
    assert not any(VIP in address for address in eth["addresses"])


def _speak(source: str, payload: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as raw:
        raw.bind((source, 0))
        raw.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        raw.sendto(payload, ("224.0.0.18", 0))


@beside
def test_foreign_speakers_are_shown(lab: Lab) -> None:
    """A ucarp with another password and a VRRP router; each told once, with its MAC
    where the kernel knows it.
    """
    lab.daemon("n1", first()).start().master()
    stranger = lab.node("n2")
    with client(lab, "n1") as watcher:
        watcher.call("watch")
        lab.ucarp("n2", password="other").start()
        stranger.run_in(lambda: _speak("10.99.0.2", VRRP2))
        told: list[dict[str, Any]] = []

        def both() -> bool:
            event = watcher.receive(0.1)
            told.extend([] if event is None else event.get("interfaces", []))
            return bool(told) and 2 == len(told[-1]["foreign"])

        wait_until(both, 8, "both speakers are told")
    found = {(each["protocol"], each["id"]): each for each in told[-1]["foreign"]}
    assert {("carp", 42), ("vrrp", VRRP2[1])} == set(found)
    assert {"10.99.0.2"} == {each["source"] for each in found.values()}
    assert ("hmac", "vrrp") == (found["carp", 42]["reason"], found["vrrp", VRRP2[1]]["reason"])
    lab.node("n1").run_in(lambda: _meet("10.99.0.2"))
    wait_until(lambda: {stranger.mac} == {each["mac"] for each in _foreign(lab)}, 5, "the MAC is known")
    assert "" == shown(lab, "n1")["error"]


def _meet(address: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(b"", (address, 9))


def _foreign(lab: Lab) -> list[dict[str, Any]]:
    (eth,) = call(lab, "n1", "status")["interfaces"]
    found: list[dict[str, Any]] = eth["foreign"]
    return found
