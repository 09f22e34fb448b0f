"""A real control plane on one node of the lab: etcd, kube-apiserver, kube-controller-manager, kube-scheduler.

The API server listens on all addresses of its node; whoever reaches the node reaches it. Roles are those of
a real cluster: RBAC and node authorization, default admission plugins and NodeRestriction, tokens of service
accounts.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import controlargs
from apiclient import ApiClient, ApiError, Object
from authority import Authority
from carp.lab.node import Node, Process, cont, kill, stop
from controlargs import PORT, SERVICE_ADDRESS, Keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

    from authority import Pair

LONELY_ADDRESS = "192.0.2.1"  # RFC 5737; never leaves the namespace it is made in
_PATIENCE = 60.0  # seconds; a start takes 4 on an idle machine


class ControlPlaneError(Exception):
    """A part of the control plane did not start or ended by itself; carries the end of its log."""


@contextlib.contextmanager
def lonely_node() -> Iterator[Node]:
    """Make a machine without a cable for a control plane that only its own namespace reaches."""
    address = ipaddress.ip_interface(f"{LONELY_ADDRESS}/32")
    node = Node("api", "02:ca:72:00:ff:ff", [address], f"carp-t-{secrets.token_hex(4)}")
    try:
        # Kubernetes wants an advertised address that is not of 127/8.
        node.namespace.netlink(lambda ipr: ipr.addr("add", index=1, address=LONELY_ADDRESS, prefixlen=32))
        yield node
    finally:
        node.power_off()


class ControlPlane:
    """A control plane that exists as long as the `with` block.

    Args:
        node: the machine it runs on; its first address is the one advertised.
        assets: folder with the programs (`tools/assets`).
        folder: for keys, data and the logs, which stay there.
        node_grace: seconds without a heartbeat until a Node counts as unreachable; None leaves Nodes that
            nobody keeps alive as the test wrote them.
        scheduler: run kube-scheduler too.
        api_flags: further arguments of kube-apiserver.
    """

    def __init__(
        self,
        node: Node,
        assets: Path,
        folder: Path,
        *,
        node_grace: float | None = None,
        scheduler: bool = False,
        api_flags: Sequence[str] = (),
    ) -> None:
        self.node = node
        self.folder = folder
        self._assets = assets
        self._node_grace = node_grace
        self._scheduler = scheduler
        self._api_flags = api_flags
        self._processes: dict[str, Process] = {}
        self._authority = Authority(folder / "keys")
        hosts = ["localhost", "127.0.0.1", SERVICE_ADDRESS, *(str(each.ip) for each in node.addresses)]
        hosts += ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        self._keys = Keys(
            self._authority.root.certificate,
            self._authority.server("api", hosts),
            self._authority.client("admin", ["system:masters"]),
            self._authority.key("tokens"),
        )
        self.admin = self.client(pair=self._keys.admin)

    def __enter__(self) -> Self:
        try:
            self._start_etcd()
            self.start_api()
            self.start_controllers()
            # Pods can be made from here on.
            self._wait("kube-controller-manager", self._has_default_account)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every part; the logs stay."""
        for name in list(self._processes):
            self._kill(name)
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    @property
    def ca(self) -> Path:
        """Certificate file that proves the server."""
        return self._keys.ca

    @property
    def url(self) -> str:
        """The server's address for clients on the LAN."""
        host = f"[{self.node.address}]" if ":" in self.node.address else self.node.address
        return f"https://{host}:{PORT}"

    def client(
        self, *, pair: Pair | None = None, token: str | None = None, node: Node | None = None
    ) -> ApiClient:
        """Make a client that connects from ``node`` (the control plane's own unless told otherwise)."""
        run_in: Callable[[Callable[[], socket.socket]], socket.socket] = (node or self.node).run_in
        return ApiClient(self.node.address, PORT, self.ca, pair=pair, token=token, run_in=run_in)

    def pair(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a certificate for a user, such as ``system:node:n1`` of ``system:nodes``."""
        return self._authority.client(user, groups)

    def kubeconfig(
        self, user: str = "admin", groups: Sequence[str] = (), *, token: str | None = None
    ) -> Path:
        """Write a kubeconfig for the admin, for another user by certificate, or for a token's owner."""
        if token is not None:
            return self._kubeconfig(f"token-{secrets.token_hex(4)}", {"token": token}, self.url)
        pair = self._keys.admin if user == "admin" else self.pair(user, groups)
        return self._kubeconfig(user.replace(":", "-"), controlargs.certificate(pair), self.url)

    def token(self, namespace: str, account: str, pod: str | None = None, seconds: int = 3600) -> str:
        """Request a service account's token, bound to a pod where one is named.

        Raises:
            ApiError: the account or the pod does not exist.
        """
        spec: Object = {"expirationSeconds": seconds}
        if pod is not None:
            uid = self.admin.get(f"/api/v1/namespaces/{namespace}/pods/{pod}")["metadata"]["uid"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        return str(self.admin.create(path, body)["status"]["token"])

    def add_node(self, name: str, address: str, labels: dict[str, str] | None = None) -> Object:
        """Register a Node that is Ready, as a kubelet would, and return it."""
        self.admin.create(
            "/api/v1/nodes",
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels or {}}},
        )
        # Conditions say since when in whole seconds; a test that needs another state patches it.
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "", **_stamps()}
        addresses = [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}]
        status = {"conditions": [ready], "addresses": addresses}
        return self.admin.patch(f"/api/v1/nodes/{name}/status", {"status": status})

    def place_pod(self, namespace: str, name: str, account: str, node: str) -> Object:
        """Make a pod that is bound to a node already, for tokens; nobody runs it."""
        container = {"name": "main", "image": "none.invalid/none"}
        spec = {"serviceAccountName": account, "nodeName": node, "containers": [container]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        return self.admin.create(f"/api/v1/namespaces/{namespace}/pods", body)

    def kubectl(
        self, *arguments: str, stdin: str | None = None, kubeconfig: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the real kubectl on the control plane's node, as admin unless a kubeconfig is given.

        Raises:
            AssertionError: it fails and ``check`` is left on; the message is what it wrote.
        """
        config = kubeconfig or self.kubeconfig()
        command = [str(self._assets / "kubectl"), f"--cache-dir={self.folder / 'kubectl-cache'}", *arguments]
        process = self.node.popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECONFIG": str(config)},
        )
        out, err = process.communicate(stdin or "")
        if check and process.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {err.strip()}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def kubectl_json(self, *arguments: str, kubeconfig: Path | None = None) -> Any:
        """Run kubectl with `-o json` and return what it printed."""
        return json.loads(self.kubectl(*arguments, "-o", "json", kubeconfig=kubeconfig).stdout)

    def stop_api(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the API server by this signal and wait until it is gone; etcd stays."""
        process = self._processes.pop("kube-apiserver")
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # in case it was paused
        process.wait(_PATIENCE)

    def start_api(self) -> None:
        """Start the API server on the same etcd and wait until it is ready."""
        arguments = controlargs.api(self.node.address, self._keys)
        self._spawn("kube-apiserver", [*arguments, *self._api_flags])
        self._wait("kube-apiserver", lambda: self.admin.text("/readyz") == "ok")

    def pause_api(self) -> None:
        """Let the API server stand still: connections stay open and nothing answers."""
        stop(self._processes["kube-apiserver"])

    def resume_api(self) -> None:
        """Undo `pause_api`."""
        cont(self._processes["kube-apiserver"])

    def start_controllers(self) -> None:
        """Start kube-controller-manager and, where wanted, kube-scheduler; both must not run."""
        local = f"https://127.0.0.1:{PORT}"  # they go on when the node's cable is cut
        config = self._component("kube-controller-manager", local)
        self._spawn("kube-controller-manager", controlargs.controllers(config, self._keys, self._node_grace))
        if self._scheduler:
            self._spawn("kube-scheduler", controlargs.scheduler(self._component("kube-scheduler", local)))

    def stop_controllers(self) -> None:
        """Kill kube-controller-manager and kube-scheduler."""
        for name in self._processes.keys() & {"kube-controller-manager", "kube-scheduler"}:
            self._kill(name)

    def snapshot(self) -> Path:
        """Copy etcd's data as it would be found after a crash now, and return the copy's folder."""
        etcd = self._processes["etcd"]
        copy = self.folder / f"snapshot-{secrets.token_hex(4)}"
        stop(etcd)
        try:
            shutil.copytree(self.folder / "etcd", copy)
        finally:
            cont(etcd)
        return copy

    def restore(self, snapshot: Path) -> None:
        """Start everything anew from a snapshot's data: resource versions run backwards, as in a disaster."""
        self.stop_controllers()
        if "kube-apiserver" in self._processes:
            self.stop_api()
        self._kill("etcd")
        shutil.rmtree(self.folder / "etcd")
        shutil.copytree(snapshot, self.folder / "etcd")
        self._start_etcd()
        self.start_api()
        self.start_controllers()

    def footprint(self) -> dict[str, float]:
        """Return the resident memory of each part in MiB."""
        found = {}
        for name, process in self._processes.items():
            pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
            found[name] = pages * os.sysconf("SC_PAGESIZE") / 2**20
        return found

    def logs(self, lines: int = 30) -> str:
        """Return the end of each part's log."""
        return "\n".join(
            f"== {path.stem}\n{_tail(path, lines)}" for path in sorted(self.folder.glob("*.log"))
        )

    def _has_default_account(self) -> bool:
        return self.admin.exists("/api/v1/namespaces/default/serviceaccounts/default")

    def _start_etcd(self) -> None:
        self._spawn("etcd", controlargs.etcd(self.folder / "etcd"))
        self._wait("etcd", lambda: self.node.run_in(_etcd_serves))

    def _component(self, name: str, url: str) -> Path:
        return self._kubeconfig(name, controlargs.certificate(self.pair(f"system:{name}")), url)

    def _kubeconfig(self, name: str, user: dict[str, str], url: str) -> Path:
        path = self.folder / "keys" / f"{name}.kubeconfig"
        path.write_text(json.dumps(controlargs.kubeconfig(url, self.ca, user)), encoding="ascii")
        path.chmod(0o600)
        return path

    def _spawn(self, name: str, arguments: Sequence[str]) -> None:
        # Whatever happens to the test run, its server is not left behind.
        command = ["setpriv", "--pdeathsig", "KILL", str(self._assets / name), *arguments]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = self.node.popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _kill(self, name: str) -> None:
        kill(self._processes.pop(name))

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _PATIENCE
        while True:
            with contextlib.suppress(OSError, ApiError):
                if ready():
                    return
            code = self._processes[name].poll()
            if code is not None or time.monotonic() > end:
                what = f"not ready within {_PATIENCE:.0f} s" if code is None else f"exit {code}"
                raise ControlPlaneError(f"{name}: {what}\n{_tail(self.folder / f'{name}.log', 20)}")
            time.sleep(0.02)


def _etcd_serves() -> bool:
    with socket.create_connection(("127.0.0.1", 2379), 1.0) as sock:
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        return b'"health":"true"' in b"".join(iter(lambda: sock.recv(4096), b""))


def _stamps() -> Object:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"lastHeartbeatTime": now, "lastTransitionTime": now}


def _tail(path: Path, lines: int) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
