"""Writes: what they tell, and what becomes of those that fail or change nothing."""

from __future__ import annotations

from typing import Any

from carp_operator.controller.outbox import Write
from carp_operator.controller.writing import Writing
from carp_operator.kube.errors import Fatal, NotFound
from carp_operator.kube.resources import CARP_NODES, VIRTUAL_IPS
from carp_operator.plan.model import Notice
from loopfix import Bench, Server, cluster
from nsfix import wait_for


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.texts: set[str] = set()

    def tell(self, notice: Notice, uid: str) -> None:
        self.told.append((notice.reason, uid))
        self.texts.add(notice.message)


def writing(server: Server) -> tuple[Writing, Bench, Recorder, list[str]]:
    """Return a writer that nobody drives, what tells, and what was logged."""
    bench, recorder, said = Bench(server), Recorder(), list[str]()
    bench.parts.observer.resync()
    object.__setattr__(bench.parts, "recorder", recorder)
    return Writing(bench.parts, lambda: None, lambda about, text: said.append(text)), bench, recorder, said


def node(name: str, *vhosts: str) -> Write:
    """Return a write of a CarpNode."""
    spec = {"cluster": "c", "vhosts": [{"name": each} for each in vhosts]}
    return Write(CARP_NODES, name, "apply", {"metadata": {"name": name}, "spec": spec})


def carry_out(made: Writing, *writes: Write, notices: tuple[Notice, ...] = (), bench: Bench) -> Any:
    """Let writes go out and return their outcome."""
    made.want(writes, notices, bench.store.objects(CARP_NODES))
    made.dispatch()
    wait_for(lambda: made._answers.qsize() == len(writes))
    return made.collect()


def test_notices_are_told_when_the_write_is_done() -> None:
    """A status that could not be written is not told of; one that was is, once."""
    server = cluster()
    made, bench, recorder, _ = writing(server)
    status = Write(VIRTUAL_IPS, "web", "status", {"metadata": {"name": "web"}, "status": {"vhid": 7}})
    notice = Notice("VirtualIP", "web", "MasterChanged", "n1 is master")
    server.fail["status", "web"] = NotFound("status web", "gone", status=404)
    assert (False, False, False) == carry_out(made, status, notices=(notice,), bench=bench)
    assert [] == recorder.told
    server.fail.clear()
    made.retry()
    assert (True, True, False) == carry_out(made, status, notices=(notice,), bench=bench)
    assert [("MasterChanged", "uid-virtualips-web")] == recorder.told
    made.close()


def test_changed_spec_is_told_when_put_right() -> None:
    """A CarpNode that somebody changed after our write is told of; our own changes are not."""
    server = cluster()
    made, bench, recorder, _ = writing(server)
    carry_out(made, node("n1", "web"), bench=bench)
    carry_out(made, node("n1", "web", "db"), bench=bench)
    assert [] == recorder.told
    edited = server.put("carpnodes", {"metadata": {"name": "n1"}, "spec": {"vhosts": []}})
    bench.store.put(CARP_NODES, edited)
    carry_out(made, node("n1", "web", "db"), bench=bench)
    assert [("SpecRestored", "uid-carpnodes-n1")] == recorder.told
    made.close()


def test_fight_is_one_event() -> None:
    """Each round tells the same, so that it is counted up."""
    server = cluster()
    made, bench, recorder, _ = writing(server)
    carry_out(made, node("n1", "web"), bench=bench)
    for _ in range(3):
        edited = server.put("carpnodes", {"metadata": {"name": "n1"}, "spec": {"vhosts": []}})
        bench.store.put(CARP_NODES, edited)
        carry_out(made, node("n1", "web"), bench=bench)
    assert 3 == len(recorder.told)
    assert 1 == len(recorder.texts)
    made.close()


def test_refusals_are_said_once_and_doubted() -> None:
    """A refused write may mean that the definitions have changed."""
    server = cluster()
    made, bench, _, said = writing(server)
    server.fail["apply", "n1"] = Fatal("apply n1", "field not declared in schema", status=500)
    assert (False, False, True) == carry_out(made, node("n1"), bench=bench)
    assert ["apply n1: HTTP 500: field not declared in schema"] == said
    assert 1 == bench.counts.writes["carpnodes", "invalid"]
    made.close()


def test_write_that_changes_nothing_is_held() -> None:
    """A server that answers with the version it had did not do what was wanted."""
    server = cluster()
    made, bench, _, said = writing(server)
    item = bench.parts.client.get(CARP_NODES, "n1")
    server.put = lambda *_: item  # type: ignore[method-assign]
    carry_out(made, node("n1", "web"), bench=bench)
    assert ["apply carpnodes n1: changes nothing"] == said
    made.want([node("n1", "web")], (), {})
    assert made.dispatch() < float("inf")
    assert 1 == made.waiting
    made.close()


def test_nobody_writes_who_does_not_lead() -> None:
    """Between plan and write the Lease may be lost."""
    server = cluster()
    made, bench, _, _ = writing(server)
    bench.leading = False
    carry_out(made, node("n1", "web"), bench=bench)
    assert [] == server.wrote()
    assert 1 == bench.counts.writes["carpnodes", "transient"]
    made.close()
