"""Where a vhost can take part, and why it cannot."""

from __future__ import annotations

from typing import Any

import pytest

from carp.links import Inventory, Place, find_link, resolve
from carp.netlink import PROTO_CEDED, PROTO_HELD
from carp.rtnl import FOR_EVER, Addr, Link
from pair import address, config

UP, LOOPBACK, RUNNING = 0x1, 0x8, 0x40
TENTATIVE, DADFAILED = 0x40, 0x08
MAC = b"\2\0\0\0\0\1"


def _link(ifindex: int, name: str, flags: int = UP | RUNNING) -> Link:
    return Link(ifindex=ifindex, name=name, mac=MAC, flags=flags, mtu=1500, operstate=6, kind="veth")


def _addr(ifindex: int, text: str, *, flags: int = 0, proto: int = 0, valid: int = FOR_EVER) -> Addr:
    host, _, length = text.partition("/")
    return Addr(
        ifindex=ifindex, address=address(host), prefixlen=int(length), flags=flags, proto=proto, valid=valid
    )


def _host(links: list[Link], addresses: list[Addr], *, has_proto: bool = True) -> Inventory:
    return Inventory(links, addresses, has_proto)


ETH0, ETH1 = _link(2, "eth0"), _link(3, "eth1")
ADDRESSES = [_addr(2, "10.1.1.1/24"), _addr(3, "10.2.0.1/16"), _addr(2, "fe80::1/64")]
HOST = _host([ETH1, ETH0], ADDRESSES)


@pytest.mark.parametrize(
    ("interface", "expected"),
    [
        ("eth0", "eth0"),
        ({"name": "eth9"}, "interface eth9 does not exist"),
        ({"subnet": "auto"}, "eth0"),
        ({"subnet": "10.2.0.0/16"}, "eth1"),
        ({"subnet": "10.2.0.0/24"}, "eth1"),
        ({"subnet": "10.3.0.0/24"}, "no interface matches subnet 10.3.0.0/24"),
        ({"pattern": "eth1"}, "eth1"),
        ({"pattern": "eth*"}, "eth0"),
        ({"pattern": "en*"}, "no interface matches pattern en* with a subnet that contains 10.1.1.252"),
    ],
)
def test_finding_the_interface(interface: Any, expected: str) -> None:
    """By name, by a subnet that it has an address in, by a pattern that fits one (else by the subnet)."""
    found = find_link(config(interface=interface), HOST)
    assert expected == (found if isinstance(found, str) else found.name)


@pytest.mark.parametrize(
    ("interface", "kept", "expected"),
    [
        ({"subnet": "auto"}, 5, "eth5"),
        ({"subnet": "10.1.0.0/16"}, 5, "eth5"),
        ({"pattern": "eth*"}, 5, "eth5"),
        ({"pattern": "eth[0-3]"}, 5, "eth0"),
        ({"subnet": "10.2.0.0/16"}, 5, "eth1"),
        ({"pattern": "eth*"}, 3, "eth0"),
        ({"pattern": "eth[16]"}, 3, "eth1"),
        ("eth0", 5, "eth0"),
        ({"subnet": "auto"}, 9, "eth0"),
    ],
)
def test_the_interface_is_kept_that_fits(interface: Any, kept: int, expected: str) -> None:
    """The first by name only where it was on none that the selector fits; one in the subnet first."""
    host = _host([ETH1, ETH0, _link(5, "eth5"), _link(6, "eth6")], [*ADDRESSES, _addr(5, "10.1.1.5/24")])
    found = find_link(config(interface=interface), host, kept)
    assert expected == (found if isinstance(found, str) else found.name)


@pytest.mark.parametrize("interface", [{"subnet": "auto"}, {"subnet": "10.1.0.0/16"}, {"pattern": "*0"}])
def test_what_leads_nowhere_is_not_found(interface: Any) -> None:
    """Loopback and kube-proxy's interface have addresses of the subnet, and names before the network's."""
    links = [_link(1, "a0", UP | LOOPBACK | RUNNING), _link(4, "kube-ipvs0", UP), _link(5, "net0")]
    addresses = [_addr(1, "10.1.1.1/24"), _addr(4, "10.1.1.252/24"), _addr(5, "10.1.1.5/24")]
    found = find_link(config(interface=interface), _host(links, addresses))
    assert "net0" == (found if isinstance(found, str) else found.name)


def test_no_subnet_contains_the_address() -> None:
    """With auto the reason names the address."""
    found = find_link(config(interface={"subnet": "auto"}, addresses=["192.0.2.1"]), HOST)
    assert "no interface matches subnet auto with a subnet that contains 192.0.2.1" == found


@pytest.mark.parametrize("proto", [PROTO_HELD, PROTO_CEDED])
def test_what_vhosts_put_there_finds_nothing(proto: int) -> None:
    """An address held by another vhost is no address of the interface."""
    host = _host([ETH0], [_addr(2, "10.1.1.9/24", proto=proto, valid=2)])
    assert isinstance(find_link(config(interface={"subnet": "auto"}), host), str)


def test_a_usable_interface() -> None:
    """Index, name, MAC and the address that adverts leave from."""
    assert Place(2, "eth0", MAC, (address("10.1.1.1"),)) == resolve(config(), HOST)


@pytest.mark.parametrize(
    ("flags", "fields", "reason"),
    [
        (0, {}, "interface eth0 is down"),
        (UP, {}, "interface eth0 has no carrier"),
        (UP, {"ignoreLinkState": True}, None),
        (0, {"ignoreLinkState": True}, "interface eth0 is down"),
    ],
)
def test_link_state(flags: int, fields: dict[str, Any], reason: str | None) -> None:
    """Down and without carrier have reasons of their own; the carrier can be ignored."""
    found = resolve(config(**fields), _host([_link(2, "eth0", flags)], ADDRESSES))
    assert reason == (found if isinstance(found, str) else None)


@pytest.mark.parametrize(
    ("addresses", "fields", "expected"),
    [
        (["10.1.1.1/24"], {}, "10.1.1.1"),
        (["10.9.9.9/24", "10.1.1.1/24"], {}, "10.1.1.1"),
        (["10.9.9.9/24", "10.8.8.8/24"], {}, "10.9.9.9"),
        (["10.9.9.9/24", "10.1.1.1/24"], {"source": "10.9.9.9"}, "10.9.9.9"),
        (
            ["10.1.1.1/24"],
            {"source": "10.1.1.7"},
            "interface eth0 does not have the source address 10.1.1.7",
        ),
        (["10.1.1.1/24"], {"source": "10.1.1.7", "transport": {"mode": "Broadcast"}}, "10.1.1.7"),
        ([], {}, "interface eth0 has no IPv4 address to send from"),
        (["fe80::1/64"], {}, "interface eth0 has no IPv4 address to send from"),
        (["fe80::1/64"], {"addresses": ["2001:db8::252"]}, "fe80::1"),
        (["fe80::1/64", "2001:db8::1/64"], {"addresses": ["2001:db8::252"]}, "2001:db8::1"),
        (
            ["fe80::1/64", "2001:db8::1/64"],
            {"addresses": ["2001:db8::252"], "source6": "fe80::1"},
            "fe80::1",
        ),
        (
            ["10.1.1.1/24"],
            {"addresses": ["2001:db8::252"]},
            "interface eth0 has no IPv6 address to send from",
        ),
    ],
)
def test_sources(addresses: list[str], fields: dict[str, Any], expected: str) -> None:
    """As configured, else in the address's subnet, else the interface's first; one per family in use."""
    found = resolve(config(**fields), _host([ETH0], [_addr(2, a) for a in addresses]))
    assert expected == (found if isinstance(found, str) else str(found.sources[0]))


def test_both_families_need_a_source() -> None:
    """Two families, two sources, IPv4 first; the reason names the one that is missing."""
    both = config(addresses=["10.1.1.252", "2001:db8::252"])
    found = resolve(both, HOST)
    assert isinstance(found, Place)
    assert (address("10.1.1.1"), address("fe80::1")) == found.sources
    without = resolve(both, _host([ETH0], ADDRESSES[:1]))
    assert "interface eth0 has no IPv6 address to send from" == without


@pytest.mark.parametrize("flag", [TENTATIVE, DADFAILED])
def test_an_address_that_cannot_be_used_yet_is_no_source(flag: int) -> None:
    """Tentative and duplicate IPv6 addresses cannot be bound."""
    host = _host([ETH0], [_addr(2, "2001:db8::1/64", flags=flag)])
    found = resolve(config(addresses=["2001:db8::252"]), host)
    assert "interface eth0 has no IPv6 address to send from" == found


@pytest.mark.parametrize(("ifindex", "where"), [(2, "the interface's own"), (3, "another interface's")])
def test_an_address_that_the_host_has_for_good(ifindex: int, where: str) -> None:
    """It cannot float: the reason says where it is. With addresses left to scripts it may be there."""
    host = _host([ETH0, ETH1], [*ADDRESSES, _addr(ifindex, "10.1.1.252/24")])
    assert f"address 10.1.1.252 is already {where} address on this host" == resolve(config(), host)
    assert isinstance(resolve(config(manageAddresses=False), host), Place)


def test_what_kube_proxy_has_is_no_clash() -> None:
    """In its IPVS mode it puts the address of each Service, externalIPs too, onto an interface of its own."""
    links = [ETH0, ETH1, _link(4, "kube-ipvs0", 0)]
    theirs = _addr(4, "10.1.1.252/32")
    assert isinstance(resolve(config(), _host(links, [*ADDRESSES, theirs])), Place)
    both = _host(links, [*ADDRESSES, theirs, _addr(3, "10.1.1.252/32")])
    assert "address 10.1.1.252 is already another interface's address on this host" == resolve(config(), both)


@pytest.mark.parametrize(("ifindex", "clashes"), [(2, True), (3, False)])
def test_a_link_local_address_is_another_on_each_link(ifindex: int, *, clashes: bool) -> None:
    """fe80::1 is a bridge's own on many a host."""
    there = [*ADDRESSES, _addr(2, "fe80::5/64"), _addr(ifindex, "fe80::252/64")]
    found = resolve(config(addresses=["fe80::252"]), _host([ETH0, ETH1], there))
    assert clashes == isinstance(found, str)
    marked = _host([ETH0, ETH1], [_addr(ifindex, "fe80::252/128", proto=PROTO_HELD, valid=2)])
    assert clashes == marked.marked(address("fe80::252"), 2)
    assert marked.marked(address("fe80::252"), ifindex)


@pytest.mark.parametrize(
    ("proto", "valid", "has_proto", "ours"),
    [
        (PROTO_HELD, 2, True, True),
        (PROTO_CEDED, 1, True, True),
        (0, 2, True, False),
        (0, 2, False, True),
        (0, FOR_EVER, False, False),
    ],
)
def test_what_an_earlier_run_left_is_no_clash(proto: int, valid: int, has_proto: bool, ours: bool) -> None:
    """By its mark, or on kernels without marks by its finite lifetime."""
    left = _addr(2, "10.1.1.252/32", proto=proto, valid=valid)
    host = _host([ETH0], [*ADDRESSES, left], has_proto=has_proto)
    assert ours == isinstance(resolve(config(), host), Place)
