"""What the tests of the kubectl plugin share: objects as an API server holds them, and a client of them."""

from __future__ import annotations

import base64
import copy
from typing import TYPE_CHECKING, Any

from carp.commands.finding import Finding, Verdict
from carp_operator.api import crd
from carp_operator.kube.errors import Forbidden, NotFound
from carp_operator.kubectl.doctor import examine
from carp_operator.kubectl.install import Install
from carp_operator.kubectl.live import snapshot
from carp_operator.kubectl.reading import Cluster
from carp_operator.plan.planner import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carp_operator.kube.resources import Resource

Object = dict[str, Any]
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
SINCE = "2025-12-31T23:58:00Z"
API = "carp.vip/v1alpha1"
ENFORCE = "pod-security.kubernetes.io/enforce"


def named(name: str, **fields: Any) -> Object:
    """Return an object of this name."""
    meta = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": SINCE}
    return {"metadata": meta | fields.pop("metadata", {}), **fields}


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> Object:
    """Return a condition."""
    return {"type": kind, "status": status, "reason": reason or kind, "message": message}


def vip(name: str, *members: str, **status: Any) -> Object:
    """Return a healthy VirtualIP whose first member is master; ``status`` overrides."""
    nodes = [
        {"name": node, "state": "BACKUP" if at else "MASTER", "advskew": 10 * at}
        for at, node in enumerate(members)
    ]
    full = {
        "observedGeneration": 1,
        "vhid": 42,
        "addresses": ["10.1.0.252"],
        "failoverBound": "3.28s",
        "interface": "eth0",
        "transitions": 2,
        "nodes": nodes,
        "backups": list(members[1:]),
        "conditions": [
            condition("Accepted", reason="Planned", message=f"{len(members)} members"),
            condition("Advertised", reason="Mastered", message="n1 is master"),
            condition("Ready", message="every member takes part"),
        ],
    }
    if members:
        full["master"] = {"node": members[0], "since": SINCE}
    spec = {"addresses": ["10.1.0.252"]}
    return named(name, apiVersion=API, kind="VirtualIP", spec=spec, status=full | status)


def carpnode(name: str, *vhosts: Object, **status: Any) -> Object:
    """Return a CarpNode that runs what it was told."""
    full = {
        "observedUID": f"uid-{name}",
        "observedGeneration": 1,
        "agentVersion": "0.1.0",
        "carpdVersion": "0.1.0",
        "lastWrite": SINCE,
        "interfaces": [
            {
                "name": "eth0",
                "mac": "02:00:00:00:00:01",
                "mtu": 1500,
                "carrier": True,
                "addresses": ["10.1.0.1/16"],
            }
        ],
        "vhosts": list(vhosts),
        "conditions": [
            condition("Ready", reason="Serving", message="carpd answers"),
            condition("InSync", reason="Applied", message="as told"),
        ],
    }
    return named(name, apiVersion=API, kind="CarpNode", spec={"cluster": "c"}, status=full | status)


def part(name: str, state: str = "BACKUP", **more: Any) -> Object:
    """Return what a node says of one vhost."""
    return {"name": name, "state": state, "interface": "eth0", "reason": "dead-time", **more}


def node(name: str, *, ready: bool = True, cordoned: bool = False) -> Object:
    """Return a Node."""
    status = {"conditions": [condition("Ready", "True" if ready else "False")]}
    return named(name, spec={"unschedulable": True} if cordoned else {}, status=status)


def secret(name: str, **values: str | bytes) -> Object:
    """Return a Secret with these values."""
    raw = {k: v.encode() if isinstance(v, str) else v for k, v in values.items()}
    data = {key: base64.b64encode(value).decode() for key, value in raw.items()}
    return named(name, type="Opaque", data=data)


def healthy(*names: str) -> FakeCluster:
    """Return a cluster where n1 is master of each of these VirtualIPs, and n2 and n3 are backups."""
    made = FakeCluster()
    for name in names:
        made.put("virtualips", vip(name, "n1", "n2", "n3"))
    for at in ("n1", "n2", "n3"):
        state = "MASTER" if at == "n1" else "BACKUP"
        made.put("carpnodes", carpnode(at, *(part(name, state) for name in names)))
        made.put("nodes", node(at))
    return made


class FakeCluster:
    """An API server in memory with the methods of `Client` that the plugin uses."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Object]] = {}
        self.forbidden: set[str] = set()
        """Plurals that may not be touched."""
        self.texts: dict[str, bytes] = {}
        """Path -> what a watch there answers."""
        self.patches: list[tuple[str, str, Object]] = []
        self.on_patch: Callable[[str, str], None] = lambda plural, name: None

    def put(self, plural: str, item: Object, namespace: str = "") -> Object:
        if namespace:
            item["metadata"]["namespace"] = namespace
        self.objects.setdefault((namespace, plural), {})[item["metadata"]["name"]] = item
        return item

    def of(self, plural: str, name: str, namespace: str = "") -> Object:
        return self.objects[namespace, plural][name]

    def _check(self, verb: str, kind: Resource) -> None:
        if kind.plural in self.forbidden:
            raise Forbidden(f"{verb} {kind}", f'{kind} is forbidden: User "u" cannot {verb}', status=403)

    def get(self, kind: Resource, name: str) -> Object:
        self._check("get", kind)
        found = self.objects.get((kind.namespace, kind.plural), {}).get(name)
        if found is None:
            raise NotFound(f"get {kind} {name}", f'{kind.plural} "{name}" not found', status=404)
        return copy.deepcopy(found)

    def list(self, kind: Resource, *, field: str = "", label: str = "") -> list[Object]:
        self._check("list", kind)
        spaces = [kind.namespace] if kind.namespace else {space for space, _ in self.objects}
        items = [i for s in spaces for i in self.objects.get((s, kind.plural), {}).values()]
        key, _, value = label.partition("=")
        return [
            copy.deepcopy(i) for i in items if not label or i["metadata"].get("labels", {}).get(key) == value
        ]

    def page(self, kind: Resource, query: dict[str, str]) -> Object:
        self._check("list", kind)
        return {"items": self.list(kind), "gitVersion": "v1.34.0"}

    def patch(self, kind: Resource, name: str, body: Object, *, manager: str = "") -> Object:
        self.get(kind, name)
        self.patches.append((kind.plural, name, body))
        notes = self.of(kind.plural, name)["metadata"].setdefault("annotations", {})
        for key, value in body["metadata"]["annotations"].items():
            if value is None:
                notes.pop(key, None)
            else:
                notes[key] = value
        self.on_patch(kind.plural, name)
        return copy.deepcopy(self.objects[kind.namespace, kind.plural].get(name, {}))

    def watch(self, kind: Resource, query: dict[str, str]) -> FakeStream:
        path = f"{kind.path()}?{query.get('container', '')}{'.previous' if query.get('previous') else ''}"
        if path not in self.texts:
            raise NotFound(f"watch {kind}", "no such container", status=404)
        return FakeStream(self.texts[path])


class FakeStream:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def chunks(self) -> Iterator[bytes]:
        yield self._content

    def close(self) -> None:
        return


# --- doctor ---------------------------------------------------------------------------------------------


def definition(kind: crd.Kind) -> dict[str, Any]:
    """Return an established definition."""
    return {**crd.definition(kind), "status": {"conditions": [condition("Established")]}}


def labels(component: str) -> dict[str, Any]:
    """Return the metadata of a part of ours."""
    return {"labels": {"app.kubernetes.io/name": "carp-operator", "app.kubernetes.io/component": component}}


def pod(on: str, *, ready: bool = True, image: str = "carp:1", restarts: int = 0) -> dict[str, Any]:
    """Return a pod of the DaemonSet."""
    status = {
        "conditions": [condition("Ready", "True" if ready else "False")],
        "containerStatuses": [{"name": "carpd", "restartCount": restarts}],
    }
    spec = {"nodeName": on, "containers": [{"name": "carpd", "image": image}]}
    return named(f"carp-{on}", metadata=labels("node"), spec=spec, status=status)


def good_install() -> tuple[Install, Cluster]:
    """Return an installation where nothing is wrong."""
    fake = healthy("web")
    install = Install(
        "carp-system",
        crds={f"{kind.plural}.carp.vip": definition(kind) for kind in crd.KINDS},
        place=named("carp-system", metadata={"labels": {ENFORCE: "privileged"}}),
        pods=[pod(name) for name in ("n1", "n2", "n3")],
        controllers=[
            named("c", metadata=labels("controller"), spec={"replicas": 1}, status={"readyReplicas": 1})
        ],
        lease=named("l", spec={"holderIdentity": "c-1", "renewTime": "2025-12-31T23:59:58.000000Z"}),
        proxy=named("kube-proxy", data={"config.conf": 'mode: "ipvs"\nipvs:\n  strictARP: true\n'}),
    )
    return install, Cluster(*(fake.objects["", kind] for kind in ("virtualips", "carpnodes", "nodes")))


def troubles(install: Install, cluster: Cluster) -> dict[tuple[str, str], Finding]:
    """Return the findings that are not ok, by what they are about."""
    findings = examine(install, cluster, NOW)
    assert all(each.advice for each in findings if each.verdict in (Verdict.FAIL, Verdict.WARN))
    return {(each.about, each.check): each for each in findings if each.verdict is not Verdict.OK}


def changed(**parts: Any) -> Any:
    """Return what sets parts of an installation."""

    def change(install: Install, cluster: Cluster) -> None:
        for name, value in parts.items():
            setattr(install, name, value)

    return change


def with_objects(kind: str, *items: dict[str, Any]) -> Any:
    """Return what replaces objects."""

    def change(install: Install, cluster: Cluster) -> None:
        for item in items:
            getattr(cluster, kind)[item["metadata"]["name"]] = item

    return change


def without(kind: str, name: str) -> Any:
    """Return what takes an object away."""
    return lambda install, cluster: getattr(cluster, kind).pop(name)


# --- planner --------------------------------------------------------------------------------------------


def manifest(name: str, kind: str = "VirtualIP", **spec: Any) -> dict[str, Any]:
    """Return a manifest; 10.1.0.252 if nothing else is said."""
    given = {"addresses": ["10.1.0.252"], **spec}
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": given}


def settle(fake: FakeCluster, rounds: int = 4) -> None:
    """Let controller and agents do what the plan says."""
    client: Any = fake
    for _ in range(rounds):
        made = plan(snapshot(client, NOW))
        for each in made.writes:
            carp = fake.of("carpnodes", each.name)
            meta, status = carp["metadata"], carp["status"]
            carp["spec"] = dict(each.spec)
            meta["ownerReferences"] = [{"kind": "Node", "uid": each.owner}]
            meta["generation"] += 1
            status["observedGeneration"] = meta["generation"]
            status["vhosts"] = [
                {
                    "name": v["name"],
                    "state": "MASTER" if each.name == "n1" else "BACKUP",
                    "since": "2025-12-31T23:00:00Z",
                    "interface": "eth0",
                }
                for v in each.spec.get("vhosts", ())
            ]
        for name, status in made.vip_statuses.items():
            fake.of("virtualips", name)["status"] = dict(status)


def served() -> FakeCluster:
    """Return three nodes that serve one VirtualIP, as controller and agents leave them."""
    made = FakeCluster()
    for at in range(1, 4):
        name = f"n{at}"
        link = {"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1500, "carrier": True}
        status = {
            "observedUID": f"uid-{name}",
            "observedGeneration": 1,
            "interfaces": [{**link, "addresses": [f"10.1.0.{at}/16"]}],
        }
        made.put("nodes", node(name))
        made.put("carpnodes", named(name, spec={"cluster": "c"}, status=status))
    made.put("virtualips", named("web", **{k: v for k, v in manifest("web").items() if k != "metadata"}))
    settle(made)
    return made
