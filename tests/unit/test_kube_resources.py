"""Paths of resources."""

from __future__ import annotations

from carp_operator.kube.resources import CARP_NODES, NODES, SECRETS


def test_paths() -> None:
    """Core and group resources, namespaced and not, have the paths of the API; names cannot leave theirs."""
    assert "/api/v1/nodes" == NODES.path()
    assert "/apis/carp.vip/v1alpha1/carpnodes/n1/status" == CARP_NODES.path("n1", "status")
    assert "/api/v1/namespaces/ns/secrets/carp-keys" == SECRETS.within("ns").path("carp-keys")
    assert "/api/v1/nodes/..%2Fsecrets%3Fa" == NODES.path("../secrets?a")


def test_names() -> None:
    """Error lines name the kind, its group and its namespace."""
    assert ["nodes", "carpnodes.carp.vip", "secrets in ns"] == [
        str(each) for each in (NODES, CARP_NODES, SECRETS.within("ns"))
    ]
