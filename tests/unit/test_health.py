"""The settings of health checks (carp.core.health): every default, every range, every message."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from carp.core.config import WhenAllFail
from carp.core.errors import ConfigErrors
from carp.core.health import (
    Check,
    Exec,
    Flap,
    Gateway,
    Http,
    Tcp,
    parse_checks,
)
from carp.core.reader import Reader
from carp.core.schema import parse_vhost

LOOPBACK = IPv4Address("127.0.0.1")
NO_NAMES = "is neither an IP address nor localhost; names are not looked up, DNS may hang"
NO_URL = "is no URL such as http://127.0.0.1:8080/healthz, without user, fragment and blanks"
NO_STATUS = 'is no status code or range from 100 to 599: write "200" or "200-399"'
NO_NAME = "must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
NO_NEIGHBOUR = "is not an IP address of a neighbour such as 10.1.1.1"
ONE_OF = "exactly one of tcp, http, exec, gateway"


def parse(*items: object) -> tuple[tuple[Check, ...], list[str]]:
    """Return the checks of a list, and the errors."""
    errors: list[Any] = []
    checks = parse_checks(Reader({"healthChecks": list(items)}, "", errors))
    return checks, [str(error) for error in errors]


def only(**fields: Any) -> Check:
    """Return the check with these fields, which have to be right."""
    checks, errors = parse({"name": "web", **fields})
    assert [] == errors
    return checks[0]


def problem(**fields: Any) -> str:
    """Return the only error of a check with these fields, without the path that all have."""
    _, errors = parse({"name": "web", **fields})
    assert 1 == len(errors), errors
    return errors[0].removeprefix("healthChecks[0].")


def test_no_checks() -> None:
    """Without the field there are no checks."""
    assert () == parse_checks(Reader({}, "", []))


def test_defaults() -> None:
    """A check with name and target has the documented defaults."""
    expected = Check(
        name="web",
        target=Tcp(LOOPBACK, 80),
        period=5.0,
        timeout=1.0,
        rise=2,
        fall=3,
        demotion=100,
        flap=Flap(count=5, window=60.0),
    )
    assert expected == only(tcp={"port": 80})
    assert "health:web" == expected.reason


def test_every_field_is_taken_over() -> None:
    """Each field that decides when and how much is taken over."""
    fields = {"period": "100ms", "timeout": "50ms", "rise": 1, "fall": 7, "demotion": 254}
    made = only(**fields, flap={"count": 2, "window": "10s"}, gateway={"address": "10.1.1.1"})
    assert Check("web", Gateway(IPv4Address("10.1.1.1")), 0.1, 0.05, 1, 7, 254, Flap(2, 10.0)) == made


def test_default_timeout_fits_into_a_short_period() -> None:
    """Without a timeout a period of less than a second is the timeout too."""
    assert 0.2 == only(tcp={"port": 80}, period="200ms").timeout


@pytest.mark.parametrize(
    ("given", "target", "shown"),
    [
        ({"tcp": {"host": "10.1.1.9", "port": 1}}, Tcp(IPv4Address("10.1.1.9"), 1), "tcp 10.1.1.9:1"),
        ({"tcp": {"host": "localhost", "port": 2}}, Tcp(LOOPBACK, 2), "tcp 127.0.0.1:2"),
        ({"tcp": {"host": "::1", "port": 65535}}, Tcp(IPv6Address("::1"), 65535), "tcp [::1]:65535"),
        ({"gateway": {"address": "fe80::1"}}, Gateway(IPv6Address("fe80::1")), "gateway fe80::1"),
        ({"exec": {"command": ["check", "-p", "secret"]}}, Exec(("check", "-p", "secret")), "exec check"),
    ],
)
def test_targets(given: dict[str, Any], target: object, shown: str) -> None:
    """Each kind of target is read, and shown without what may be secret."""
    made = only(**given)
    assert (target, shown) == (made.target, str(made.target))


@pytest.mark.parametrize(
    ("url", "secure", "address", "port", "target", "host"),
    [
        ("http://127.0.0.1", False, "127.0.0.1", 80, "/", "127.0.0.1"),
        ("http://localhost:8080/healthz", False, "127.0.0.1", 8080, "/healthz", "localhost:8080"),
        ("https://[::1]:6443/livez?verbose", True, "::1", 6443, "/livez?verbose", "[::1]:6443"),
        ("https://10.1.1.1?a=b/c", True, "10.1.1.1", 443, "/?a=b/c", "10.1.1.1"),
    ],
)
def test_urls(url: str, secure: bool, address: str, port: int, target: str, host: str) -> None:
    """A URL is taken apart; without a path it asks for /."""
    made = only(http={"url": url}).target
    assert isinstance(made, Http)
    assert (secure, address, port, target, host) == (
        made.secure,
        str(made.address),
        made.port,
        made.target,
        made.host,
    )


def test_http_fields() -> None:
    """Expected codes, Host header and the switch for self-signed certificates are taken over."""
    given = {
        "url": "https://10.1.1.1/?token=x",
        "expect": "204",
        "host": "api.example:1",
        "insecureTLS": True,
    }
    made = only(http=given).target
    assert isinstance(made, Http)
    assert (204, 204, "api.example:1", True) == (made.lowest, made.highest, made.host, made.insecure)
    assert "https://10.1.1.1/" == str(made)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, f"tcp: is required: {ONE_OF}"),
        (
            {"tcp": {"port": 1}, "exec": {"command": ["x"]}},
            f"tcp: tcp and exec exclude each other: {ONE_OF}",
        ),
        ({"tcp": {}}, "tcp.port: is required: a number from 1 to 65535"),
        ({"tcp": {"port": 0}}, "tcp.port: 0 is not between 1 and 65535"),
        ({"tcp": {"port": 1, "hots": "x"}}, "tcp.hots: is not a known field; did you mean host?"),
        ({"tcp": {"port": 1, "host": "db.example"}}, f"tcp.host: 'db.example' {NO_NAMES}"),
        ({"tcp": {"port": 1, "host": "fe80::1%eth0"}}, f"tcp.host: 'fe80::1%eth0' {NO_NAMES}"),
        ({"tcp": {"port": 1, "host": "0.0.0.0"}}, f"tcp.host: '0.0.0.0' {NO_NAMES}"),
        ({"tcp": {"port": 1, "host": "224.0.0.18"}}, f"tcp.host: '224.0.0.18' {NO_NAMES}"),
        ({"http": {}}, f"http.url: {NO_URL}"),
        ({"http": {"url": "ftp://127.0.0.1"}}, f"http.url: 'ftp://127.0.0.1' {NO_URL}"),
        ({"http": {"url": "http://127.0.0.1/#x"}}, f"http.url: 'http://127.0.0.1/#…' {NO_URL}"),
        ({"http": {"url": "http://127.0.0.1/a b?t=x\ny"}}, f"http.url: 'http://127.0.0.1/a b?…' {NO_URL}"),
        ({"http": {"url": "http://u:p?q@127.0.0.1"}}, f"http.url: {NO_URL}"),
        (
            {"http": {"url": "http://127.0.0.1:0/?token=x"}},
            "http.url: 'http://127.0.0.1:0/?…' has a port that is not between 1 and 65535",
        ),
        ({"http": {"url": "http://u:p@127.0.0.1"}}, f"http.url: {NO_URL}"),
        (
            {"http": {"url": "http://127.0.0.1/ HTTP/1.1"}},
            f"http.url: 'http://127.0.0.1/ HTTP/1.1' {NO_URL}",
        ),
        ({"http": {"url": "http://api.example/"}}, f"http.url: 'api.example' {NO_NAMES}"),
        (
            {"http": {"url": "http://127.0.0.1:0"}},
            "http.url: 'http://127.0.0.1:0' has a port that is not between 1 and 65535",
        ),
        (
            {"http": {"url": "http://127.0.0.1", "host": "a\r\nb"}},
            "http.host: 'a\\r\\nb' is no host name, with or without port",
        ),
        (
            {"http": {"url": "http://127.0.0.1", "insecureTLS": True}},
            "http.insecureTLS: goes with a URL of https only",
        ),
        ({"http": {"url": "http://127.0.0.1", "expect": "2xx"}}, f"http.expect: '2xx' {NO_STATUS}"),
        ({"http": {"url": "http://127.0.0.1", "expect": "300-200"}}, f"http.expect: '300-200' {NO_STATUS}"),
        ({"http": {"url": "http://127.0.0.1", "expect": "99"}}, f"http.expect: '99' {NO_STATUS}"),
        ({"exec": {}}, "exec.command: is required: a list, the program and its arguments"),
        ({"exec": {"command": [""]}}, "exec.command: is required: a list, the program and its arguments"),
        (
            {"exec": {"command": ["x", 5]}},
            "exec.command[1]: is not a text that a program can be given",
        ),
        (
            {"exec": {"command": ["x", "a\0b"]}},
            "exec.command[1]: is not a text that a program can be given",
        ),
        ({"gateway": {}}, f"gateway.address: {NO_NEIGHBOUR}"),
        ({"gateway": {"address": "router"}}, f"gateway.address: 'router' {NO_NEIGHBOUR}"),
        ({"gateway": {"address": "127.0.0.1"}}, f"gateway.address: '127.0.0.1' {NO_NEIGHBOUR}"),
        ({"tcp": {"port": 1}, "period": "50ms"}, "period: '50ms' is not between 0.1s and 3600s"),
        ({"tcp": {"port": 1}, "timeout": "10s"}, "timeout: '10s' is more than the period of 5s"),
        ({"tcp": {"port": 1}, "timeout": "10ms"}, "timeout: '10ms' is not between 0.05s and 60s"),
        ({"tcp": {"port": 1}, "rise": 0}, "rise: 0 is not between 1 and 100"),
        ({"tcp": {"port": 1}, "fall": 101}, "fall: 101 is not between 1 and 100"),
        ({"tcp": {"port": 1}, "demotion": 255}, "demotion: 255 is not between 1 and 254"),
        ({"tcp": {"port": 1}, "flap": {"count": 0}}, "flap.count: 0 is not between 1 and 100"),
        ({"tcp": {"port": 1}, "flap": {"window": "0s"}}, "flap.window: '0s' is not between 1s and 86400s"),
        ({"tcp": {"port": 1}, "flap": {"x": 1}}, "flap.x: is not a known field"),
        ({"tcp": {"port": 1}, "retries": 1}, "retries: is not a known field"),
        ({"tcp": {"port": 1}, "name": "a b"}, f"name: 'a b' {NO_NAME}"),
        ({"tcp": {"port": 1}, "name": None}, f"name: {NO_NAME}"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], expected: str) -> None:
    """One wrong field gives one line with its path, its value and what is allowed."""
    assert expected == problem(**fields)


def test_names_are_unique_within_the_vhost() -> None:
    """Two checks of one name would share their demotion."""
    check = {"name": "web", "tcp": {"port": 80}}
    message = "healthChecks[1].name: 'web' is already used by another check of this vhost"
    assert [message] == parse(check, check)[1]


def test_at_most_sixteen_checks() -> None:
    """More checks than a vhost may have are refused."""
    checks = [{"name": f"c{number}", "tcp": {"port": 80}} for number in range(17)]
    assert ["healthChecks: 17 checks are more than 16"] == parse(*checks)[1]


def test_when_all_fail() -> None:
    """A vhost keeps its address when all checks fail unless Release is asked for, which needs a check."""
    vhost: dict[str, Any] = {
        "name": "ingress",
        "vhid": 42,
        "interface": "eth0",
        "addresses": ["10.1.1.252"],
        "password": "love",
    }
    checks = [{"name": "web", "tcp": {"port": 80}}]
    assert WhenAllFail.KEEP is parse_vhost({**vhost, "healthChecks": checks}).when_all_fail
    made = parse_vhost({**vhost, "healthChecks": checks, "whenAllFail": "Release"})
    assert WhenAllFail.RELEASE is made.when_all_fail
    with pytest.raises(ConfigErrors) as caught:
        parse_vhost({**vhost, "whenAllFail": "Release"})
    assert "whenAllFail: 'Release' needs at least one entry of healthChecks" == str(caught.value)
