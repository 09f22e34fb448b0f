from __future__ import annotations

import json
import time
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp.core.config import Interface, Preempt, PreemptMode, SealMode
from carp_operator.api import codec, virtualip
from carp_operator.api import objects as o
from carp_operator.controller.keys import KEYS
from carp_operator.controller.passwords import generated_name
from manifests import VIRTUAL_IPS, manifest

EVERYTHING = VIRTUAL_IPS["everything"].spec
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def vip(spec: Any, **meta: Any) -> o.VirtualIP:
    """Return what a spec reads as."""
    raw = manifest("VirtualIP", "ingress", spec)
    return codec.virtual_ip({**raw, "metadata": {**raw["metadata"], **meta}})


def spec_of(spec: Any) -> o.VipSpec:
    """Return the values of a good spec."""
    found = vip(spec)
    assert found.spec is not None, found.errors
    return found.spec


def test_a_virtual_ip_with_everything() -> None:
    """Each field arrives, durations in seconds, addresses as addresses."""
    found = spec_of(EVERYTHING)
    assert found == o.VipSpec(
        addresses=(ip_interface("10.1.1.252/24"),),
        pool="",
        families=(),
        vhid=42,
        interface=Interface(subnet="auto"),
        node_selector=o.Selector((("role", "edge"),), (o.Expression("zone", o.Operator.IN, ("a", "b")),)),
        node_preferences=(o.NodePreference(50, (("zone", "a"),)),),
        max_nodes=3,
        failover_time=90.0,
        advertisement=None,
        preempt=Preempt(PreemptMode.AFTER, 30.0),
        secret=o.SecretRef("ingress", "pass"),
        mode=SealMode.INTEROPERABLE,
        transport=o.Transport("Unicast", extra_peers=("10.1.1.1",)),
        health_checks=tuple(EVERYTHING["healthChecks"]),
        when_all_fail="Release",
        announce=EVERYTHING["announce"],
        fencing="Off",
    )


def test_a_virtual_ip_with_nothing_but_an_address() -> None:
    """What was not written and has no default is None or empty; an address alone is /32 or /128."""
    found = spec_of({"addresses": ["10.1.1.252", "2001:db8::252"]})
    assert (IPv4Interface("10.1.1.252/32"), IPv6Interface("2001:db8::252/128")) == found.addresses
    assert (None,) * 5 == (found.vhid, found.interface, found.failover_time, found.secret, found.mode)
    assert (5, "Keep", "Lifetime", Preempt(), o.Transport()) == (
        found.max_nodes,
        found.when_all_fail,
        found.fencing,
        found.preempt,
        found.transport,
    )


def test_addresses_of_a_pool() -> None:
    """Families are numbers in order."""
    found = spec_of({"addressesFrom": {"pool": "lan", "families": ["IPv6", "IPv4"]}})
    assert ((), "lan", (4, 6)) == (found.addresses, found.pool, found.families)


def test_timing_and_groups() -> None:
    """Explicit timing keeps an unset step as None."""
    found = spec_of({"addresses": ["10.1.1.1"], "advertisement": {}, "transport": {"group": "239.0.0.1"}})
    assert (o.Advertisement(1, None, 3), "239.0.0.1") == (found.advertisement, found.transport.group4)


def test_metadata_and_status_come_along() -> None:
    """The status is what was stored, for what is sticky."""
    raw = manifest("VirtualIP", "a", {"addresses": ["10.1.1.1"]})
    raw["metadata"] |= {"uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}
    raw["metadata"]["annotations"] = {"a": "b"}
    found = codec.virtual_ip({**raw, "status": {"vhid": 7}})
    assert ("a", "u", 3, "2026-01-01T00:00:00Z") == (found.name, found.uid, found.generation, found.created)
    assert ({"a": "b"}, {"vhid": 7}) == (found.annotations, found.status)


def test_a_long_name_breaks_the_spec() -> None:
    """It could not name a vhost."""
    found = codec.virtual_ip(manifest("VirtualIP", "x" * 64, {"addresses": ["10.1.1.1"]}))
    assert (None, True) == (found.spec, "longer than 63" in str(found.errors[0]))


def test_unknown_fields_count_only_in_a_file() -> None:
    """A newer CRD may have fields that this version does not know; a file's are misspelt."""
    raw = manifest("VirtualIP", "a", {"addresses": ["10.1.1.1"], "prempt": {}})
    assert () == codec.virtual_ip(raw).errors
    found = codec.virtual_ip(raw, strict=True)
    assert ["spec.prempt: is not a known field; did you mean preempt?"] == [str(e) for e in found.errors]


@pytest.mark.parametrize(("name", "good"), [("keys", False), ("keys2", True), ("key", True)])
def test_the_name_whose_secret_is_the_controllers_own_breaks_the_spec(name: str, good: bool) -> None:
    """`carp-keys` holds the passwords of all: it is no VirtualIP's generated Secret."""
    assert "carp-keys" == KEYS == generated_name("keys")
    found = codec.virtual_ip(manifest("VirtualIP", name, {"addresses": ["10.1.1.1"]}))
    assert good is (found.spec is not None)
    assert good or "the Secret carp-keys is the controller's own" in str(found.errors[0])
    assert "self.metadata.name != 'keys'" in virtualip.NAME_RULE.cel


@pytest.mark.parametrize("name", ["", "My VIP", "a_b"])
def test_names_that_no_object_can_have_count_only_in_a_file(name: str) -> None:
    """The API server would refuse them; a manifest that never saw one is told here."""
    raw = manifest("VirtualIP", name, {"addresses": ["10.1.1.1"]})
    assert ["metadata.name"] == [error.field for error in codec.virtual_ip(raw, strict=True).errors]


def test_one_line_for_several_errors() -> None:
    """A condition names the first and counts the rest."""
    errors = vip({"addresses": ["x"], "vhid": 0}).errors
    assert codec.first_error(errors[:1]) == str(errors[0])
    assert codec.first_error(errors) == f"{errors[0]} (and 1 more)"


def test_ranges_of_a_pool_are_sorted_and_joined() -> None:
    """An address that stands in two ranges is handed out once; a wrong range does not hide the others."""
    spec = {"addresses": ["10.1.1.8-10.1.1.20", "2001:db8::/126", "10.1.1.0/29", "10.1.1.10/32", "x"]}
    found = codec.pool(manifest("VirtualIPPool", "lan", spec))
    base = int(ip_interface("10.1.1.0").ip)
    base6 = int(ip_interface("2001:db8::").ip)
    assert (o.PoolRange(4, base, base + 20), o.PoolRange(6, base6, base6 + 3)) == found.ranges
    assert ["spec.addresses[4]"] == [error.field for error in found.errors]


def test_a_range_that_ends_before_it_begins_is_said_by_us() -> None:
    """CEL cannot compare addresses."""
    found = codec.pool(manifest("VirtualIPPool", "lan", {"addresses": ["10.1.1.9-10.1.1.1"]}))
    assert ((), True) == (found.ranges, "ends before it begins" in str(found.errors[0]))


@pytest.mark.parametrize("status", ["True", "False", "Unknown"])
def test_a_node(status: str) -> None:
    """Ready is what the condition says; anything but True is not ready."""
    condition = {"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    raw = {
        "metadata": {
            "name": "n1",
            "uid": "u",
            "labels": {"a": "b"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, condition]},
    }
    assert o.Node("n1", "u", {"a": "b"}, status == "True", 1767225600.0, True, True) == codec.node(raw)


def test_a_carpnode() -> None:
    """What was written and what was answered, and fields that somebody added."""
    vhost = {"name": "ingress", "vhid": 42}
    state = {
        "name": "ingress",
        "state": "MASTER",
        "since": "s",
        "transitions": 2,
        "advskew": 10,
        "demotions": [{"reason": "r", "amount": 5}],
        "interface": "eth0",
        "refused": "no",
    }
    link = {"name": "eth0", "mac": "m", "mtu": 1500, "carrier": True, "addresses": ["10.1.1.1/24", "bad"]}
    speaker = {"interface": "eth0", "protocol": "vrrp", "id": 9, "source": "10.1.1.3"}
    raw = {
        "metadata": {
            "name": "n1",
            "uid": "u",
            "generation": 4,
            "ownerReferences": [{"kind": "Node", "uid": "nu"}],
        },
        "spec": {"cluster": "c", "vhosts": [vhost], "hand": 1},
        "status": {
            "observedUID": "u",
            "observedGeneration": 4,
            "lastWrite": "w",
            "interfaces": [link],
            "vhosts": [state],
            "foreign": [speaker],
        },
    }
    found = codec.carp_node(raw)
    assert ("n1", "nu", "c", (vhost,)) == (
        found.name,
        found.owner,
        found.cluster,
        found.vhosts,
    )
    assert (True, True, "w") == (found.confirmed, found.reported, found.written)
    assert (o.Link("eth0", "m", 1500, True, (IPv4Interface("10.1.1.1/24"),)),) == found.links
    expected = o.VhostState("ingress", "MASTER", "s", 2, 10, (("r", 5),), "eth0", "", "no", "")
    assert (expected,) == found.states
    assert (o.Speaker("eth0", "vrrp", 9, "10.1.1.3", ""),) == found.speakers


def test_a_carpnode_that_nobody_reported() -> None:
    """No status is not an empty report."""
    found = codec.carp_node({"metadata": {"name": "n1", "uid": "u", "generation": 1}, "spec": {}})
    assert (False, False) == (found.reported, found.confirmed)


@given(ANYTHING, ANYTHING, ANYTHING)
def test_nothing_that_is_stored_raises(meta: Any, spec: Any, status: Any) -> None:
    """Whatever a server of another version stores becomes a value."""
    raw = {"metadata": meta, "spec": spec, "status": status}
    for read in (codec.virtual_ip, codec.pool, codec.node, codec.carp_node):
        read(raw)
        read({})


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(EVERYTHING, ANYTHING)))
def test_no_field_of_a_spec_raises(spec: dict[str, Any]) -> None:
    """A wrong field is an error of its own, never an exception, also beside good ones."""
    assert (vip(spec).spec is None) == bool(vip(spec).errors)
    vip({**EVERYTHING, **spec})


def test_moments_are_epoch_seconds() -> None:
    """0 where there is none."""
    assert (1767225600.0, 0.0, 0.0) == (
        codec.epoch("2026-01-01T00:00:00Z"),
        codec.epoch(""),
        codec.epoch("x"),
    )


def test_a_thousand_virtual_ips_are_read_in_a_moment() -> None:
    """Meant are 150 ms, and 1 ms for a CarpNode of 50 vhosts; a busy machine gets twice that."""
    many = [
        manifest("VirtualIP", f"v{i}", {**EVERYTHING, "addresses": [f"10.9.{i // 250}.{i % 250 + 1}/16"]})
        for i in range(1000)
    ]
    state = {"state": "BACKUP", "transitions": 1, "advskew": 1, "demotions": [], "interface": "eth0"}
    names = [{"name": f"v{i}"} for i in range(50)]
    node = {"spec": {"vhosts": names}, "status": {"vhosts": [{**name, **state} for name in names]}}
    many = json.loads(json.dumps(many))
    took = min(_spent(lambda: [codec.virtual_ip(raw) for raw in many]) for _ in range(3))
    took_node = min(_spent(lambda: codec.carp_node(node)) for _ in range(10))
    assert (took < 0.3, took_node < 0.002) == (True, True), (took, took_node)


def _spent(work: Any) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun
