"""What `kubectl carp doctor` finds at the nodes and the VirtualIPs, by what they say of themselves. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carp.commands.finding import Finding, Verdict
from carp.commands.words import ORDINARY_DROPS
from carp.commands.words import drops as dropped
from carp_operator.kube.resources import CARP_NODES
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.install import component

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carp_operator.kube.client import Object
    from carp_operator.kubectl.install import Install
    from carp_operator.kubectl.reading import Cluster


def check_nodes(install: Install, cluster: Cluster, now: float) -> Iterator[Finding]:
    """Yield the findings about each node; ``now`` in epoch seconds."""
    pods = {r.text(p, "spec", "nodeName"): p for p in install.pods or () if component(p) == "node"}
    for name in sorted(cluster.nodes.keys() | cluster.carpnodes.keys()):
        about = f"node {name}"
        node, carp = cluster.nodes.get(name), cluster.carpnodes.get(name)
        if carp is None and CARP_NODES.plural in cluster.unread:
            yield Finding(about, "agent", Verdict.SKIPPED, "its CarpNode could not be read")
            continue
        if carp is None:
            text = "has no CarpNode: the controller has not seen the Node"
            yield Finding(about, "agent", Verdict.FAIL, text, "see the findings about the controller")
            continue
        outside = "" if name in pods else _left_out(node, install)
        if outside and not _serves(carp):
            yield Finding(about, "agent", Verdict.SKIPPED, outside)
            continue
        yield _agent(about, node, carp, cluster, now)
        if install.pods is not None:
            yield _pod(about, pods.get(name), install.namespace)
        yield from _told(about, carp)
        yield from _links(about, carp)
        reason = r.out_of_service(cluster, name)
        if reason:
            text = f"{reason}: it holds an address only where nobody else can"
            undo = "uncordon" if "cordoned" in reason else "carp maintenance"
            advice = f"when the work is done: kubectl {undo} {name}{'' if undo == 'uncordon' else ' off'}"
            yield Finding(about, "service", Verdict.WARN, text, advice)


def _left_out(node: Object | None, install: Install) -> str:
    """Return why no DaemonSet of ours places a pod on a node; empty where one does, or that is not known."""
    labels = r.dig(node, "metadata", "labels") or {}
    lacking = []
    for each in install.daemons or ():
        selector = r.dig(each, "spec", "template", "spec", "nodeSelector") or {}
        lacks = [f"{key}={value}" for key, value in selector.items() if labels.get(key) != value]
        if node is None or not lacks:
            return ""
        lacking += [f"the nodeSelector of DaemonSet {r.name_of(each)} leaves it out: no {', '.join(lacks)}"]
    return "; ".join(lacking)


def _serves(carp: Object) -> bool:
    """Whether the node's agent says that carpd answers: then it runs there, whoever has placed it."""
    return r.condition(carp, "Ready")[0] == "True"


def _agent(about: str, node: Object | None, carp: Object, cluster: Cluster, now: float) -> Finding:
    wrote = r.text(carp, "status", "lastWrite")
    ago = f"wrote last {r.since(wrote, now)} ago" if wrote else "has never written"
    holds, reason, message = r.condition(carp, "Ready")
    if not wrote:
        advice = "does its pod run? the DaemonSet must tolerate the node's taints"
        return Finding(about, "agent", Verdict.FAIL, "has never reported", advice)
    if cluster.nodes and not r.node_ready(node):
        text = f"{ago}; the Node is not Ready, so that may be out of date"
        return Finding(about, "agent", Verdict.FAIL, text, "look at the machine and its kubelet")
    if holds != "True":
        advice = "look at the log of the container carpd on that node"
        return Finding(about, "agent", Verdict.FAIL, f"{reason or 'not Ready'}: {message}; {ago}", advice)
    return Finding(about, "agent", Verdict.OK, f"{message or reason}; {ago}")


def _pod(about: str, pod: Object | None, namespace: str) -> Finding:
    if pod is None:
        text = f"no pod of the DaemonSet in {namespace} is on it"
        return Finding(about, "pod", Verdict.WARN, text, "unless carpd runs there otherwise: check taints")
    restarts = sum(r.whole(c, "restartCount") for c in r.maps(pod, "status", "containerStatuses"))
    name, again = r.name_of(pod), f", {restarts} restarts" if restarts else ""
    if r.condition(pod, "Ready")[0] == "True":
        return Finding(about, "pod", Verdict.OK, f"{name} is Ready{again}")
    advice = f"kubectl -n {namespace} describe pod {name}"
    return Finding(about, "pod", Verdict.FAIL, f"{name} is not Ready{again}", advice)


def _told(about: str, carp: Object) -> Iterator[Finding]:
    """Yield whether the node runs what it was told."""
    holds, reason, message = r.condition(carp, "InSync")
    if holds == "False":
        yield Finding(about, "settings", Verdict.FAIL, f"{reason}: {message}", "see the agent's log")
    elif not r.confirmed(carp):
        advice = "if that lasts longer than seconds: see the agent's log"
        yield Finding(about, "settings", Verdict.WARN, "the newest are not confirmed yet", advice)
    else:
        yield Finding(about, "settings", Verdict.OK, "the newest are stored and run")


def _links(about: str, carp: Object) -> Iterator[Finding]:
    links = {r.text(link, "name"): link for link in r.maps(carp, "status", "interfaces")}
    for name in sorted({r.text(v, "interface") for v in r.maps(carp, "status", "vhosts")} - {""}):
        link = links.get(name)
        if link is None:
            advice = "bring it up, or choose another by spec.interface"
            yield Finding(about, f"interface {name}", Verdict.FAIL, "is not there", advice)
        elif link.get("carrier") is not True:
            yield Finding(
                about, f"interface {name}", Verdict.FAIL, "has no carrier", "check cable and switch"
            )


# --- VirtualIPs ---------------------------------------------------------------------------------------


def check_vip(vip: Object, cluster: Cluster) -> Iterator[Finding]:
    """Yield the findings about one VirtualIP."""
    about = r.name_of(vip)
    yield from _conditions(about, vip)
    for member in r.maps(vip, "status", "nodes"):
        yield from _member(about, vip, r.text(member, "name"), cluster)
    yield _spare(about, vip, cluster)
    yield from _foreign(about, vip, cluster)
    for text in r.waiting(vip):
        advice = "a node that is away for good: delete its Node; else see the controller's log"
        yield Finding(about, "waits", Verdict.WARN, text, advice)


def _conditions(about: str, vip: Object) -> Iterator[Finding]:
    advice = {
        "Accepted": "correct the VirtualIP; what ran before stays",
        "Advertised": "see the nodes below; on a node: carp doctor",
        "Ready": f"kubectl carp explain {about}",
    }
    for kind, hint in advice.items():
        holds, reason, message = r.condition(vip, kind)
        verdict = Verdict.FAIL
        if holds == "True":
            verdict = Verdict.WARN if reason == "Degraded" else Verdict.OK
        yield Finding(about, kind, verdict, f"{reason or holds}: {message or 'no answer yet'}", hint)


def _member(about: str, vip: Object, name: str, cluster: Cluster) -> Iterator[Finding]:
    part = r.vhost(cluster.carpnodes.get(name), r.name_of(vip))
    check = f"on {name}"
    for key, advice in (
        ("problem", "see the node's findings"),
        ("refused", "the node runs older settings: correct the VirtualIP"),
    ):
        if r.text(part, key):
            yield Finding(about, check, Verdict.FAIL, r.text(part, key), advice)
    if r.text(part, "conflict"):
        text = f"{r.text(part, 'conflict')} answers for an address, and no advert of it is believed"
        yield Finding(about, check, Verdict.FAIL, text, "find that machine; compare password and addresses")
    counts = {k: n for k, n in _drops(part).items() if k not in ORDINARY_DROPS and n}
    if counts:
        text = f"of the adverts, {dropped(counts)}"
        advice = "compare password, addresses and clocks of all members; carp watch on the node shows who"
        yield Finding(about, check, Verdict.WARN, text, advice)


def _drops(part: dict[str, Any]) -> dict[str, int]:
    found = part.get("drops")
    return {k: n for k, n in found.items() if isinstance(n, int)} if isinstance(found, dict) else {}


def _spare(about: str, vip: Object, cluster: Cluster) -> Finding:
    names = [r.text(m, "name") for m in r.order(vip) if r.text(m, "name") != r.master(vip)]
    able = [name for name in names if not r.unable(cluster, vip, name)]
    if able:
        return Finding(about, "successor", Verdict.OK, f"{able[0]} would be next")
    text = "; ".join(f"{n}: {r.unable(cluster, vip, n)}" for n in names) or "it has no other member"
    return Finding(
        about, "successor", Verdict.WARN, f"nobody could take over: {text}", "add or repair a node"
    )


def _foreign(about: str, vip: Object, cluster: Cluster) -> Iterator[Finding]:
    """Yield who else uses the vhid where a member of ours hears it."""
    vhid = r.dig(vip, "status", "vhid")
    heard: dict[str, list[str]] = {}
    for member in r.maps(vip, "status", "nodes"):
        name = r.text(member, "name")
        carp = cluster.carpnodes.get(name)
        interface = r.text(r.vhost(carp, about), "interface")
        for speaker in r.maps(carp, "status", "foreign"):
            if speaker.get("id") == vhid and speaker.get("interface") == interface:
                who = f"{r.text(speaker, 'source')} ({r.text(speaker, 'protocol')})"
                heard.setdefault(who, []).append(name)
    for who, nodes in sorted(heard.items()):
        text = f"{who} also speaks vhid {vhid}, heard by {', '.join(nodes)}"
        advice = "a firewall of the same group: mode Interoperable and its password; else choose another vhid"
        yield Finding(about, "others", Verdict.WARN, text, advice)
