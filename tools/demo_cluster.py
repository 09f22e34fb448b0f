"""Show carp-operator on a real Kubernetes inside this machine: `make demo-cluster`.

A control plane, three nodes with kubelet and containerd, and a client are made of network namespaces; nothing
outside of them is touched and nothing is left behind. Helm installs the chart as it is shipped, with an image
of this tree. kubectl's own output stands between the steps, and a client asks the address for an answer every
millisecond.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carp.lab.errors import LabError
from clusterfix import API
from controlplane import ControlPlaneError
from forward import Forward
from kubecluster import KubeCluster, obstacle
from kubenode import KubeNodeError
from kuberelease import CHART, LONGEST_MS, Release, kill, tagged
from nodefix import idle
from tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.lab.client import Prober

MANIFEST = ROOT / "deploy" / "examples" / "demo.yaml"
ADDRESS, NAME = "10.99.0.252", "demo"
_EPILOG = """\
It needs root, cgroups and an overlay filesystem. The first run builds the control plane from its locked Go
modules (some 7 minutes on two cores, unless KUBEBUILDER_ASSETS names a folder that has it) and the image
(2 minutes); both are kept for later.
exit codes: 0 no answer was lost where none may be; 1 one was; 2 it cannot run here; 130 Ctrl-C before the end
"""


class Story:
    """The steps, and what each cost."""

    def __init__(self, release: Release, prober: Prober) -> None:
        self._release, self._kube, self._prober = release, release.kube, prober
        self._bounds: list[float] = []

    def step(
        self, title: str, act: Callable[[], Any], *, outage_ms: float = 0.0, settle: float = 1.5
    ) -> None:
        """Tell, act, let it settle; ``outage_ms`` is what it may cost."""
        _say(title)
        self._prober.mark(title)
        self._bounds.append(outage_ms)
        act()
        idle(settle)

    def show(self, *words: str) -> None:
        """Run kubectl and print what it prints."""
        print(f"$ kubectl {' '.join(words)}")
        print(self._kube.plane.kubectl(*words).stdout.rstrip(), flush=True)

    def succeeded(self, node: str) -> None:
        """Wait until the status names another master than ``node``, and show it."""
        self._release.wait_succeeded(NAME, node)
        self.show("get", "vip", NAME)

    def close(self) -> bool:
        """Print the table; whether every bound was met."""
        print("\nstep                                               lost   outage    bound")
        fine = True
        for (mark, summary), bound in zip(self._prober.stop().per_mark(), self._bounds, strict=True):
            kept = summary.outage_ms <= bound if bound else not summary.lost
            fine = fine and kept
            verdict = "ok" if kept else "NOT"
            line = f"{mark.label:50}{summary.lost:5} {summary.outage_ms:5.0f} ms {bound:5.0f} ms  {verdict}"
            print(line, flush=True)
        return fine


def _say(title: str) -> None:
    print(f"\n--- {title}", flush=True)


def _install(release: Release) -> None:
    words = f"{release.name} {Path(CHART).relative_to(ROOT)} --namespace {release.namespace}"
    _say(f"helm install {words} --create-namespace")
    print(f"every pod is Ready after {release.install():.0f} s")
    print(release.kube.plane.kubectl("-n", release.namespace, "get", "pods", "-o", "wide").stdout.rstrip())


def _tell(release: Release) -> bool:
    kube = release.kube
    _say(f"kubectl apply -f {MANIFEST.relative_to(ROOT)}")
    print(kube.plane.kubectl("apply", "-f", "-", stdin=MANIFEST.read_text()).stdout.rstrip())
    with kube.prober(ADDRESS) as prober:
        prober.wait_answering(30)
        release.wait_served(NAME)
        story = Story(release, prober)
        story.show("get", "vip,cn", "-o", "wide")
        first = release.master(NAME)
        story.step(f"the master, {first}, is drained", lambda: _drain(release, first))
        story.succeeded(first)
        kube.plane.kubectl("uncordon", first)
        second = release.master(NAME)
        story.step(f"carpd on {second} crashes", lambda: kill(release.carpd(second)[-1]))
        story.step("the API server is killed for 8 s", kube.plane.stop_api, settle=8)
        story.step("it comes back", kube.plane.start_api)
        story.step(
            f"the power of {second} fails", kube.nodes[second].power_off, outage_ms=LONGEST_MS, settle=5
        )
        story.succeeded(second)
        story.step(f"{second} boots", kube.nodes[second].power_on)
        release.settle(ADDRESS)
        story.step("an address is added", lambda: _add(release), settle=3)
        kube.wait(lambda: "authentication" not in release.vip(NAME)["status"], 30, "every member has it")
        story.show("get", "vip", NAME)
        story.step(
            "helm upgrade, one node after the other", lambda: release.upgrade("--set", "image.tag=next")
        )
        story.show("get", "events", "--field-selector", f"involvedObject.name={NAME}")
        return story.close()


def _drain(release: Release, node: str) -> None:
    words = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    release.kube.plane.kubectl("drain", node, *words)


def _add(release: Release) -> None:
    spec = {"spec": {"addresses": [ADDRESS, "10.99.0.251"]}}
    release.kube.plane.admin.patch(f"{API}/virtualips/{NAME}", spec)


def _keep(kube: KubeCluster, programs: Path) -> None:
    """Leave everything running, reachable from this machine, until Ctrl-C."""
    port = int(kube.plane.url.rpartition(":")[2])
    with Forward(kube.plane.node, port) as here:
        text = kube.plane.kubeconfig().read_text().replace(kube.plane.url, f"https://127.0.0.1:{here}")
        config = kube.folder / "kubeconfig"
        config.write_text(text)
        print(
            f"\nThe cluster goes on until Ctrl-C here. In another terminal:\n"
            f"  export KUBECONFIG={config} PATH={programs}:{ROOT / '.venv/bin'}:$PATH\n"
            f"  kubectl get vip,cn,pods -A\n"
            f"  kubectl carp explain {NAME}",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


def _provided(tool: str) -> Path | None:
    """Return the folder that a tool of this tree prints; it tells of its own progress and troubles."""
    found = subprocess.run([str(ROOT / "tools" / tool)], stdout=subprocess.PIPE, text=True, check=False)
    return None if found.returncode else Path(found.stdout.strip())


def run(*, end: bool) -> int:
    """Make the cluster, tell the story, and return the exit code."""
    assets = _provided("assets")
    images = assets and _provided("image")
    if assets is None or images is None:
        return 2
    with tempfile.TemporaryDirectory(prefix="carp-demo-") as folder:
        print("starting a control plane and three nodes with kubelet and containerd", flush=True)
        with KubeCluster(assets, images, Path(folder)) as kube:
            for node in kube.nodes.values():
                node.tag(tagged("0.1.0"), tagged("next"))
            release = Release(kube)
            _install(release)
            fine = _tell(release)
            if not end:
                _keep(kube, assets)
    return 0 if fine else 1


def main(argv: Sequence[str]) -> int:
    """Run with these arguments."""
    parser = argparse.ArgumentParser(
        prog="make demo-cluster", description=__doc__, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--end", action="store_true", help="end after the story instead of at Ctrl-C")
    options = parser.parse_args(argv)
    if why := obstacle():
        sys.stderr.write(f"demo-cluster: cannot run here: {why}\n`make demo` needs less\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run(end=options.end)
    except (LabError, KubeNodeError, ControlPlaneError, AssertionError, OSError) as error:
        sys.stderr.write(f"demo-cluster: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
