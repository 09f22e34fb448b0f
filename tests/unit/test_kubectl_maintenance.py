from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carp_operator.kube.errors import Unreachable
from carp_operator.kubectl import main as plugin
from carp_operator.kubectl import maintenance, waiting
from kubectlfix import FakeCluster, condition, healthy, node

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.kube.resources import Resource
    from kubectlfix import Object

ON = {"metadata": {"annotations": {"carp.vip/maintenance": "true"}}}
FULL = condition("Ready", "False", reason="NotStored", message="the disk is full")
UNREACHABLE = condition("Ready", "False", reason="CarpdUnreachable", message="carpd does not answer")
OFF = {"metadata": {"annotations": {"carp.vip/maintenance": None}}}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster whose n1 is master of two VirtualIPs."""
    made = healthy("dns", "web")
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr(waiting, "LOOK", 0.0)
    monkeypatch.setattr(maintenance, "_GRACE", 0.0)
    return made


def leave(fake: FakeCluster, *names: str) -> None:
    """Let n1 hand over these VirtualIPs."""
    for vhost in fake.of("carpnodes", "n1")["status"]["vhosts"]:
        if vhost["name"] in names:
            vhost["state"] = "BACKUP"


def test_on(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The annotation is set, and it ends when the node is master of nothing."""
    fake.on_patch = lambda plural, name: leave(fake, "dns", "web")
    assert 0 == plugin.main(["maintenance", "node/n1", "on"])
    assert [("carpnodes", "n1", ON)] == fake.patches
    shown = capsys.readouterr().out
    assert "carpnode.carp.vip/n1 maintenance on\nn1 is master of nothing\n" == shown


def test_the_move_cuts_the_connection(
    fake: FakeCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of the VirtualIPs may be the API server's own: it looks again."""
    original, lost = fake.list, [Unreachable("list virtualips", "reset")]

    def cut(kind: Resource, **more: str) -> list[Object]:
        if lost:
            raise lost.pop()
        return original(kind, **more)

    monkeypatch.setattr(fake, "list", cut)
    fake.on_patch = lambda plural, name: leave(fake, "dns", "web")
    assert 0 == plugin.main(["maintenance", "n1", "on"])
    assert capsys.readouterr().out.endswith("n1 is master of nothing\n")
    assert ([], 1) == (lost, len(fake.patches))


def test_nobody_else(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody else can take over it says so at once, for each VirtualIP, with the reason."""
    fake.put("nodes", node("n2", cordoned=True))
    fake.put("nodes", node("n3", ready=False))
    assert 1 == plugin.main(["maintenance", "n1", "on"])
    lines = capsys.readouterr().err.splitlines()
    assert 2 == len(lines)
    assert lines[0].startswith(
        "error: n1 is still master of dns: nobody else can take over (n2 is cordoned; n3 "
    )
    assert lines[0].endswith("; it moves as soon as one can")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda carp: carp.clear(), "it has no CarpNode any more"),
        (lambda carp: carp["metadata"].pop("annotations"), "its CarpNode was made again, without the mode"),
        (lambda carp: carp.pop("status"), "no agent has written its status yet"),
        (lambda carp: carp["metadata"].update(generation=2), "it has not confirmed its newest settings yet"),
        (
            lambda carp: carp.update(status=carp["status"] | {"observedGeneration": 0, "conditions": [FULL]}),
            "it has not confirmed its newest settings yet: the disk is full",
        ),
        (lambda carp: carp["status"].update(conditions=[UNREACHABLE]), "carpd does not answer"),
    ],
)
def test_nobody_knows(
    fake: FakeCluster, capsys: pytest.CaptureFixture[str], change: Callable[[Object], object], problem: str
) -> None:
    """A node that is to be switched off has to have said that it holds nothing; silence is no word."""

    def changed(_plural: str, _name: str) -> None:
        leave(fake, "dns", "web")
        change(fake.of("carpnodes", "n1"))
        if not fake.of("carpnodes", "n1"):
            del fake.objects["", "carpnodes"]["n1"]

    fake.on_patch = changed
    assert 1 == plugin.main(["maintenance", "n1", "on", "--timeout=1ms"])
    assert f"error: nobody knows whether n1 holds an address: {problem}" in capsys.readouterr().err


def test_a_node_that_is_away(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """What it said last may not be true any more."""
    leave(fake, "dns", "web")
    fake.put("nodes", node("n1", ready=False))
    assert 1 == plugin.main(["maintenance", "n1", "on", "--timeout=1ms"])
    assert "whether n1 holds an address: its Node is not Ready" in capsys.readouterr().err


def test_no_controller(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """What could move and does not is told after the timeout."""
    leave(fake, "dns")
    assert 1 == plugin.main(["maintenance", "n1", "on", "--timeout=1ms"])
    assert (
        "n1 is still master of web: it has not moved yet; does the controller run?" in capsys.readouterr().err
    )


def test_off(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The annotation is taken away, and it ends when nothing of it is left at the node."""
    vhost = fake.of("carpnodes", "n1")["status"]["vhosts"][0]
    vhost["demotions"] = [{"reason": "OutOfService", "amount": 200}]
    fake.on_patch = lambda plural, name: vhost.pop("demotions")
    assert 0 == plugin.main(["maintenance", "n1", "off"])
    assert [("carpnodes", "n1", OFF)] == fake.patches
    assert capsys.readouterr().out.endswith("n1 takes part as before\n")


def test_off_without_controller(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A demotion that stays is an error after the timeout."""
    vhosts = fake.of("carpnodes", "n1")["status"]["vhosts"]
    vhosts[0]["demotions"] = [{"reason": "OutOfService", "amount": 200}]
    assert 1 == plugin.main(["maintenance", "n1", "off", "--timeout=1ms"])
    assert "timed out after 0.001s waiting for n1" in capsys.readouterr().err


def test_errors(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown node, a missing right; without waiting it only asks."""
    assert 1 == plugin.main(["maintenance", "n9", "on"])
    assert 'Error from server (NotFound): carpnodes "n9" not found\n' == capsys.readouterr().err
    assert 0 == plugin.main(["maintenance", "n1", "on", "--wait=false"])
    fake.forbidden = {"carpnodes"}
    assert 1 == plugin.main(["maintenance", "n1", "on"])
    assert "Error from server (Forbidden)" in capsys.readouterr().err
