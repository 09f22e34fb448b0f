"""`carp-uninstall`: give every address up and delete what the operator made, before it is deleted itself.

Runs once, before the DaemonSet and the controller go (the chart's pre-delete hook). VirtualIPs, pools and the
resource definitions stay: whoever installs again finds them served again.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from carp.commands.arguments import Parser
from carp.core.errors import ConfigError
from carp_operator.api.reasons import REASONS
from carp_operator.controller import once
from carp_operator.controller.events import COMPONENT
from carp_operator.controller.lease import NAME as LEASE
from carp_operator.controller.passwords import LABELS, MANAGER
from carp_operator.kube.access import namespace
from carp_operator.kube.client import connect
from carp_operator.kube.errors import Conflict, NotFound, Transient
from carp_operator.kube.resources import (
    CARP_NODES,
    EVENTS,
    GROUP,
    LEASES,
    NODES,
    PODS,
    SECRETS,
    VERSION,
    VIRTUAL_IPS,
    Resource,
)
from carp_operator.plan.status import stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp_operator.kube.client import Client, Object

POLL: Final = 1.0
"""s between two looks at what the nodes have confirmed."""
CONTROLLER_TIME: Final = 30.0
"""s for the controller to end; on a dead node its pod never does."""
SELECTOR: Final = "app.kubernetes.io/name=carp-operator,app.kubernetes.io/component=controller"
_DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
_NAMESPACES: Final = Resource("", "v1", "namespaces")
_ABOUT: Final = """\
Give all addresses up and delete what the operator made: CarpNodes, passwords, Events, and what nodes have
stored. Run it before deleting the operator itself. VirtualIPs and resource definitions stay."""
T = TypeVar("T")


@dataclass(slots=True)
class Uninstall:
    """One run. ``timeout`` in s for the nodes' confirmations; the functions are replaced by tests.

    ``test_pod``: the pod that `helm test` has left, if any.
    """

    client: Client
    namespace: str
    deployment: str
    test_pod: str
    timeout: float
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _told: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Node -> uid and generation of the CarpNode that says to give up."""

    def run(self) -> None:
        """Do everything, in this order. Raises KubeError for what stays refused."""
        self._stop_controller()
        self._tell()
        silent = self._wait()
        self._mark(silent)
        self._delete()

    def _stop_controller(self) -> None:
        """Scale the controller to zero: it would put right what we write."""
        scale = {"spec": {"replicas": 0}}
        deployments = _DEPLOYMENTS.within(self.namespace)
        try:
            self._try(lambda: self.client.patch(deployments, self.deployment, scale, subresource="scale"))
        except NotFound:
            self.say(f"there is no Deployment {self.namespace}/{self.deployment}")
        end = self.clock() + CONTROLLER_TIME
        while self._try(lambda: self.client.list(PODS.within(self.namespace), label=SELECTOR)):
            if self.clock() >= end:
                self.say(f"the controller's pod is still there after {CONTROLLER_TIME:g} s; going on")
                return
            self.sleep(POLL)
        self.say("the controller has ended")

    def _tell(self) -> None:
        """Tell every node to hold nothing and to keep nothing."""
        for node in self._nodes():
            name = node["metadata"]["name"]
            cluster = (node.get("spec") or {}).get("cluster") or self._cluster()
            body = {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "CarpNode",
                "metadata": {"name": name},
                "spec": {"cluster": cluster, "vhosts": [], "uninstall": True},
            }
            meta = self._try(lambda body=body: self.client.apply(CARP_NODES, body, MANAGER))["metadata"]  # type: ignore[misc]  # mypy cannot infer a default argument
            self._told[name] = (meta["uid"], meta["generation"])
        self.say(f"{len(self._told)} nodes were told to give their addresses up")

    def _cluster(self) -> str:
        return str(self._try(lambda: self.client.get(_NAMESPACES, "kube-system"))["metadata"]["uid"])

    def _wait(self) -> set[str]:
        """Wait until every node that can has confirmed; say and return which did not."""
        open_, silent = self._reachable()
        for name, why in sorted(silent.items()):
            self.say(f"{name} is not waited for: {why}")
        end = self.clock() + self.timeout
        while open_:
            for node in self._nodes():
                name, status = node["metadata"]["name"], node.get("status") or {}
                uid, generation = self._told.get(name, ("", 0))
                same = status.get("observedUID") == uid
                if name in open_ and same and status.get("observedGeneration", 0) >= generation:
                    open_.discard(name)
                    self.say(f"{name} holds nothing any more")
            if open_ and self.clock() >= end:
                for name in sorted(open_):
                    self.say(f"{name} has not confirmed within {self.timeout:g} s: look at its pod's log")
                break
            if open_:
                self.sleep(POLL)
        return open_ | silent.keys()

    def _reachable(self) -> tuple[set[str], dict[str, str]]:
        """Return the nodes to wait for, and why not for the others."""
        ready = {
            node["metadata"]["name"] for node in self._try(lambda: self.client.list(NODES)) if _ready(node)
        }
        silent = {}
        for node in self._nodes():
            name = node["metadata"]["name"]
            if name not in ready:
                silent[name] = "the Node is not Ready; its state folder keeps the last settings"
            elif not (node.get("status") or {}).get("agentVersion"):
                silent[name] = "no agent was ever there"
        return self._told.keys() - silent.keys(), silent

    def _mark(self, silent: set[str]) -> None:
        """Let each VirtualIP say that it is not served.

        Of its members only those stay named that may still hold it: whoever installs again has to reckon with
        them. What was chosen once, such as the vhid, stays.
        """
        try:
            vips = self._try(lambda: self.client.list(VIRTUAL_IPS))
        except NotFound:
            return
        now = stamp(time.time())
        for vip in vips:
            if vip.get("status"):
                self._write(vip["metadata"]["name"], _abandoned(vip["status"], silent, now))

    def _write(self, name: str, status: Object) -> None:
        """Write a VirtualIP's status as the controller does, so that the next one finds it its own."""
        meta = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VirtualIP", "metadata": {"name": name}}
        try:
            self._try(lambda: self.client.apply_status(VIRTUAL_IPS, meta | {"status": status}, MANAGER))
        except NotFound:
            return

    def _delete(self) -> None:
        """Delete what controller and agents made."""
        for node in self._nodes():
            self._remove(CARP_NODES, node["metadata"]["name"])
        secrets, events = SECRETS.within(self.namespace), EVENTS.within("default")
        ours = ",".join(f"{key}={value}" for key, value in LABELS.items())
        kept = self._try(lambda: self.client.list(secrets, label=ours))
        posted = self._try(lambda: self.client.list(events, field=f"source={COMPONENT}"))
        for resource, items in ((secrets, kept), (events, posted)):
            for item in items:
                self._remove(resource, item["metadata"]["name"])
        self._remove(LEASES.within(self.namespace), LEASE)
        self._remove(PODS.within(self.namespace), self.test_pod)
        counts = f"{len(self._told)} CarpNodes, {len(kept)} Secrets and {len(posted)} Events"
        self.say(f"deleted {counts}; VirtualIPs and resource definitions stay")

    def _nodes(self) -> list[Object]:
        try:
            return self._try(lambda: self.client.list(CARP_NODES))
        except NotFound:
            return []

    def _remove(self, resource: Resource, name: str) -> None:
        try:
            self._try(lambda: self.client.delete(resource, name))
        except NotFound:
            return

    def _try(self, request: Callable[[], T]) -> T:
        """Ask until the answer would be the same again, or the time is over. Raises KubeError."""
        end = self.clock() + self.timeout
        while True:
            try:
                return request()
            except (Transient, Conflict) as error:
                if self.clock() >= end:
                    raise
                self.say(f"{error}; trying again")
                self.sleep(POLL)


def _abandoned(status: Object, silent: set[str], now: str) -> Object:
    """Return the status of a VirtualIP that only the nodes in ``silent`` may still hold."""
    kept = {k: v for k, v in status.items() if k not in ("master", "backups", "authentication")}
    nodes = [each for each in status.get("nodes") or () if each.get("name") in silent]
    conditions = [_ended(each, now) for each in status.get("conditions") or ()]
    return {**kept, "nodes": nodes, "conditions": conditions}


def _ended(condition: Object, now: str) -> Object:
    """Return a condition as it is from now on; whether the settings are right does not change."""
    if condition.get("type") == "Accepted":
        return condition
    changed = {"status": "False", "reason": "Uninstalled", "message": REASONS["Uninstalled"]}
    when = condition.get("lastTransitionTime") if condition.get("status") == "False" else now
    return {**condition, **changed, "lastTransitionTime": when or now}


def _ready(node: Object) -> bool:
    conditions: list[dict[str, Any]] = (node.get("status") or {}).get("conditions") or []
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code: 0 done, 1 what the API server refuses, 2 wrong use."""
    return once.run("carp-uninstall", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    client = connect(given.kubeconfig, given.api_server)
    place = _place(given.namespace)
    Uninstall(client, place, given.deployment, given.test_pod, given.timeout, say=once.say).run()
    return 0


def _place(given: str) -> str:
    found = given or os.environ.get("POD_NAMESPACE", "") or namespace()
    if not found:
        raise ConfigError("namespace", None, "is required: --namespace carp-system, or POD_NAMESPACE")
    return found


def _parser() -> Parser:
    parser = Parser(prog="carp-uninstall", description=_ABOUT, allow_abbrev=False)
    add = parser.add_argument
    add(
        "--namespace",
        default="",
        metavar="NS",
        help="where the operator is [$POD_NAMESPACE, or the pod's own]",
    )
    add("--deployment", default="carp-controller", metavar="NAME", help="the controller's [%(default)s]")
    add("--test-pod", default="carp-test", metavar="NAME", help="left by `helm test` [%(default)s]")
    add("--timeout", type=once.patience, default=120.0, metavar="TIME", help="for the nodes [120s]")
    once.add_connection(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
