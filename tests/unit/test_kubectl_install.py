from __future__ import annotations

from typing import Any

import pytest

from carp_operator.kubectl import install
from kubectlfix import FakeCluster, named

LABELS = {"labels": {"app.kubernetes.io/name": "carp-operator", "app.kubernetes.io/component": "controller"}}


def deployment(*command: str) -> dict[str, Any]:
    """Return the controller's Deployment."""
    spec = {"template": {"spec": {"containers": [{"name": "controller", "command": list(command)}]}}}
    return named("carp-controller", metadata=dict(LABELS), spec=spec)


def test_namespace() -> None:
    """It is where the labelled objects are; the usual one where we find none or may not look."""
    fake: Any = FakeCluster()
    assert "carp-system" == install.find_namespace(fake)
    fake.put("deployments", deployment(), "elsewhere")
    assert "elsewhere" == install.find_namespace(fake)
    fake.forbidden = {"deployments", "daemonsets"}
    assert "carp-system" == install.find_namespace(fake)


def test_survey_goes_on_without() -> None:
    """What does not exist or may not be read is None, with the reason; the rest is there."""
    fake: Any = FakeCluster()
    fake.put("deployments", deployment(), "ns")
    fake.put("namespaces", named("ns"))
    fake.forbidden = {"pods"}
    found = install.survey(fake, "ns")
    assert {"virtualips.carp.vip", "virtualippools.carp.vip", "carpnodes.carp.vip"} == set(found.crds)
    assert {None} == set(found.crds.values())
    assert found.pods is None
    assert "pods in ns is forbidden" in found.unread["pods"]
    assert {"pods", "lease", "kube-proxy"} == set(found.unread)
    assert found.place is not None
    assert ["controller"] == [install.component(each) for each in found.controllers or ()]


def test_survey_without_rights_on_definitions() -> None:
    """Definitions that may not be read are unknown, not missing."""
    fake: Any = FakeCluster()
    fake.forbidden = {"customresourcedefinitions"}
    found = install.survey(fake, "ns")
    assert {} == found.crds
    assert "crds" in found.unread


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (("carp-controller", "--interfaces=eth0,bond*"), "eth0,bond*"),
        (("carp-controller", "--interfaces", "eth0"), "eth0"),
        (("carp-controller", "--resync=5m"), ""),
        (("other", "--interfaces=eth0"), ""),
    ],
)
def test_arguments(command: tuple[str, ...], value: str) -> None:
    """Options of the controller are read from its Deployment."""
    found = install.Install("ns", controllers=[deployment(*command)])
    assert value == install.argument(found, "--interfaces")
