from __future__ import annotations

from typing import Any

import pytest

from carp_operator.kubectl.documents import Document
from carp_operator.kubectl.manifests import Manifests, gather, name_problem
from manifests import POOLS, VIRTUAL_IPS, manifest

SPEC: dict[str, Any] = {"addresses": ["10.1.1.252"]}


def gathered(*objects: Any) -> Manifests:
    """Return what is made of these objects of one file."""
    return gather(Document("f", f"document {n}", data) for n, data in enumerate(objects, 1))


def test_sound_objects() -> None:
    """VirtualIPs and pools arrive by name, with the place where they stand."""
    found = gathered(
        manifest("VirtualIP", "a", SPEC), manifest("VirtualIPPool", "lan", {"addresses": ["10.1.1.192/27"]})
    )
    assert ([], []) == (found.problems, found.notes)
    assert (["a"], ["lan"]) == (list(found.vips), list(found.pools))
    assert {"a": "f: VirtualIP a"} == found.titles


@pytest.mark.parametrize("name", VIRTUAL_IPS)
def test_every_rule_is_said(name: str) -> None:
    """What the API server refuses of a VirtualIP is a problem here, by file, object and field."""
    case = VIRTUAL_IPS[name]
    found = gathered(manifest("VirtualIP", "a", case.spec))
    assert bool(case.ours) == bool(found.problems)
    assert bool(case.ours) != bool(found.vips)
    if case.ours:
        assert any(p.startswith("f: VirtualIP a: ") and case.ours in p for p in found.problems)


@pytest.mark.parametrize("name", POOLS)
def test_every_rule_of_pools_is_said(name: str) -> None:
    """The same for a pool, which then counts as broken, not as missing."""
    case = POOLS[name]
    found = gathered(manifest("VirtualIPPool", "lan", case.spec))
    assert bool(case.ours) == bool(found.problems)
    assert ({"lan"} if case.ours else set()) == found.broken_pools


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            manifest("VirtualIP", "a", {**SPEC, "vhid": 300}),
            "VirtualIP a: spec.vhid: 300 is not between 1 and 255",
        ),
        (
            manifest("VirtualIP", "a", {**SPEC, "vhdi": 3}),
            "VirtualIP a: spec.vhdi: is not a known field; did you mean vhid?",
        ),
        (
            {**manifest("VirtualIP", "a", SPEC), "apiVersion": "carp.vip/v2"},
            "apiVersion: 'carp.vip/v2' is not",
        ),
        (
            manifest("CarpNode", "a", {}),
            "kind: 'CarpNode' is not one of VirtualIP, VirtualIPPool (give it to",
        ),
        (manifest("VirtualIp", "a", SPEC), "kind: 'VirtualIp' is not one of"),
        ({"kind": "VirtualIP", "metadata": {"name": "a"}}, "apiVersion: None is not carp.vip/v1alpha1"),
        ({"apiVersion": "v1"}, "document 1: kind: is required"),
        ({"spec": {}}, "document 1: apiVersion: is required"),
        ("text", "document 1: is no object"),
        (manifest("VirtualIP", "", SPEC), "document 1: metadata.name: is required"),
        (manifest("VirtualIP", "../x", SPEC), "metadata.name: '../x' must be lower-case"),
        (manifest("VirtualIP", "a" * 64, SPEC), "is longer than 63 characters"),
    ],
)
def test_problem_of_one_object(data: Any, problem: str) -> None:
    """What is wrong with an object is one line."""
    found = gathered(data)
    assert {} == found.vips
    assert 1 == len(found.problems)
    assert problem in found.problems[0]


def test_all_problems_at_once() -> None:
    """Every problem of every object is reported, and the sound ones are still there."""
    bad = {**SPEC, "vhid": 300, "maxNodes": 0}
    found = gathered(
        manifest("VirtualIP", "a", bad), manifest("VirtualIP", "b", bad), manifest("VirtualIP", "c", SPEC)
    )
    assert 4 == len(found.problems)
    assert ["c"] == list(found.vips)


def test_twice() -> None:
    """A second object of the same kind and name is a problem that names the first."""
    pool = manifest("VirtualIPPool", "a", {"addresses": ["10.1.1.192/27"]})
    found = gathered(manifest("VirtualIP", "a", SPEC), pool, manifest("VirtualIP", "a", SPEC))
    assert ["f: VirtualIP a: stands twice, first in f, document 1"] == found.problems


def test_others_are_skipped() -> None:
    """An object of another group is not ours to judge, but is mentioned."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
    found = gathered(secret, manifest("VirtualIP", "a", SPEC))
    assert [] == found.problems
    assert ["f: Secret x: skipped: only VirtualIP and VirtualIPPool are rendered"] == found.notes


def test_status_of_a_cluster() -> None:
    """Of a status only what is to stay is kept: not who was master."""
    kept = {"vhid": 7, "addresses": ["10.1.1.9"], "pool": "lan", "nodes": []}
    raw = {**manifest("VirtualIP", "a", SPEC), "status": {**kept, "master": {"node": "n1"}}}
    assert kept == gathered(raw).vips["a"].status


@pytest.mark.parametrize(
    ("name", "right"),
    [("a", True), ("a-1.b", True), ("", False), ("A", False), ("a/b", False), ("..", False), ("-a", False)],
)
def test_names(name: str, right: bool) -> None:
    """A name is that of a Kubernetes object: it becomes part of a path."""
    assert right == (name_problem(name) == "")
