"""The search for the control plane's programs (tools/assets), with a go that only pretends."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nsfix import wait_for
from tree import ROOT

TOOL = ROOT / "tools" / "assets"
ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "helm")
# Writes a file per package into the folder after -o, as go does; $GATE keeps it waiting until that exists.
GO = r"""#!/bin/sh
[ "$1" = env ] && { echo "$SHOWN"; exit; }
echo "$PWD $*" >>"$CALLS"
[ -z "$BROKEN" ] || { echo "cannot load package"; exit 1; }
while [ -n "$GATE" ] && [ ! -e "$GATE" ]; do sleep 0.01; done
while [ "$1" != -o ]; do shift; done
out=$2; shift 2
for package; do
    case $package in */v[0-9]) package=${package%/*} ;; esac
    echo built >"$out/${package##*/}"; chmod +x "$out/${package##*/}"
done
"""


class Machine:
    """A cache of its own and a pretended go."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self.calls = folder / "calls"
        self.calls.touch()
        tools = folder / "bin"
        tools.mkdir()
        (tools / "go").write_text(GO, encoding="ascii")
        (tools / "go").chmod(0o755)
        inherited = {key: value for key, value in os.environ.items() if key != "KUBEBUILDER_ASSETS"}
        self.environment = inherited | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "CARP_ASSETS": str(self.cache),
            "CALLS": str(self.calls),
            "SHOWN": "go1.99.0",
            "GATE": "",
            "BROKEN": "",
        }

    def start(self, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(TOOL), *arguments],
            env=self.environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **changes: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **changes)
        out, err = process.communicate(timeout=30)
        return process.returncode, out.strip(), err

    def built(self) -> int:
        return len(self.calls.read_text(encoding="utf-8").splitlines())

    def folders(self) -> set[str]:
        return {path.name for path in self.cache.iterdir() if path.is_dir()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine on which nothing has been built."""
    return Machine(tmp_path)


def _fill(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch(mode=0o755)
    return folder


def test_everything_is_built_once(machine: Machine) -> None:
    """The first run builds module by module, tells it, leaves nothing but programs; the second is idle."""
    code, out, err = machine.run()
    assert (0, 3) == (code, machine.built())
    assert re.search(r"^assets: helm v3\.\S+: helm: done in \d+ s$", err, flags=re.MULTILINE)
    place = machine.cache / out
    assert set(ALL) == {path.name for path in place.iterdir()}
    assert place.name.endswith(platform.machine())
    assert {place.name} == machine.folders()
    start = time.monotonic()
    assert (0, out, "") == machine.run()
    assert (
        time.monotonic() - start < 1.0
    )  # 0.05 s; the bound of 0.2 s is for a machine that does nothing else
    assert 3 == machine.built()


def test_only_what_is_asked_for_is_built(machine: Machine) -> None:
    """Names limit the work to what they need and lack."""
    machine.run("etcd")
    assert 1 == machine.built()
    machine.run("etcd", "kubectl")
    calls = machine.calls.read_text(encoding="utf-8").splitlines()
    assert calls[1].endswith(" k8s.io/kubernetes/cmd/kubectl")
    assert 2 == len(calls)


def test_a_given_folder_comes_first(machine: Machine, tmp_path: Path) -> None:
    """KUBEBUILDER_ASSETS is used when it has all that is asked for, else named with what it lacks."""
    given = str(_fill(tmp_path / "given", "etcd", "kubectl"))
    assert (0, given, "") == machine.run("etcd", "kubectl", KUBEBUILDER_ASSETS=given)
    assert 0 == machine.built()
    code, out, err = machine.run("etcd", "helm", KUBEBUILDER_ASSETS=given)
    assert 0 == code
    assert out != given
    assert f"KUBEBUILDER_ASSETS={given} lacks helm; using the cache instead" in err


def test_print_builds_nothing(machine: Machine) -> None:
    """--print names the folder, there or not."""
    assert machine.run("--print") == (0, machine.run("--print", "etcd")[1], "")
    assert (0, False) == (machine.built(), machine.cache.exists())


def test_unknown_names_are_refused(machine: Machine) -> None:
    """A name that is none of the programs is named, with those that are."""
    code, _, err = machine.run("kube-proxy")
    assert 2 == code
    assert "NAME kube-proxy: is none of etcd, kube-apiserver" in err


def test_a_failed_build_shows_why(machine: Machine) -> None:
    """What go says is shown, and nothing half is left."""
    code, out, err = machine.run("etcd", BROKEN="1")
    assert (1, "") == (code, out)
    assert re.search(r"etcd v3\.\S+: etcd: exit 1\ncannot load package", err)
    assert (0, 2) == (machine.run("etcd")[0], machine.built())


def test_a_cache_that_cannot_be_written_is_named(machine: Machine) -> None:
    """The message is one line with the folder and the system's reason."""
    code, _, err = machine.run("etcd", CARP_ASSETS="/dev/null/cache")
    assert (1, "assets: /dev/null/cache: Not a directory\n") == (code, err)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_build_leaves_nothing_half(machine: Machine, tmp_path: Path, number: signal.Signals) -> None:
    """A run ended in the middle leaves no program, and the next one cleans up and builds."""
    gate = tmp_path / "gate"
    process = machine.start("etcd", GATE=str(gate))
    wait_for(lambda: machine.built() == 1)
    process.send_signal(number)
    process.communicate(timeout=10)
    gate.touch()
    place = machine.run("--print", "etcd")[1]
    assert [] == list(Path(place).iterdir())
    assert (0, place) == machine.run("etcd")[:2]
    assert {Path(place).name} == machine.folders()


def test_two_runs_build_once(machine: Machine, tmp_path: Path) -> None:
    """A second run waits for the first and takes what it built."""
    gate = tmp_path / "gate"
    first = machine.start("etcd", GATE=str(gate))
    wait_for(lambda: machine.built() == 1)
    second = machine.start("etcd", GATE=str(gate))
    assert second.stderr is not None
    assert "assets: another run is building; waiting for it\n" == second.stderr.readline()
    gate.touch()
    assert first.communicate(timeout=10)[0] == second.communicate(timeout=10)[0]
    assert 1 == machine.built()


def test_an_old_go_is_not_used(machine: Machine, tmp_path: Path) -> None:
    """A go older than the modules need is passed over for the one of the package, which is kept."""
    python = tmp_path / "cache" / "toolchain" / "bin"
    python.mkdir(parents=True)
    shutil.copy(tmp_path / "bin" / "go", python / "go")
    (python.parent / "ready").touch()
    (tmp_path / "bin" / "go").write_text("#!/bin/sh\n[ $1 = env ] && echo go1.19.8\n", encoding="ascii")
    assert 0 == machine.run("etcd")[0]
    assert 1 == machine.built()


def test_versions_agree() -> None:
    """Kubernetes' libraries are replaced by those of its own version, for helm too."""
    found = set()
    for name in ("kubernetes", "helm"):
        text = (ROOT / "tools" / "assets.d" / name / "go.mod").read_text(encoding="utf-8")
        found |= set(re.findall(r"=> k8s\.io/\S+ v0\.(\S+)", text))
    text = (ROOT / "tools" / "assets.d" / "kubernetes" / "go.mod").read_text(encoding="utf-8")
    assert found == set(re.findall(r"k8s\.io/kubernetes v1\.(\S+)", text))
