"""What a served schema cannot hold is left out and named."""

from __future__ import annotations

from typing import Any

import pytest

from carp_operator.api import crd
from carp_operator.controller.schemas import OURS, Served, crd_name, prune, served

SCHEMA = {
    "properties": {
        "a": {"type": "string"},
        "list": {"items": {"properties": {"x": {}, "deep": {"properties": {"y": {}}}}}},
        "map": {"additionalProperties": {"type": "integer"}},
        "free": {"x-kubernetes-preserve-unknown-fields": True},
    }
}


@pytest.mark.parametrize(
    ("value", "kept", "lost"),
    [
        ({"a": "1"}, {"a": "1"}, ()),
        ({"a": "1", "b": 2}, {"a": "1"}, ("b",)),
        ({"list": [{"x": 1, "z": 2}, {"z": 3}]}, {"list": [{"x": 1}, {}]}, ("list[].z",)),
        ({"list": [{"deep": {"y": 1, "q": 1}}]}, {"list": [{"deep": {"y": 1}}]}, ("list[].deep.q",)),
        ({"map": {"k": 1}}, {"map": {"k": 1}}, ()),
        ({"free": {"k": {"l": 1}}}, {"free": {"k": {"l": 1}}}, ()),
    ],
)
def test_prune(value: Any, kept: Any, lost: tuple[str, ...]) -> None:
    """Fields without a property go, at every depth; maps and free-form parts stay."""
    assert (kept, lost) == prune(value, SCHEMA)


def test_unknown_schema_keeps_all() -> None:
    """Without a schema nothing is left out."""
    assert ({"b": 1}, ()) == prune({"b": 1}, None)


def _crd(**changes: Any) -> dict[str, Any]:
    definition = crd.definition(crd.VIRTUAL_IP)
    definition["metadata"]["uid"] = "u1"
    definition["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    return {**definition, **changes}


def test_our_definitions_are_served() -> None:
    """A definition in good order gives uid and schema."""
    found = served(_crd())
    assert ("", "u1") == (found.problem, found.uid)
    assert found.schema is not None
    assert {"spec", "status"} == found.schema["properties"].keys()
    assert {"virtualips.carp.vip", "virtualippools.carp.vip", "carpnodes.carp.vip"} == set(
        map(crd_name, OURS)
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"metadata": {"name": "x", "deletionTimestamp": "now"}}, "x is being deleted"),
        ({"status": {}}, "is not established yet"),
        ({"spec": {"versions": [{"name": "v1", "served": True}]}}, "does not serve v1alpha1"),
        ({"spec": {"versions": [{"name": "v1alpha1", "served": False}]}}, "does not serve v1alpha1"),
    ],
)
def test_definitions_that_cannot_be_trusted(change: dict[str, Any], problem: str) -> None:
    """One that is going, not ready, or without our version makes its kind unknown."""
    found = served(_crd(**change))
    assert isinstance(found, Served)
    assert problem in found.problem
