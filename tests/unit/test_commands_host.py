from __future__ import annotations

import sys
from ipaddress import ip_address

import pytest

from carp.commands.host import Host, missing_capabilities, parse_igmp, parse_igmp6, read_host

_IGMP = """\
Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter
1\tlo        :     1      V3
\t\t\t\t010000E0     1 0:00000000\t\t0
7\teth0.10   :     2      V3
\t\t\t\t120000E0     2 0:00000000\t\t0
\t\t\t\t010000E0     1 0:00000000\t\t0
"""
_IGMP6 = """\
1    lo              ff020000000000000000000000000001     1 0000000C 0
7    eth0.10         ff020000000000000000000000000012     2 00000004 0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the sample was taken on a little-endian kernel")
def test_groups_by_interface() -> None:
    """The kernel's lists name each interface and the groups that it is a member of."""
    four, six = parse_igmp(_IGMP), parse_igmp6(_IGMP6)
    assert {ip_address("224.0.0.1")} == four["lo"]
    assert {ip_address("224.0.0.18"), ip_address("224.0.0.1")} == four["eth0.10"]
    assert {ip_address("ff02::12")} == six["eth0.10"]


@pytest.mark.parametrize("text", ["", "Idx\n", "\n\n", "Idx\n\t\t010000E0 1\n"])
def test_odd_lists_have_no_groups(text: str) -> None:
    """A list without an interface is empty."""
    assert {} == parse_igmp(text)
    assert {} == parse_igmp6(text)


def test_capabilities() -> None:
    """What is missing is named; without the line everything is."""
    assert () == missing_capabilities("Name:\tx\nCapEff:\t0000000000003000\n")
    assert ("CAP_NET_RAW",) == missing_capabilities("CapEff:\t0000000000001000\n")
    assert ("CAP_NET_ADMIN", "CAP_NET_RAW") == missing_capabilities("")


def test_a_parameter_is_the_higher_of_two() -> None:
    """The kernel applies the higher value of all and of the interface."""
    settings = {"ipv4/conf/all/arp_ignore": 1, "ipv4/conf/eth0/arp_ignore": 0}
    host = Host({}, [], setting=settings.get)
    assert 1 == host.effective("eth0", "arp_ignore")
    assert None is host.effective("eth0", "rp_filter")


def test_this_host_can_be_read() -> None:
    """Everything is read without a privilege; an interface that does not exist is simply not there."""
    host = read_host(["lo", "nosuch0"])
    assert "lo" in host.links
    assert "nosuch0" not in host.links
    assert None is host.bridges["lo"]
    assert ip_address("127.0.0.1") in {each.address for each in host.on("lo")}
    assert isinstance(host.effective("lo", "arp_ignore"), int)
    assert [] == host.on("nosuch0")
