"""Settings changed under a running carpd: what moves, what stays, and what nobody notices."""

from __future__ import annotations

import json
import os
import signal
import statistics
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from beside import Measured, beside, labs
from carpd import call, fileless, shown
from nodefix import VIP, Lab, first, found, holds, idle, in_time, vhost, wait_until

if TYPE_CHECKING:
    from carp.lab.client import Prober
    from nodefix import Daemon

__all__ = ["labs"]

EXTRA = "10.99.0.253"


def _reload(lab: Lab, **settings: dict[str, Any]) -> None:
    """Give nodes new settings, one after the other."""
    for name, vip in settings.items():
        lab.configure(name, vip)
        call(lab, name, "reload")


def _steady(prober: Prober, one: Daemon, two: Daemon, before: tuple[int, int]) -> None:
    """Check that nothing was lost, nobody changed its state, and there was one owner all along."""
    idle(1.0)
    summary = prober.stop().summary
    assert 0 == summary.lost
    assert [] == one.events("state", since=before[0])
    assert [] == two.events("state", since=before[1])
    assert 0 == summary.two_owners.total_s
    assert [(one.node.mac,)] == [change.owners for change in summary.owners]


@beside
def test_an_unchanged_file_sends_nothing(lab: Lab) -> Measured:
    """SIGHUP, `reload`, and a file written again with the same content: only the regular adverts leave, and
    no state changes.
    """
    one, two = lab.pair()
    idle(5.5)  # announcements are repeated until then
    before = one.count, two.count
    with lab.sniffer() as sniffer:
        began = time.monotonic()
        for _ in range(10):
            one.signal(signal.SIGHUP)
            idle(0.11)
            call(lab, "n1", "reload")
            os.utime(lab.folder / "n1.yaml")
            idle(0.11)
        idle(2.5)  # the watched file counts too
        sent = sniffer.adverts(since=began)
        assert [] == sniffer.gratuitous(lab.node("n1").mac, since=began)
    gaps = [after.at - before.at for before, after in pairwise(sent)]
    usual = statistics.median(gaps)
    assert {"10.99.0.1"} == {frame.source for frame in sent}
    in_time(usual - min(gaps), 0.05)
    in_time(max(gaps) - usual, 0.05)
    assert [] == [*one.events("state", since=before[0]), *two.events("state", since=before[1])]
    return {"adverts": len(sent), "period_s": usual}


@beside
def test_a_changed_file_is_noticed(lab: Lab) -> Measured:
    """Without any signal a new advskew is in force within 2 s, in the adverts too; the master stays."""
    one = lab.daemon("n1", first()).start().master()
    with lab.prober() as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        idle(1.6)
        before = one.count
        lab.configure("n1", first(advskew=50))
        took = wait_until(
            lambda: sniffer.adverts() and sniffer.adverts()[-1].advert.advskew == 50, 4, "advskew 50", one
        )
        result = prober.stop()
    in_time(took, 2 + 1.5)
    assert [] == one.events("state", since=before)
    assert 0 == result.summary.lost
    return {"noticed_after_s": took}


@beside
def test_a_bad_file_changes_nothing(lab: Lab) -> None:
    """It is said in the log, in the status and in the metrics; all goes on as before until it is mended."""
    one = lab.daemon("n1", first()).start().master()
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        before = one.count
        lab.write("n1.yaml", "vhosts:\n  - name: web\n    vhid: 300\n")
        one.signal(signal.SIGHUP)
        wait_until(lambda: call(lab, "n1", "hello")["problems"], 4, "the status says it", one)
        (problem,) = call(lab, "n1", "hello")["problems"]
        assert "vhosts[0].vhid" in problem
        assert "300 is not between 1 and 255" in problem
        assert "carp_config_stale 1" in call(lab, "n1", "metrics")["text"]
        said = [line["message"] for line in one.lines(before)]
        assert any("vhosts[0].vhid" in text for text in said)
        assert any("nothing changed" in text for text in said)
        (lab.folder / "n1.yaml").unlink()
        wait_until(lambda: "No such file" in str(call(lab, "n1", "hello")["problems"]), 4, "it is gone", one)
        assert (0, [f"{VIP}/32"]) == (shown(lab, "n1")["advskew"], shown(lab, "n1")["addresses"])
        lab.configure("n1", first(advskew=9))
        wait_until(lambda: not call(lab, "n1", "hello")["problems"], 4, "it is mended", one)
        assert 9 == shown(lab, "n1")["advskew"]
        result = prober.stop()
    assert 0 == result.summary.lost
    assert [] == one.events("state", since=before)


@beside
def test_an_emptied_file_changes_nothing(lab: Lab) -> Measured:
    """One that a full disk left empty takes no address from a node that is alone; an explicit [] does."""
    (lab.folder / "conf.d").mkdir()
    more = json.dumps({"vhosts": [first("more", vhid=43, addresses=[EXTRA])]})
    lab.write("conf.d/y.yaml", more)
    one = lab.daemon("n1", first()).start()
    one.wait_state("MASTER", vhost="more")
    before = one.count
    lab.write("conf.d/y.yaml", "")
    wait_until(lambda: call(lab, "n1", "hello")["problems"] != [], 5, "the file is read", one)
    (problem,) = call(lab, "n1", "hello")["problems"]
    assert problem == f"{lab.folder}/conf.d/y.yaml: vhosts (line 1): is required: a list, [] for none"
    idle(2.5)
    assert holds(lab.node("n1"), EXTRA)
    assert [] == one.events("state", since=before)
    lab.write("conf.d/y.yaml", "vhosts: []")
    wait_until(lambda: shown(lab, "n1", "more") == {}, 5, "the vhost is gone", one)
    assert [] == call(lab, "n1", "hello")["problems"]
    return {}


@beside
def test_addresses_come_and_go_in_place(lab: Lab) -> Measured:
    """Each node first accepts the new list, then sends it, then forgets the old: the master never moves."""
    one, two = lab.pair()
    before = one.count, two.count
    old, new = [VIP], [VIP, EXTRA]
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for now, then in ((old, new), (new, old)):
            for sends, accepts in ((now, then), (then, now), (then, None)):
                accept = [{"addresses": accepts, "password": "love"}] if accepts else []
                settings: dict[str, Any] = {"addresses": sends, "accept": accept}
                _reload(lab, n2=vhost(advskew=20, **settings), n1=first(**settings))
                idle(0.4)
            assert (len(then) == 2) is holds(lab.node("n1"), EXTRA)
            assert not holds(lab.node("n2"), EXTRA)
            assert holds(lab.node("n1"))
            idle(1.2)
        _steady(prober, one, two, before)
    return {"lost": 0}


@beside
def test_a_password_changes_in_place(lab: Lab) -> Measured:
    """Accept the new one, send it, forget the old: nothing lost, no change of state, no foreign advert."""
    one, two = lab.pair()
    before = one.count, two.count
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for sends, accepts in (("love", "peace"), ("peace", "love"), ("peace", None)):
            accept = [{"addresses": [VIP], "password": accepts}] if accepts else []
            settings: dict[str, Any] = {"password": sends, "accept": accept}
            # The master first: it goes on in the old one, too, until it is told to forget it.
            _reload(lab, n1=first(**settings), n2=vhost(advskew=20, **settings))
            idle(1.2)
        assert {} == shown(lab, "n2")["drops"]
        _steady(prober, one, two, before)
    return {"lost": 0}


@beside
def test_advskew_changes_in_place(lab: Lab) -> Measured:
    """The master and the backup take a new rank without a move, which preempt Never asks for."""
    one, two = lab.pair()
    before = one.count, two.count
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for skew in (100, 3, 0):
            _reload(lab, n1=first(advskew=skew), n2=vhost(advskew=50 - skew // 2))
            wait_until(lambda: shown(lab, "n2")["master"]["advskew"] == skew, 3, "n2 hears it", one, two)  # noqa: B023
        _steady(prober, one, two, before)
    return {"lost": 0}


@beside
def test_another_vhid_is_a_handover(lab: Lab) -> Measured:
    """A lone vhost goes on under a new vhid without a gap; one that leaves the file is released."""
    one = lab.daemon("n1", first()).start().master()
    lab.configure("n1", first(vhid=43))
    before = one.count
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        call(lab, "n1", "reload")
        one.wait_event("replaced", since=before)
        wait_until(lambda: shown(lab, "n1").get("vhid") == 43, 5, "the new vhid", one)
        wait_until(lambda: shown(lab, "n1").get("state") == "MASTER", 6, "master again", one)
        assert "lease-resumed" == shown(lab, "n1")["cause"]
        summary = prober.stop().summary
    assert 0 == summary.lost
    lab.configure("n1", vhost("other", vhid=44, addresses=[EXTRA]))
    call(lab, "n1", "reload")
    wait_until(lambda: not shown(lab, "n1"), 5, "it is gone", one)
    assert found(lab.node("n1")) is None
    assert "file" == shown(lab, "n1", "other")["source"]
    return {"lost": summary.lost}


@beside
@pytest.mark.parametrize("order", [("n1", "n2"), ("n2", "n1")], ids=["master first", "backup first"])
def test_another_vhid_on_two_nodes_in_turn(lab: Lab, order: tuple[str, str]) -> Measured:
    """In whichever order, and with seconds between: no answer is lost, and one owner but in the handover."""
    one, two = lab.pair()
    lab.configure("n1", first(vhid=43))
    lab.configure("n2", vhost(vhid=43, advskew=50))
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for name in order:
            call(lab, name, "reload")
            wait_until(lambda n=name: shown(lab, n).get("vhid") == 43, 5, "the new vhid", one, two)  # type: ignore[misc]
            idle(5.0)  # longer than a backup waits for a master that it cannot hear
        states = sorted(shown(lab, name)["state"] for name in ("n1", "n2"))
        summary = prober.stop().summary
    assert ["BACKUP", "MASTER"] == states
    assert 0 == summary.lost
    # A handover answers for 0.1 s more, while caches turn; nothing else may.
    in_time(summary.two_owners.total_s, 0.25)
    return {"lost": summary.lost, "two_owners_s": summary.two_owners.total_s}


@beside
def test_two_sources_side_by_side(lab: Lab) -> None:
    """The file's vhosts and the socket's run together; neither can take or remove the other's."""
    one = lab.daemon("n1", first()).start().master()
    given: dict[str, Any] = {"uid": "u", "cluster": "c"}
    own = first("own", vhid=43, addresses=[EXTRA])
    stolen = [
        (first(advskew=9), "name: 'web' belongs to the file"),
        (first("x", addresses=["10.99.0.9"]), "vhid: 42 on eth0 belongs to vhost 'web'"),
        (first("x", vhid=44), f"addresses: {VIP} belongs to vhost 'web'"),
    ]
    before = one.count
    for generation, (theirs, problem) in enumerate(stolen):
        answer = call(lab, "n1", "apply", generation=generation, vhosts=[own, theirs], **given)
        refused = [each for each in answer["outcomes"] if each["result"] == "refused"]
        assert [problem] == [each["problem"] for each in refused]
    one.wait_state("MASTER", vhost="own")
    call(lab, "n1", "reload")
    assert {"web": "file", "own": "socket"} == {
        each["name"]: each["source"] for each in call(lab, "n1", "status")["vhosts"]
    }
    call(lab, "n1", "apply", generation=9, vhosts=[], **given)
    wait_until(lambda: not shown(lab, "n1", "own"), 5, "it is removed", one)
    assert [] == one.events("state", since=before, vhost="web")
    assert holds(lab.node("n1"))


def _checked(lab: Lab, **fields: Any) -> dict[str, Any]:
    """Return a vhost that is released while the file `app` is missing."""
    command = ["test", "-e", str(lab.folder / "app")]
    check = {"name": "app", "exec": {"command": command}, "period": "100ms", "timeout": "90ms", "fall": 1}
    return first(**{"healthChecks": [{**check, "rise": 1}], "whenAllFail": "Release"} | fields)


@beside
def test_a_released_vhost_goes(lab: Lab) -> None:
    """One that its checks have released gets another vhid, or is removed, like any other; when its checks are
    well again nobody holds what no configuration has.
    """
    flag = lab.folder / "app"
    flag.touch()
    lab.configure("n1", _checked(lab), vhost("other", vhid=44, addresses=[EXTRA]))
    one = lab.daemon("n1", _checked(lab), vhost("other", vhid=44, addresses=[EXTRA])).start().master()
    flag.unlink()
    wait_until(lambda: not holds(lab.node("n1")), 6, "it is released", one)
    wait_until(lambda: "all health checks fail" == shown(lab, "n1")["reason"], 3, "it says why", one)
    lab.configure("n1", _checked(lab, vhid=43), vhost("other", vhid=44, addresses=[EXTRA]))
    call(lab, "n1", "reload")
    wait_until(lambda: shown(lab, "n1").get("vhid") == 43, 3, "the new vhid", one)
    idle(1.5)
    assert not holds(lab.node("n1"))
    flag.touch()
    wait_until(lambda: shown(lab, "n1")["state"] == "MASTER", 6, "master under the new vhid", one)
    flag.unlink()
    wait_until(lambda: not holds(lab.node("n1")), 6, "it is released again", one)
    lab.configure("n1", vhost("other", vhid=44, addresses=[EXTRA]))
    call(lab, "n1", "reload")
    wait_until(lambda: not shown(lab, "n1"), 3, "it is gone", one)
    flag.touch()
    idle(1.5)
    assert (["other"], False) == (
        [each["name"] for each in call(lab, "n1", "status")["vhosts"]], holds(lab.node("n1"))
    )  # fmt: skip


@beside
def test_what_a_leaving_vhost_has_is_waited_for(lab: Lab) -> Measured:
    """Another vhost with its vhid and address, asked for while it hands over, is refused, and takes over by
    itself when it has gone.
    """
    one = fileless(lab, "n1").start()
    given: dict[str, Any] = {"uid": "u", "cluster": "c"}
    other = vhost("other", vhid=44, addresses=[EXTRA])
    call(lab, "n1", "apply", generation=1, vhosts=[first(), other], **given)
    one.master()
    call(lab, "n1", "apply", generation=2, vhosts=[other], **given)
    answer = call(lab, "n1", "apply", generation=3, vhosts=[other, first("new")], **given)
    problem = "vhid: 42 on eth0 belongs to vhost 'web', which is handing over"
    assert {"new": problem} == answer["kept"]
    assert [f"new: {problem}"] == call(lab, "n1", "hello")["problems"]
    took = wait_until(lambda: shown(lab, "n1", "new"), 5, "it is taken", one)
    wait_until(lambda: shown(lab, "n1", "new")["state"] == "MASTER", 6, "it is master", one)
    assert [] == call(lab, "n1", "hello")["problems"]
    assert holds(lab.node("n1"))
    return {"taken_after_s": took}
