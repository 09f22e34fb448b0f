"""What `kubectl carp doctor` finds in the installation: CRDs, namespace, controller, versions. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from carp import __version__
from carp.commands.arguments import age
from carp.commands.finding import Finding, Verdict
from carp_operator.api import crd
from carp_operator.api.codec import epoch
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.install import arguments, component

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carp_operator.kube.client import Object
    from carp_operator.kubectl.install import Install
    from carp_operator.kubectl.reading import Cluster

CLUSTER: Final = "cluster"
CONTROLLER: Final = "controller"
_ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_NAMED: Final = 5
"""Fields that a finding names at most."""


def check_install(install: Install, cluster: Cluster, now: float) -> Iterator[Finding]:
    """Yield the findings; ``now`` in epoch seconds."""
    yield from _definitions(install)
    yield from _namespace(install)
    yield from _controller(install, cluster, now)
    yield from _versions(install, cluster)
    yield _proxy(install)


def _unread(install: Install, part: str, about: str, check: str) -> Finding:
    return Finding(about, check, Verdict.SKIPPED, install.unread.get(part, "was not read"))


# --- definitions --------------------------------------------------------------------------------------


def _definitions(install: Install) -> Iterator[Finding]:
    if "crds" in install.unread:
        yield _unread(install, "crds", CLUSTER, "definitions")
    for kind in crd.KINDS:
        name = f"{kind.plural}.{crd.GROUP}"
        if name in install.crds:
            yield _definition(name, install.crds[name], crd.definition(kind))


def _definition(name: str, found: Object | None, ours: Object) -> Finding:
    check = f"CRD {name}"
    advice = (
        "apply the CRDs of this version: helm upgrade with crds.install, or kubectl apply -f install.yaml"
    )
    if found is None:
        return Finding(CLUSTER, check, Verdict.FAIL, "does not exist", advice)
    if r.text(found, "metadata", "deletionTimestamp"):
        return Finding(CLUSTER, check, Verdict.FAIL, "is being deleted, with all its objects", advice)
    served = next((v for v in r.maps(found, "spec", "versions") if v.get("name") == crd.VERSION), {})
    if r.condition(found, "Established")[0] != "True" or served.get("served") is not True:
        return Finding(CLUSTER, check, Verdict.FAIL, f"does not serve {crd.VERSION}", advice)
    wanted = r.maps(ours, "spec", "versions")[0]
    lost = _missing(r.dig(wanted, "schema", "openAPIV3Schema"), r.dig(served, "schema", "openAPIV3Schema"))
    if not lost:
        return Finding(CLUSTER, check, Verdict.OK, f"serves {crd.VERSION}")
    shown = ", ".join(lost[:_NAMED]) + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
    text = f"lacks fields that version {__version__} of this plugin knows: {shown}"
    return Finding(CLUSTER, check, Verdict.WARN, text, advice)


def _missing(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the paths of fields of our schema that another lacks."""
    found: list[str] = []
    for name, schema in (r.dig(ours, "properties") or {}).items():
        where = f"{path}.{name}" if path else name
        other = r.dig(theirs, "properties", name)
        found += [where] if other is None else _missing(schema, other, where)
    if r.dig(ours, "items") is not None:
        found += _missing(r.dig(ours, "items"), r.dig(theirs, "items"), f"{path}[]")
    return found


# --- namespace ----------------------------------------------------------------------------------------


def _namespace(install: Install) -> Iterator[Finding]:
    check = f"namespace {install.namespace}"
    if install.place is None:
        yield _unread(install, "namespace", CLUSTER, check)
        return
    level = r.text(install.place, "metadata", "labels", _ENFORCE)
    if level in ("baseline", "restricted"):
        text = f"enforces pod security level {level}; the pods use the nodes' network, so they are refused"
        advice = f"kubectl label namespace {install.namespace} --overwrite {_ENFORCE}=privileged"
        yield Finding(CLUSTER, check, Verdict.FAIL, text, advice)
    elif level:
        yield Finding(CLUSTER, check, Verdict.OK, f"enforces pod security level {level}")
    else:
        text = "has no pod-security label: what the cluster enforces by default counts"
        advice = f"if pods are refused: kubectl label namespace {install.namespace} {_ENFORCE}=privileged"
        yield Finding(CLUSTER, check, Verdict.OK, text, advice)


# --- controller ---------------------------------------------------------------------------------------


def _controller(install: Install, cluster: Cluster, now: float) -> Iterator[Finding]:
    yield _deployment(install)
    yield _lease(install, now)
    behind = [
        name
        for name, vip in cluster.vips.items()
        if r.whole(vip, "metadata", "generation") > r.whole(vip, "status", "observedGeneration")
    ]
    if behind:
        text = f"has not answered the newest spec of {', '.join(behind)}"
        advice = f"its log says why: kubectl -n {install.namespace} logs -l {_selector()}"
        yield Finding(CONTROLLER, "answers", Verdict.FAIL, text, advice)
    elif cluster.vips:
        yield Finding(CONTROLLER, "answers", Verdict.OK, "has looked at every VirtualIP as it stands")


def _selector() -> str:
    return "app.kubernetes.io/component=controller"


def _deployment(install: Install) -> Finding:
    if install.controllers is None:
        return _unread(install, "deployments", CONTROLLER, "pods")
    found = _deployments(install)
    if not found:
        text = f"no Deployment of carp-operator in the namespace {install.namespace}"
        advice = "say where it is with -n; what runs goes on without it, but nothing changes"
        return Finding(CONTROLLER, "pods", Verdict.WARN, text, advice)
    ready, wanted = r.whole(found[0], "status", "readyReplicas"), r.whole(found[0], "spec", "replicas")
    if ready:
        verdict = Verdict.OK if ready == wanted else Verdict.WARN
        advice = "" if ready == wanted else f"kubectl -n {install.namespace} get pods -l {_selector()}"
        return Finding(CONTROLLER, "pods", verdict, f"{ready} of {wanted} ready", advice)
    advice = f"kubectl -n {install.namespace} describe pods -l {_selector()}"
    return Finding(CONTROLLER, "pods", Verdict.FAIL, f"none of {wanted} is ready", advice)


def _lease(install: Install, now: float) -> Finding:
    if install.lease is None:
        text = install.unread.get("lease", "")
        if "403" in text:
            return Finding(CONTROLLER, "lease", Verdict.SKIPPED, text)
        return Finding(CONTROLLER, "lease", Verdict.SKIPPED, "there is none: one replica needs none")
    holder = r.text(install.lease, "spec", "holderIdentity")
    renewed = epoch(r.text(install.lease, "spec", "renewTime"))
    limit = r.whole(install.lease, "spec", "leaseDurationSeconds") or 15
    ago = max(now - renewed, 0.0)
    if holder and ago <= limit:
        return Finding(CONTROLLER, "lease", Verdict.OK, f"held by {holder}, renewed {age(ago)} ago")
    if not _elects(install):
        text = "the controller runs without it: one replica needs none, it is left over from several"
        return Finding(CONTROLLER, "lease", Verdict.SKIPPED, text)
    text = f"{holder or 'nobody'} holds it, renewed {age(ago)} ago: nobody plans"
    advice = f"kubectl -n {install.namespace} logs -l {_selector()}"
    return Finding(CONTROLLER, "lease", Verdict.WARN, text, advice)


def _elects(install: Install) -> bool:
    """Whether the controller plans only while it holds the Lease, as far as its Deployment may be read."""
    words = arguments(install)
    if words:
        return "--leader-elect" in words
    return all(r.whole(each, "spec", "replicas") != 1 for each in _deployments(install))


def _deployments(install: Install) -> list[Object]:
    return [each for each in install.controllers or () if component(each) == CONTROLLER]


# --- versions -----------------------------------------------------------------------------------------


def _versions(install: Install, cluster: Cluster) -> Iterator[Finding]:
    running: dict[str, list[str]] = {}
    for name, carp in cluster.carpnodes.items():
        for part in ("agentVersion", "carpdVersion"):
            version = r.text(carp, "status", part)
            if version:
                running.setdefault(version, []).append(f"{part.removesuffix('Version')} on {name}")
    yield _compared("versions", {**running, __version__: [*running.get(__version__, ()), "this plugin"]})
    if install.pods is None:
        yield _unread(install, "pods", CLUSTER, "images")
        return
    images: dict[str, list[str]] = {}
    for pod in install.pods:
        for container in r.maps(pod, "spec", "containers"):
            images.setdefault(r.text(container, "image"), []).append(r.name_of(pod))
    if images:
        yield _compared("images", images)


def _compared(check: str, found: Mapping[str, list[str]]) -> Finding:
    if len(found) == 1:
        return Finding(CLUSTER, check, Verdict.OK, f"{next(iter(found))} everywhere")
    parts = []
    for version, who in sorted(found.items()):
        names = sorted(set(who))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts.append(f"{version}: {', '.join(names[:_NAMED])}{more}")
    advice = "finish the upgrade: kubectl rollout status, and install the plugin of the same version"
    return Finding(CLUSTER, check, Verdict.WARN, "; ".join(parts), advice)


# --- kube-proxy ---------------------------------------------------------------------------------------


def _proxy(install: Install) -> Finding:
    """Judge kube-proxy: in IPVS mode a node answers ARP for addresses of Services that it does not hold."""
    check = "kube-proxy"
    if install.proxy is None:
        text = install.unread.get("kube-proxy", "")
        return Finding(CLUSTER, check, Verdict.SKIPPED, text if "403" in text else "it has no ConfigMap here")
    config = "\n".join(
        value for value in (r.dig(install.proxy, "data") or {}).values() if isinstance(value, str)
    )
    mode, strict = (_setting(config, key) for key in ("mode", "strictARP"))
    if mode != "ipvs":
        return Finding(CLUSTER, check, Verdict.OK, f"mode {mode or 'iptables'}: strictARP does not matter")
    if strict == "true":
        return Finding(CLUSTER, check, Verdict.OK, "mode ipvs with strictARP")
    text = "mode ipvs without strictARP: every node answers ARP for the addresses of Services"
    advice = "set ipvs.strictARP: true in the ConfigMap kube-proxy in kube-system, and restart kube-proxy"
    return Finding(CLUSTER, check, Verdict.WARN, text, advice)


def _setting(config: str, key: str) -> str:
    match = re.search(rf"^\s*{key}:\s*['\"]?(\w*)", config, re.MULTILINE)
    return match[1] if match else ""
