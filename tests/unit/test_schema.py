"""The schema of a vhost (design.md section 8): every default, every range, every message."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import pytest

from carp.core import config as c
from carp.core.errors import ConfigError, ConfigErrors
from carp.core.schema import check_password, parse_vhost, parse_vip
from carp.core.timing import Timing
from pair import DEFAULTS, config

ADDRESS = "is not an IP address such as 10.1.1.252, 10.1.1.252/24 or 2001:db8::252"
UNICAST = "address: give a unicast address of the nodes' subnet"
NO_PASSWORD = "password: is required: exactly one of password and passwordFile"
NAME = "must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
NO_NAME = "is no interface name: 1 to 15 characters without '/', ':' and blanks"
PREEMPT = "preempt.after: write preempt: {mode: After, after: 30s}; mode Never or Always takes no after"
UNICAST_PEERS = "transport.peers: goes with mode Unicast, which needs at least one"
INTERFACE = "is required: a name such as eth0, or exactly one of {name}, {subnet} and {pattern}"
TOO_LONG = (
    "has 20 bytes, more than 19: CARP keeps 20 bytes with a closing zero, "
    "and the BSDs silently cut what is longer"
)


def _errors(data: object, **options: Any) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        parse_vhost(data, **options)
    assert "\n".join(str(e) for e in caught.value.errors) == str(caught.value)
    return [str(error) for error in caught.value.errors]


def test_defaults() -> None:
    """With nothing but name, vhid, interface, address and password a vhost has the documented defaults."""
    expected = c.VhostConfig(
        name="ingress",
        vhid=42,
        interface=c.Interface(name="eth0"),
        sign=c.Credentials((ip_interface("10.1.1.252"),), b"love"),
        accept=(),
        seal=c.SealMode.INTEROPERABLE,
        timing=Timing(advbase=1, advskew=0, ratio=3),
        preempt=c.Preempt(c.PreemptMode.NEVER, 0.0),
        transport=c.Transport(
            c.TransportMode.MULTICAST, IPv4Address("224.0.0.18"), IPv6Address("ff02::12"), ()
        ),
        source=None,
        source6=None,
        announce=c.AnnounceSettings(count=5, interval=1.0, refresh=60.0),
        fencing=c.Fencing.LIFETIME,
        scripts=c.Scripts(up="", down="", argument="", timeout=30.0, neutral=False, on_exit=True),
        manage=True,
        first_claimant=False,
        ignore_link_state=False,
    )
    assert expected == config()


def test_every_field_is_taken_over() -> None:
    """Each field of the documented example, and each further one, reaches the settings."""
    made = config(
        interface={"subnet": "10.1.1.0/24"},
        addresses=["10.1.1.252", "2001:db8::252/64"],
        accept=[{"addresses": ["10.1.1.253"], "password": "old"}],
        authentication={"mode": "Sealed"},
        advbase=2,
        advskew=100,
        deadRatio=5,
        preempt={"mode": "After", "after": "30s"},
        transport={"mode": "Unicast", "peers": ["10.1.1.2", "2001:db8::2"], "group": "224.0.0.19"},
        source="10.1.1.1",
        source6="2001:db8::1",
        announce={"count": 3, "interval": "500ms", "refresh": "0s"},
        fencing="Off",
        healthChecks=[],
        scripts={
            "up": "/u",
            "down": "/d",
            "argument": "a",
            "timeout": "5s",
            "neutral": True,
            "onExit": False,
        },
        manageAddresses=False,
        firstClaimant=True,
        ignoreLinkState=True,
    )
    assert c.Interface(subnet="10.1.1.0/24") == made.interface
    assert (ip_interface("10.1.1.252/32"), ip_interface("2001:db8::252/64")) == made.addresses
    assert (c.Credentials((ip_interface("10.1.1.253"),), b"old"),) == made.accept
    assert (c.SealMode.SEALED, Timing(2, 100, 5)) == (made.seal, made.timing)
    assert c.Preempt(c.PreemptMode.AFTER, 30.0) == made.preempt
    assert (IPv4Address("10.1.1.2"), IPv6Address("2001:db8::2")) == made.transport.peers
    assert (c.TransportMode.UNICAST, IPv4Address("224.0.0.19")) == (
        made.transport.mode,
        made.transport.group4,
    )
    assert (IPv4Address("10.1.1.1"), IPv6Address("2001:db8::1")) == (made.source, made.source6)
    assert c.AnnounceSettings(3, 0.5, 0.0) == made.announce
    assert c.Scripts("/u", "/d", "a", 5.0, neutral=True, on_exit=False) == made.scripts
    assert (c.Fencing.OFF, False, True, True) == (
        made.fencing,
        made.manage,
        made.first_claimant,
        made.ignore_link_state,
    )


@pytest.mark.parametrize(
    ("field", "value", "errors"),
    [
        ("name", "", [f"name: {NAME}"]),
        ("name", "-a", [f"name: '-a' {NAME}"]),
        ("name", "a/b", [f"name: 'a/b' {NAME}"]),
        ("name", "x" * 64, [f"name: '{'x' * 64}' {NAME}"]),
        ("vhid", None, ["vhid: is required: a number from 1 to 255"]),
        ("vhid", 0, ["vhid: 0 is not between 1 and 255"]),
        ("vhid", 256, ["vhid: 256 is not between 1 and 255"]),
        ("vhid", "42", ["vhid: '42' is not a whole number"]),
        ("advbase", -1, ["advbase: -1 is not between 0 and 255"]),
        ("advbase", 256, ["advbase: 256 is not between 0 and 255"]),
        ("advskew", 255, ["advskew: 255 is not between 0 and 254"]),
        ("advskew", -1, ["advskew: -1 is not between 0 and 254"]),
        ("advbase", 0, ["advskew: 0 with advbase 0 would be no interval at all: give at least 1 (1/256 s)"]),
        ("deadRatio", 0, ["deadRatio: 0 is not between 1 and 255"]),
        ("deadRatio", 256, ["deadRatio: 256 is not between 1 and 255"]),
        ("interface", None, [f"interface: {INTERFACE}"]),
        ("interface", {"name": "eth0", "subnet": "auto"}, [f"interface: {INTERFACE}"]),
        (
            "interface",
            "x" * 16,
            [f"interface.name: '{'x' * 16}' {NO_NAME}"],
        ),
        (
            "interface",
            "a b",
            [f"interface.name: 'a b' {NO_NAME}"],
        ),
        (
            "interface",
            {"subnet": "10.1.1.7/24"},
            ["interface.subnet: '10.1.1.7/24' is neither auto nor a CIDR such as 10.1.1.0/24"],
        ),
        (
            "interface",
            {"name": "eth0", "nam": "x"},
            ["interface.nam: is not a known field; did you mean name?"],
        ),
        ("addresses", None, ["addresses: is required: at least one address"]),
        ("addresses", [], ["addresses: is required: at least one address"]),
        (
            "addresses",
            "10.1.1.252",
            ["addresses: '10.1.1.252' is not a list", "addresses: is required: at least one address"],
        ),
        ("addresses", ["x"], [f"addresses[0]: 'x' {ADDRESS}"]),
        ("addresses", [7], [f"addresses[0]: 7 {ADDRESS}"]),
        ("addresses", ["10.1.1.252/33"], [f"addresses[0]: '10.1.1.252/33' {ADDRESS}"]),
        ("addresses", ["fe80::1%eth0"], [f"addresses[0]: 'fe80::1%eth0' {ADDRESS}"]),
        (
            "addresses",
            ["10.1.1.252", "224.0.0.18"],
            [f"addresses[1]: '224.0.0.18' is a multicast {UNICAST}"],
        ),
        ("addresses", ["ff02::12"], [f"addresses[0]: 'ff02::12' is a multicast {UNICAST}"]),
        ("addresses", ["127.0.0.1"], [f"addresses[0]: '127.0.0.1' is a loopback {UNICAST}"]),
        ("addresses", ["::1"], [f"addresses[0]: '::1' is a loopback {UNICAST}"]),
        ("addresses", ["0.0.0.0"], [f"addresses[0]: '0.0.0.0' is a unspecified {UNICAST}"]),
        ("addresses", ["255.255.255.255"], [f"addresses[0]: '255.255.255.255' is a broadcast {UNICAST}"]),
        ("addresses", ["::ffff:10.1.1.2"], [f"addresses[0]: '::ffff:10.1.1.2' is a IPv4-mapped {UNICAST}"]),
        (
            "addresses",
            ["10.1.1.252", "10.1.1.252/24"],
            ["addresses[1]: '10.1.1.252/24' stands in the list twice"],
        ),
        (
            "addresses",
            [f"10.1.1.{n}" for n in range(17)],
            ["addresses: 17 addresses are more than 16"],
        ),
        ("password", "", [NO_PASSWORD]),
        ("password", "x" * 20, [f"password: {TOO_LONG}"]),
        ("password", "ä" * 10, [f"password: {TOO_LONG}"]),
        ("passwordFile", "/p", ["password: and passwordFile exclude each other"]),
        ("accept", {}, ["accept: a mapping is not a list"]),
        (
            "accept",
            [{"addresses": ["10.1.1.1"], "pasword": "x"}],
            [
                "accept[0].pasword: is not a known field; did you mean password?",
                f"accept[0].{NO_PASSWORD}",
            ],
        ),
        (
            "accept",
            [{"addresses": ["10.1.1.1"], "password": "x"}] * 17,
            ["accept: 17 entries are more than 16"],
        ),
        (
            "authentication",
            {"mode": "sealed"},
            ["authentication.mode: 'sealed' is not one of Interoperable, Sealed"],
        ),
        ("preempt", {"mode": "After"}, [PREEMPT]),
        ("preempt", {"mode": "Always", "after": "30s"}, [PREEMPT]),
        ("preempt", {"after": "30s"}, [PREEMPT]),
        (
            "preempt",
            {"mode": "After", "after": "1ms"},
            ["preempt.after: '1ms' is not between 1s and 86400s"],
        ),
        ("preempt", "Always", ["preempt: 'Always' is not a mapping of fields"]),
        ("transport", {"mode": "Unicast"}, [UNICAST_PEERS]),
        ("transport", {"peers": ["10.1.1.2"]}, [UNICAST_PEERS]),
        (
            "transport",
            {"mode": "Unicast", "peers": ["10.1.1.2", "224.0.0.1"]},
            [f"transport.peers[1]: '224.0.0.1' is a multicast {UNICAST}"],
        ),
        (
            "transport",
            {"mode": "Unicast", "peers": [f"10.1.2.{n}" for n in range(65)]},
            ["transport.peers: 65 peers are more than 64"],
        ),
        ("transport", {"group": "10.1.1.1"}, ["transport.group: '10.1.1.1' is not a multicast address"]),
        ("transport", {"group6": "x"}, ["transport.group6: 'x' is not an IPv6 address"]),
        ("source", "2001:db8::1", ["source: '2001:db8::1' is not an IPv4 address"]),
        ("source6", "10.1.1.1", ["source6: '10.1.1.1' is not an IPv6 address"]),
        ("announce", {"count": 0}, ["announce.count: 0 is not between 1 and 100"]),
        ("announce", {"interval": "1ms"}, ["announce.interval: '1ms' is not between 0.05s and 60s"]),
        ("announce", {"refresh": "2h"}, ["announce.refresh: '2h' is not between 0s and 3600s"]),
        ("fencing", "Lease", ["fencing: 'Lease' is not supported by this version: write Lifetime or Off"]),
        ("fencing", "lifetime", ["fencing: 'lifetime' is not one of Lifetime, Off"]),
        ("scripts", {"timeout": "0s"}, ["scripts.timeout: '0s' is not between 0.1s and 3600s"]),
        ("scripts", {"upp": "/x"}, ["scripts.upp: is not a known field; did you mean up?"]),
        ("healthChecks", {}, ["healthChecks: a mapping is not a list"]),
        ("manageAddresses", "no", ["manageAddresses: 'no' is neither true nor false"]),
        ("firstClaimant", 1, ["firstClaimant: 1 is neither true nor false"]),
        ("ignoreLinkState", 0, ["ignoreLinkState: 0 is neither true nor false"]),
        ("adskew", 1, ["adskew: is not a known field; did you mean advskew?"]),
    ],
)
def test_one_line_names_field_and_value(field: str, value: object, errors: list[str]) -> None:
    """Each mistake is one line with the field's path and the value; never an exception of another kind."""
    assert errors == _errors(DEFAULTS | {field: value})


def test_everything_that_is_wrong_is_told_at_once() -> None:
    """Several mistakes give several lines, each with the path of the vhost."""
    bad = {"name": "a", "vhid": 0, "interface": "eth0", "addresses": ["x"], "password": "p", "zzz": 1}
    expected = [
        "vhosts[3].vhid: 0 is not between 1 and 255",
        f"vhosts[3].addresses[0]: 'x' {ADDRESS}",
        "vhosts[3].zzz: is not a known field",
    ]
    assert sorted(expected) == sorted(_errors(bad, path="vhosts[3]"))


@pytest.mark.parametrize("data", ["x", 5, ["a"]])
def test_something_else_than_a_mapping(data: object) -> None:
    """What is no mapping is named first."""
    assert _errors(data)[0].endswith("is not a mapping of fields")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("eth0", c.Interface(name="eth0")),
        ({"name": "eth0"}, c.Interface(name="eth0")),
        ({"pattern": "en*"}, c.Interface(pattern="en*")),
        ({"subnet": "auto"}, c.Interface(subnet="auto")),
    ],
)
def test_an_interface_is_chosen_in_one_way(given: object, expected: c.Interface) -> None:
    """A plain string means the name."""
    assert expected == config(interface=given).interface


@pytest.mark.parametrize(
    ("advbase", "authentication", "expected"),
    [
        (1, None, c.SealMode.INTEROPERABLE),
        (1, {"mode": "Sealed"}, c.SealMode.SEALED),
        (0, None, c.SealMode.SEALED),
        (0, {"mode": "Sealed"}, c.SealMode.SEALED),
    ],
)
def test_base_0_is_for_our_own_members(
    advbase: int, authentication: dict[str, str] | None, expected: c.SealMode
) -> None:
    """At base 0 only our own members time out soundly, so it seals by itself."""
    assert expected is config(advbase=advbase, advskew=26, authentication=authentication).seal


def test_base_0_with_foreign_members_is_refused() -> None:
    """Asking for both is a mistake that is explained."""
    wrong = DEFAULTS | {"advbase": 0, "advskew": 26, "authentication": {"mode": "Interoperable"}}
    (error,) = _errors(wrong)
    assert error.startswith("authentication.mode: 'Interoperable' goes with advbase 1 or more only")


@pytest.mark.parametrize("length", [1, 19])
def test_shortest_and_longest_password(length: int) -> None:
    """1 to 19 bytes, counted as UTF-8."""
    assert b"x" * length == config(password="x" * length).sign.password


def test_password_from_a_file() -> None:
    """The reader gets the path, its bytes are the password."""
    data = {key: value for key, value in DEFAULTS.items() if key != "password"} | {"passwordFile": "/p"}
    made = parse_vhost(data, read_password=lambda path: b"from " + path.encode())
    assert b"from /p" == made.sign.password
    assert ["passwordFile: '/p' cannot be read here"] == _errors(data)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"x" * 20, TOO_LONG), (b"", "is empty: an advert that anybody can sign protects nothing")],
)
def test_a_bad_password_in_a_file_is_not_shown(content: bytes, problem: str) -> None:
    """The error names the file, never the password."""
    data = {key: value for key, value in DEFAULTS.items() if key != "password"} | {"passwordFile": "/p"}
    assert [f"passwordFile: '/p' {problem}"] == _errors(data, read_password=lambda _: content)


def test_a_file_that_cannot_be_read() -> None:
    """The reader's problem is told under the vhost's own field."""

    def read_password(path: str) -> bytes:
        raise ConfigError("anything", path, "cannot be read: No such file or directory")

    data = {key: value for key, value in DEFAULTS.items() if key != "password"} | {"passwordFile": "/p"}
    expected = ["passwordFile: '/p' cannot be read: No such file or directory"]
    assert expected == _errors(data, read_password=read_password)


@pytest.mark.parametrize("password", [12345678, True, ["secret"], {"a": "secret"}, "secret" * 4])
def test_no_error_shows_a_password(password: object) -> None:
    """Whatever is wrong with a password, it does not stand in the message (rule 7)."""
    text = "\n".join(_errors(DEFAULTS | {"password": password}))
    assert str(password) not in text
    assert "secret" not in text


def test_a_password_of_odd_characters_is_bytes_like_any_other() -> None:
    """A text that is no valid Unicode raises nothing."""
    assert 3 == len(config(password="\ud800").sign.password)


def test_no_repr_shows_a_password() -> None:
    """Settings can be logged."""
    assert "love" not in repr(config())


def test_settings_are_frozen() -> None:
    """Nobody changes settings in place."""
    with pytest.raises(FrozenInstanceError):
        config().name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"), [("10.1.1.252", 32), ("10.1.1.252/24", 24), ("2001:db8::1", 128)]
)
def test_host_prefix_unless_given(text: str, expected: int) -> None:
    """An address without prefix is a host address."""
    assert expected == parse_vip(text).network.prefixlen


@pytest.mark.parametrize(("length", "ok"), [(0, False), (1, True), (19, True), (20, False)])
def test_check_password(length: int, ok: bool) -> None:
    """CARP keys have 1 to 19 bytes here, as the BSDs cut the twentieth."""
    if ok:
        check_password(b"x" * length)
    else:
        with pytest.raises(ValueError, match=r"is empty|more than 19"):
            check_password(b"x" * length)
