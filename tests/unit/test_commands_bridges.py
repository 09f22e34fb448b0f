from __future__ import annotations

import pytest

from carp.commands.bridges import Bridge, bridge_of
from nsfix import inside, ip, namespace

pytestmark = pytest.mark.root


def test_no_bridge() -> None:
    """An interface on no bridge, and one that is not there, have none."""
    with namespace() as name, inside(name):
        assert None is bridge_of("lo")
        assert None is bridge_of("nosuch0")


def test_a_bridge_its_ports_and_what_stands_on_it() -> None:
    """The bridge is found from itself, from a port, and from a macvlan on it, with what it does."""
    with namespace() as name, inside(name):
        ip("-n", name, "link", "add", "br7", "type", "bridge", "mcast_snooping", "1", "mcast_querier", "0")
        ip("-n", name, "link", "add", "p0", "type", "veth", "peer", "name", "p1")
        ip("-n", name, "link", "set", "p0", "master", "br7")
        ip("-n", name, "link", "add", "m0", "link", "br7", "type", "macvlan", "mode", "bridge")
        for interface in ("br7", "p0", "m0"):
            assert Bridge("br7", True, False) == bridge_of(interface), interface
        ip("-n", name, "link", "set", "br7", "type", "bridge", "mcast_querier", "1")
        assert Bridge("br7", True, True) == bridge_of("p0")
        ip("-n", name, "link", "set", "br7", "type", "bridge", "mcast_snooping", "0")
        assert Bridge("br7", False, True) == bridge_of("p0")
