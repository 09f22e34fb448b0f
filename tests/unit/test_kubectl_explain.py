from __future__ import annotations

import pytest
import yaml

from carp_operator.kubectl import main as plugin
from carp_operator.kubectl.explain import paragraph
from carp_operator.kubectl.reading import Cluster
from kubectlfix import NOW, FakeCluster, carpnode, condition, healthy, node, part, vip


def cluster(fake: FakeCluster) -> Cluster:
    """Return what the plugin reads of a cluster."""
    return Cluster(*(fake.objects["", kind] for kind in ("virtualips", "carpnodes", "nodes")))


def test_healthy() -> None:
    """Who, why, since when, who is next and how soon, that all is well."""
    fake = healthy("web")
    text = paragraph(fake.of("virtualips", "web"), cluster(fake), NOW)
    assert text.startswith(
        "n1 is master of web (10.1.0.252; vhid 42) on eth0 since 2025-12-31T23:58:00Z, 2m00s ago"
    )
    for piece in (
        "the master before was not heard for a whole dead time",
        "The addresses have moved 1 time so far.",
        "If it died now, n2 would take over, within 3.28s (advskew 10; the least demotion first",
        "; after it n3.",
        "Every condition is met.",
    ):
        assert piece in text


def test_trouble() -> None:
    """Members that cannot take over, demotions, conflicts, refused settings and open requests are named."""
    fake = healthy("web")
    found = fake.of("virtualips", "web")
    found["status"]["nodes"][0]["demotion"] = [{"reason": "Cordoned", "amount": 100}]
    found["metadata"]["annotations"] = {"carp.vip/handover": "n2@x"}
    found["status"]["conditions"] = [condition("Ready", reason="Degraded", message="n2 is away")]
    fake.put("nodes", node("n1", ready=False))
    fake.put("nodes", node("n2", ready=False))
    fake.put("carpnodes", carpnode("n3", part("web", "INIT", conflict="02:aa", refused="vhid: bad")))
    text = paragraph(found, cluster(fake), NOW)
    for piece in (
        "But the Node n1 is not Ready",
        "It is demoted (Cordoned 100)",
        "Nobody could take web over now.",
        "n2 could not take over: its Node is not Ready.",
        "n3 could not take over: is INIT.",
        "n3 sees a conflict: 02:aa answers",
        "n3 has not taken the newest settings and runs older ones: vhid: bad.",
        "It answers, but is Degraded: n2 is away.",
        "A handover was asked for (n2@x) and is not finished.",
    ):
        assert piece in text


@pytest.mark.parametrize(
    ("found", "piece"),
    [
        (vip("web", "n1"), "There is no other member, so nobody could take over."),
        (vip("web", conditions=[]), "Nobody says that it is master of web"),
        (vip("web", conditions=[]), "It is not ready (Unknown)"),
        (
            vip("web", "n1", handover={"request": "n1@x", "result": "done: n1 is master"}),
            "(n1@x) is done: n1",
        ),
    ],
)
def test_special(found: dict[str, object], piece: str) -> None:
    """A lone member, nobody, a finished handover."""
    assert piece in paragraph(found, Cluster(), NOW)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_as_data(output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The facts behind the sentences, with what status shows; the exit code is the same."""
    fake = healthy("web")
    fake.put("nodes", node("n3", ready=False))
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: fake)
    assert 0 == plugin.main(["explain", "web", "-o", output])
    found = yaml.safe_load(capsys.readouterr().out)  # which reads JSON, too
    assert ("web", "n1", True) == (found["name"], found["master"], found["ready"])
    assert (["n2"], []) == (found["successors"], found["unread"])
    assert [{"name": "n3", "problem": "its Node is not Ready"}] == found["unable"]
    assert found["text"][0].startswith("n1 is master of web (10.1.0.252; vhid 42) on eth0 since ")
    assert "n3 could not take over: its Node is not Ready." in found["text"]
    fake.put("virtualips", vip("web", conditions=[]))
    assert 1 == plugin.main(["explain", "web", "-o", output])


def test_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 where it answers, 1 where it does not; an unknown name is an error of kubectl's kind."""
    fake = healthy("web")
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: fake)
    assert 0 == plugin.main(["explain", "vip/web"])
    fake.put("virtualips", vip("web", conditions=[]))
    assert 1 == plugin.main(["explain", "web"])
    capsys.readouterr()
    assert 1 == plugin.main(["explain", "none"])
    assert 'Error from server (NotFound): virtualips "none" not found\n' == capsys.readouterr().err
    assert 1 == plugin.main(["explain", "node/web"])
