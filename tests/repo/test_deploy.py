"""What deploy/ ships: a unit that systemd understands, a pod and a profile with no more than carpd needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from carp.daemon import configfile
from carp.daemon.main import parser as daemon_parser
from require import require
from tree import ROOT

DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "systemd" / "carpd.service").read_text(encoding="utf-8")
PROFILE = json.loads((DEPLOY / "seccomp" / "carpd.json").read_text(encoding="utf-8"))
POD = yaml.safe_load((DEPLOY / "static-pod" / "carpd.yaml").read_text(encoding="utf-8"))
CAPABILITIES = ["NET_ADMIN", "NET_RAW"]
HIGHEST_EXPOSURE = 2.4
# Each of these leads out of a container, or into another process.
NEVER = {
    *("bpf", "chroot", "init_module", "finit_module", "io_uring_setup", "kexec_load", "keyctl", "mknodat"),
    *("mount", "move_mount", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root"),
    *("process_vm_readv", "process_vm_writev", "ptrace", "reboot", "setns", "umount2", "unshare"),
}
# In systemd's group @system-service; without further capabilities they reach only one's own.
OFFERED = {"io_uring_setup", "mknodat", "ptrace", "process_vm_readv", "process_vm_writev", "perf_event_open"}


def _analyze(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    require("systemd-analyze", program is not None, "Debian's package systemd is not installed")
    command = [str(program), *words, *([] if path is None else [str(path)])]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _values(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT, flags=re.MULTILINE)


def _lists(name: str) -> set[str]:
    """Return the system calls of one of systemd's groups, those of the groups in it included."""
    shown = _analyze("syscall-filter", name).stdout
    found = re.findall(r"^ +([@a-z0-9_-]+)$", shown, flags=re.MULTILINE)
    return {call for each in found for call in (_lists(each) if each.startswith("@") else {each})}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with a program that is there, as systemd checks that it can be run."""
    path = tmp_path / "carpd.service"
    path.write_text(UNIT.replace("/usr/local/sbin/carp", "/bin/true"), encoding="utf-8")
    return path


def test_systemd_understands_every_line(installed: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    done = _analyze("verify", "--man=no", path=installed)
    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_exposure_is_low(installed: Path) -> None:
    """`systemd-analyze security` finds no more than raw sockets, netlink and root's files cost."""
    done = _analyze("security", "--offline=true", "--no-pager", path=installed)
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure, done.stderr
    print(f"exposure {exposure[1]}")
    assert float(exposure[1]) <= HIGHEST_EXPOSURE


def test_unit_allows_the_calls_of_the_profile() -> None:
    """What carpd and its scripts were seen to call, the unit's SystemCallFilter allows."""
    allowed: set[str] = set()
    for value in _values("SystemCallFilter"):
        names = value.lstrip("~").split()
        calls = {call for n in names for call in (_lists(n) if n.startswith("@") else {n})}
        allowed = allowed - calls if value.startswith("~") else allowed | calls
    assert "sendto" in allowed
    assert set() == set(PROFILE["syscalls"][0]["names"]) - allowed
    assert set() == allowed & (NEVER - OFFERED)


def test_unit_has_only_the_two_capabilities() -> None:
    """The unit's bounding set is NET_ADMIN and NET_RAW."""
    assert ["CAP_NET_ADMIN CAP_NET_RAW"] == _values("CapabilityBoundingSet")
    assert [] == _values("AmbientCapabilities")


def test_unit_stops_by_one_signal() -> None:
    """TERM goes to the parent of --respawn only: a second one would end carpd without a handover."""
    assert ["mixed"] == _values("KillMode")
    assert ["all"] == _values("NotifyAccess")


def test_command_lines_are_understood() -> None:
    """The unit and the pod start carpd with options that it has, and both with --respawn."""
    unit = _values("ExecStart")[0].split()
    for words in (unit, _container()["command"]):
        assert ["carp", "daemon"] == [words[0].rpartition("/")[2], words[1]]
        given = daemon_parser().parse_args(words[2:])
        assert (True, "/etc/carp/carp.yaml") == (given.respawn, given.config)


def _container() -> dict[str, Any]:
    (container,) = POD["spec"]["containers"]
    result: dict[str, Any] = container
    return result


def test_pod_has_no_more_than_it_needs() -> None:
    """Two capabilities, a read-only root, no new privileges, no token, and a seccomp profile."""
    context = _container()["securityContext"]
    assert {"drop": ["ALL"], "add": CAPABILITIES} == context["capabilities"]
    assert (True, False, False) == (
        context["readOnlyRootFilesystem"],
        context["allowPrivilegeEscalation"],
        context["privileged"],
    )
    spec = POD["spec"]
    assert (True, False) == (spec["hostNetwork"], spec["automountServiceAccountToken"])
    assert spec["securityContext"]["seccompProfile"]["type"] in {"RuntimeDefault", "Localhost"}
    assert {"hostPID", "hostIPC", "serviceAccountName"}.isdisjoint(spec)


def test_pod_has_what_a_static_pod_needs() -> None:
    """It is placed, never evicted for others, never throttled, and each of its mounts has a volume."""
    spec, container = POD["spec"], _container()
    assert ("v1", "Pod", "kube-system") == (POD["apiVersion"], POD["kind"], POD["metadata"]["namespace"])
    assert ("system-node-critical", 2000001000) == (spec["priorityClassName"], spec["priority"])
    assert "cpu" not in container["resources"]["limits"]
    assert {v["name"] for v in spec["volumes"]} == {m["name"] for m in container["volumeMounts"]}
    paths = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
    assert {"config": "/etc/carp", "state": "/var/lib/carp", "run": "/run/carp"} == paths
    # Kubernetes refuses a pod with secrets, config maps or an account when no API server has it.
    assert {"hostPath", "emptyDir"} == {key for v in spec["volumes"] for key in v if key != "name"}


def test_example_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a static pod's file is one that carpd accepts without a warning."""
    monkeypatch.setattr(configfile, "read_password_file", lambda path: (b"example", []))
    example = yaml.safe_load((DEPLOY / "static-pod" / "carp.yaml").read_text(encoding="utf-8"))
    configs, notes = configfile.parse(example)
    assert ["apiserver"] == [config.name for config in configs]
    assert [] == notes


def test_profile_refuses_by_default_and_lists_nothing_dangerous() -> None:
    """Everything is refused but the list, and nothing on it leads out of a container."""
    assert "SCMP_ACT_ERRNO" == PROFILE["defaultAction"]
    names = [name for rule in PROFILE["syscalls"] for name in rule["names"]]
    assert set() == set(names) & NEVER
    assert [] == [name for name in set(names) if names.count(name) > 1 and name != "socket"]


def test_profile_limits_sockets_and_clone() -> None:
    """Sockets of five families only, and no clone into a new namespace."""
    limited = [rule for rule in PROFILE["syscalls"] if "args" in rule]
    families = [rule["args"][0]["value"] for rule in limited if rule["names"] == ["socket"]]
    assert [1, 2, 10, 16, 17] == families
    (clone,) = [rule["args"] for rule in limited if rule["names"] == ["clone"]]
    new_namespaces = 0x7E020000
    assert [{"index": 0, "value": new_namespaces, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}] == clone
    assert {"socket", "clone"} == {name for rule in limited for name in rule["names"]}


def test_dockerfile_is_clean() -> None:
    """Hadolint has nothing against it."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("hadolint")), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stdout)
