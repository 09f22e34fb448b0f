"""The host's interfaces as shown: read whole, kept current by events (carp.hostlinks)."""

from __future__ import annotations

import pytest

from carp.hostlinks import LINGER, HostLink, HostLinks
from carp.netlink import PROTO_CEDED, PROTO_HELD, Overrun
from carp.rtnl import FOR_EVER, Addr, DelAddr, DelLink, Link, NewAddr, NewLink
from pair import address

UP, LOOPBACK, RUNNING = 0x1, 0x8, 0x40
MAC = b"\2\0\0\0\0\1"


def _link(ifindex: int, name: str, *, kind: str = "", flags: int = UP | RUNNING, mtu: int = 1500) -> Link:
    return Link(ifindex=ifindex, name=name, mac=MAC, flags=flags, mtu=mtu, operstate=6, kind=kind)


def _addr(ifindex: int, text: str, *, proto: int = 0, valid: int = FOR_EVER) -> Addr:
    host, _, length = text.partition("/")
    return Addr(ifindex, address(host), int(length), 0, proto, valid)


ETH0, ETH1 = _link(2, "eth0"), _link(3, "eth1")


class Counted(HostLinks):
    """Counts what it would tell."""

    def __init__(self) -> None:
        super().__init__(has_proto=True, now=lambda: self.time)
        self.time = 100.0
        self.told = 0
        self.on_change = self._count
        self.replace([ETH1, ETH0], [_addr(2, "10.1.1.2/24"), _addr(2, "10.1.1.1/24")])

    def _count(self) -> None:
        self.told += 1


@pytest.fixture
def links() -> Counted:
    """Return a host with eth0, which has two addresses, and eth1, which has none."""
    return Counted()


def test_what_is_shown(links: Counted) -> None:
    """Each interface by name, with sorted addresses and their lengths, also one that has none."""
    shown = HostLink("eth0", MAC, 1500, carrier=True, addresses=("10.1.1.1/24", "10.1.1.2/24"))
    assert [shown, HostLink("eth1", MAC, 1500, carrier=True, addresses=())] == links.shown()
    assert shown == links.link(2)
    assert None is links.link(9)
    assert 1 == links.told


@pytest.mark.parametrize(
    ("link", "addresses", "names"),
    [
        (_link(1, "lo", flags=UP | RUNNING | LOOPBACK), ["127.0.0.1/8"], []),
        (_link(4, "cali1", kind="veth"), [], []),
        (_link(4, "kube-ipvs0", kind="dummy"), ["10.96.0.1/32"], []),
        (_link(4, "cali1", kind="veth"), ["fe80::1/64"], []),
        (_link(4, "eth0", kind="veth"), ["10.1.1.1/24"], ["eth0"]),
        (_link(4, "bond0", kind="bond"), [], ["bond0"]),
    ],
)
def test_which_are_shown(link: Link, addresses: list[str], names: list[str]) -> None:
    """Neither loopback nor the host's ends of pods' cables, which can be hundreds."""
    links = HostLinks(has_proto=True, now=lambda: 100.0)
    links.replace([link], [_addr(link.ifindex, text) for text in addresses])
    assert names == [each.name for each in links.shown()]


@pytest.mark.parametrize("proto", [PROTO_HELD, PROTO_CEDED])
def test_addresses_of_vhosts_are_not_the_hosts(links: Counted, proto: int) -> None:
    """Who places vhosts must not take a shared address for the node's own, and a failover tells nothing."""
    links.update(NewAddr(_addr(2, "10.1.1.252/24", proto=proto, valid=2)))
    links.update(DelAddr(_addr(2, "10.1.1.252/24", proto=proto, valid=2)))
    assert 1 == links.told


def test_without_marks_a_finite_host_address_is_a_vhosts() -> None:
    """Kernels before 5.18 do not tell who added an address; one of ours is known by our settings, whatever
    its prefix length, and one by DHCP is the host's.
    """
    links = HostLinks(has_proto=False, now=lambda: 100.0)
    links.own = {address("10.1.1.253")}
    vhosts = [_addr(2, "10.1.1.252/32", valid=2), _addr(2, "10.1.1.253/24", valid=2)]
    links.replace([ETH0], [_addr(2, "10.1.1.1/24", valid=3600), *vhosts])
    assert [("10.1.1.1/24",)] == [each.addresses for each in links.shown()]


VIP = "10.1.1.252/32"


def _read(links: Counted, time: float, *held: Addr) -> tuple[str, ...]:
    """Read the host at a time, with these addresses beside its own; return what is shown of eth0."""
    links.time = time
    links.replace([ETH1, ETH0], [_addr(2, "10.1.1.2/24"), _addr(2, "10.1.1.1/24"), *held])
    found = links.link(2)
    assert found is not None
    return found.addresses[2:]


def test_what_another_process_keeps_alive_is_the_hosts(links: Counted) -> None:
    """A lease that somebody else renews is shown, so that no VirtualIP is given its address; for a minute
    more when it has gone, since it may be on its way to another host.
    """
    alive = _addr(2, VIP, proto=PROTO_HELD, valid=2)
    assert () == _read(links, 100.0, alive)
    assert not links.elsewhere(address("10.1.1.252"))
    assert () == _read(links, 100.5, alive)
    assert (VIP,) == _read(links, 105.0, alive)
    assert links.elsewhere(address("10.1.1.252"))
    told = links.told
    assert (VIP,) == _read(links, 110.0, alive)
    assert (VIP,) == _read(links, 110.0 + LINGER - 1)
    assert told == links.told
    assert () == _read(links, 110.0 + LINGER)
    assert told + 1 == links.told
    assert not links.elsewhere(address("10.1.1.252"))


def test_what_a_dead_process_left_is_nobodys(links: Counted) -> None:
    """Its lease runs out: the address is never shown, however often one looks, or a controller would take the
    VirtualIP back for a clash.
    """
    for elapsed in (0, 1, 2, 3, 60, 300, 595):
        left = _addr(2, VIP, proto=PROTO_HELD, valid=600 - elapsed)
        assert () == _read(links, 100.0 + elapsed, left)


def test_our_own_leases_are_not_shown(links: Counted) -> None:
    """We renew them; one that becomes ours, since a vhost with it is told, is not another's any more."""
    alive = _addr(2, VIP, proto=PROTO_HELD, valid=2)
    links.own = {address("10.1.1.252")}
    assert [(), ()] == [_read(links, at, alive) for at in (100.0, 105.0)]
    links.own = set()
    assert [(), (VIP,)] == [_read(links, at, alive) for at in (110.0, 115.0)]
    links.own = {address("10.1.1.252")}
    assert () == _read(links, 116.0, alive)


def test_an_address_without_a_lifetime(links: Counted) -> None:
    """With fencing off a process leaves it for good: shown from the second look on."""
    assert [(), (VIP,)] == [_read(links, at, _addr(2, VIP, proto=PROTO_HELD)) for at in (100.0, 105.0)]


def test_events_keep_it_current(links: Counted) -> None:
    """Each change that shows is told once; the same again is not."""
    for change in (
        NewAddr(_addr(3, "10.2.0.1/16")),
        DelAddr(_addr(2, "10.1.1.2/24")),
        NewLink(_link(2, "lan0", mtu=9000)),
        NewLink(_link(3, "eth1", flags=UP)),
        NewLink(_link(4, "eth2")),
        DelLink(_link(4, "eth2")),
    ):
        before = links.told
        links.update(change)
        links.update(change)
        assert before + 1 == links.told, change
    assert [
        HostLink("eth1", MAC, 1500, carrier=False, addresses=("10.2.0.1/16",)),
        HostLink("lan0", MAC, 9000, carrier=True, addresses=("10.1.1.1/24",)),
    ] == links.shown()


def test_an_interface_that_comes_back_has_no_old_addresses(links: Counted) -> None:
    """They went with it."""
    links.update(DelLink(ETH0))
    links.update(NewLink(ETH0))
    found = links.link(2)
    assert found is not None
    assert () == found.addresses


def test_an_interface_that_went_is_not_the_next_of_its_number(links: Counted) -> None:
    """It is remembered until who asked has seen to it."""
    assert set() == links.gone
    links.update(DelLink(ETH0))
    links.update(NewLink(ETH0))
    links.replace([ETH0], [])
    assert {2} == links.gone


def test_lost_events_and_strangers_change_nothing(links: Counted) -> None:
    """The engine reads everything again after the first; an address may be told before its interface."""
    links.update(Overrun())
    links.update(DelAddr(_addr(9, "10.9.0.1/16")))
    links.update(NewAddr(_addr(9, "10.9.0.1/16")))
    assert 1 == links.told
    links.update(NewLink(_link(9, "eth9")))
    assert ("10.9.0.1/16",) == links.shown()[-1].addresses


def test_the_same_read_again_is_no_change(links: Counted) -> None:
    """Links are read whenever a vhost waits for one."""
    links.replace([ETH0, ETH1], [_addr(2, "10.1.1.1/24"), _addr(2, "10.1.1.2/24")])
    assert 1 == links.told
