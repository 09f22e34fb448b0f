from __future__ import annotations

from typing import Any

import pytest

from carp.commands.finding import Verdict
from kubectlfix import (
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
