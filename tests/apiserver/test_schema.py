from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from apiclient import ApiError
from carp_operator.api import codec, crd
from manifests import POOLS, VIRTUAL_IPS, Case, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from controlplane import ControlPlane

_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_GROUP = "/apis/carp.vip/v1alpha1"


def _published(plane: ControlPlane) -> bool:
    try:
        text = plane.admin.text(f"/openapi/v3{_GROUP}")
    except ApiError:
        return False
    # Asked so, kubectl forgets what it remembers of an earlier, shorter list.
    listed = plane.kubectl("api-resources", f"--api-group={crd.GROUP}", "-o", "name", check=False).stdout
    return all(f"v1alpha1.{kind.kind}" in text and kind.plural in listed for kind in crd.KINDS)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """Yield the control plane with our CRDs, and take them away again."""
    for kind in crd.KINDS:
        control_plane.admin.create(_CRDS, crd.definition(kind))
    for kind in crd.KINDS:
        control_plane.kubectl(
            "wait", "--for=condition=Established", f"crd/{kind.plural}.{crd.GROUP}", "--timeout=30s"
        )
    # kubectl reads what the server publishes a moment later.
    end = time.monotonic() + 30.0
    while not _published(control_plane):
        assert time.monotonic() < end, "the API server did not publish the schemas"
        time.sleep(0.05)
    yield control_plane
    for kind in crd.KINDS:
        control_plane.admin.delete(f"{_CRDS}/{kind.plural}.{crd.GROUP}")


def _dry_run(plane: ControlPlane, kind: crd.Kind, spec: Any) -> str:
    """Return what the server says about a spec; empty: it takes it."""
    body = manifest(kind.kind, "ingress", spec)
    try:
        plane.admin.create(f"{_GROUP}/{kind.plural}", body, dryRun="All", fieldValidation="Strict")
    except ApiError as error:
        return str(error)
    return ""


def _judge(answer: str, case: Case) -> None:
    if case.ours:
        assert case.expected in answer
        assert f"{case.field}: " in answer
    else:
        assert "" == answer


@pytest.mark.parametrize("name", VIRTUAL_IPS)
def test_the_server_says_of_a_virtual_ip_what_we_say(plane: ControlPlane, name: str) -> None:
    """Good manifests are taken; bad ones are refused with the field and the words of the table."""
    _judge(_dry_run(plane, crd.VIRTUAL_IP, VIRTUAL_IPS[name].spec), VIRTUAL_IPS[name])


@pytest.mark.parametrize("name", POOLS)
def test_the_server_says_of_a_pool_what_we_say(plane: ControlPlane, name: str) -> None:
    """As for a VirtualIP."""
    _judge(_dry_run(plane, crd.POOL, POOLS[name].spec), POOLS[name])


def test_a_rule_shows_the_value(plane: ControlPlane) -> None:
    """Who wrote a wrong value sees it again, and what to write instead."""
    answer = _dry_run(plane, crd.VIRTUAL_IP, VIRTUAL_IPS["failover blank"].spec)
    assert "'3 s' is not a duration: write 3s, 500ms or 1m30s" in answer


def test_a_spec_at_all_its_limits_is_within_the_budget(plane: ControlPlane) -> None:
    """The server also counts what rules really cost; the largest object still goes."""
    checks = [
        {
            "name": f"c{i}" + "x" * 60,
            "http": {"url": "http://[2001:db8::1]:8080/" + "x" * 990, "host": "h" * 200, "expect": "200-399"},
            "period": "10s",
            "timeout": "10s",
        }
        for i in range(16)
    ]
    expressions = [{"key": "k" * 300, "operator": "In", "values": ["v" * 63] * 64}] * 16
    spec = {
        "addresses": [f"2001:db8:1111:2222:3333:4444:5555:{i:04x}/128" for i in range(16)],
        "nodeSelector": {
            "matchExpressions": expressions,
            "matchLabels": {f"l{i}": "v" * 63 for i in range(16)},
        },
        "nodePreferences": [{"weight": 1, "matchLabels": {f"l{i}": "v" for i in range(16)}}] * 16,
        "healthChecks": checks,
        "transport": {"mode": "Unicast", "extraPeers": [f"2001:db8::{i:x}" for i in range(1, 17)]},
    }
    assert "" == _dry_run(plane, crd.VIRTUAL_IP, spec)


def test_unknown_fields_are_refused_when_strict(plane: ControlPlane) -> None:
    """So it is that kubectl asks: a misspelt field does not vanish."""
    assert 'unknown field "spec.adresses"' in _dry_run(plane, crd.VIRTUAL_IP, {"adresses": ["10.1.1.1"]})


def test_a_name_too_long_for_a_vhost_is_refused(plane: ControlPlane) -> None:
    """A VirtualIP names a vhost on the nodes, so 63 characters are the most."""
    for length in (63, 64):
        body = manifest("VirtualIP", "x" * length, {"addresses": ["10.1.1.1"]})
        context = pytest.raises(ApiError, match="longer than 63") if length > 63 else contextlib.nullcontext()
        with context:
            plane.admin.create(f"{_GROUP}/virtualips", body, dryRun="All")


def test_defaults_are_those_that_we_read(plane: ControlPlane) -> None:
    """An object that went through the server reads the same as the manifest that was sent."""
    for name, case in VIRTUAL_IPS.items():
        if case.ours:
            continue
        sent = manifest("VirtualIP", "ingress", case.spec)
        stored = plane.admin.create(f"{_GROUP}/virtualips", sent, dryRun="All")
        assert codec.virtual_ip(sent).spec == codec.virtual_ip(stored).spec, name


def test_nothing_is_added_to_a_carpnode(plane: ControlPlane) -> None:
    """The planner compares a CarpNode with what it wants, so the server must store it as it was sent."""
    vhost = {
        "name": "ingress",
        "vhid": 42,
        "interface": {"name": "eth0"},
        "addresses": ["10.1.1.252/24"],
        "passwordRef": "ingress.1",
        "accept": [{"addresses": ["10.1.1.252"], "passwordRef": "ingress.0"}],
        "authentication": {},
        "preempt": {},
        "transport": {},
        "announce": {},
        "healthChecks": [{"name": "web", "tcp": {"port": 80}}],
        "demotions": [{"reason": "cordoned", "amount": 100}],
    }
    spec = {"cluster": "c", "vhosts": [vhost, {"name": "other"}]}
    body = manifest("CarpNode", "n1", spec)
    assert (
        spec
        == plane.admin.create(f"{_GROUP}/carpnodes", body, dryRun="All", fieldValidation="Strict")["spec"]
    )


def test_a_carpnode_holds_as_many_vhosts_as_a_node(plane: ControlPlane) -> None:
    """510 vhosts go, 511 do not."""
    vhosts = [{"name": f"v{i}", "addresses": ["10.1.1.252/24"], "vhid": 1} for i in range(511)]
    assert "" == _dry_run(plane, crd.CARP_NODE, {"cluster": "c", "vhosts": vhosts[:510]})
    assert "must have at most 510 items" in _dry_run(plane, crd.CARP_NODE, {"cluster": "c", "vhosts": vhosts})


def test_no_password_fits_into_a_carpnode(plane: ControlPlane) -> None:
    """Passwords and scripts are no fields: a mistake of the controller cannot publish one."""
    for field in ("password", "passwordFile", "scripts"):
        spec = {"vhosts": [{"name": "v", field: "x"}]}
        assert f'unknown field "spec.vhosts[0].{field}"' in _dry_run(plane, crd.CARP_NODE, spec)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("vip.spec.failoverTime", "Default 3s"),
        ("vip.spec.fencing", "quotes"),
        ("vip.spec.healthChecks.http.url", "localhost"),
        ("vip.status.failoverBound", "when the master dies"),
        ("vippool.spec.addresses", "10.1.1.200-10.1.1.220"),
        ("cn.status.vhosts.refused", "settings were not taken"),
    ],
)
def test_kubectl_explain_teaches(plane: ControlPlane, path: str, words: str) -> None:
    """Each field explains itself by its short name."""
    assert words in " ".join(plane.kubectl("explain", path).stdout.split())


def _with_status(plane: ControlPlane, kind: crd.Kind, name: str, spec: Any, status: Any) -> None:
    plane.admin.create(f"{_GROUP}/{kind.plural}", manifest(kind.kind, name, spec))
    plane.admin.patch(f"{_GROUP}/{kind.plural}/{name}/status", {"status": status})


def _table(plane: ControlPlane, *arguments: str) -> dict[str, str]:
    head, row = plane.kubectl("get", *arguments).stdout.splitlines()
    starts = [head.index(word) for word in head.split()]
    ends = [*starts[1:], len(row) + len(head)]
    return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def _condition(kind: str) -> dict[str, str]:
    return {"type": kind, "status": "True", "reason": "Fine", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def test_columns_of_a_virtual_ip(plane: ControlPlane) -> None:
    """`kubectl get vip` shows what OPNsense shows; the rest is wide."""
    status = {
        "addresses": ["10.1.1.252"],
        "vhid": 42,
        "master": {"node": "n1", "since": "2026-01-01T00:00:00Z"},
        "backups": ["n2", "n3"],
        "interface": "eth0",
        "transitions": 3,
        "pool": "lan",
        "conditions": [_condition("Ready")],
    }
    _with_status(plane, crd.VIRTUAL_IP, "columns", {"addresses": ["10.1.1.252"]}, status)
    try:
        narrow = _table(plane, "vip", "columns")
        wide = _table(plane, "vip", "columns", "-o", "wide")
    finally:
        plane.admin.delete(f"{_GROUP}/virtualips/columns")
    expected = {
        "NAME": "columns",
        "ADDRESSES": '["10.1.1.252"]',
        "VHID": "42",
        "MASTER": "n1",
        "READY": "True",
    }
    assert expected == {key: value for key, value in narrow.items() if key != "AGE"}
    more = {"INTERFACE": "eth0", "BACKUPS": '["n2","n3"]', "TRANSITIONS": "3", "POOL": "lan"}
    assert more == {key: wide[key] for key in more}
    assert {"AGE", "SINCE"} <= wide.keys()


def test_columns_of_pools_and_nodes(plane: ControlPlane) -> None:
    """All kinds are in the category carp, and show what a person wants to know first."""
    family = {"used": 1, "available": 30}
    _with_status(plane, crd.POOL, "lan", {"addresses": ["10.1.1.192/27"]}, {"ipv4": family})
    status = {
        "masters": 2,
        "carpdVersion": "0.1.0",
        "conditions": [_condition("Ready"), _condition("InSync")],
    }
    _with_status(plane, crd.CARP_NODE, "n1", {"cluster": "c", "vhosts": []}, status)
    try:
        pool, node = _table(plane, "vippool", "lan"), _table(plane, "cn", "n1")
        listed = plane.kubectl("get", "carp", "-o", "name").stdout.split()
    finally:
        plane.admin.delete(f"{_GROUP}/virtualippools/lan")
        plane.admin.delete(f"{_GROUP}/carpnodes/n1")
    assert ('["10.1.1.192/27"]', "1", "30") == (pool["RANGES"], pool["IPV4-USED"], pool["IPV4-FREE"])
    assert ("2", "True", "True", "0.1.0") == tuple(node[k] for k in ("MASTERS", "READY", "INSYNC", "VERSION"))
    assert {"virtualippool.carp.vip/lan", "carpnode.carp.vip/n1"} <= set(listed)


def test_a_full_status_is_stored_whole(plane: ControlPlane) -> None:
    """Every field that the controller and the agents write is in the schema: nothing is pruned."""
    for kind, spec in ((crd.VIRTUAL_IP, {"addresses": ["10.1.1.9"]}), (crd.CARP_NODE, {"vhosts": []})):
        status = _sample(crd.definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"])["status"]
        _with_status(plane, kind, "full", spec, status)
        path = f"{_GROUP}/{kind.plural}/full"
        stored = plane.admin.get(path)["status"]
        plane.admin.delete(path)
        assert json.dumps(status, sort_keys=True) == json.dumps(stored, sort_keys=True)


def _sample(schema: dict[str, Any]) -> Any:
    """Return a value with every field of a schema."""
    if "properties" in schema:
        return {name: _sample(field) for name, field in schema["properties"].items()}
    if "additionalProperties" in schema:
        return {"some": _sample(schema["additionalProperties"])}
    if schema["type"] == "array":
        return [_sample(schema["items"])]
    plain = {"integer": schema.get("minimum", 0) + 1, "boolean": True}
    text = "2026-01-01T00:00:00Z" if schema.get("format") else schema.get("enum", ["n1"])[0]
    return plain.get(schema["type"], text)
