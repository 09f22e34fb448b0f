from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from carp.commands.bridges import Bridge
from carp.commands.checks_host import check_health, check_host, check_interface, check_proxy
from carp.commands.finding import Finding, Target, Verdict
from carp.commands.host import Host
from carp.rtnl import FOR_EVER, Addr, Link
from fakecarpd import check, hello, vhost

_UP = 0x1 | 0x40


def _link(index: int, name: str, **changes: Any) -> Link:
    return replace(Link(index, name, b"\2\0\0\0\0\1", _UP, 1500, 6, "veth"), **changes)


def _addr(index: int, text: str, *, flags: int = 0, proto: int = 0) -> Addr:
    interface = ip_interface(text)
    return Addr(index, interface.ip, interface.network.prefixlen, flags, proto, FOR_EVER)


def _host(**changes: Any) -> Host:
    """Return a host on which nothing is wrong."""
    sound = Host(
        links={"eth0": _link(2, "eth0")},
        addresses=[_addr(2, "10.1.1.1/24"), _addr(2, "fd99::1/64")],
        carriers={"eth0": True},
        groups={"eth0": frozenset({ip_address("224.0.0.18"), ip_address("ff02::12")})},
        setting=lambda _: 0,
    )
    return replace(sound, **changes)


def _target(*addresses: str, interface: str = "eth0", **status: Any) -> Target:
    given = addresses or ("10.1.1.252/32", "fd99::252/128")
    return Target("web", 42, interface, tuple(map(ip_interface, given)), vhost(**status))


def _verdicts(host: Host, target: Target | None = None) -> dict[str, Finding]:
    """Return the findings about eth0 that are worst, by check."""
    target = target or _target()
    rank = [Verdict.OK, Verdict.SKIPPED, Verdict.WARN, Verdict.FAIL]
    found = sorted(check_interface(target.interface, [target], host), key=lambda f: rank.index(f.verdict))
    return {each.check: each for each in found}


def _set(**values: int) -> dict[str, Any]:
    """Return a change of the kernel's parameters by their last name."""
    return {"setting": lambda key: values.get(key.rpartition("/")[2], 0)}


def test_a_sound_host_has_nothing_but_ok() -> None:
    """Only the switch outside stays unknown."""
    found = _verdicts(_host())
    assert {"snooping": Verdict.SKIPPED} == {
        check: each.verdict for check, each in found.items() if each.verdict is not Verdict.OK
    }
    order = ["interface", "carrier", "mtu", "group", "rp_filter", "arp_ignore", "snooping", "ipv6-privacy"]
    findings = check_interface("eth0", [_target("10.1.1.252/32", "fd99::252/128")], _host())
    assert order == list(dict.fromkeys(each.check for each in findings))


_SECOND = {
    "links": {"eth0": _link(2, "eth0"), "eth1": _link(3, "eth1")},
    "addresses": [_addr(2, "10.1.1.1/24"), _addr(2, "fd99::1/64"), _addr(3, "10.1.1.9/24")],
}


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "text"),
    [
        ({"links": {"lo": _link(1, "lo")}}, "interface", "fail", "does not exist; there are lo"),
        ({"links": {"eth0": _link(2, "eth0", flags=0)}}, "interface", "fail", "is down"),
        ({"addresses": [_addr(2, "fd99::1/64")]}, "interface", "fail", "no own IPv4 address"),
        (
            {"addresses": [_addr(2, "10.1.1.252/24", proto=112), _addr(2, "fd99::1/64")]},
            "interface",
            "fail",
            "no own IPv4 address",
        ),
        (
            {"addresses": [_addr(2, "10.7.7.1/24"), _addr(2, "fd99::1/64")]},
            "interface",
            "warn",
            "10.1.1.252 is in no subnet",
        ),
        ({"carriers": {"eth0": False}}, "carrier", "fail", "no carrier"),
        ({"carriers": {"eth0": None}}, "carrier", "skipped", "does not say"),
        ({"links": {"eth0": _link(2, "eth0", mtu=1200)}}, "mtu", "fail", "IPv6 needs 1280"),
        ({"groups": {}}, "group", "fail", "is no member of 224.0.0.18"),
        (_set(rp_filter=2), "rp_filter", "ok", "2 (loose)"),
        (_set(rp_filter=1), "rp_filter", "ok", "strict, which does no harm"),
        ({**_set(rp_filter=1), **_SECOND}, "rp_filter", "fail", "eth1 has the same subnet"),
        (
            {**_set(rp_filter=1), "addresses": [_addr(2, "10.7.7.1/24"), _addr(2, "fd99::1/64")]},
            "rp_filter",
            "warn",
            "outside",
        ),
        ({"setting": lambda _: None}, "rp_filter", "skipped", "cannot be read"),
        ({"setting": lambda _: None}, "arp_ignore", "skipped", "cannot be read"),
        (_set(arp_ignore=8), "arp_ignore", "fail", "no address at all"),
        (_set(arp_ignore=1, arp_announce=2), "arp_ignore", "ok", "arp_ignore 1, arp_announce 2"),
        (_SECOND, "arp_ignore", "warn", "eth1 has the same subnet"),
        ({**_SECOND, **_set(arp_ignore=1)}, "arp_ignore", "ok", "arp_ignore 1"),
        ({"bridges": {"eth0": Bridge("br0", False, False)}}, "snooping", "ok", "br0 floods"),
        ({"bridges": {"eth0": Bridge("br0", True, True)}}, "snooping", "ok", "a querier asks"),
        ({"bridges": {"eth0": Bridge("br0", True, False)}}, "snooping", "warn", "no querier asks"),
        (_set(use_tempaddr=2), "ipv6-privacy", "warn", "use_tempaddr is on"),
        (
            {"addresses": [_addr(2, "10.1.1.1/24"), _addr(2, "fd99::7/64", flags=0x01)]},
            "ipv6-privacy",
            "warn",
            "fd99::7 is temporary",
        ),
    ],
)
def test_what_is_wrong_with_an_interface(
    changes: dict[str, Any], check: str, verdict: str, text: str
) -> None:
    """Each fault has its verdict and its words, and what is not ok says what to do."""
    found = _verdicts(_host(**changes))[check]
    assert verdict == found.verdict.value
    assert text in found.text
    assert bool(found.advice) == (verdict in ("warn", "fail"))


def test_nothing_else_is_said_about_an_interface_that_is_not_there() -> None:
    """One finding is enough."""
    assert 1 == len(list(check_interface("eth9", [_target(interface="eth9")], _host())))


def test_ipv4_alone_is_not_judged_for_ipv6() -> None:
    """Families that no address uses are left out, and small links do for IPv4."""
    host = _host(links={"eth0": _link(2, "eth0", mtu=600)}, addresses=[_addr(2, "10.1.1.1/24")])
    found = _verdicts(host, _target("10.1.1.252/32"))
    assert "ipv6-privacy" not in found
    assert {Verdict.OK, Verdict.SKIPPED} == {each.verdict for each in found.values()}


def test_groups_do_not_matter_before_a_vhost_takes_part() -> None:
    """A vhost that is INIT has joined nothing yet."""
    assert Verdict.SKIPPED is _verdicts(_host(groups={}), _target(state="INIT"))["group"].verdict


def test_groups_are_those_that_carpd_uses() -> None:
    """Another group must be joined instead; unicast needs none."""
    own = {"mode": "Multicast", "sources": [], "group4": "224.0.0.77"}
    assert "is no member of 224.0.0.77" in _verdicts(_host(), _target(transport=own))["group"].text
    joined = _host(groups={"eth0": frozenset({ip_address("224.0.0.77")})})
    assert Verdict.OK is _verdicts(joined, _target(transport=own))["group"].verdict
    unicast = {"mode": "Unicast", "sources": [], "peers": ["10.1.1.2"]}
    found = _verdicts(_host(groups={}), _target(transport=unicast))["group"]
    assert (Verdict.OK, "needs no group: unicast only") == (found.verdict, found.text)


def test_the_host() -> None:
    """Missing capabilities are fatal without carpd only; carpd's own trouble is a failure each."""
    lacking = _host(missing=("CAP_NET_RAW",))
    assert [Verdict.FAIL, Verdict.SKIPPED] == [each.verdict for each in check_host(lacking, None)]
    assert [Verdict.WARN, Verdict.OK] == [each.verdict for each in check_host(lacking, hello())]
    ill = hello(maintenance=True, persisted=False, problems=["disk full"])
    found = [(each.check, each.verdict.value) for each in check_host(_host(), ill)]
    assert [("maintenance", "warn"), ("carpd", "fail"), ("carpd", "fail")] == found[2:]
    told = [each.text for each in check_host(_host(), ill) if each.check == "maintenance"]
    assert (
        "this node stands back: maintenance mode is on, and may be forgotten by a restart: not stored"
        == (told[0])
    )


def test_health_checks() -> None:
    """A failing check is a warning, since carpd deals with it; no check, no word."""
    assert [] == list(check_health(_target()))
    (up,) = check_health(_target(health=[check()]))
    assert ("ok", "no check is down: api") == (up.verdict.value, up.text)
    (down,) = check_health(_target(health=[check(), check(health="down", detail="refused")]))
    assert ("warn", True) == (down.verdict.value, down.text.endswith("is down: refused"))


@pytest.mark.parametrize(
    ("held_on", "ignore", "verdict", "text"),
    [
        (None, 0, "ok", "no other interface holds 10.1.1.252"),
        (2, 0, "ok", "no other interface holds 10.1.1.252"),
        (3, 0, "fail", "arp_ignore 0 makes eth0 answer for it in every state"),
        (3, 1, "ok", "are not answered from there"),
    ],
)
def test_an_address_on_another_interface(held_on: int | None, ignore: int, verdict: str, text: str) -> None:
    """What kube-proxy puts on an interface of its own is answered on all of them without strictARP."""
    own = [_addr(2, "10.1.1.1/24")]
    host = _host(
        links={"eth0": _link(2, "eth0"), "kube-ipvs0": _link(3, "kube-ipvs0")},
        addresses=own if held_on is None else [*own, _addr(held_on, "10.1.1.252/32")],
        **_set(arp_ignore=ignore),
    )
    (found,) = check_proxy(_target("10.1.1.252/32"), host)
    assert verdict == found.verdict.value
    assert text in found.text
