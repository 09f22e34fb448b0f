"""A Kubernetes node on the lab: a machine with a kubelet and a containerd of its own, and real pods.

Its processes live in a process namespace of their own, which ends with its first one: a power cut takes
everything at once, containers too, and nothing of a pod can be left behind. What it keeps on disk survives.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import kubefiles
from carp.lab.node import kill

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.lab.network import Lan
    from carp.lab.node import Node, Process
    from controlplane import ControlPlane

_PATIENCE: Final = 60.0


class KubeNodeError(Exception):
    """A part of a node did not start; carries the end of its log."""


class KubeNode:
    """One machine; `start` boots it and its programs.

    Args:
        lan: the network it hangs on.
        node: its place there; the name is the Node's.
        number: its pods are 10.244.NUMBER.0/24.
        folder: its disk.
        assets: folder with the kubelet.
        pause: name of the image that holds a pod's namespaces.
    """

    def __init__(self, lan: Lan, node: Node, number: int, folder: Path, assets: Path, pause: str) -> None:
        self.lan, self.node, self.folder = lan, node, folder
        self.name = node.name
        self.subnet = f"10.244.{number}.0/24"
        self._assets, self._pause = assets, pause
        self.powered = False
        self._init = self._boots = self._logged = 0
        self._group = node.namespace.name
        self._parts: dict[str, Process] = {}
        self._neighbours: list[tuple[str, str]] = []
        folder.mkdir(parents=True)

    # --- starting and ending ---------------------------------------------------------------------------

    def boot(self, neighbours: Sequence[tuple[str, str]]) -> None:
        """Start the machine and containerd; ``neighbours`` are subnets of pods and who has them."""
        self.powered, self._neighbours = True, list(neighbours)
        self.node.namespace.sysctl("ipv4/ip_forward", "1")
        for subnet, gateway in neighbours:
            route(self.node, subnet, gateway)
        booted = self.folder / "booted"
        booted.unlink(missing_ok=True)
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        self._boots += 1
        words = [f"{self._group}-{self._boots}", kubefiles.INIT, str(self.folder)]
        init = self._spawn("init", [*command, "sh", "-c", kubefiles.GROUPS, "init", *words])
        self._wait("init", booted.exists)
        self._init = _child(init.pid)
        self.write(f"{kubefiles.NETWORKS}/pods.conflist", json.dumps(kubefiles.network(self.subnet)))
        self.write("/etc/containerd.toml", kubefiles.containerd(self._pause))
        self._start("containerd", ["containerd", "--config", "/etc/containerd.toml", "--log-level", "warn"])
        self._wait("containerd", lambda: self.ctr("version", check=False).returncode == 0)

    def join(self, plane: ControlPlane) -> None:
        """Let the kubelet register this Node."""
        account = plane.kubeconfig(f"system:node:{self.name}", ["system:nodes"])
        self.write("/etc/kubernetes/kubelet.conf", account.read_text(encoding="utf-8"))
        self.write("/etc/kubernetes/ca.crt", plane.ca.read_text(encoding="ascii"))
        settings = kubefiles.kubelet("/etc/kubernetes/ca.crt")
        self.write("/etc/kubernetes/kubelet.yaml", json.dumps(settings))
        self.start_kubelet()

    def start_kubelet(self) -> None:
        """Start the kubelet of a node that joined before."""
        arguments = [
            "--config=/etc/kubernetes/kubelet.yaml",
            "--kubeconfig=/etc/kubernetes/kubelet.conf",
            f"--hostname-override={self.name}",
            f"--node-ip={self.node.address}",
            "--housekeeping-interval=30s",
        ]
        log = self.folder / "kubelet.log"
        self._logged = log.stat().st_size if log.exists() else 0
        self._start("kubelet", [str(self._assets / "kubelet"), *arguments])

    def sees_api(self) -> bool:
        """Say whether the kubelet, since it was started, has reached the API server and asks it for pods."""
        log = (self.folder / "kubelet.log").read_bytes()[self._logged :]
        return b"Watching apiserver" in log

    def kill_kubelet(self) -> None:
        """SIGKILL the kubelet; containers go on."""
        kill(self._parts.pop("kubelet"))

    def power_off(self) -> None:
        """Take the power: every process of the machine and its pods is gone at once, the disk stays."""
        self.powered = False
        self.lan.power_off(self.node)
        self._parts.clear()

    def power_on(self) -> None:
        """Boot again: containerd and kubelet find their disk and an empty /run."""
        self.lan.power_on(self.node)
        self.boot(self._neighbours)
        self.start_kubelet()

    def discard(self) -> None:
        """Remove the disk and the control groups of a machine without power; its programs' logs stay."""
        for part in ("lib", "etc", "work"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
        end = time.monotonic() + _PATIENCE
        while _remove_groups(self._group) and time.monotonic() < end:
            time.sleep(0.05)  # the kernel keeps a group until its last process is gone

    # --- what one asks of it ----------------------------------------------------------------------------

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run containerd's own client on the containers and images of Kubernetes."""
        command = ["ctr", "--address", kubefiles.SOCKET, "--namespace", "k8s.io", *arguments]
        process = self.node.popen(
            self._inside(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, err = process.communicate(timeout=_PATIENCE)
        if check and process.returncode:
            raise AssertionError(f"{self.name}: ctr {' '.join(arguments)}: {err.strip()}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def load(self, archive: Path) -> None:
        """Give containerd an image."""
        self.ctr("images", "import", str(archive))

    def tag(self, image: str, other: str) -> None:
        """Give an image a second name."""
        self.ctr("images", "tag", image, other)

    def pids(self, program: str, *words: str) -> list[int]:
        """Return the processes of a program in the node's own network that have these arguments, by age.

        Pods without host networking have another network; their processes are not found here.
        """
        found = [pid for pid in self.node.namespace.pids() if _runs(pid, program, words)]
        return sorted(found, key=_began)

    def write(self, path: str, text: str) -> None:
        """Write a file that only root can read, through the node's own view of its disk."""
        # An overlay does not show what is put below it.
        place = Path(f"/proc/{self._init}/root{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        place.chmod(0o600)

    def file(self, path: str) -> Path:
        """Return where a path of the node is on this machine, for /etc, /var/lib and /var/log."""
        for top, place in (("/etc/", "etc"), ("/var/lib/", "lib"), ("/var/log/", "log")):
            if path.startswith(top):
                return self.folder / place / path.removeprefix(top)
        raise ValueError(path)

    def logs(self, lines: int = 6) -> str:
        """Return the end of each program's log."""
        found = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {self.name} {path.stem}\n{_tail(path, lines)}" for path in found)

    # --- below --------------------------------------------------------------------------------------------

    def _inside(self, command: Sequence[str]) -> list[str]:
        return ["nsenter", f"--target={self._init}", "--pid", "--mount", "--cgroup", "--wd=/", *command]

    def _start(self, name: str, command: Sequence[str]) -> None:
        # nsenter stays as its parent: whoever ends that one ends the program.
        self._spawn(name, self._inside(["setpriv", "--pdeathsig", "KILL", *command]))

    def _spawn(self, name: str, command: Sequence[str]) -> Process:
        with (self.folder / f"{name}.log").open("ab") as log:
            whole = ["setpriv", "--pdeathsig", "KILL", *command]
            process = self.node.popen(whole, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._parts[name] = process
        return process

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while not ready():
            code = self._parts[name].poll()
            if code is not None or time.monotonic() > end:
                what = f"not ready within {_PATIENCE:.0f} s" if code is None else f"exit {code}"
                msg = f"{self.name}: {name}: {what}\n{_tail(self.folder / f'{name}.log', 20)}"
                raise KubeNodeError(msg)
            time.sleep(0.02)


def route(node: Node, subnet: str, gateway: str) -> None:
    """Send a node's packets for a subnet to this neighbour."""
    node.namespace.netlink(lambda ipr: ipr.route("replace", dst=subnet, gateway=gateway))


def _remove_groups(prefix: str) -> bool:
    """Remove control groups with their subgroups; whether any is left."""
    top = Path(kubefiles.CGROUPS)
    roots = [*top.glob(f"{prefix}-*/"), *top.glob(f"*/{prefix}-*/")]
    for root in roots:
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
    return any(root.exists() for root in roots)


def memory(pid: int) -> float:
    """Return a process's share of memory in MiB: what it alone uses, and its part of what is shared."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def _child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(children[0])


def _began(pid: int) -> int:
    """Return when a process began, in ticks since the machine did: numbers start again from the beginning."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


def _runs(pid: int, program: str, words: Sequence[str]) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False  # it has ended
    # A script's first word is its interpreter.
    return program in [Path(word).name for word in line[:2]] and set(words) <= set(line)


def _tail(path: Path, lines: int) -> str:
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(line[:300] for line in text.splitlines()[-lines:])
