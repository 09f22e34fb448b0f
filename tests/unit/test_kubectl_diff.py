from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from carp_operator.kubectl import main as plugin
from kubectlfix import NOW, FakeCluster, manifest, served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster that the commands talk to."""
    made = served()
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW)
    return made


@pytest.fixture
def diff(
    fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Return what runs the command on manifests."""

    def run(*objects: dict[str, Any], output: str = "") -> tuple[int, str, str]:
        path = tmp_path / "m.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
        code = plugin.main(["diff", "-f", str(path), *(["-o", output] if output else [])])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_nothing(diff: Callable[..., tuple[int, str, str]], fake: FakeCluster) -> None:
    """What stands there already changes nothing, and nothing is ever written."""
    assert (0, "", "") == diff(manifest("web"))
    assert [] == fake.patches


def test_new(diff: Callable[..., tuple[int, str, str]]) -> None:
    """A new VirtualIP: its vhid, members with rank, and what each node would be told."""
    code, out, _ = diff(manifest("dns", addresses=["10.1.0.251"]))
    assert 1 == code
    lines = out.splitlines()
    assert ["--- live/virtualip/dns", "+++ applied/virtualip/dns"] == lines[:2]
    assert '+  - "10.1.0.251"' in lines
    assert any(line.startswith("+vhid: ") for line in lines)
    assert 3 == sum("signs dns.1 10.1.0.251" in line for line in lines)
    assert '+  - "Accepted True Planned: 3 members: ' in out
    assert all(f"--- live/carpnode/n{at}" in lines for at in (1, 2, 3))
    assert "virtualip/web" not in out


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_as_data(output: str, diff: Callable[..., tuple[int, str, str]]) -> None:
    """Both sides of what differs, None for what is not there; the exit code is the same."""
    assert (0, {"changes": []}) == (
        (made := diff(manifest("web"), output=output))[0],
        yaml.safe_load(made[1]),
    )
    code, out, _ = diff(manifest("dns", addresses=["10.1.0.251"]), output=output)
    first, *others = yaml.safe_load(out)["changes"]
    assert (1, "VirtualIP", "dns", None) == (code, first["kind"], first["name"], first["live"])
    assert (["10.1.0.251"], 3) == (first["applied"]["addresses"], len(first["applied"]["members"]))
    assert [("CarpNode", f"n{at}") for at in (1, 2, 3)] == [(o["kind"], o["name"]) for o in others]
    assert {"vhosts": ["web"]} == others[0]["live"]
    assert {"vhosts": ["dns", "web"]} == others[0]["applied"]


def test_timing(diff: Callable[..., tuple[int, str, str]]) -> None:
    """A shorter failoverTime shows as bound, interval and ranks; addresses and vhid do not appear."""
    code, out, _ = diff(manifest("web", failoverTime="500ms"))
    assert 1 == code
    assert "-failoverBound: " in out
    # In the settings of all, or at the member that changes first.
    assert any(
        line.startswith("+") and ("advbase: 0" in line or "advbase 0" in line) for line in out.splitlines()
    )
    assert "carpnode/" not in out
    assert "vhid" not in out


def test_fewer_members(diff: Callable[..., tuple[int, str, str]]) -> None:
    """One member less: it stands in the diff of the VirtualIP and of that node."""
    code, out, _ = diff(manifest("web", maxNodes=2))
    assert (1, 1) == (code, out.count("--- live/carpnode/"))
    assert '"Accepted True Planned: 2 members' in out


def test_password_in_steps(diff: Callable[..., tuple[int, str, str]]) -> None:
    """Another Secret is another key: the first of three steps is shown, and said."""
    code, out, _ = diff(manifest("web", authentication={"secretRef": {"name": "mine"}}))
    assert 1 == code
    assert "accepts web.2 10.1.0.252" in out
    assert "# virtualip/web: step Accept of Accept, Sign, Drop; each waits for every member" in out


def test_refused(diff: Callable[..., tuple[int, str, str]]) -> None:
    """A VirtualIP that would not be accepted shows its condition; one of a live object stays as it is."""
    code, out, _ = diff(manifest("other"))
    assert 1 == code
    assert '+  - "Accepted False AddressInUse: ' in out
    code, out, _ = diff(manifest("web", nodeSelector={"matchLabels": {"a": "b"}}))
    assert "NoCandidate" in out


def test_pool(diff: Callable[..., tuple[int, str, str]]) -> None:
    """A pool and its user come in one manifest."""
    pool = manifest("lan", "VirtualIPPool", addresses=["10.1.0.192/28"])
    user = manifest("web2", addressesFrom={"pool": "lan"})
    del user["spec"]["addresses"]
    code, out, _ = diff(pool, user)
    assert 1 == code
    assert '+pool: "lan"' in out
    assert '"10.1.0.19' in out


@pytest.mark.parametrize(
    ("objects", "piece"),
    [
        ([manifest("web", vhid=0)], "spec.vhid"),
        ([manifest("web", colour="red")], "spec.colour"),
        ([], "there is no VirtualIP and no VirtualIPPool"),
        ([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}], "there is no VirtualIP"),
    ],
)
def test_wrong(objects: list[dict[str, Any]], piece: str, diff: Callable[..., tuple[int, str, str]]) -> None:
    """What is wrong with the file is told before anything is asked: exit code 2, as kubectl diff has it."""
    code, out, err = diff(*objects)
    assert (2, "") == (code, out)
    assert piece in err


def test_errors(fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing right, a missing file and standard input twice are errors of exit code 2."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps(manifest("web")))
    fake.forbidden = {"nodes"}
    assert 2 == plugin.main(["diff", "-f", str(path)])
    assert capsys.readouterr().err.endswith("(needed: the right to list nodes)\n")
    assert 2 == plugin.main(["diff", "-f", str(tmp_path / "none")])
    assert 2 == plugin.main(["diff", "-f", "-", "-f", "-"])
    assert 2 == plugin.main(["diff"])
