"""The planner's decision as configuration files of carpd, one for each node."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import TYPE_CHECKING, Any, Final

from carp.commands import yamltext
from carp_operator.kubectl.nodes import UNNAMED
from carp_operator.plan.model import KeyState, Snapshot
from carp_operator.plan.planner import plan

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.api.objects import CarpNode, VirtualIP
    from carp_operator.kubectl.manifests import Manifests
    from carp_operator.kubectl.nodes import Nodes

TARGET: Final = "/etc/carp/carp.yaml"
_FIRST: Final = ("name", "vhid", "interface", "addresses", "passwordFile", "advbase", "advskew", "deadRatio")
_LEFT_OUT: Final = ("passwordRef", "firstClaimant", "demotions")
"""A Secret's key means nothing in a file; and a file is read at every start, long after what holds now."""


@dataclass
class Rendered:
    """``files``: node -> its file's text. ``passwords``: VirtualIP -> file, and the nodes that read it."""

    files: dict[str, str] = field(default_factory=dict)
    passwords: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def render(manifests: Manifests, nodes: Nodes, password_file: str) -> Rendered:
    """Return each node's file. ``{vip}`` in ``password_file`` stands for the VirtualIP's name."""
    result = Rendered()
    keys = {name: KeyState(f"{name}.1") for name in manifests.vips}
    snapshot = Snapshot("", manifests.vips, manifests.pools, nodes.nodes, nodes.carpnodes, keys, now=0.0)
    made = plan(snapshot)
    for name, vip in sorted(manifests.vips.items()):
        _judge(vip, made.vip_statuses[name], manifests, result)
    for node, each in sorted(made.nodes.items()):
        vhosts = []
        for entry in each.spec.get("vhosts", ()):
            path = password_file.replace("{vip}", entry["name"])
            vip = manifests.vips[entry["name"]]
            vhosts.append(_vhost(entry, vip, nodes.carpnodes[node], path))
            result.passwords.setdefault(vip.name, (path, []))[1].append(node)
        if vhosts:
            result.files[node] = f"# {node}: {TARGET}\n{yamltext.dump({'vhosts': vhosts})}"
        else:
            result.notes.append(f"{node}: has no vhost, so no file")
    return result


def _judge(vip: VirtualIP, status: Mapping[str, Any], manifests: Manifests, result: Rendered) -> None:
    """Report a VirtualIP that was not accepted, and note what was chosen for one that was."""
    assert vip.spec is not None  # noqa: S101 (only sound ones are gathered)
    title = manifests.titles[vip.name]
    accepted = next(c for c in status["conditions"] if c["type"] == "Accepted")
    if accepted["status"] != "True":
        if vip.spec.pool not in manifests.broken_pools:  # else the pool's own problem is reported
            result.problems.append(f"{title}: {accepted['message']}")
        return
    chosen = [] if vip.spec.vhid else [f"vhid: {status['vhid']}"]
    if vip.spec.pool:
        chosen.append(f"addresses: [{', '.join(status['addresses'])}]")
    if chosen and not vip.status:
        what = " and ".join(chosen)
        result.notes.append(f"{title}: {what} was chosen; write that into spec, so that it stays")
    if len(status["nodes"]) == 1 and vip.spec.max_nodes > 1:
        result.notes.append(f"{title}: {status['nodes'][0]['name']} is its only node: nobody can take over")


def _vhost(entry: Mapping[str, Any], vip: VirtualIP, carp: CarpNode, password_file: str) -> dict[str, Any]:
    """Return an entry of a CarpNode as an entry of a file, what matters most first."""
    found = {key: value for key, value in entry.items() if key not in _LEFT_OUT}
    found["passwordFile"] = password_file
    if "accept" in found:  # other addresses, signed with the same password
        found["accept"] = [
            {"addresses": other["addresses"], "passwordFile": password_file} for other in found["accept"]
        ]
    if found["interface"]["name"] == UNNAMED:
        found["interface"] = {"subnet": _subnet(entry["addresses"], vip, carp)}
    return {key: found[key] for key in (*_FIRST, *sorted(found.keys() - set(_FIRST)))}


def _subnet(addresses: list[str], vip: VirtualIP, carp: CarpNode) -> str:
    """Return the subnet by which a node finds an interface whose name is not known here."""
    wanted = vip.spec.interface.subnet if vip.spec and vip.spec.interface else ""
    if wanted not in ("", "auto"):
        return wanted
    first = ip_interface(addresses[0]).ip
    networks = [a.network for link in carp.links for a in link.addresses if link.name == UNNAMED]
    inside = [n for n in networks if n.version == first.version and first in n]
    return str(max(inside, key=lambda n: n.prefixlen, default=networks[0]))
