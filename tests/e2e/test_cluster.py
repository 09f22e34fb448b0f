"""A real control plane, three nodes, `kubectl apply`: the address answers, and goes on answering."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from apifix import make_control_plane, pytest_runtest_makereport
from clusterfix import API, CRDS, LONGEST_MS, NAMESPACE, Cluster, cluster, reported, unnoticed
from nodefix import first, holds, idle

__all__ = ["cluster", "make_control_plane", "pytest_runtest_makereport"]

pytestmark = [pytest.mark.root, pytest.mark.slow]
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"


def _specs(cluster: Cluster) -> dict[str, Any]:
    items = cluster.plane.admin.get(f"{API}/carpnodes")["items"]
    return {item["metadata"]["name"]: item.get("spec", {}) for item in items}


def _told(cluster: Cluster, vip: str) -> dict[str, dict[str, Any]]:
    """Return what each node is told of a VirtualIP."""
    return {n: v for n, s in _specs(cluster).items() for v in s.get("vhosts", ()) if v["name"] == vip}


def test_applied_it_answers_and_a_node_dies(cluster: Cluster) -> None:
    """`kubectl apply` makes it answer; kubectl shows who has it; a dead master's successor is there in time
    with the API server dead as well, and the status follows when it is back.
    """
    cluster.apply("web", "10.99.0.252")
    with cluster.prober("10.99.0.252") as prober:
        prober.wait_answering(10)
        cluster.wait_ready("web")
        status = cluster.vip("web")["status"]
        master = status["master"]["node"]
        assert cluster.owner("10.99.0.252") == master
        assert sorted([master, *status["backups"]]) == ["n1", "n2", "n3"]
        shown = cluster.plane.kubectl("get", "vip", "web").stdout.split()
        assert {"web", master, "True", '["10.99.0.252"]'} <= set(shown)
        cluster.plane.stop_api()
        idle(1)
        prober.mark("cut")
        cluster.members[master].power_off()
        prober.wait_settled(10, unlike=cluster.members[master].node.mac)
        cluster.plane.start_api()
        cluster.wait(lambda: cluster.master("web") not in ("", master), "the status names the new master", 40)
        assert 2 == cluster.vip("web")["status"]["transitions"]
        cluster.members[master].power_on()
        cluster.members[master].carpd.wait_text("BACKUP", 20)
        summary = prober.stop().summary
    assert LONGEST_MS > max(o.duration_ms for o in summary.outages if o.start_ns)
    assert 0 == summary.two_owners.total_s


def test_nobody_notices_who_is_away(cluster: Cluster) -> None:
    """API server, controller and agents die; nothing on the wire changes, and what is applied meanwhile
    or after is there within seconds of the return.
    """
    cluster.apply("web", "10.99.0.252")
    cluster.wait_ready("web")
    before = cluster.vip("web")["status"]
    with unnoticed(cluster, "10.99.0.252"):
        cluster.plane.stop_api()
        idle(12)
        cluster.plane.start_api()
        began = time.monotonic()
        cluster.apply("second", "10.99.0.251")
        with cluster.prober("10.99.0.251") as prober:
            prober.wait_answering(20)
            assert 5 > time.monotonic() - began
        assert cluster.controller is not None
        cluster.controller.kill()
        for member in cluster.members.values():
            member.agent.kill()
        idle(2)
        for member in cluster.members.values():
            member.agent.start()
        cluster.controller.start()
        cluster.apply("third", "10.99.0.250")
        cluster.wait_ready("web", "second", "third")
    after = cluster.vip("web")["status"]
    assert (before["master"], before["transitions"]) == (after["master"], after["transitions"])


def test_changes_under_load(cluster: Cluster) -> None:
    """Password rotated, address added and removed, order of nodes changed: no answer lost, one owner."""
    cluster.apply("web", "10.99.0.252")
    cluster.wait_ready("web")
    first_key = {v["passwordRef"] for v in _told(cluster, "web").values()}
    with unnoticed(cluster, "10.99.0.252"):
        fresh = base64.b64encode(b"a-new-password").decode()
        cluster.plane.admin.patch(f"{SECRETS}/carp-web", {"data": {"password": fresh}})
        cluster.wait(
            lambda: _settled_on_other_key(cluster, first_key), "every node signs with the new key", 40
        )
        cluster.wait(lambda: len(_keys(cluster)) == 1, "the old key is dropped", 30)
        cluster.wait_ready("web")
        cluster.patch("web", {"addresses": ["10.99.0.252", "10.99.0.251"]})
        with cluster.prober("10.99.0.251") as prober:
            prober.wait_answering(30)
        cluster.wait_ready("web")
        cluster.patch("web", {"addresses": ["10.99.0.252"]})
        cluster.wait(
            lambda: not any(holds(m.node, "10.99.0.251") for m in cluster.members.values()), "gone", 30
        )
        cluster.wait_ready("web")
        last = cluster.vip("web")["status"]["nodes"][-1]["name"]
        prefer = [{"weight": 100, "matchLabels": {"kubernetes.io/hostname": last}}]
        cluster.patch("web", {"nodePreferences": prefer})
        cluster.wait(lambda: 0 == _told(cluster, "web")[last]["advskew"], "the order has changed", 20)
        cluster.wait_ready("web")
    reasons = {e["reason"] for e in cluster.plane.admin.get("/api/v1/namespaces/default/events")["items"]}
    assert "Rotated" in reasons


def _settled_on_other_key(cluster: Cluster, keys: set[str]) -> bool:
    told = _told(cluster, "web").values()
    return all(v["passwordRef"] not in keys and "accept" not in v for v in told)


def _keys(cluster: Cluster) -> set[str]:
    return set(cluster.plane.admin.get(f"{SECRETS}/carp-keys").get("data", {}))


def test_cordoned_and_back(cluster: Cluster) -> None:
    """A cordoned master hands over without a lost answer and stays a member; all cordoned: nothing moves."""
    cluster.apply("web", "10.99.0.252")
    cluster.wait_ready("web")
    master = cluster.master("web")
    with unnoticed(cluster, "10.99.0.252", moves=1) as prober:
        cluster.plane.kubectl("cordon", master)
        prober.wait_settled(10, unlike=cluster.members[master].node.mac)
        cluster.wait(lambda: cluster.master("web") not in ("", master), "the status follows")
        assert [{"reason": "Cordoned", "amount": 100}] == _told(cluster, "web")[master]["demotions"]
        second = cluster.master("web")
        others = sorted(set(cluster.members) - {second})
        # kubectl goes node by node: a plan in between must find none that is better than the one that serves.
        cluster.plane.kubectl("cordon", *others, second)
        cluster.wait(
            lambda: not any("demotions" in v for v in _told(cluster, "web").values()), "none is demoted"
        )
        idle(4)
        assert second == cluster.master("web")
        cluster.plane.kubectl("uncordon", second, *others)


def test_objects_that_vanish(cluster: Cluster) -> None:
    """A Node deleted and registered again, the CRD deleted and applied again, the store restored: the address
    answers all the time, and what is said afterwards is heeded.
    """
    cluster.apply("web", "10.99.0.252")
    cluster.wait_ready("web")
    master = cluster.master("web")
    admin = cluster.plane.admin
    with unnoticed(cluster, "10.99.0.252"):
        old = admin.get(f"{API}/carpnodes/{master}")["metadata"]["uid"]
        admin.delete(f"/api/v1/nodes/{master}")
        cluster.wait(lambda: not admin.exists(f"{API}/carpnodes/{master}"), "its CarpNode is collected", 60)
        cluster.plane.add_node(master, cluster.members[master].node.address, {})
        cluster.members[master].enrol()
        cluster.wait(lambda: _followed(cluster, master, old), "the new object is followed", 30)
        admin.delete(f"{CRDS}/carpnodes.carp.vip")
        cluster.wait(lambda: not admin.exists(f"{CRDS}/carpnodes.carp.vip"), "the CRD is gone", 20)
        idle(2)
        cluster.install_crds()
        cluster.wait(lambda: all(reported(cluster, n) for n in cluster.members), "the agents are back", 60)
        cluster.wait_ready("web", seconds=60)
        saved = cluster.plane.snapshot()
        cluster.patch("web", {"announce": {"count": 4}})
        cluster.wait(lambda: all("announce" in v for v in _told(cluster, "web").values()), "all are told")
        cluster.wait_ready("web")
        cluster.plane.restore(saved)
        cluster.wait(
            lambda: not any("announce" in v for v in _told(cluster, "web").values()), "it went back", 60
        )
        cluster.patch("web", {"announce": {"count": 3}})
        cluster.wait(
            lambda: all(_runs_announce(cluster, n) for n in cluster.members), "new words are heeded", 60
        )
        cluster.wait_ready("web", seconds=60)


def _followed(cluster: Cluster, node: str, old: str) -> bool:
    path = f"{API}/carpnodes/{node}"
    if not cluster.plane.admin.exists(path):
        return False
    found = cluster.plane.admin.get(path)
    uid = found["metadata"]["uid"]
    return uid not in (old, "") and uid == found.get("status", {}).get("observedUID")


def _runs_announce(cluster: Cluster, node: str) -> bool:
    found = cluster.plane.admin.get(f"{API}/carpnodes/{node}")
    generation = found["metadata"]["generation"]
    told = [v.get("announce") for v in found["spec"].get("vhosts", ())]
    return [{"count": 3}] == told and generation == found.get("status", {}).get("observedGeneration")


STATIC = "10.99.0.239"


def _own(cluster: Cluster, node: str) -> str:
    return str(cluster.plane.admin.get(f"{API}/carpnodes/{node}").get("status", {}).get("interfaces"))


def test_what_is_wrong_disturbs_nothing(cluster: Cluster) -> None:
    """Each mistake is one condition on its own object; a CarpNode edited by hand is put right; deleted, the
    address is gone.
    """
    cluster.apply("web", "10.99.0.252", vhid=7)
    cluster.wait_ready("web")
    # As a static pod: a carpd of its own, of which the cluster knows nothing.
    static = cluster.lab.daemon("n1", first("static", vhid=99, addresses=[STATIC]), files="static")
    static.start().master()
    cluster.wait(lambda: STATIC in _own(cluster, "n1"), "its address counts as the node's", 20)
    with unnoticed(cluster, "10.99.0.252"), unnoticed(cluster, STATIC):
        for name, address, spec, reason, part in MISTAKES:
            cluster.apply(name, address, **spec)
            refused = ("False", reason)
            cluster.wait(
                lambda n=name, r=refused: cluster.condition(n, "Accepted")[:2] == r, f"{name}: {reason}"
            )
            assert part in cluster.condition(name, "Accepted")[2]
            cluster.plane.admin.delete(f"{API}/virtualips/{name}")
        master = cluster.master("web")
        told = _specs(cluster)
        other = next(n for n in cluster.members if n != master)
        vhosts = [{**told[other]["vhosts"][0], "advskew": 200}]
        cluster.plane.admin.patch(f"{API}/carpnodes/{other}", {"spec": {"vhosts": vhosts}})
        cluster.wait(lambda: told == _specs(cluster), "the edit is put right")
        cluster.wait_ready("web")
    static.term()
    cluster.plane.kubectl("delete", "vip", "web")
    cluster.wait(
        lambda: not any(holds(m.node, "10.99.0.252") for m in cluster.members.values()), "it is gone"
    )


MISTAKES: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("same-address", "10.99.0.252", {}, "AddressInUse", "web"),
    ("same-vhid", "10.99.0.240", {"vhid": 7}, "VhidInUse", "web"),
    ("elsewhere", "192.0.2.9", {}, "NoCandidate", "192.0.2.9"),
    ("no-interface", "10.99.0.240", {"interface": {"name": "bond7"}}, "NoCandidate", "bond7"),
    ("a-nodes-own", "10.99.0.2", {}, "AddressOfNode", "n2"),
    ("a-static-pods", STATIC, {}, "AddressOfNode", "n1"),
    ("no-secret", "10.99.0.240", {"authentication": {"secretRef": {"name": "none"}}}, "NoPassword", "none"),
    ("selector", "10.99.0.240", {"nodeSelector": {"matchLabels": {"a": "b"}}}, "NoCandidate", "a=b"),
]
