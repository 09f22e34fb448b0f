"""The loop: what it waits for, what it writes, and what it does when something fails."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carp_operator.controller.pods import Pods
from carp_operator.controller.writing import Outcome
from carp_operator.kube.errors import Fatal, Forbidden, Transient
from carp_operator.kube.resources import CARP_NODES, NODES, VIRTUAL_IPS
from carp_operator.kube.watch import Lost, Synced, Upsert
from loopfix import Bench, cluster, running
from nsfix import wait_for

if TYPE_CHECKING:
    import pytest


def test_keys_then_nodes_then_secrets_then_statuses() -> None:
    """The password is stored before a node is told of it; what makes an address answer goes out first."""
    server = cluster()
    with running(server) as bench:
        wait_for(lambda: ("create secrets", "carp-web") in server.wrote())
        wait_for(bench.settled)
    kinds = [kind for kind, _ in server.wrote()]
    assert ("create secrets", "carp-keys") == server.wrote()[0]
    assert {"apply carpnodes"} == set(kinds[1:3])
    assert kinds.index("create secrets", 1) > 2
    assert "status virtualips" in kinds
    vhosts = server.objects["carpnodes", "n1"]["spec"]["vhosts"]
    assert ["web.1"] == [vhost["passwordRef"] for vhost in vhosts]
    assert 1 == bench.feed.starts


def test_nothing_is_written_before_all_is_known() -> None:
    """Secrets, or a kind that cannot be listed, hold up everything; /readyz says what."""
    server = cluster()
    with running(server, synced=False) as bench:
        wait_for(lambda: bench.store.problems() == ())
        assert "secrets: not listed yet" in bench.probes.ready().text
        assert not bench.probes.ready().good
        assert [] == server.wrote()
        bench.passwords.event(Synced(()))
        wait_for(bench.settled)
    server.fail["list", "*"] = Forbidden("list", "no", status=403)
    with running(server) as bench:
        wait_for(lambda: "HTTP 403" in bench.probes.ready().text)
        assert 0 == bench.feed.starts


def test_steady_state_is_silent() -> None:
    """Once all is written nothing is asked and nothing written."""
    server = cluster()
    with running(server) as bench:
        wait_for(bench.settled)
        for name in ("n1", "n2"):
            with server.lock:
                item = server.report(name)
            bench.store.put(next(k for k in bench.parts.observer.schemas if k.plural == "carpnodes"), item)
        wait_for(lambda: bench.loop._due == float("inf") and bench.settled(), 5)
        before = len(server.log)
        bench.loop.dirty()
        wait_for(lambda: bench.loop._due == float("inf"))
        assert before == len(server.log)


def test_failed_write_disturbs_no_other() -> None:
    """What cannot be written is tried again later; the rest is written; the last result is complete."""
    server = cluster()
    server.fail["apply", "n1"] = Transient("apply n1", "busy", status=503)
    with running(server) as bench:
        wait_for(lambda: ("status virtualips", "web") in server.wrote())
        assert "vhosts" in server.objects["carpnodes", "n2"]["spec"]
        assert "vhosts" not in server.objects["carpnodes", "n1"]["spec"]
        with server.lock:
            server.fail.clear()
        wait_for(lambda: "vhosts" in server.objects["carpnodes", "n1"]["spec"], 10)
        assert bench.counts.writes["carpnodes", "transient"] >= 1


def test_keys_that_cannot_be_written_hold_up_new_passwords_only() -> None:
    """Without carp-keys no node is told of a new password, and the condition says so."""
    server = cluster()
    server.fail["create", "carp-keys"] = Forbidden("create carp-keys", "no", status=403)
    with running(server) as bench:
        wait_for(lambda: ("status virtualips", "web") in server.wrote())
        assert not server.objects["carpnodes", "n1"]["spec"].get("vhosts")
        with server.lock:
            server.fail.clear()
        wait_for(lambda: server.objects["carpnodes", "n1"]["spec"].get("vhosts"), 10)
        assert 1 == bench.counts.writes["secrets", "forbidden"]


def test_keys_that_cannot_be_written_for_a_moment_hold_up_no_plan() -> None:
    """What needs no new password goes on, such as a drain."""
    server = cluster()
    with running(server) as bench:
        wait_for(bench.settled)
        with server.lock:
            for name in ("n1", "n2"):
                bench.store.put(CARP_NODES, server.report(name))
            server.fail["patch", "carp-keys"] = Transient("patch carp-keys", "busy", status=429)
            bench.store.put(VIRTUAL_IPS, server.vip("db", "10.1.9.10"))
            node = server.objects["nodes", "n1"]
            bench.store.put(NODES, server.put("nodes", {**node, "spec": {"unschedulable": True}}))
        wait_for(lambda: server.objects["carpnodes", "n1"]["spec"]["vhosts"][0].get("demotions"), 5)
        assert bench.probes.ready().good
        assert {"web"} == {vhost["name"] for vhost in server.objects["carpnodes", "n1"]["spec"]["vhosts"]}
        with server.lock:
            server.fail.clear()
        wait_for(lambda: len(server.objects["carpnodes", "n2"]["spec"]["vhosts"]) == 2, 10)
        assert bench.counts.writes["secrets", "transient"] >= 1


def test_carp_keys_is_tried_again_when_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a moment's trouble the pauses do not grow."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    server = cluster()
    bench = Bench(server)
    bench.passwords.event(Synced(()))
    bench.loop._resync()
    pauses = []
    for after in (0.0, 0.0, 7.0):
        server.fail["create", "carp-keys"] = Transient("create", "busy", status=429, retry_after=after)
        bench.loop._plan()
        assert bench.loop._keys_at is not None
        pauses.append(bench.loop._keys_at - time.time())
        bench.loop._keys_at = time.time()
    assert [2, 2, 7] == pauses


def test_standby_writes_nothing_until_it_leads() -> None:
    """A replica that does not lead knows everything and writes nothing; leading, it goes on at once."""
    server = cluster()
    with running(server, leading=False) as bench:
        wait_for(lambda: bench.feed.starts == 1)
        assert "standby" in bench.probes.ready().text
        assert [] == server.wrote()
        bench.leading = True
        bench.loop.dirty()
        wait_for(bench.settled)
        assert server.wrote()


def test_a_new_leader_lists_before_its_first_plan() -> None:
    """What the one before wrote last may not have come as an event."""
    server = cluster()
    with running(server, leading=False) as bench:
        wait_for(lambda: bench.feed.starts == 1)
        with server.lock:
            server.vip("late", "10.1.9.10")
            before = len(server.log)
        bench.leading = True
        bench.loop.dirty()
        wait_for(bench.settled)
        lists = [at for at, (what, _) in enumerate(server.log) if at >= before and what.startswith("list")]
        assert lists[0] < server.log.index(("create secrets", "carp-keys"))
        assert ("status virtualips", "late") in server.wrote()


def test_one_list_at_the_start() -> None:
    """Who leads from the beginning needs no second one."""
    server = cluster()
    with running(server) as bench:
        wait_for(bench.settled)
    assert 1 == server.log.count(("list nodes", ""))


def test_what_is_refused_is_listed_again_at_growing_intervals() -> None:
    """As long as the same is missing for the same reason; a definition that comes is noticed soon."""
    bench = Bench(cluster())
    loop, server, pauses = bench.loop, bench.server, []

    def listed() -> int:
        before = len(server.log)
        loop._resync()
        pauses.append(round(loop._resync_at - loop._last_list))
        return len(server.log) - before

    server.fail["list", ""] = Forbidden("list", "no", status=403)
    for _ in range(6):
        listed()
    assert [2, 4, 8, 16, 30, 30] == pauses
    server.fail["list", ""] = Transient("list", "busy", status=429)
    listed()
    listed()
    server.fail.clear()
    listed()
    assert [2, 4, 300] == pauses[6:]
    definition = server.objects.pop(("customresourcedefinitions", "virtualips.carp.vip"))
    assert [6, 1, 1] == [listed() for _ in range(3)]
    assert [2, 2, 2] == pauses[9:]
    server.objects["customresourcedefinitions", "virtualips.carp.vip"] = definition
    assert 7 == listed()


def test_doubtful_lists_come_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the schema refuses asks for a list, since the schema may have changed; not for ever."""
    bench = Bench(cluster())
    loop, doubtful = bench.loop, Outcome(heard=False, drained=False, doubtful=True)
    found = []
    for _ in range(6):
        loop._resync()
        monkeypatch.setattr(loop._writing, "collect", lambda: doubtful)
        loop._collect()
        found.append(round(loop._resync_at - loop._last_list))
    assert [5, 10, 20, 40, 60, 60] == found
    body = bench.server.objects["customresourcedefinitions", "carpnodes.carp.vip"]
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {"type": "object"}
    served = loop._served
    loop._resync()
    loop._collect()
    assert (5, served + 1) == (round(loop._resync_at - loop._last_list), loop._served)
    loop._resync()
    assert (10, served + 1) == (round(loop._resync_at - loop._last_list), loop._served)
    loop._resync()
    assert 20 == round(loop._resync_at - loop._last_list)
    loop._doubt_until = 0.0  # the write was sent again meanwhile, and taken
    loop._resync()
    assert (300, 5.0) == (round(loop._resync_at - loop._last_list), loop._doubt_pause)


def test_a_refused_write_is_not_sent_again_by_every_list() -> None:
    """It is held although a list succeeds; all else goes on."""
    server = cluster()
    server.fail["apply", "n1"] = Fatal("apply n1", "invalid", status=422)
    with running(server) as bench:
        wait_for(lambda: ("status virtualips", "web") in server.wrote())
        for _ in range(3):
            before = server.log.count(("list nodes", ""))
            bench.loop.relist()
            wait_for(lambda before=before: server.log.count(("list nodes", "")) > before)
        with server.lock:
            server.report("n2")
        wait_for(lambda: bench.loop._due == float("inf"), 5)
        assert 1 == server.log.count(("apply carpnodes", "n1"))


def test_carp_keys_that_is_refused_is_tried_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else is planned meanwhile; a success begins anew."""
    monkeypatch.setattr(time, "time", lambda: 1e9)
    server = cluster()
    bench = Bench(server)
    bench.passwords.event(Synced(()))
    bench.loop._resync()
    server.fail["create", "carp-keys"] = Fatal("create carp-keys", "too large", status=413)
    pauses = []
    for _ in range(7):
        for _ in range(3):
            bench.loop._plan()
        assert bench.loop._keys_at is not None
        pauses.append(bench.loop._keys_at - time.time())
        bench.loop._keys_at = time.time()
    assert [2, 4, 8, 16, 32, 60, 60] == pauses
    assert 7 == bench.counts.writes["secrets", "invalid"]
    server.fail.clear()
    bench.loop._plan()
    assert 0.0 == bench.loop._keys_pause
    assert ("secrets", "carp-keys") in server.objects


def test_error_in_a_turn_is_survived() -> None:
    """A fault of ours in a plan is said by /readyz and tried again; the process goes on."""
    server = cluster()
    broken = True

    def fault(bench: Bench) -> Any:
        real = bench.passwords.states

        def states(*given: Any) -> Any:
            if broken:
                raise ValueError
            return real(*given)

        return states

    with running(server, synced=False) as bench:
        bench.passwords.states = fault(bench)
        bench.passwords.event(Synced(()))
        wait_for(lambda: "internal error: ValueError" in bench.probes.ready().text)
        broken = False
        wait_for(bench.settled, 10)


def test_probes_and_counts() -> None:
    """Ages and numbers are in the text, conditions in the metric."""
    server = cluster()
    with running(server) as bench:
        wait_for(bench.settled)
        wait_for(bench.probes.vips)
        assert "VirtualIPs: 1, nodes: 2" in bench.probes.ready().text
        assert bench.probes.health().good
        assert bench.probes.reconcile_age() < 60
        assert 1 == bench.probes.vips()["Accepted", "True"]
        assert bench.probes.metrics().good
    bench.loop.heard_at -= 10_000
    bench.loop.turned_at -= 10_000
    assert "no word from the API server" in bench.probes.ready().text
    assert not bench.probes.health().good


def test_lost_watch_lists_again() -> None:
    """After a watch was lost everything is listed, and the watches begin anew."""
    server = cluster()
    with running(server) as bench:
        wait_for(bench.settled)
        with server.lock:
            del server.objects["virtualips", "web"]
        bench.loop.relist()
        wait_for(lambda: bench.feed.starts == 2)
        wait_for(lambda: server.objects["carpnodes", "n1"]["spec"]["vhosts"] == [])


def test_interfaces_that_are_none_of_ours() -> None:
    """Where --interfaces leaves none, the condition says so and no node is told."""
    server = cluster()
    with running(server, interfaces="bond*") as bench:
        wait_for(lambda: "conditions" in server.objects["virtualips", "web"].get("status", {}))
        wait_for(bench.settled)
    found = {c["type"]: c["reason"] for c in server.objects["virtualips", "web"]["status"]["conditions"]}
    assert "NoCandidate" == found["Accepted"]
    assert [[], []] == [server.objects["carpnodes", name]["spec"]["vhosts"] for name in ("n1", "n2")]


def pod(node: str, *, ready: bool) -> dict[str, Any]:
    """Return a pod of the DaemonSet that is Ready, or is not, for long."""
    long_ago = "2026-01-01T00:00:00Z"
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": long_ago}
    meta = {"name": f"carp-{node}", "creationTimestamp": long_ago}
    return {"metadata": meta, "spec": {"nodeName": node}, "status": {"conditions": [condition]}}


def served(bench: Bench) -> None:
    """Let both agents report what they were told."""
    for name, state in (("n1", "MASTER"), ("n2", "BACKUP")):
        with bench.server.lock:
            item = bench.server.report(name)
            (told,) = item["spec"]["vhosts"]
            same = {key: told[key] for key in ("name", "advbase", "advskew")}
            vhost = {**same, "state": state, "interface": told["interface"]["name"]}
            item = bench.server.put("carpnodes", {**item, "status": {**item["status"], "vhosts": [vhost]}})
        bench.store.put(CARP_NODES, item)


def test_pods_that_are_not_ready_are_named() -> None:
    """A change of readiness brings a plan; a status says which node has no Ready pod, until it has one."""
    server = cluster()

    def ready() -> str:
        conditions = server.objects["virtualips", "web"].get("status", {}).get("conditions", ())
        return "".join(c["message"] for c in conditions if c["type"] == "Ready")

    with running(server) as bench:
        pods = Pods(bench.loop.dirty)
        bench.loop._parts = replace(bench.parts, pods=pods)
        wait_for(lambda: all(server.objects["carpnodes", n]["spec"].get("vhosts") for n in ("n1", "n2")))
        wait_for(bench.settled)
        served(bench)
        wait_for(lambda: ready() == "every member takes part")
        pods.event(Synced((pod("n1", ready=True), pod("n2", ready=False))))
        wait_for(lambda: ready().startswith("n2: its pod"))
        pods.event(Upsert(pod("n2", ready=True)))
        wait_for(lambda: ready() == "every member takes part")


def test_pods_that_cannot_be_read_hold_up_nothing() -> None:
    """Whatever is refused, all else goes on; /readyz says nothing of it."""
    server = cluster()
    with running(server) as bench:
        pods = Pods(bench.loop.dirty)
        bench.loop._parts = replace(bench.parts, pods=pods)
        pods.event(Lost("list pods in ns: HTTP 403: no"))
        bench.loop.dirty()
        wait_for(lambda: ("status virtualips", "web") in server.wrote())
        wait_for(bench.settled)
        assert "pods" not in bench.probes.ready().text
        assert () == bench.loop.suspended()
