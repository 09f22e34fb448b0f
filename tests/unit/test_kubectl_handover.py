from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp_operator.kubectl import main as plugin
from carp_operator.kubectl import waiting
from carp_operator.plan.handover import ANNOTATION
from kubectlfix import NOW, FakeCluster, healthy, vip

if TYPE_CHECKING:
    from collections.abc import Callable


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
