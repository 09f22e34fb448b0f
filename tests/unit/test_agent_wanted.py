"""A CarpNode and the passwords as an apply request, by table."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from carp_operator.agent.wanted import Nothing, Wanted, keys_of, wanted


def node(*vhosts: Any, **spec: Any) -> dict[str, Any]:
    """Return a CarpNode of generation 7."""
    return {
        "metadata": {"name": "n1", "uid": "u", "generation": 7},
        "spec": {"cluster": "c", "vhosts": list(vhosts), **spec},
    }


def goal(*vhosts: Any, keys: dict[str, str] | None = None) -> Wanted:
    """Return what is wanted; it must be certain."""
    found = wanted(node(*vhosts), {"web.1": "love", "web.2": "hate"} if keys is None else keys)
    assert isinstance(found, Wanted)
    return found


def test_passwords() -> None:
    """Names of passwords are replaced by their values, also in what is accepted; all else stays."""
    accepted = [{"addresses": ["10.0.0.2"], "passwordRef": "web.2"}]
    found = goal({"name": "web", "vhid": 1, "passwordRef": "web.1", "accept": accepted})
    assert {
        "uid": "u",
        "generation": 7,
        "cluster": "c",
        "vhosts": [
            {
                "name": "web",
                "vhid": 1,
                "password": "love",
                "accept": [{"addresses": ["10.0.0.2"], "password": "hate"}],
            }
        ],
    } == found.request(restored=False)
    assert {} == found.missing
    assert True is found.request(restored=True)["restored"]


@pytest.mark.parametrize(
    "vhost",
    [
        {"name": "web", "passwordRef": "no"},
        {"name": "web", "passwordRef": "web.1", "accept": [{"addresses": [], "passwordRef": "no"}]},
    ],
)
def test_missing_key(vhost: dict[str, Any]) -> None:
    """A vhost whose password is missing goes without one, so that carpd keeps it; the others go whole."""
    found = goal(vhost, {"name": "ok", "passwordRef": "web.1"})
    assert {"web": "passwordRef: 'no' is no key of the Secret"} == found.missing
    assert "no" not in str(found.vhosts)
    assert {"name": "ok", "password": "love"} == found.vhosts[1]


def test_uninstall() -> None:
    """The last that a node is told: keep nothing; never beside vhosts."""
    found = wanted(node(uninstall=True), None)
    assert isinstance(found, Wanted)
    assert True is found.request(restored=False)["forget"]
    beside = wanted(node({"name": "web"}, uninstall=True), {})
    assert isinstance(beside, Wanted)
    assert "forget" not in beside.request(restored=False)


def test_no_vhosts() -> None:
    """A spec that was read and has no vhost means that."""
    assert [] == goal().vhosts
    assert [] == goal(keys={}).vhosts


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"spec": {}},
        {"spec": None},
        {"spec": {"cluster": "c"}},
        {"spec": {"cluster": "c", "vhosts": None}},
        {"spec": {"vhosts": []}},
        {"spec": {"cluster": "", "vhosts": []}},
        {"metadata": {"generation": 7}},
        {"metadata": {"uid": "u"}},
    ],
)
def test_not_certain(changed: dict[str, Any]) -> None:
    """What the controller cannot have written is no order to take everything away."""
    found = wanted({**node(), **changed} if changed else {}, {})
    assert isinstance(found, Nothing)
    assert "NoSettings" == found.reason


def test_unknown_secret() -> None:
    """Without having read the Secret nothing is said, but where no password is named."""
    found = wanted(node({"name": "web", "passwordRef": "web.1"}), None)
    assert isinstance(found, Nothing)
    assert "SecretMissing" == found.reason
    assert isinstance(wanted(node({"name": "web"}), None), Wanted)


@pytest.mark.parametrize(
    "vhost", [None, 3, "x", [], {"name": "w", "accept": 3}, {"name": "w", "accept": [None]}]
)
def test_garbage(vhost: Any) -> None:
    """What is no vhost is handed on for carpd to refuse."""
    assert [vhost] == goal(vhost).vhosts


def test_keys() -> None:
    """Values of a Secret are base64; one that is not, or no text, is missing and disturbs no other."""
    data = {"a": base64.b64encode(b"love").decode(), "b": "!", "c": "/w==", "d": None}
    assert {"a": "love"} == keys_of({"data": data})
    assert {} == keys_of({}) == keys_of({"data": None})
