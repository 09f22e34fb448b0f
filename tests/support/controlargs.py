"""How the parts of a control plane are called, and the files that tell clients where it is."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from authority import Pair

PORT = 6443
SERVICE_ADDRESS = "10.96.0.1"  # the first of the range below, always the API server's own
_SERVICES = "10.96.0.0/16"
_ETCD = "http://127.0.0.1:2379"
_PEER = "http://127.0.0.1:2380"


@dataclass(frozen=True)
class Keys:
    """The files that the parts prove themselves with."""

    ca: Path
    serving: Pair
    admin: Pair
    tokens: Path


def etcd(data: Path) -> list[str]:
    """Return etcd's arguments: alone, on loopback, and without waiting for a disk."""
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={_ETCD}",
        f"--advertise-client-urls={_ETCD}",
        f"--listen-peer-urls={_PEER}",
        f"--initial-advertise-peer-urls={_PEER}",
        f"--initial-cluster=default={_PEER}",
        # A single member elects itself after one such time, and nobody competes with it.
        "--heartbeat-interval=10",
        "--election-timeout=100",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api(address: str, keys: Keys) -> list[str]:
    """Return kube-apiserver's arguments: on all addresses of its node, authorization as usual."""
    return [
        f"--etcd-servers={_ETCD}",
        "--bind-address=0.0.0.0",
        f"--secure-port={PORT}",
        f"--advertise-address={address}",
        f"--cert-dir={keys.ca.parent}",
        f"--tls-cert-file={keys.serving.certificate}",
        f"--tls-private-key-file={keys.serving.key}",
        f"--client-ca-file={keys.ca}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys.tokens}",
        f"--service-account-signing-key-file={keys.tokens}",
        f"--service-cluster-ip-range={_SERVICES}",
        f"--kubelet-client-certificate={keys.admin.certificate}",
        f"--kubelet-client-key={keys.admin.key}",
        "--kubelet-preferred-address-types=InternalIP",
    ]


def scheduler(kubeconfig: Path) -> list[str]:
    """Return kube-scheduler's arguments; they are kube-controller-manager's first ones too."""
    return [f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--bind-address=127.0.0.1"]


def controllers(kubeconfig: Path, keys: Keys, node_grace: float | None) -> list[str]:
    """Return kube-controller-manager's arguments; without ``node_grace`` it leaves silent Nodes alone."""
    arguments = [
        *scheduler(kubeconfig),
        f"--root-ca-file={keys.ca}",
        f"--service-account-private-key-file={keys.tokens}",
        "--use-service-account-credentials",
        # The default of 20 a second makes its start last 5 s.
        "--kube-api-qps=500",
        "--kube-api-burst=500",
    ]
    if node_grace is None:
        return [*arguments, "--controllers=*,-node-lifecycle-controller"]
    return [*arguments, f"--node-monitor-grace-period={node_grace}s", "--node-monitor-period=500ms"]


def kubeconfig(url: str, ca: Path, user: dict[str, str]) -> dict[str, Any]:
    """Return a kubeconfig that needs no other file; ``user`` is what `certificate` or a token gives."""
    cluster = {"server": url, "certificate-authority-data": _encoded(ca)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    }


def certificate(pair: Pair) -> dict[str, str]:
    """Return a kubeconfig's user who has this certificate."""
    return {
        "client-certificate-data": _encoded(pair.certificate),
        "client-key-data": _encoded(pair.key),
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
