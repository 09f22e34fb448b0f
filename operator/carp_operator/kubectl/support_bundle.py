"""`kubectl carp support-bundle`: one archive with what a bug report needs, and no secret in it."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp import __version__
from carp.core.errors import CarpError
from carp_operator.kube.errors import Forbidden, KubeError, NotFound
from carp_operator.kube.resources import CARP_NODES, EVENTS, LEASES, NODES, PODS, POOLS, SECRETS, VIRTUAL_IPS
from carp_operator.kubectl import access
from carp_operator.kubectl import install as installed
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.doctor import diagnose, page
from carp_operator.kubectl.scrub import Scrubber, cleaned, values
from carp_operator.kubectl.table import lines, row
from carp_operator.kubectl.usage import OK, make_parser, put

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp_operator.kube.client import Client, Object
    from carp_operator.kube.resources import Resource
    from carp_operator.kubectl.usage import Parser

_TAIL: Final = 20_000
"""Lines of each log."""
_CLUSTER_WIDE: Final = (VIRTUAL_IPS, POOLS, CARP_NODES, NODES)
_OF_THE_NAMESPACE: Final = (
    PODS,
    installed.DAEMON_SETS,
    installed.DEPLOYMENTS,
    installed.CONFIG_MAPS,
    LEASES,
    EVENTS,
)
_NO_RELEASES: Final = "type!=helm.sh/release.v1"
"""Helm keeps its releases in Secrets: they are not read."""
_EPILOG: Final = """\
examples:
  kubectl carp support-bundle
  kubectl carp support-bundle -o /tmp/carp.tgz -n carp-system

In it: our objects, Nodes, Events, the pods of the namespace with their logs, the definitions, versions, and
what status and doctor say. Of Secrets and ConfigMaps only names and keys; values of Secrets are read to
replace them wherever else they stand. Arguments of commands, queries of URLs and values with telling names
(password, token) are left out. Addresses, MACs and names of nodes are in it: look before you publish it.

exit codes: 0; 1 for an error; what may not be read is left out and listed"""


@dataclass(slots=True)
class Bundle:
    """What was collected: path in the archive -> content, and what could not be read."""

    files: dict[str, bytes] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set, repr=False)
    """Values of Secrets."""

    def add(self, path: str, data: Any) -> None:
        """Add JSON."""
        self.files[f"{path}.json"] = (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()

    def attempt(self, what: str, collect: Callable[[], None]) -> None:
        """Collect; where that fails, say so in the archive instead."""
        try:
            collect()
        except (CarpError, ValueError) as error:
            self.left_out.append(f"{what}: {error}")


def parser() -> Parser:
    """Return the command line of `kubectl carp support-bundle`."""
    result = make_parser("support-bundle", "Collect what a bug report needs, without secrets.", _EPILOG)
    result.add_argument(
        "-o", "--output", metavar="FILE", help="the archive (default carp-support-TIME.tgz here)"
    )
    installed.add_option(result)
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Write the archive; return the exit code. Raises CarpError."""
    given = parser().parse_args(words)
    client = access.client(given)
    client.page(
        VIRTUAL_IPS, {"limit": "1"}
    )  # what is wrong with the cluster is an error, not an empty archive
    namespace = given.namespace or installed.find_namespace(client)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(r.now()))
    path = Path(given.output or f"carp-support-{stamp}.tgz")
    bundle = gather(client, namespace)
    content = archive(bundle, f"carp-support-{stamp}")
    _write(path, content)
    put(f"{path}: {len(bundle.files)} files, {len(content) >> 10} KiB\n")
    for text in bundle.left_out:
        put(f"left out: {Scrubber(bundle.hidden).text(text)}\n")
    return OK


def gather(client: Client, namespace: str) -> Bundle:
    """Collect everything that may be read. Raises KubeError where the Secrets fail to be read, if allowed."""
    bundle = Bundle()
    _secrets(client, namespace, bundle)
    for kind in _CLUSTER_WIDE:
        bundle.attempt(str(kind), partial(_objects, client, kind, kind.plural, bundle))
    for kind in (each.within(namespace) for each in _OF_THE_NAMESPACE):
        path = f"{namespace}/{kind.plural}"
        bundle.attempt(str(kind), partial(_objects, client, kind, path, bundle))
    bundle.attempt("events", lambda: _events(client, bundle))
    bundle.attempt("definitions", lambda: _definitions(client, bundle))
    bundle.attempt("versions", lambda: _versions(client, bundle))
    bundle.attempt("logs", lambda: _logs(client, namespace, bundle))
    bundle.attempt("status", lambda: _status(client, bundle))
    bundle.attempt("doctor", lambda: _doctor(client, namespace, bundle))
    return bundle


def archive(bundle: Bundle, folder: str) -> bytes:
    """Return the archive, with every value that must not appear replaced."""
    scrubber = Scrubber(bundle.hidden)
    files = dict(bundle.files)
    if bundle.left_out:
        files["left-out.txt"] = "".join(f"{text}\n" for text in bundle.left_out).encode()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for path, content in sorted(files.items()):
            clean = scrubber.data(content)
            entry = tarfile.TarInfo(f"{folder}/{scrubber.text(path)}")
            entry.size, entry.mtime, entry.mode = len(clean), int(r.now()), 0o600
            tar.addfile(entry, io.BytesIO(clean))
    return made.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise CarpError(f"{path}: cannot be written: {error.strerror}") from None


def _objects(client: Client, kind: Resource, path: str, bundle: Bundle) -> None:
    # The items of a list of the core group do not say their kind.
    named = {"kind": "ConfigMap"} if kind.plural == installed.CONFIG_MAPS.plural else {}
    bundle.add(path, [cleaned({**item, **named}) for item in client.list(kind)])


def _secrets(client: Client, namespace: str, bundle: Bundle) -> None:
    """Note the values to hide, and add names and keys. Raises KubeError: without them nothing is written."""
    try:
        found = client.list(SECRETS.within(namespace), field=_NO_RELEASES)
    except Forbidden as error:
        bundle.left_out.append(f"secrets: {error.problem}: their values were NOT searched for in the rest")
        return
    bundle.hidden |= values(found)
    bundle.add(f"{namespace}/secrets", [cleaned({**item, "kind": "Secret"}) for item in found])


def _events(client: Client, bundle: Bundle) -> None:
    """Add the Events about our objects, which stand in the namespace default."""
    kinds = ("VirtualIP", "VirtualIPPool", "CarpNode", "Node")
    found = client.list(EVENTS.within("default"))
    ours = [e for e in found if r.text(e, "involvedObject", "kind") in kinds]
    bundle.add("events", [cleaned(each) for each in ours])


def _definitions(client: Client, bundle: Bundle) -> None:
    found = []
    for kind in installed.OURS:
        try:
            found.append(cleaned(client.get(installed.CRDS, f"{kind.plural}.{kind.group}")))
        except NotFound as error:
            bundle.left_out.append(str(error))
    bundle.add("definitions", found)


def _versions(client: Client, bundle: Bundle) -> None:
    server = client.page(access.Raw("", "", "/version"), {})
    bundle.add("versions", {"plugin": __version__, "server": server})


def _logs(client: Client, namespace: str, bundle: Bundle) -> None:
    """Add the log of each container, and of its run before the last restart."""
    for pod in client.list(PODS.within(namespace)):
        for container in r.maps(pod, "spec", "containers") + r.maps(pod, "spec", "initContainers"):
            name = r.text(container, "name")
            states = r.maps(pod, "status", "containerStatuses")
            again = any(r.whole(s, "restartCount") for s in states if s.get("name") == name)
            _log(client, pod, name, bundle)
            if again:
                _log(client, pod, name, bundle, previous="true")


def _log(client: Client, pod: Object, container: str, bundle: Bundle, *, previous: str = "") -> None:
    namespace, name = r.text(pod, "metadata", "namespace"), r.name_of(pod)
    place = f"{namespace}/logs/{name}/{container}{'.previous' if previous else ''}.log"
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/log"
    query = access.query_of(container=container, previous=previous, tailLines=_TAIL, timestamps="true")
    try:
        bundle.files[place] = access.text(client, path, query)
    except KubeError as error:
        bundle.left_out.append(f"{place}: {error.problem}")


def _status(client: Client, bundle: Bundle) -> None:
    cluster, now = r.read(client), r.now()
    rows = [row(vip, cluster.carpnodes, now) for vip in cluster.vips.values()]
    bundle.files["status.txt"] = "".join(f"{line}\n" for line in lines(rows, now, wide=True)).encode()


def _doctor(client: Client, namespace: str, bundle: Bundle) -> None:
    bundle.files["doctor.txt"] = page(diagnose(client, namespace)).encode()
