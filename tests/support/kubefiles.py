"""What the programs of one Kubernetes node are told: containerd, its network plugins, the kubelet."""

from __future__ import annotations

from typing import Any, Final

CGROUPS: Final = "/sys/fs/cgroup"
SOCKET: Final = "/run/containerd/containerd.sock"
KUBELET: Final = "/var/lib/kubelet"
MANIFESTS: Final = "/etc/kubernetes/manifests"
NETWORKS: Final = "/var/lib/cni/net.d"
PLUGINS: Final = "/usr/lib/cni"

# What a node's first process begins with: control groups of its own, named $1, in whose namespace $2 then
# runs. So it sees nothing of the other nodes' containers: a kubelet waits 3 s for each that it finds and that
# its own containerd does not know.
GROUPS: Final = f"""set -eu
for top in {CGROUPS} {CGROUPS}/*; do
    if [ ! -L "$top" ] && [ -f "$top/cgroup.procs" ] && mountpoint -q "$top"; then
        mkdir "$top/$1"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -f "$top/$file" ] || cat "$top/$file" >"$top/$1/$file"
        done
        echo $$ >"$top/$1/cgroup.procs"
    fi
done
exec unshare --cgroup sh -c "$2" init "$1" "$3"
"""

# A machine of its own for whatever is started in it: processes that end with the first one, and its own /run,
# /etc, /var/lib and /var/log. What is to survive a power cut lies in the folder given as $2; $1 as above.
INIT: Final = f"""set -eu
mount --make-rshared /
for top in {CGROUPS} {CGROUPS}/*; do
    if [ -d "$top/$1" ]; then
        if [ -f "$top/$1/cgroup.subtree_control" ]; then  # version 2: processes live in leaves
            mkdir "$top/$1/init"
            echo $$ >"$top/$1/init/cgroup.procs"
        fi
        mount --bind "$top/$1" "$top"
    fi
done
mkdir -p "$2/lib" "$2/log" "$2/etc" "$2/work"
mount -t overlay -o "lowerdir=/etc,upperdir=$2/etc,workdir=$2/work" overlay /etc
mount --bind "$2/lib" /var/lib
mount --bind "$2/log" /var/log
mount -t tmpfs tmpfs /run
mkdir -p /run/netns {MANIFESTS} {NETWORKS} {KUBELET}
touch "$2/booted"
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
