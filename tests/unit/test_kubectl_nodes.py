from __future__ import annotations

from typing import Any

import pytest

from carp_operator.kubectl.documents import Document
from carp_operator.kubectl.nodes import UNNAMED, Nodes


def words(*given: str) -> Nodes:
    """Return the nodes of these words."""
    result = Nodes()
    for word in given:
        result.add_word(word)
    return result


def documents(*objects: Any) -> Nodes:
    """Return the nodes of these objects of one file."""
    result = Nodes()
    result.add_documents(Document("f", f"document {n}", data) for n, data in enumerate(objects, 1))
    result.close("f")
    return result


def links(nodes: Nodes, name: str) -> dict[str, list[str]]:
    """Return a node's addresses by interface."""
    return {link.name: [str(a) for a in link.addresses] for link in nodes.carpnodes[name].links}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("n1=10.1.1.1/24", {UNNAMED: ["10.1.1.1/24"]}),
        ("n1=eth0:10.1.1.1/24", {"eth0": ["10.1.1.1/24"]}),
        ("n1=eth0:10.1.1.1/24,2001:db8::1/64", {"eth0": ["10.1.1.1/24", "2001:db8::1/64"]}),
        ("n1=2001:db8::1/64,eth1:fd00::1/64", {UNNAMED: ["2001:db8::1/64"], "eth1": ["fd00::1/64"]}),
        ("n1=a:10.1.1.1/24,b:10.1.2.1/24", {"a": ["10.1.1.1/24"], "b": ["10.1.2.1/24"]}),
    ],
)
def test_words(word: str, expected: dict[str, list[str]]) -> None:
    """An address is on the interface named before it, or on one without name."""
    found = words(word)
    assert [] == found.problems
    assert expected == links(found, "n1")
    assert found.carpnodes["n1"].reported


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("n1", "--node: n1: '' is no address with its prefix length"),
        ("n1=", "--node: n1: '' is no address"),
        ("=10.1.1.1/24", "--node: '=10.1.1.1/24': its name is required"),
        ("../n=10.1.1.1/24", "its name '../n' must be"),
        ("n1=10.1.1.1", "--node: n1: '10.1.1.1' is no address with its prefix length"),
        ("n1=10.1.1.1/33", "--node: n1: '10.1.1.1/33' is no address"),
        ("n1=eth0:fe80::1%eth0/64", "is no address"),
        ("n1=10.1.1.1/24,eth1:x", "--node: n1: 'eth1:x' is no address"),
    ],
)
def test_wrong_words(word: str, problem: str) -> None:
    """What is wrong with a word is one line with the part that is wrong."""
    found = words(word)
    assert 1 == len(found.problems)
    assert problem in found.problems[0]


def test_twice() -> None:
    """A node stands once."""
    assert ["--node: node n1 stands twice"] == words("n1=10.1.1.1/24", "n1=10.1.1.2/24").problems


def test_short_form() -> None:
    """A list of names, addresses, labels and perhaps an interface, or one document for each."""
    first = {"name": "n1", "addresses": ["10.1.1.1/24"], "labels": {"rack": "a"}, "interface": "eth0"}
    found = documents(
        [first, {"name": "n2", "addresses": ["10.1.1.2/24"]}], {"name": "n3", "addresses": ["10.1.1.3/24"]}
    )
    assert [] == found.problems
    assert ["n1", "n2", "n3"] == sorted(found.nodes)
    assert ({"rack": "a"}, {"eth0": ["10.1.1.1/24"]}) == (found.nodes["n1"].labels, links(found, "n1"))
    assert {UNNAMED: ["10.1.1.2/24"]} == links(found, "n2")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"name": "n1"}, "f: document 1: [0].addresses: is required"),
        ({"addresses": ["10.1.1.1/24"]}, "[0].name: is required"),
        ({"name": "n1", "addresses": []}, "[0].addresses: has 0 entries"),
        (
            {"name": "n1", "addresses": ["10.1.1.1"]},
            "[0].addresses[0]: '10.1.1.1' is no address with its prefix",
        ),
        (
            {"name": "n1", "addresses": ["10.1.1.1/24"], "label": {}},
            "[0].label: is not a known field; did you mean labels?",
        ),
        (
            {"name": "n1", "addresses": ["10.1.1.1/24"], "interface": "?"},
            "[0].interface: '?' is no interface name",
        ),
        ({"name": "n/1", "addresses": ["10.1.1.1/24"]}, "[0].name: 'n/1' must be lower-case"),
        ("n1", "[0]: 'n1' is not a mapping"),
    ],
)
def test_wrong_entries(entry: Any, problem: str) -> None:
    """What is wrong with an entry is one line with its field."""
    found = documents([entry])
    assert {} == found.nodes
    assert 1 == len(found.problems), found.problems
    assert problem in found.problems[0]


def node(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Node as the API server stores it."""
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    meta = {"name": name, "uid": f"u-{name}", "labels": {"role": "edge"}}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": meta,
        "spec": spec,
        "status": {"conditions": [ready]},
    }


def carp_node(name: str) -> dict[str, Any]:
    """Return a CarpNode in maintenance, with a vhost."""
    meta = {"name": name, "uid": f"c-{name}", "annotations": {"carp.vip/maintenance": "true", "x": "y"}}
    interfaces = [{"name": "eth0", "addresses": ["10.1.1.1/24"]}]
    status = {"interfaces": interfaces, "vhosts": [{"name": "a", "state": "MASTER"}]}
    spec = {"vhosts": [{"name": "a", "passwordRef": "a.1"}]}
    return {
        "apiVersion": "carp.vip/v1alpha1",
        "kind": "CarpNode",
        "metadata": meta,
        "spec": spec,
        "status": status,
    }


def test_objects_of_a_cluster() -> None:
    """Labels and interfaces count; whether a node is up, cordoned or maintained, and what it runs, not."""
    found = documents(node("n1", unschedulable=True), carp_node("n1"))
    assert [] == found.problems
    one, carp = found.nodes["n1"], found.carpnodes["n1"]
    assert ({"role": "edge"}, True, False) == (one.labels, one.ready, one.unschedulable)
    assert ({"x": "y"}, (), ()) == (carp.annotations, carp.vhosts, carp.states)
    assert {"eth0": ["10.1.1.1/24"]} == links(found, "n1")


@pytest.mark.parametrize(
    ("objects", "problem"),
    [
        ([carp_node("n1")], "f: CarpNode n1: its Node is missing"),
        ([node("n1"), node("n1")], "f: Node n1: metadata.name: stands twice"),
        (
            [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}],
            "f: Pod x: is neither a Node of v1",
        ),
        ([{**node("n1"), "metadata": {}}], "f: document 1: metadata.name: is required"),
    ],
)
def test_wrong_objects(objects: list[Any], problem: str) -> None:
    """What is no node, stands twice or lacks its Node is said."""
    found = documents(*objects)
    assert 1 == len(found.problems)
    assert found.problems[0].startswith(problem)
