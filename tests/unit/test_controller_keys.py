"""Names of passwords: never reused, never changed, found again."""

from __future__ import annotations

import pytest

from carp_operator.controller import keys
from carp_operator.controller.keys import Source, assign
from carp_operator.plan.model import KeyState


def state(value: bytes, entries: dict[str, bytes], counter: int = 0, told: set[str] | None = None) -> str:
    """Return the name that `web` gets for a value."""
    return assign({"web": Source(value)}, entries, counter, told or set()).states["web"].current


@pytest.mark.parametrize(
    ("entries", "counter", "told", "name"),
    [
        ({}, 0, set(), "web.1"),
        ({}, 7, set(), "web.8"),
        ({"db.9": b"x"}, 0, set(), "web.10"),
        ({}, 0, {"db.4"}, "web.5"),
        ({"web.3": b"old"}, 3, {"web.3"}, "web.4"),
        ({"web.3": b"new"}, 3, {"web.3"}, "web.3"),
        ({"web.3": b"new", "web.4": b"other"}, 4, {"web.3", "web.4"}, "web.3"),
        ({"web.3": b"new", "web.5": b"new"}, 5, {"web.3"}, "web.3"),
        ({"web.3": b"new", "web.5": b"new"}, 5, set(), "web.5"),
        ({}, 0, {"web.6"}, "web.6"),
        ({}, 0, {"web.6", "web.7"}, "web.8"),
        ({"db.1": b"new"}, 1, set(), "web.2"),
    ],
)
def test_names(entries: dict[str, bytes], counter: int, told: set[str], name: str) -> None:
    """A known value keeps its name, a new one gets a number above all; lost ones go where nodes look."""
    assert name == state(b"new", entries, counter, told)


def test_entries_keep_their_values() -> None:
    """What stands in carp-keys stays; the new value is added; the counter is the highest number."""
    made = assign({"web": Source(b"b"), "db": Source(b"c")}, {"web.1": b"a"}, 1, {"web.1"})
    assert {"web.1": b"a", "db.2": b"c", "web.3": b"b"} == made.entries
    assert 3 == made.counter
    assert made == assign({"web": Source(b"b"), "db": Source(b"c")}, made.entries, 3, {"web.1"})


def test_problem_names_no_entry() -> None:
    """A VirtualIP without a usable password has a reason and a message."""
    made = assign({"web": Source(problem="Secret x/y does not exist")}, {"web.1": b"a"}, 1, {"web.1"})
    assert {"web": KeyState("", "NoPassword", "Secret x/y does not exist")} == made.states
    assert {"web.1": b"a"} == made.entries


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (None, "Secret ns/web does not exist"),
        ({}, "Secret ns/web has no key pass"),
        ({"password": b"x"}, "Secret ns/web has no key pass"),
        ({"pass": b""}, "Secret ns/web: key pass is empty"),
        ({"pass": b"\n"}, "Secret ns/web: key pass is empty"),
        ({"pass": b"x" * 20}, "Secret ns/web: key pass has 20 bytes, more than 19"),
        ({"pass": b"\xff\xfe"}, "Secret ns/web: key pass is no text in UTF-8"),
    ],
)
def test_wrong_passwords(data: dict[str, bytes] | None, problem: str) -> None:
    """Each reason names Secret and key, never the value."""
    found = keys.source(data, "ns/web", "pass")
    assert found.value is None
    assert found.problem.startswith(problem)


@pytest.mark.parametrize("given", [b"secret", b"secret\n", b"secret\r\n"])
def test_closing_line_end_is_left_out(given: bytes) -> None:
    """What an editor adds at the end is no part of the password; 19 bytes are allowed."""
    assert b"secret" == keys.source({"pass": given}, "ns/web", "pass").value
    assert b"x" * 19 == keys.source({"pass": b"x" * 19 + b"\n"}, "ns/web", "pass").value


def test_values_are_never_shown() -> None:
    """No representation of what holds a value contains it."""
    made = assign({"web": Source(b"hidden")}, {}, 0, ())
    assert "hidden" not in f"{Source(b'hidden')}{made}"


def test_data_of_secrets() -> None:
    """Values are base64 in a Secret; what is none is left out."""
    assert {"a": b"x\x00"} == keys.decoded(keys.encoded({"a": b"x\x00"}))
    assert {"a": b"x"} == keys.decoded({"a": "eA==", "b": "?", "c": 5})
    assert {} == keys.decoded(None)


def test_used_entries() -> None:
    """What vhosts sign with and accept is in use; garbage is skipped."""
    vhosts = [
        {"passwordRef": "a.1", "accept": [{"passwordRef": "a.2"}, "x", {"passwordRef": 3}]},
        {"accept": "x", "passwordRef": None},
        {},
    ]
    assert {"a.1", "a.2"} == keys.used(vhosts)


def test_newest() -> None:
    """The newest entry of each VirtualIP is the one with the highest number; names may contain dots."""
    assert {"a": "a.10", "b.c": "b.c.3"} == keys.newest(["a.9", "a.10", "b.c.3"])
