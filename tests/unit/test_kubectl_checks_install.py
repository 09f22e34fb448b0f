from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp.commands.finding import Verdict
from carp_operator.api import crd
from carp_operator.kubectl.install import Install
from kubectlfix import (
    ENFORCE,
    SINCE,
    carpnode,
    changed,
    good_install,
    labels,
    named,
    part,
    pod,
    troubles,
    vip,
    with_objects,
)

if TYPE_CHECKING:
    from carp_operator.kubectl.reading import Cluster


def lost_field(install: Install, cluster: Cluster) -> None:
    """Let the served schema be an older one."""
    schema = install.crds["carpnodes.carp.vip"]
    assert schema is not None
    fields = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del fields["vhosts"]["items"]["properties"]["firstClaimant"]


def controller(replicas: int, *command: str) -> dict[str, Any]:
    """Return the Deployment of the controller, all replicas of which are ready."""
    template = {"spec": {"containers": [{"name": "controller", "command": list(command)}]}}
    spec = {"replicas": replicas, "template": template}
    return named("c", metadata=labels("controller"), spec=spec, status={"readyReplicas": replicas})


OLD_LEASE = named("l", spec={"holderIdentity": "c-1", "renewTime": SINCE})
SERVING = part("web", "BACKUP")
PROBLEMS: list[tuple[Any, str, str, Verdict, str]] = [
    (
        changed(crds={"virtualips.carp.vip": None}),
        "cluster",
        "CRD virtualips.carp.vip",
        Verdict.FAIL,
        "does not exist",
    ),
    (lost_field, "cluster", "CRD carpnodes.carp.vip", Verdict.WARN, "spec.vhosts[].firstClaimant"),
    (
        changed(crds={"virtualips.carp.vip": crd.definition(crd.VIRTUAL_IP)}),
        "cluster",
        "CRD virtualips.carp.vip",
        Verdict.FAIL,
        "does not serve v1alpha1",
    ),
    (
        changed(place=named("x", metadata={"labels": {ENFORCE: "restricted"}})),
        "cluster",
        "namespace carp-system",
        Verdict.FAIL,
        "level restricted",
    ),
    (
        changed(proxy=named("p", data={"config.conf": "mode: ipvs\nipvs:\n  strictARP: false\n"})),
        "cluster",
        "kube-proxy",
        Verdict.WARN,
        "every node answers ARP",
    ),
    (changed(controllers=[]), "controller", "pods", Verdict.WARN, "no Deployment"),
    (
        changed(controllers=[named("c", metadata=labels("controller"), spec={"replicas": 1}, status={})]),
        "controller",
        "pods",
        Verdict.FAIL,
        "none of 1",
    ),
    (
        changed(lease=OLD_LEASE, controllers=[controller(2)]),
        "controller",
        "lease",
        Verdict.WARN,
        "renewed 2m00s ago",
    ),
    (
        changed(lease=OLD_LEASE, controllers=[controller(1, "carp-controller", "--leader-elect")]),
        "controller",
        "lease",
        Verdict.WARN,
        "renewed 2m00s ago",
    ),
    (changed(lease=OLD_LEASE, controllers=None), "controller", "lease", Verdict.WARN, "renewed 2m00s ago"),
    (
        changed(pods=[pod("n1"), pod("n2"), pod("n3", image="carp:2")]),
        "cluster",
        "images",
        Verdict.WARN,
        "carp:2",
    ),
    (
        with_objects("carpnodes", carpnode("n2", SERVING, carpdVersion="0.0.1")),
        "cluster",
        "versions",
        Verdict.WARN,
        "0.0.1: carpd on n2",
    ),
    (
        with_objects("vips", vip("web", "n1", "n2", observedGeneration=0)),
        "controller",
        "answers",
        Verdict.FAIL,
        "web",
    ),
]


@pytest.mark.parametrize(("change", "about", "check", "verdict", "piece"), PROBLEMS)
def test_each_problem(change: Any, about: str, check: str, verdict: Verdict, piece: str) -> None:
    """Each problem has a verdict and advice of its own."""
    install, cluster = good_install()
    change(install, cluster)
    finding = troubles(install, cluster)[about, check]
    assert verdict is finding.verdict
    assert piece in finding.text


def test_what_may_not_be_read_is_skipped() -> None:
    """Nothing that could not be read is called wrong."""
    _, cluster = good_install()
    parts = ("crds", "namespace", "pods", "deployments", "lease", "kube-proxy")
    install = Install("carp-system", unread={name: f"get {name}: HTTP 403: no" for name in parts})
    verdicts = {each.verdict for each in troubles(install, cluster).values()}
    assert {Verdict.SKIPPED} == verdicts


@pytest.mark.parametrize("command", [(), ("carp-controller", "--resync=1h")])
def test_lease_of_an_earlier_set_up(command: tuple[str, ...]) -> None:
    """With one replica nobody renews the Lease that several have left, and nothing is wrong."""
    install, cluster = good_install()
    changed(lease=OLD_LEASE, controllers=[controller(1, *command)])(install, cluster)
    finding = troubles(install, cluster)["controller", "lease"]
    assert (Verdict.SKIPPED, "") == (finding.verdict, finding.advice)
    assert "left over" in finding.text


def test_advice_on_logs_is_what_kubectl_takes() -> None:
    """`kubectl logs` takes a name or a selector, and refuses both together."""
    install, cluster = good_install()
    with_objects("vips", vip("web", "n1", "n2", observedGeneration=0))(install, cluster)
    changed(lease=OLD_LEASE, controllers=[controller(2)])(install, cluster)
    found = troubles(install, cluster)
    for check in ("answers", "lease"):
        command = "kubectl -n carp-system logs -l app.kubernetes.io/component=controller"
        assert found["controller", check].advice.endswith(command)
