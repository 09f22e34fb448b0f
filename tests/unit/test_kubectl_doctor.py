from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml

from carp import __version__
from carp_operator.api import crd
from carp_operator.kubectl import main as plugin
from carp_operator.kubectl.doctor import examine
from kubectlfix import NOW, definition, good_install, healthy, troubles

if TYPE_CHECKING:
    from kubectlfix import FakeCluster


def test_nothing_is_wrong() -> None:
    """In a good installation every check is ok, and there are checks of each kind."""
    install, cluster = good_install()
    assert {} == troubles(install, cluster)
    abouts = dict.fromkeys(each.about for each in examine(install, cluster, NOW))
    assert ["cluster", "controller", "node n1", "node n2", "node n3", "web"] == list(abouts)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster whose definitions are missing, which the command talks to."""
    made = healthy("web", "dns")
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW)
    return made


def test_command(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings stand under what they are about, with advice and totals; a failed check is exit code 1."""
    assert 1 == plugin.main(["doctor"])
    out = capsys.readouterr().out
    assert out.startswith("cluster\n  FAIL  CRD virtualips.carp.vip")
    assert "-> apply the CRDs of this version" in out
    assert out.splitlines()[-1].startswith("failed 3, warnings ")
    for kind in crd.KINDS:
        fake.put("customresourcedefinitions", definition(kind))
    assert 0 == plugin.main(["doctor", "vip/web"])
    assert "\ndns\n" not in capsys.readouterr().out


def test_as_data(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON and YAML have each finding with its verdict, and the totals."""
    plugin.main(["doctor", "-o", "json"])
    data = json.loads(capsys.readouterr().out)
    plugin.main(["doctor", "-o", "yaml"])
    assert data == yaml.safe_load(capsys.readouterr().out)
    assert {"about", "check", "verdict", "text", "advice"} == set(data["findings"][0])
    assert 3 == data["fail"]
    assert __version__ in json.dumps(data)


def test_unknown_name(fake: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A VirtualIP that does not exist is an error."""
    assert 1 == plugin.main(["doctor", "none"])
    assert 'error: virtualips.carp.vip "none" not found\n' == capsys.readouterr().err
