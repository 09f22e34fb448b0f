from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.kube.errors import Unreachable
from carp_operator.kubectl import main as plugin
from carp_operator.kubectl import waiting
from carp_operator.plan.handover import ANNOTATION
from kubectlfix import NOW, FakeCluster, healthy, vip

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.kube.resources import Resource
    from kubectlfix import Object


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster with one VirtualIP whose controller answers at once."""
    made = healthy("web")
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW)
    monkeypatch.setattr(waiting, "LOOK", 0.0)
    made.on_patch = answering(made, "done: n2 is master")
    return made


def answering(fake: FakeCluster, result: str) -> Callable[[str, str], None]:
    """Return what a controller does that answers with this result."""

    def answer(plural: str, name: str) -> None:
        found = fake.of(plural, name)
        asked = found["metadata"]["annotations"][ANNOTATION]
        found["status"]["handover"] = {"request": asked, "result": result}

    return answer


def test_done(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --to it goes away from the master; the result is printed."""
    assert 0 == plugin.main(["handover", "web"])
    assert "virtualip.carp.vip/web handed over: n2 is master\n" == capsys.readouterr().out
    assert "!n1@2026-01-01T00:00:00Z" == fake.patches[0][2]["metadata"]["annotations"][ANNOTATION]


def test_to_a_node(fake: FakeCluster) -> None:
    """--to names the new master."""
    assert 0 == plugin.main(["handover", "vip/web", "--to", "n3"])
    assert "n3@2026-01-01T00:00:00Z" == fake.patches[0][2]["metadata"]["annotations"][ANNOTATION]


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (
            "refused: n2 is not ready to take over",
            "error: handover of web refused: n2 is not ready to take over",
        ),
        (
            "failed: n1 is still master after 60 s",
            "error: handover of web failed: n1 is still master after 60 s",
        ),
        (
            "refused: addresses: 10.1.0.252 belongs to the older VirtualIP dns",
            "error: handover of web refused: addresses: 10.1.0.252 belongs to the older VirtualIP dns",
        ),
        ("refused (NoPassword)", "error: handover of web: refused (NoPassword)"),
        ("failed", "error: handover of web: failed"),
    ],
)
def test_not_done(result: str, line: str, fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """What the controller refuses or gives up is an error."""
    fake.on_patch = answering(fake, result)
    assert 1 == plugin.main(["handover", "web", "--to=n2"])
    assert f"{line}\n" == capsys.readouterr().err


def test_nobody_answers(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a controller it ends after the timeout and says where to look."""
    fake.on_patch = lambda plural, name: None
    assert 1 == plugin.main(["handover", "web", "--timeout", "1ms"])
    err = capsys.readouterr().err
    assert "timed out after 0.001s waiting for the handover of web: n1 is master" in err
    assert "kubectl carp doctor" in err


def lose_connections(fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let that many reads fail once something was written."""
    original, left = fake.get, times

    def cut(kind: Resource, name: str) -> Object:
        nonlocal left
        if fake.patches and left:
            left -= 1
            raise Unreachable(f"get {kind} {name}", "Connection reset by peer")
        return original(kind, name)

    def patched(*words: Any, **more: Any) -> Object:
        with monkeypatch.context() as patch:
            patch.setattr(fake, "get", original)
            return write(*words, **more)

    write = fake.patch
    monkeypatch.setattr(fake, "get", cut)
    monkeypatch.setattr(fake, "patch", patched)


def test_the_move_cuts_the_connection(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The VirtualIP may be the API server's own: the result is asked for again, the request made once."""
    lose_connections(fake, monkeypatch, 3)
    assert 0 == plugin.main(["handover", "web"])
    shown = capsys.readouterr()
    assert ("virtualip.carp.vip/web handed over: n2 is master\n", "") == (shown.out, shown.err)
    assert 1 == len(fake.patches)


def test_the_connection_does_not_come_back(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the timeout it says so."""
    lose_connections(fake, monkeypatch, 1_000_000)
    assert 1 == plugin.main(["handover", "web", "--timeout", "10ms"])
    assert "Unable to connect to the server: Connection reset by peer\n" == capsys.readouterr().err


def test_without_waiting(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """--wait=false only asks."""
    fake.on_patch = lambda plural, name: None
    assert 0 == plugin.main(["handover", "web", "--wait=false"])
    assert "virtualip.carp.vip/web handover requested\n" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["web", "--to", "n9"], "--to: 'n9' is no member of web; members are n1, n2, n3"),
        (["lone"], "lone: n1 is its only member"),
        (["idle"], "idle: nobody is master now"),
        (["none"], 'Error from server (NotFound): virtualips "none" not found'),
    ],
)
def test_refused_at_once(
    words: list[str], problem: str, fake: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be is not asked for."""
    fake.put("virtualips", vip("lone", "n1"))
    fake.put("virtualips", vip("idle"))
    assert 1 == plugin.main(["handover", *words])
    assert problem in capsys.readouterr().err
    assert [] == fake.patches


def test_our_clock_is_wrong(fake: FakeCluster) -> None:
    """A request is given up by the controller's clock, so it bears the time of the server."""
    answer = fake.on_patch

    def stamped(plural: str, name: str) -> None:
        meta = fake.of(plural, name)["metadata"]
        meta["managedFields"] = [{"manager": "kubectl-carp", "time": "2026-01-01T01:00:00Z"}]
        answer(plural, name)

    fake.on_patch = stamped
    assert 0 == plugin.main(["handover", "web"])
    asked = [body["metadata"]["annotations"][ANNOTATION] for _, _, body in fake.patches]
    assert ["!n1@2026-01-01T00:00:00Z", "!n1@2026-01-01T01:00:00Z"] == asked


def test_our_clock_is_wrong_and_the_move_cuts_the_connection(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is written a second time while the first may be carried out: that is tried again."""
    answer, patch, lost = fake.on_patch, fake.patch, [Unreachable("patch virtualips web", "reset")]

    def stamped(plural: str, name: str) -> None:
        meta = fake.of(plural, name)["metadata"]
        meta["managedFields"] = [{"manager": "kubectl-carp", "time": "2026-01-01T01:00:00Z"}]
        answer(plural, name)

    def cut(*words: Any, **more: Any) -> Object:
        if fake.patches and lost:
            raise lost.pop()
        return patch(*words, **more)

    monkeypatch.setattr(fake, "patch", cut)
    fake.on_patch = stamped
    assert 0 == plugin.main(["handover", "web"])
    assert ([], 2) == (lost, len(fake.patches))


def test_the_request_is_made_once(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the API server cannot be reached from the start, nothing is waited for."""

    def lost(*words: Any, **more: Any) -> Object:
        fake.patches.append(("", "", {}))
        raise Unreachable("patch virtualips web", "refused")

    monkeypatch.setattr(fake, "patch", lost)
    assert 1 == plugin.main(["handover", "web"])
    assert "Unable to connect to the server: refused\n" == capsys.readouterr().err
    assert 1 == len(fake.patches)
