from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from carp.core.health import MAX_CHECKS
from carp.core.schema import MAX_PEERS, parse_vhost
from carp.daemon import jsonschema
from carp_operator.api import carpnode, codec, crd, generate, shapes, virtualip
from carp_operator.api.fields import Array, Field, Integer, Object
from manifests import VIRTUAL_IPS, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_IN_A_CARPNODE = {"password", "passwordFile", "scripts"}
GOOD = [name for name, case in VIRTUAL_IPS.items() if not case.ours]


def _walk(path: str, field: Field) -> Iterator[tuple[str, Field]]:
    yield path, field
    inner = field.items if isinstance(field, Array) else field
    if isinstance(inner, Object):
        for name, each in inner.fields.items():
            yield from _walk(f"{path}.{name}", each)


def _schema(kind: crd.Kind) -> dict[str, Any]:
    schema: dict[str, Any] = crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def test_a_carpnode_takes_every_setting_of_a_vhost() -> None:
    """A setting that is new in the vhost must come here too, or the server prunes it; none is a secret."""
    ours = set(carpnode.VHOST)
    assert set(jsonschema.VHOST) - NOT_IN_A_CARPNODE <= ours
    assert ours - set(jsonschema.VHOST) <= {"passwordRef", "demotions"}
    assert not ours & NOT_IN_A_CARPNODE


@pytest.mark.parametrize("section", ["announce", "healthChecks", "transport", "preempt", "authentication"])
def test_sections_of_a_vhost_have_the_same_fields(section: str) -> None:
    """Field by field as in the file's schema, with the same limits of numbers."""
    theirs = jsonschema.VHOST[section]
    ours = carpnode.VHOST[section]
    _compare(theirs.get("items", theirs), ours.items if isinstance(ours, Array) else ours)


def _compare(theirs: dict[str, Any], ours: Field) -> None:
    assert isinstance(ours, Object)
    assert set(theirs["properties"]) == set(ours.fields)
    assert theirs.get("required", []) == list(ours.required)
    for name, field in ours.fields.items():
        other = theirs["properties"][name]
        if isinstance(field, Object):
            _compare(other, field)
        if isinstance(field, Integer):
            assert (other["minimum"], other["maximum"]) == (field.low, field.high), name


@pytest.mark.parametrize("name", GOOD)
def test_what_a_virtual_ip_says_a_vhost_takes(name: str) -> None:
    """Addresses, interface, announcements and checks go into a vhost as they are: its reader agrees."""
    spec = codec.virtual_ip(manifest("VirtualIP", "ingress", VIRTUAL_IPS[name].spec)).spec
    assert spec is not None
    data: dict[str, Any] = {
        "name": "ingress",
        "vhid": 1,
        "interface": VIRTUAL_IPS[name].spec.get("interface", {"name": "eth0"}),
        "addresses": [str(vip) for vip in spec.addresses] or ["10.1.1.1"],
        "password": "secret",
        "announce": spec.announce,
        "healthChecks": list(spec.health_checks),
        "whenAllFail": spec.when_all_fail,
        "fencing": spec.fencing,
        "preempt": VIRTUAL_IPS[name].spec.get("preempt", {}),
    }
    assert spec.preempt == parse_vhost(data).preempt


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_every_field_explains_itself(kind: crd.Kind) -> None:
    """Each named field has a description that `kubectl explain` and docs/reference.md show."""
    fields = [*_walk("spec", kind.spec), *_walk("status", kind.status)]
    assert [] == [path for path, field in fields if not field.description]


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_what_cel_looks_at_is_bounded(kind: crd.Kind) -> None:
    """Texts and lists have a maximum, or the server's budget for rules does not hold."""
    unbounded = [
        path
        for path, schema in _schemas("", _schema(kind))
        if (schema.get("type") == "string" and not {"maxLength", "enum"} & schema.keys())
        or (schema.get("type") == "array" and "maxItems" not in schema)
    ]
    assert [] == unbounded


def _schemas(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _schemas(f"{path}.{name}", inner)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _schemas(f"{path}[]", schema[key])


def test_either_or_fields_have_no_default() -> None:
    """A defaulted failoverTime would make every advertisement an error."""
    fields = virtualip.SPEC.fields
    either = (
        "addresses",
        "addressesFrom",
        "failoverTime",
        "advertisement",
        "vhid",
        "authentication",
        "fencing",
    )
    assert [None] * len(either) == [fields[name].default for name in either]


def test_a_carpnode_has_no_default_and_no_rule() -> None:
    """The planner compares what is stored with what it wants."""
    assert not {"default", "x-kubernetes-validations"} & set(
        _keys(_schema(crd.CARP_NODE)["properties"]["spec"])
    )


def _keys(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            yield key
            yield from _keys(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _keys(value)


def test_limits_are_those_of_the_engine() -> None:
    """One number, one place."""
    assert MAX_CHECKS == shapes.CHECKS.most
    assert jsonschema.CREDENTIALS["addresses"]["maxItems"] == virtualip.MAX_ADDRESSES
    assert jsonschema.TRANSPORT["properties"]["peers"]["maxItems"] == MAX_PEERS


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.kind)
def test_the_yaml_is_the_definition(kind: crd.Kind) -> None:
    """A reader of YAML gets back what the tables say."""
    assert json.loads(json.dumps(crd.definition(kind))) == yaml.safe_load(generate.crd_text(kind))


def test_the_page_names_every_field_and_rule() -> None:
    """docs/reference.md is complete; only the conditions stand apart."""
    page = generate.page()
    for kind in crd.KINDS:
        for path, field in _walk("spec", kind.spec):
            assert f"{path.split('.')[-1]}` |" in page, path
            for rule in () if kind.plain else field.every_rule:
                assert rule.problem in page
