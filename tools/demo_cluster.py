"""Show carp-operator on a real control plane inside this machine: `make demo-cluster`.

etcd, kube-apiserver and kube-controller-manager, three nodes with carpd and agent, the controller and a
client are made of network namespaces; nothing outside of them is touched and nothing is left behind.
kubectl's own output stands between the steps, and a client asks the address for an answer every millisecond.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carp.lab.errors import LabError
from clusterfix import NAMESPACE, Cluster, reported
from controlplane import ControlPlane
from forward import Forward
from nodefix import Lab, LateError, idle
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.lab.client import Prober

MANIFEST = ROOT / "deploy" / "examples" / "demo.yaml"
ADDRESS, NAME = "10.99.0.252", "demo"
_EPILOG = """\
It needs root. The first run builds the control plane from its locked Go modules (some 7 minutes on two
cores; kept for later) unless KUBEBUILDER_ASSETS names a folder that has it.
exit codes: 0 no answer was lost where none may be; 1 one was; 2 it cannot run here; 130 Ctrl-C
"""


class Story:
    """The steps, and what each cost."""

    def __init__(self, cluster: Cluster, prober: Prober) -> None:
        self._cluster, self._prober = cluster, prober
        self._bounds: list[float] = []

    def step(
        self, title: str, act: Callable[[], Any], *, outage_ms: float = 0.0, settle: float = 1.5
    ) -> None:
        """Tell, act, let it settle, show; ``outage_ms`` is what it may cost."""
        print(f"\n--- {title}", flush=True)
        self._prober.mark(title)
        self._bounds.append(outage_ms)
        act()
        idle(settle)

    def show(self, *words: str) -> None:
        """Run kubectl and print what it prints."""
        print(f"$ kubectl {' '.join(words)}")
        print(self._cluster.plane.kubectl(*words).stdout.rstrip(), flush=True)

    def close(self) -> bool:
        """Print the table; whether every bound was met."""
        print("\nstep                                               lost   outage    bound")
        fine = True
        for (mark, summary), bound in zip(self._prober.stop().per_mark(), self._bounds, strict=True):
            kept = summary.outage_ms <= bound if bound else not summary.lost
            fine = fine and kept
            verdict = "ok" if kept else "NOT"
            line = f"{mark.label:50}{summary.lost:5} {summary.outage_ms:5.0f} ms {bound:5.0f} ms  {verdict}"
            print(line)
        return fine


def _tell(cluster: Cluster) -> bool:
    plane, members = cluster.plane, cluster.members
    print(f"\n--- kubectl apply -f {MANIFEST.relative_to(ROOT)}")
    print(plane.kubectl("apply", "-f", "-", stdin=MANIFEST.read_text()).stdout.rstrip())
    with cluster.prober(ADDRESS) as prober:
        prober.wait_answering(30)
        cluster.wait_ready(NAME)
        story = Story(cluster, prober)
        story.show("get", "vip,cn", "-o", "wide")
        first = cluster.master(NAME)

        story.step(f"the master, {first}, is cordoned", lambda: plane.kubectl("cordon", first))
        cluster.wait(lambda: cluster.master(NAME) not in ("", first), "the status names another master")
        story.show("get", "vip", NAME)
        story.step("the API server is killed for 8 s", plane.stop_api, settle=8)
        story.step("it comes back", plane.start_api)
        second = cluster.master(NAME)
        story.step(f"the power of {second} fails", members[second].power_off, outage_ms=3400, settle=5)
        cluster.wait(lambda: cluster.master(NAME) not in ("", second), "the status names another master")
        story.show("get", "vip", NAME)
        story.step(f"{second} boots", members[second].power_on, settle=4)
        story.step("an address is added", lambda: _add(cluster), settle=3)
        cluster.wait(lambda: "authentication" not in cluster.vip(NAME)["status"], "every member has it")
        story.show("get", "vip", NAME)
        story.show("get", "events", "--field-selector", f"involvedObject.name={NAME}")
        return story.close()


def _add(cluster: Cluster) -> None:
    cluster.patch(NAME, {"addresses": [ADDRESS, "10.99.0.251"]})


def _keep(cluster: Cluster, folder: Path) -> None:
    """Leave everything running, reachable from this machine, until Ctrl-C."""
    port = int(cluster.plane.url.rpartition(":")[2])
    with Forward(cluster.plane.node, port) as here:
        text = cluster.plane.kubeconfig().read_text().replace(cluster.plane.url, f"https://127.0.0.1:{here}")
        config = folder / "kubeconfig"
        config.write_text(text)
        print(
            f"\nexport KUBECONFIG={config}\nkubectl get vip,cn    # Ctrl-C here ends the cluster", flush=True
        )
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def run(*, keep: bool) -> int:
    """Make the cluster, tell the story, and return the exit code."""
    found = subprocess.run([str(ROOT / "tools" / "assets")], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        return 2
    with tempfile.TemporaryDirectory(prefix="carp-demo-") as folder, Lab() as lab:
        print("starting etcd, kube-apiserver, kube-controller-manager", flush=True)
        with ControlPlane(lab.node("n100"), Path(found.stdout.strip()), Path(folder)) as plane:
            cluster = Cluster(lab, plane)
            cluster.install()
            print(f"starting carpd and agent on n1, n2, n3; the controller in {NAMESPACE}", flush=True)
            cluster.add("n1", "n2", "n3")
            cluster.start_controller()
            cluster.wait(
                lambda: all(reported(cluster, n) for n in cluster.members), "the agents have reported", 60
            )
            fine = _tell(cluster)
            if keep:
                _keep(cluster, Path(folder))
    return 0 if fine else 1


def main(argv: Sequence[str]) -> int:
    """Run with these arguments."""
    parser = argparse.ArgumentParser(
        prog="make demo-cluster", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="leave the cluster running until Ctrl-C")
    options = parser.parse_args(argv)
    if os.geteuid() != 0:
        sys.stderr.write("demo-cluster: needs root: network namespaces and raw sockets\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(keep=options.keep)
    except (LabError, LateError, OSError) as error:
        sys.stderr.write(f"demo-cluster: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
