from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp.commands.finding import Verdict
from carp_operator.kubectl.checks_objects import check_nodes
from carp_operator.kubectl.doctor import examine
from kubectlfix import (
    NOW,
    carpnode,
    changed,
    condition,
    good_install,
    named,
    node,
    part,
    pod,
    troubles,
    vip,
    with_objects,
    without,
)

if TYPE_CHECKING:
    from carp_operator.kubectl.install import Install
    from carp_operator.kubectl.reading import Cluster

SERVING = part("web", "BACKUP")
PROBLEMS: list[tuple[Any, str, str, Verdict, str]] = [
    (changed(pods=[pod("n1"), pod("n3")]), "node n2", "pod", Verdict.WARN, "no pod"),
    (
        changed(pods=[pod("n1"), pod("n2", ready=False, restarts=3), pod("n3")]),
        "node n2",
        "pod",
        Verdict.FAIL,
        "not Ready, 3 restarts",
    ),
    (without("carpnodes", "n2"), "node n2", "agent", Verdict.FAIL, "has no CarpNode"),
    (with_objects("carpnodes", named("n2")), "node n2", "agent", Verdict.FAIL, "never reported"),
    (with_objects("nodes", node("n2", ready=False)), "node n2", "agent", Verdict.FAIL, "out of date"),
    (with_objects("nodes", node("n2", cordoned=True)), "node n2", "service", Verdict.WARN, "is cordoned"),
    (
        with_objects(
            "carpnodes", carpnode("n2", conditions=[condition("Ready", "False", "CarpdStopped", "bye")])
        ),
        "node n2",
        "agent",
        Verdict.FAIL,
        "CarpdStopped: bye",
    ),
    (
        with_objects("carpnodes", carpnode("n2", observedGeneration=0)),
        "node n2",
        "settings",
        Verdict.WARN,
        "not confirmed",
    ),
    (
        with_objects(
            "carpnodes", carpnode("n2", conditions=[condition("InSync", "False", "Refused", "bad")])
        ),
        "node n2",
        "settings",
        Verdict.FAIL,
        "Refused: bad",
    ),
    (
        with_objects("carpnodes", carpnode("n2", part("web", interface="eth9"))),
        "node n2",
        "interface eth9",
        Verdict.FAIL,
        "is not there",
    ),
    (
        with_objects("carpnodes", carpnode("n2", SERVING, interfaces=[{"name": "eth0", "carrier": False}])),
        "node n2",
        "interface eth0",
        Verdict.FAIL,
        "no carrier",
    ),
    (
        with_objects(
            "vips", vip("web", "n1", "n2", conditions=[condition("Accepted", "False", "VhidInUse", "7")])
        ),
        "web",
        "Accepted",
        Verdict.FAIL,
        "VhidInUse: 7",
    ),
    (with_objects("vips", vip("web", "n1")), "web", "successor", Verdict.WARN, "no other member"),
    (
        with_objects("vips", vip("web", "n1", "n2", authentication={"step": "Sign", "waitingFor": ["n2"]})),
        "web",
        "waits",
        Verdict.WARN,
        "waiting for n2",
    ),
    (
        with_objects("carpnodes", carpnode("n2", part("web", problem="no address"))),
        "web",
        "on n2",
        Verdict.FAIL,
        "no address",
    ),
    (
        with_objects("carpnodes", carpnode("n2", part("web", conflict="02:aa"))),
        "web",
        "on n2",
        Verdict.FAIL,
        "02:aa answers",
    ),
    (
        with_objects("carpnodes", carpnode("n2", part("web", drops={"hmac": 12, "loop": 99}))),
        "web",
        "on n2",
        Verdict.WARN,
        "12 had a wrong HMAC",
    ),
    (
        with_objects(
            "carpnodes",
            carpnode(
                "n2",
                SERVING,
                foreign=[
                    {"interface": "eth0", "protocol": "carp", "id": 42, "source": "10.1.0.9"},
                    {"interface": "eth0", "protocol": "carp", "id": 43, "source": "10.1.0.8"},
                ],
            ),
        ),
        "web",
        "others",
        Verdict.WARN,
        "10.1.0.9 (carp) also speaks vhid 42, heard by n2",
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


def left_out(carp: dict[str, Any], *, pods: list[dict[str, Any]] | None) -> tuple[Install, Cluster]:
    """Return an installation whose DaemonSet is for n1 and n3 only, with this CarpNode of n2."""
    install, cluster = good_install()
    selector = {"template": {"spec": {"nodeSelector": {"kubernetes.io/os": "linux", "vip": "yes"}}}}
    install.daemons = [named("carp-node", spec=selector)]
    install.pods = pods
    for name, item in cluster.nodes.items():
        item["metadata"]["labels"] = {"kubernetes.io/os": "linux"} | ({} if name == "n2" else {"vip": "yes"})
    cluster.carpnodes["n2"] = carp
    return install, cluster


STOPPED = carpnode("n2", conditions=[condition("Ready", "False", "CarpdStopped", "bye")])


@pytest.mark.parametrize("carp", [named("n2"), STOPPED], ids=["never", "no more"])
@pytest.mark.parametrize("pods", [[pod("n1"), pod("n3")], None], ids=["pods", "unreadable"])
def test_a_node_that_the_daemonset_leaves_out(
    carp: dict[str, Any], pods: list[dict[str, Any]] | None
) -> None:
    """That no agent is there is as it was asked for: no failure, no warning, and the reason is said."""
    about = [each for each in examine(*left_out(carp, pods=pods), NOW) if each.about == "node n2"]
    assert [(Verdict.SKIPPED, "agent")] == [(each.verdict, each.check) for each in about]
    assert "the nodeSelector of DaemonSet carp-node leaves it out: no vip=yes" == about[0].text


def test_carpnodes_that_may_not_be_read() -> None:
    """What is not known is no fault of the nodes."""
    install, cluster = good_install()
    cluster.carpnodes, cluster.unread = {}, {"carpnodes": "list carpnodes: forbidden"}
    found = [(each.about, each.verdict) for each in check_nodes(install, cluster, NOW)]
    assert [(f"node {name}", Verdict.SKIPPED) for name in ("n1", "n2", "n3")] == found


def test_a_node_that_is_left_out_and_serves() -> None:
    """Whoever has placed it: an agent that reports is judged as any other, and so is a pod that stays."""
    install, cluster = left_out(carpnode("n2", SERVING), pods=[pod("n1"), pod("n3")])
    assert ("node n2", "agent") not in troubles(install, cluster)
    install, cluster = left_out(STOPPED, pods=[pod("n1"), pod("n2"), pod("n3")])
    assert Verdict.FAIL is troubles(install, cluster)["node n2", "agent"].verdict


@pytest.mark.parametrize("selector", [{}, {"kubernetes.io/os": "linux"}])
def test_a_node_that_a_daemonset_is_for(selector: dict[str, str]) -> None:
    """That it has never reported is a failure."""
    install, cluster = left_out(named("n2"), pods=[pod("n1"), pod("n3")])
    assert install.daemons
    install.daemons.append(named("second", spec={"template": {"spec": {"nodeSelector": selector}}}))
    assert "has never reported" == troubles(install, cluster)["node n2", "agent"].text
    del cluster.nodes["n2"]
    assert Verdict.FAIL is troubles(install, cluster)["node n2", "agent"].verdict
