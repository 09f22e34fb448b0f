"""`--nodes` and `--node` -> the nodes to render for, with their interfaces.

A file says how a node is set up, not how it is doing: whether a Node is ready, cordoned or in maintenance
does not count, and neither does what its CarpNode was told. Each CarpNode looks like one that its node has
not read yet: then the planner takes who is a member, and how preferred, from the VirtualIP's status.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import ConfigError
from carp_operator.api import codec
from carp_operator.api.fields import Array, Map, Object, Text
from carp_operator.kubectl.manifests import API, name_problem
from carp_operator.plan.facts import MAINTENANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carp_operator.api.objects import CarpNode, Node
    from carp_operator.kubectl.documents import Document

UNNAMED: Final = "?"
"""The interface of a node of which only addresses are known; no interface can have this name."""

_SHORT: Final = Object(
    fields={
        "name": Text(most=253),
        "interface": Text(most=15, pattern=(r"[^/\s:?]+", "is no interface name")),
        "addresses": Array(items=Text(most=64), least=1, most=64),
        "labels": Map(values=Text(most=63), most=1000),
    },
    required=("name", "addresses"),
)


@dataclass
class Nodes:
    """The nodes, by name, and what is wrong with what was given."""

    nodes: dict[str, Node] = field(default_factory=dict)
    carpnodes: dict[str, CarpNode] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_short(
        self, name: str, labels: dict[str, str], links: Mapping[str, Sequence[str]], where: str
    ) -> None:
        """Add a node of which a person wrote the addresses, by interface."""
        if name in self.nodes:
            self.problems.append(f"{where}: node {name} stands twice")
            return
        interfaces = [{"name": link, "addresses": list(found)} for link, found in links.items()]
        self.nodes[name] = _settled(codec.node({"metadata": {"name": name, "uid": name, "labels": labels}}))
        carp = codec.carp_node(
            {"metadata": {"name": name, "uid": name}, "status": {"interfaces": interfaces}}
        )
        self.carpnodes[name] = carp

    def add_documents(self, documents: Iterable[Document]) -> None:
        """Add what ``kubectl get nodes,carpnodes -o yaml`` gives, or entries of the short form."""
        for document in documents:
            data = document.data
            entries = data if isinstance(data, list) else [data]
            if isinstance(data, dict) and "kind" in data:
                self._add_object(document)
                continue
            for index, entry in enumerate(entries):
                self._add_entry(entry, document.title, f"[{index}]" if isinstance(data, list) else "")

    def close(self, file: str) -> None:
        """Report a CarpNode whose Node is missing: without labels nobody knows where it belongs."""
        for name in sorted(self.carpnodes.keys() - self.nodes.keys()):
            self.problems.append(
                f"{file}: CarpNode {name}: its Node is missing: kubectl get nodes,carpnodes -o yaml"
            )

    def _add_object(self, document: Document) -> None:
        data = document.data
        api, kind = data.get("apiVersion"), data.get("kind")
        if (api, kind) == ("v1", "Node"):
            known: dict[str, Any] = self.nodes
            found: Node | CarpNode = _settled(codec.node(data))
        elif (api, kind) == (API, "CarpNode"):
            carp, known = codec.carp_node(data), self.carpnodes
            notes = {key: value for key, value in carp.annotations.items() if key != MAINTENANCE}
            found = replace(carp, annotations=notes, vhosts=(), states=(), observed_uid="")
        else:
            self.problems.append(f"{document.title}: is neither a Node of v1 nor a CarpNode of {API}")
            return
        problem = name_problem(found.name) or ("stands twice" if found.name in known else "")
        if problem:
            self.problems.append(f"{document.title}: metadata.name: {problem}")
        else:
            known[found.name] = found

    def _add_entry(self, entry: Any, title: str, path: str) -> None:
        errors: list[ConfigError] = []
        value = _SHORT.read(entry, path, errors)
        errors += _SHORT.unknown(entry, path)
        if not errors and (problem := name_problem(value["name"])):
            errors.append(ConfigError(f"{path}.name", None, problem))
        for index, text in enumerate([] if errors else value["addresses"]):
            if wrong := _address_problem(text):
                errors.append(ConfigError(f"{path}.addresses[{index}]", text, wrong))
        self.problems += [f"{title}: {str(error).removeprefix('.')}" for error in errors]
        if not errors:
            links = {value.get("interface", UNNAMED): value["addresses"]}
            self.add_short(value["name"], value.get("labels", {}), links, title)

    def add_word(self, word: str) -> None:
        """Add a node given as NAME=[INTERFACE:]ADDRESS/PREFIX[,…]."""
        name, _, rest = word.partition("=")
        problem = name_problem(name)
        if problem:
            self.problems.append(f"--node: {word!r}: its name {problem}")
            return
        links: dict[str, list[str]] = {}
        interface = UNNAMED
        for part in rest.split(","):
            named, address = _part(part)
            interface = named or interface
            wrong = _address_problem(address)
            if wrong:
                self.problems.append(f"--node: {name}: {part!r} {wrong}")
            links.setdefault(interface, []).append(address)
        self.add_short(name, {}, links, "--node")


def _settled(node: Node) -> Node:
    return replace(node, ready=True, ready_since=0.0, unschedulable=False)


def _part(text: str) -> tuple[str, str]:
    """Return the interface, if one is named, and the address."""
    name, colon, rest = text.partition(":")
    return (name, rest) if colon and "/" not in name and _address_problem(text) else ("", text)


def _address_problem(text: str) -> str:
    """Return why this is no address of a node; empty when it is one."""
    right = "/" in text and "%" not in text and codec.interface_of(text) is not None
    return "" if right else "is no address with its prefix length, such as 10.1.1.1/24"
