"""What the programs of one Kubernetes node are told: containerd, its network plugins, the kubelet."""

from __future__ import annotations

from typing import Any, Final

SOCKET: Final = "/run/containerd/containerd.sock"
KUBELET: Final = "/var/lib/kubelet"
MANIFESTS: Final = "/etc/kubernetes/manifests"
NETWORKS: Final = "/var/lib/cni/net.d"
PLUGINS: Final = "/usr/lib/cni"

# A machine of its own for whatever is started in it: processes that end with the first one, and its own /run,
# /etc, /var/lib and /var/log. What is to survive a power cut lies in the folder given as $1.
INIT: Final = f"""set -eu
mount --make-rshared /
mkdir -p "$1/lib" "$1/log" "$1/etc" "$1/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$1/etc,workdir=$1/work" overlay /etc
mount --bind "$1/lib" /var/lib
mount --bind "$1/log" /var/log
mount -t tmpfs tmpfs /run
mkdir -p /run/netns {MANIFESTS} {NETWORKS} {KUBELET}
touch "$1/booted"
sleep infinity &
wait
"""


def containerd(pause: str) -> str:
    """Return containerd's configuration; no part of it lies outside of the node's own folders."""
    return f"""
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{PLUGINS}"
  conf_dir = "{NETWORKS}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def network(subnet: str) -> dict[str, Any]:
    """Return the network plugins' configuration: a cable for each pod, addresses of ``subnet``."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni",  # a boot begins with none in use
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": addresses}]}


def kubelet(client_ca: str) -> dict[str, Any]:
    """Return a kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": client_ca}, "anonymous": {"enabled": False}},
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "staticPodPath": MANIFESTS,
        "volumePluginDir": f"{KUBELET}/plugins-exec",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        # The machine's disk is not this node's own.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        # A quarter of it passes between two heartbeats.
        "nodeLeaseDurationSeconds": 8,
        "nodeStatusUpdateFrequency": "2s",
    }
