"""The loop: what it waits for, what it writes, and what it does when something fails."""

from __future__ import annotations

from typing import Any

from carp_operator.kube.errors import Forbidden, Transient
from carp_operator.kube.watch import Synced
from loopfix import Bench, cluster, running
from nsfix import wait_for


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
