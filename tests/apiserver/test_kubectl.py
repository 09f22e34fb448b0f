"""`kubectl carp` as kubectl runs it, against a real API server; controller real, agents played."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from apifix import _running
from controllerfix import API, NAMESPACE, Setup
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root
ADDRESS = "10.1.0.252"


class Plugin:
    """Runs the plugin with kubectl, or alone."""

    def __init__(self, setup: Setup, folder: Path) -> None:
        """Put the plugin and its completion on a path of their own."""
        self.setup, self.folder = setup, folder
        wrapper = f'#!/bin/sh\nexec {sys.executable} -m carp_operator.kubectl.main "$@"\n'
        self._program("kubectl-carp", wrapper)
        self._program("kubectl_complete-carp", self.alone("completion", "kubectl").stdout)

    def _program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def __call__(
        self, *words: str, config: Path | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `kubectl carp` with these words."""
        return self.kubectl("carp", *words, config=config, stdin=stdin)

    def kubectl(
        self, *words: str, config: Path | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; no flag may stand before a plugin's name."""
        plane = self.setup.plane
        command = [str(plane._assets / "kubectl"), *words]
        settings = {
            "KUBECONFIG": str(config or plane.kubeconfig()),
            "KUBECACHEDIR": str(self.folder / "cache"),
        }
        process = plane.node.popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **settings},
        )
        out, err = process.communicate(stdin)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def alone(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run it where no cluster can be reached."""
        command = [sys.executable, "-m", "carp_operator.kubectl.main", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder that is on the PATH, beside our packages."""
    folder = tmp_path_factory.mktemp("bin")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "operator")]))
        yield folder


@pytest.fixture(scope="module")
def setup(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, environment: Path
) -> Iterator[Setup]:
    """Yield a control plane with three nodes that serve a VirtualIP."""
    with _running(request.config, tmp_path_factory) as plane:
        made = Setup(plane, tmp_path_factory.mktemp("controller"))
        made.nodes(3)
        with made.controller() as controller:
            made.until(lambda: len(made.carp_nodes()) == 3, "CarpNodes")
            made.apply("web", ADDRESS)
            made.until(lambda: made.condition("web")[1] == "Ready", "web is ready")
            made.quiet(controller)
            yield made


@pytest.fixture(scope="module")
def plugin(setup: Setup, environment: Path) -> Plugin:
    """Return what runs the plugin."""
    return Plugin(setup, environment)


def _master(setup: Setup) -> str:
    return str(setup.vip("web")["status"]["master"]["node"])


def test_status_and_explain(setup: Setup, plugin: Plugin) -> None:
    """Master, backups and health as the status has them."""
    done = plugin("status")
    assert (0, "") == (done.returncode, done.stderr)
    cells = done.stdout.splitlines()[1].split()
    assert ["web", ADDRESS, str(setup.vip("web")["status"]["vhid"]), _master(setup)] == cells[:4]
    (found,) = json.loads(plugin("status", "-o", "json").stdout)["virtualIPs"]
    assert setup.vip("web")["status"]["backups"] == found["backups"]
    done = plugin("explain", "vip/web")
    assert 0 == done.returncode
    assert done.stdout.startswith(f"{_master(setup)} is master of web ({ADDRESS};")
    found = json.loads(plugin("explain", "web", "-o", "json").stdout)
    assert setup.vip("web")["status"]["backups"] == found["successors"]


def test_watch(setup: Setup, plugin: Plugin) -> None:
    """A change is shown as it comes; Ctrl-C ends it."""
    process = setup.plane.node.popen(
        ["kubectl-carp", "status", "--watch", "-o", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "KUBECONFIG": str(setup.plane.kubeconfig())},
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        setup.apply("watched", "10.1.0.240")
        names = [shown["name"] for shown in json.loads(process.stdout.readline())["virtualIPs"]]
        assert [["web"], ["watched", "web"]] == [[s["name"] for s in first["virtualIPs"]], names]
    finally:
        process.kill()
        process.wait(10)
        setup.plane.admin.delete(f"{API}/virtualips/watched")


def test_handover_is_asked_for(setup: Setup, plugin: Plugin) -> None:
    """The annotation reaches the controller, whose answer is told; here the agents never move anything."""
    master = _master(setup)
    done = plugin("handover", "web", "--to", master, "--timeout", "15s")
    assert (0, f"virtualip.carp.vip/web handed over: {master} is master\n") == (done.returncode, done.stdout)
    done = plugin("handover", "web", "--to", "n9")
    assert (1, 1) == (done.returncode, done.stderr.count("\n"))
    assert done.stderr.startswith("error: --to: 'n9' is no member of web; members are ")


def test_maintenance_of_a_backup(setup: Setup, plugin: Plugin) -> None:
    """On is heeded by the controller: the node is told to stand back; off takes that away again."""
    backup = setup.vip("web")["status"]["backups"][0]
    with setup.answering():
        done = plugin("maintenance", backup, "on")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.endswith(f"{backup} is master of nothing\n")
    setup.until(lambda: setup.entries("web")[backup].get("demotions"), "it is told to stand back")
    assert "is in maintenance" in plugin("doctor").stdout
    done = plugin("maintenance", backup, "off")
    assert (0, True) == (done.returncode, done.stdout.endswith(f"{backup} takes part as before\n"))
    setup.until(lambda: not setup.entries("web")[backup].get("demotions"), "nothing is left of it")


def _confirmed(node: dict[str, Any]) -> bool:
    return node["metadata"]["generation"] == node.get("status", {}).get("observedGeneration")


def test_doctor(setup: Setup, plugin: Plugin) -> None:
    """Definitions as served by the real server are those of this version; each part is looked at."""
    setup.until(lambda: all(map(_confirmed, setup.carp_nodes().values())), "all is confirmed")
    findings = json.loads(plugin("doctor", "-o", "json").stdout)["findings"]
    verdicts = {(each["about"], each["check"]): each["verdict"] for each in findings}
    for plural in ("virtualips", "virtualippools", "carpnodes"):
        assert "ok" == verdicts["cluster", f"CRD {plural}.carp.vip"]
    assert "ok" == verdicts["cluster", f"namespace {NAMESPACE}"]
    assert "ok" == verdicts["controller", "answers"]
    assert "ok" == verdicts["web", "successor"]
    assert "ok" == verdicts["node n1", "settings"]


def test_diff_is_what_then_happens(setup: Setup, plugin: Plugin) -> None:
    """What the plan says before an apply is what the controller does after it; and then nothing differs."""
    manifest = {
        "apiVersion": "carp.vip/v1alpha1",
        "kind": "VirtualIP",
        "metadata": {"name": "planned"},
        "spec": {"addresses": ["10.1.0.230"], "maxNodes": 2, "failoverTime": "1s"},
    }
    done = plugin("diff", "-f", "-", stdin=json.dumps(manifest))
    assert (1, "") == (done.returncode, done.stderr)
    told = [line.split()[2].strip('":') for line in done.stdout.splitlines() if "signs planned.1" in line]
    (data, *_) = json.loads(plugin("diff", "-f", "-", "-o", "json", stdin=json.dumps(manifest)).stdout)[
        "changes"
    ]
    assert told == [member.partition(":")[0] for member in data["applied"]["members"]]
    setup.plane.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    setup.until(lambda: setup.condition("planned")[1] == "Ready", "planned is ready")
    status = setup.vip("planned")["status"]
    assert told == [member["name"] for member in status["nodes"]]
    assert f"+vhid: {status['vhid']}" in done.stdout
    setup.until(lambda: not plugin("diff", "-f", "-", stdin=json.dumps(manifest)).returncode, "no difference")
    setup.plane.admin.delete(f"{API}/virtualips/planned")


def test_bundle_without_secrets(setup: Setup, plugin: Plugin, tmp_path: Path) -> None:
    """The passwords that the controller made, and one planted in a Node and an Event, are not in it."""
    secret = "planted-" + "x7Q9"
    setup.put_secret("planted", password=secret)
    setup.plane.kubectl("annotate", "node", "n1", f"note={base64.b64encode(secret.encode()).decode()}")
    setup.plane.kubectl("annotate", "vip", "web", f"note={secret}")
    told = "--from-literal=carp.yaml=password: planted-in-a-map"
    setup.plane.kubectl("create", "configmap", "planted", "-n", NAMESPACE, told)
    check = {"name": "web", "http": {"url": "http://127.0.0.1/x?token=planted-in-a-query"}}
    patch = json.dumps({"spec": {"healthChecks": [check]}})
    setup.plane.kubectl("patch", "vip", "web", "--type=merge", "-p", patch)
    path = tmp_path / "bundle.tgz"
    done = plugin("support-bundle", "-o", str(path), "-n", NAMESPACE)
    assert (0, "") == (done.returncode, done.stderr)
    with tarfile.open(path) as tar:
        files = {m.name: tar.extractfile(m) for m in tar.getmembers()}
        text = b"\n".join(file.read() for file in files.values() if file is not None)
    hidden = {secret, *setup.secret("carp-keys").values(), *setup.secret("carp-web").values()}
    assert 3 <= len(hidden) + 1
    for value in hidden:
        assert value.encode() not in text
        assert base64.b64encode(value.encode()) not in text
    assert text.count(b"(removed)") >= 2
    assert b"planted-in-a-" not in text
    assert b"carp.yaml" in text
    assert b'"gitVersion"' in text


def test_rights(setup: Setup, plugin: Plugin) -> None:
    """A user who may do nothing is told in one line what is needed; one who may only read can look."""
    nobody = setup.plane.kubeconfig("nobody-in-particular")
    for words in (
        ["status"],
        ["explain", "web"],
        ["handover", "web"],
        ["maintenance", "n1", "on"],
        ["doctor"],
    ):
        done = plugin(*words, config=nobody)
        assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n")), done.stderr
        assert done.stderr.startswith("Error from server (Forbidden): ")
        assert "(needed: the right to " in done.stderr
    rules = ["--verb=get,list,watch", "--resource=virtualips.carp.vip,carpnodes.carp.vip"]
    setup.plane.kubectl("create", "clusterrole", "looker", *rules)
    setup.plane.kubectl("create", "clusterrolebinding", "looker", "--clusterrole=looker", "--user=looker")
    looker = setup.plane.kubeconfig("looker")
    setup.until(lambda: plugin("status", config=looker).returncode == 0, "the role counts")
    assert 0 == plugin("explain", "web", config=looker).returncode
    done = plugin("handover", "web", config=looker)
    assert "(needed: the right to patch virtualips.carp.vip web)" in done.stderr


def test_completion_by_kubectl(setup: Setup, plugin: Plugin) -> None:
    """The completion of kubectl offers our commands and the names of objects."""
    found = plugin.kubectl("__complete", "carp", "expl").stdout.splitlines()
    assert ["explain", ":4"] == found[:2]
    found = plugin.kubectl("__complete", "carp", "explain", "w").stdout.splitlines()
    assert ["web", ":4"] == found[:2]


def test_no_definitions(setup: Setup, plugin: Plugin) -> None:
    """Without the CRDs one line says what to install. (The last test: it takes them away.)"""
    setup.plane.kubectl("delete", "crd", "virtualips.carp.vip")
    done = plugin("status")
    expected = "error: the cluster does not serve virtualips.carp.vip: install the CRDs of carp-operator\n"
    assert (1, expected) == (done.returncode, done.stderr)
    assert "FAIL  CRD virtualips.carp.vip" in plugin("doctor").stdout
