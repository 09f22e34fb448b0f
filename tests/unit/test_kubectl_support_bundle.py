from __future__ import annotations

import base64
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from carp_operator.kube.errors import Unreachable
from carp_operator.kubectl import main as plugin
from kubectlfix import NOW, FakeCluster, healthy, named, secret, vip

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = "correct-horse-battery"
OTHER = "s3cr3t/of+the=user"
UNKNOWN = tuple(f"in-no-secret-{n}" for n in range(10))
"""Values that no Secret has: what they stand in must tell."""
LOG = "/api/v1/namespaces/carp-system/pods/carp-n1/log"


def plant(fake: FakeCluster) -> None:
    """Put values that no Secret has where people put passwords and tokens."""
    checks = [
        {"name": "web", "http": {"url": f"http://127.0.0.1/healthz?token={UNKNOWN[0]}"}},
        {"name": "db", "exec": {"command": ["pg_isready", f"--password={UNKNOWN[1]}", UNKNOWN[2]]}},
    ]
    fake.of("virtualips", "web")["spec"]["healthChecks"] = checks
    fake.of("carpnodes", "n1")["spec"]["vhosts"] = [{"name": "web", "healthChecks": checks}]
    ours = {"name": "carpd", "command": ["carp", "daemon", "--json", f"--pass={UNKNOWN[3]}"]}
    others = {"name": "proxy", "args": [f"--password={UNKNOWN[4]}"], "command": ["sh", UNKNOWN[5]]}
    for plural in ("daemonsets", "deployments"):
        template = {"spec": {"containers": [ours, others]}}
        fake.put(plural, named("carp", spec={"template": template}), "carp-system")
    spec = {"containers": [ours, others], "initContainers": [others]}
    fake.put("pods", named("planted", spec=spec), "carp-system")
    told = {"carp.yaml": f"password: {UNKNOWN[6]}", "plain": UNKNOWN[7]}
    fake.put("configmaps", named("planted", data=told), "carp-system")
    fake.put("virtualippools", named("lan", metadata={"annotations": {"my/api-key": UNKNOWN[8]}}))
    fake.of("nodes", "n1")["metadata"]["annotations"] = {"kapp.k14s.io/original": UNKNOWN[9]}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Return a cluster with secrets planted in many places."""
    made = healthy("web")
    put = made.put
    put("secrets", {**secret("carp-keys", **{"web.1": PLANTED}), "kind": "Secret"}, "carp-system")
    applied = json.dumps({"data": {"x": base64.b64encode(OTHER.encode()).decode()}})
    note = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied}}
    put("secrets", {**secret("mine", x=OTHER), "metadata": {"name": "mine", **note}}, "carp-system")
    env = [{"name": "WEB_PASSWORD", "value": "only-here"}, {"name": "NOTE", "value": PLANTED}]
    containers = [{"name": "carpd", "env": env}, {"name": "agent"}]
    statuses = [{"name": "carpd", "restartCount": 1}]
    pod = named("carp-n1", spec={"containers": containers}, status={"containerStatuses": statuses})
    put("pods", pod, "carp-system")
    put(
        "configmaps", named("notes", data={"b64": base64.b64encode(PLANTED.encode()).decode()}), "carp-system"
    )
    event = {"involvedObject": {"kind": "VirtualIP"}, "message": f"password {OTHER} refused"}
    put("events", named("e1", **event), "default")
    put("events", named("e2", involvedObject={"kind": "Pod"}, message="not ours"), "default")
    broken = vip("bad", "n1")
    broken["metadata"]["annotations"] = {"note": f"it is {PLANTED}"}
    put("virtualips", broken)
    put("virtualips", named(PLANTED))
    made.texts[f"{LOG}?carpd"] = f"now\npassword={PLANTED}\n{json.dumps({'p': OTHER})}\n".encode()
    made.texts[f"{LOG}?carpd.previous"] = b"before \xff\n"
    monkeypatch.setattr("carp_operator.kubectl.access.client", lambda given: made)
    monkeypatch.setattr("carp_operator.kubectl.reading.now", lambda: NOW)
    return made


def opened(path: Path) -> dict[str, bytes]:
    """Return the files of an archive, without its folder."""
    with tarfile.open(path) as tar:
        found = {m.name.partition("/")[2]: tar.extractfile(m) for m in tar.getmembers()}
        return {name: file.read() for name, file in found.items() if file is not None}


def test_no_secret_is_in_it(fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values of Secrets planted in logs, Events, annotations, names, environment and ConfigMaps are gone."""
    path = tmp_path / "b.tgz"
    assert 0 == plugin.main(["support-bundle", "-o", str(path), "-n", "carp-system"])
    with tarfile.open(path) as tar:
        names = " ".join(tar.getnames())
    text = names.encode() + b"\n".join(opened(path).values()) + capsys.readouterr().out.encode()
    for value in (PLANTED, OTHER, "only-here"):
        assert value.encode() not in text
        assert base64.b64encode(value.encode()).rstrip(b"=") not in text
    assert 5 < text.count(b"(removed)")


def test_no_secret_that_only_its_place_tells(fake: FakeCluster, tmp_path: Path) -> None:
    """Queries of health checks, arguments, ConfigMaps, telling names: what stands there is in no Secret."""
    plant(fake)
    path = tmp_path / "b.tgz"
    assert 0 == plugin.main(["support-bundle", "-o", str(path), "-n", "carp-system"])
    files = opened(path)
    text = b"\n".join(files.values())
    assert [] == [value for value in UNKNOWN if value.encode() in text]
    for kept in (b'"http://127.0.0.1/healthz?(removed)"', b'"pg_isready"', b'"--json"'):
        assert kept in text
    maps = {item["metadata"]["name"]: item for item in json.loads(files["carp-system/configmaps.json"])}
    assert ["carp.yaml", "plain"] == maps["planted"]["keys"]


def test_what_is_in_it(fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects, Events about ours, logs with the run before a restart, versions, status and doctor."""
    path = tmp_path / "b.tgz"
    assert 0 == plugin.main(["support-bundle", "-o", str(path)])
    assert 0o600 == path.stat().st_mode & 0o777
    files = opened(path)
    assert {
        "virtualips.json",
        "virtualippools.json",
        "carpnodes.json",
        "nodes.json",
        "events.json",
        "definitions.json",
        "versions.json",
        "status.txt",
        "doctor.txt",
        "left-out.txt",
        "carp-system/secrets.json",
        "carp-system/pods.json",
        "carp-system/daemonsets.json",
        "carp-system/deployments.json",
        "carp-system/configmaps.json",
        "carp-system/leases.json",
        "carp-system/events.json",
        "carp-system/logs/carp-n1/carpd.log",
        "carp-system/logs/carp-n1/carpd.previous.log",
    } == set(files)
    assert b"before \xff\n" == files["carp-system/logs/carp-n1/carpd.previous.log"]
    assert ["e1"] == [item["metadata"]["name"] for item in json.loads(files["events.json"])]
    assert [["web.1"], ["x"]] == [item["keys"] for item in json.loads(files["carp-system/secrets.json"])]
    assert b"web" in files["status.txt"]
    assert b"CRD virtualips.carp.vip" in files["doctor.txt"]
    assert b"agent.log: no such container" in files["left-out.txt"]
    assert "left out: carp-system/logs/carp-n1/agent.log: no such container" in capsys.readouterr().out


def test_without_the_right_to_read_secrets(
    fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that nothing was searched for; names of variables still count."""
    fake.forbidden = {"secrets", "pods"}
    path = tmp_path / "b.tgz"
    assert 0 == plugin.main(["support-bundle", "-o", str(path)])
    shown = capsys.readouterr().out
    assert "their values were NOT searched for" in shown
    assert "pods in carp-system is forbidden" in shown
    assert "carp-system/secrets.json" not in opened(path)


def test_nothing_is_written_where_secrets_stay_unknown(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that fails while the Secrets are read leaves no archive behind."""
    original = fake.list

    def failing(kind: object, **more: str) -> object:
        if getattr(kind, "plural", "") == "secrets":
            raise Unreachable("list secrets", "reset")
        return original(kind, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(fake, "list", failing)
    assert 1 == plugin.main(["support-bundle", "-o", str(tmp_path / "b.tgz")])
    assert "Unable to connect to the server: reset\n" == capsys.readouterr().err
    assert [] == list(tmp_path.iterdir())


def test_errors(fake: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be written, and VirtualIPs that may not be read, are errors."""
    assert 1 == plugin.main(["support-bundle", "-o", str(tmp_path / "none" / "b.tgz")])
    assert "b.tgz: cannot be written: No such file" in capsys.readouterr().err
    fake.forbidden = {"virtualips"}
    assert 1 == plugin.main(["support-bundle", "-o", str(tmp_path / "b.tgz")])
    assert not (tmp_path / "b.tgz").exists()
