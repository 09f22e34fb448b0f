"""The installation as the API shows it: where the programs run, and what of it may be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp_operator.kube.errors import Forbidden, NotFound
from carp_operator.kube.resources import CARP_NODES, GROUP, LEASES, PODS, POOLS, VIRTUAL_IPS, Resource
from carp_operator.kubectl import reading as r

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from carp_operator.kube.client import Client, Object

CRDS: Final = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
DAEMON_SETS: Final = Resource("apps", "v1", "daemonsets")
DEPLOYMENTS: Final = Resource("apps", "v1", "deployments")
NAMESPACES: Final = Resource("", "v1", "namespaces")
CONFIG_MAPS: Final = Resource("", "v1", "configmaps")
OURS: Final = (VIRTUAL_IPS, POOLS, CARP_NODES)
LABEL: Final = "app.kubernetes.io/name=carp-operator"
COMPONENT: Final = "app.kubernetes.io/component"
DEFAULT: Final = "carp-system"
LEASE: Final = "carp-controller"


@dataclass(slots=True)
class Install:
    """Everything beside our own objects. A part that could not be read is None; ``unread`` says why."""

    namespace: str
    crds: dict[str, Object | None] = field(default_factory=dict)
    """Name -> definition; None: it does not exist."""
    place: Object | None = None
    """The namespace itself."""
    pods: list[Object] | None = None
    controllers: list[Object] | None = None
    daemons: list[Object] | None = None
    lease: Object | None = None
    proxy: Object | None = None
    """The ConfigMap of kube-proxy."""
    unread: dict[str, str] = field(default_factory=dict)
    """Part -> why it could not be read."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add --namespace."""
    parser.add_argument(
        "-n",
        "--namespace",
        metavar="NS",
        help=f"where carp-operator runs (default: where its DaemonSet is, else {DEFAULT})",
    )


def find_namespace(client: Client) -> str:
    """Return the namespace of the DaemonSet or the controller; the usual one where we may not look."""
    for kind in (DAEMON_SETS, DEPLOYMENTS):
        try:
            found = client.list(kind, label=LABEL)
        except (Forbidden, NotFound):
            continue
        if found:
            return r.text(found[0], "metadata", "namespace")
    return DEFAULT


def survey(client: Client, namespace: str) -> Install:
    """Return what can be read. Raises KubeError where the API server does not answer."""
    made = Install(namespace)

    def read(part: str, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except (Forbidden, NotFound) as error:
            made.unread[part] = str(error)
            return None

    for kind in OURS:
        name = f"{kind.plural}.{GROUP}"
        try:
            made.crds[name] = client.get(CRDS, name)
        except NotFound:
            made.crds[name] = None
        except Forbidden as error:
            made.unread["crds"] = str(error)
    made.place = read("namespace", lambda: client.get(NAMESPACES, namespace))
    made.pods = read("pods", lambda: client.list(PODS.within(namespace), label=LABEL))
    made.controllers = read("deployments", lambda: client.list(DEPLOYMENTS.within(namespace), label=LABEL))
    made.daemons = read("daemonsets", lambda: client.list(DAEMON_SETS.within(namespace), label=LABEL))
    made.lease = read("lease", lambda: client.get(LEASES.within(namespace), LEASE))
    made.proxy = read("kube-proxy", lambda: client.get(CONFIG_MAPS.within("kube-system"), "kube-proxy"))
    return made


def component(item: Object) -> str:
    """Return which part of ours an object belongs to: node, controller, or nothing."""
    return r.text(item, "metadata", "labels", COMPONENT)


def arguments(install: Install) -> list[str]:
    """Return the command line of the controller; empty where it is not known."""
    for deployment in install.controllers or ():
        for container in r.maps(deployment, "spec", "template", "spec", "containers"):
            words = [*r.texts(container, "command"), *r.texts(container, "args")]
            if any("carp-controller" in word for word in words):
                return words
    return []


def argument(install: Install, name: str) -> str:
    """Return the value of an option of the controller, such as ``--interfaces``; empty: not given."""
    words = arguments(install)
    for at, word in enumerate(words):
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
        if word == name and at + 1 < len(words):
            return words[at + 1]
    return ""
