from __future__ import annotations

import pytest

from carp_operator.api import codec
from manifests import POOLS, VIRTUAL_IPS, manifest


@pytest.mark.parametrize("name", VIRTUAL_IPS)
def test_verdicts_on_virtual_ips(name: str) -> None:
    """Good specs read without an error, bad ones with the words of the table."""
    case = VIRTUAL_IPS[name]
    found = codec.virtual_ip(manifest("VirtualIP", "ingress", case.spec))
    assert bool(case.ours) == bool(found.errors) == (found.spec is None), found.errors
    assert case.ours in "\n".join(map(str, found.errors))


@pytest.mark.parametrize("name", POOLS)
def test_verdicts_on_pools(name: str) -> None:
    """As for a VirtualIP."""
    case = POOLS[name]
    found = codec.pool(manifest("VirtualIPPool", "lan", case.spec))
    assert bool(case.ours) == bool(found.errors), found.errors
    assert case.ours in "\n".join(map(str, found.errors))
