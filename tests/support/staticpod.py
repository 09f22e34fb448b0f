"""carpd as a static pod on every node of a cluster, put there as docs/control-plane.md says."""

from __future__ import annotations

import http.client
import json
import re
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kubectl import main as plugin
from kubefiles import MANIFESTS
from tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from kubecluster import KubeCluster

_POD: Final = ROOT / "deploy" / "static-pod" / "carpd.yaml"
_PORT: Final = 9105
_STATE: Final = re.compile(r'^carp_vip_state\{[^}]*vip="([^"]+)"[^}]*\} (\d)$', re.MULTILINE)
_STATES: Final = ("INIT", "BACKUP", "MASTER")


class StaticPods:
    """The static pods of a cluster, one a node; they know nothing of an API server."""

    def __init__(self, kube: KubeCluster) -> None:
        """Nothing is installed yet; the image has to be on the nodes."""
        self._kube = kube

    def install(self, vip: dict[str, Any]) -> None:
        """Render a VirtualIP to files and put each node's beside the pod's manifest as it is shipped."""
        folder = self._kube.folder / "static"
        folder.mkdir()
        manifest = folder / "vip.yaml"
        manifest.write_text(json.dumps(vip), encoding="utf-8")
        nodes = [f"--node={name}={each.node.address}/24" for name, each in self._kube.nodes.items()]
        assert plugin.main(["render", "--quiet", "-f", str(manifest), *nodes, "-o", str(folder)]) == 0
        for name, each in self._kube.nodes.items():
            each.write("/etc/carp/carp.yaml", _text(folder / name / "carp.yaml"))
            each.write(f"/etc/carp/{vip['metadata']['name']}.pass", "static")
            each.write(f"{MANIFESTS}/carpd.yaml", _text(_POD))

    def carpd(self, node: str) -> list[int]:
        """Return the pod's processes on a node: the one that starts carpd again, and the one at work."""
        return self._kube.nodes[node].pids("carp", "daemon", "--config=/etc/carp/carp.yaml")

    def states(self, node: str) -> dict[str, str]:
        """Return the state of each vhost by name, as the pod's metrics give it.

        Raises:
            OSError: carpd does not answer.
        """

        def ask() -> str:
            connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=2)
            try:
                connection.request("GET", "/metrics")
                return connection.getresponse().read().decode()
            finally:
                connection.close()

        text = self._kube.nodes[node].node.run_in(ask)
        return {name: _STATES[int(state)] for name, state in _STATE.findall(text)}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
