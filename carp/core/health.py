"""The settings of health checks: what is asked, how often, and what a failure costs.

A check that is down demotes its vhost under the reason ``health:NAME``; demotions of several checks add up
(design.md sections 3 and 4). `carp.core.health_monitor` judges results, `carp.health` runs the checks.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Final, TypeAlias

from carp.core.reader import NAME, Reader

if TYPE_CHECKING:
    from carp.core.auth import Address

MAX_CHECKS: Final = 16
_URL: Final = re.compile(
    r'(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]]+)(:(?P<port>\d{1,5}))?(?P<path>[/?][!"$-~]*)?'
)
_HOST: Final = re.compile(r"([A-Za-z0-9_-][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
"""What no program's argument can contain."""
_EXPECT: Final = re.compile(r"(\d{3})(?:-(\d{3}))?")
_KINDS: Final = ("tcp", "http", "exec", "gateway")
_NO_NAMES: Final = "is neither an IP address nor localhost; names are not looked up, DNS may hang"


@dataclass(frozen=True, slots=True)
class Tcp:
    """A TCP connection is accepted."""

    address: Address
    port: int

    def __str__(self) -> str:
        """Return the target as people write it."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"tcp {host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Http:
    """A GET is answered with a status code from ``lowest`` to ``highest``.

    ``host`` is the Host header, and for https the name that the certificate must be for.
    """

    url: str
    secure: bool
    address: Address
    port: int
    target: str
    host: str
    lowest: int = 200
    highest: int = 399
    insecure: bool = False

    def __str__(self) -> str:
        """Return the URL without its query, where tokens stand."""
        return self.url.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Exec:
    """A program, found on PATH, exits with 0. What it prints is not kept."""

    command: tuple[str, ...]

    def __str__(self) -> str:
        """Return the program without its arguments, where passwords stand."""
        return f"exec {self.command[0]}"


@dataclass(frozen=True, slots=True)
class Gateway:
    """Somebody on the vhost's segment answers for an address by ARP or neighbour discovery."""

    address: Address

    def __str__(self) -> str:
        """Return the target."""
        return f"gateway {self.address}"


Target: TypeAlias = Tcp | Http | Exec | Gateway


@dataclass(frozen=True, slots=True)
class Flap:
    """More than ``count`` changes between up and down within ``window`` seconds are flapping."""

    count: int = 5
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One health check. ``period`` 0.1-3600 s, ``timeout`` 0.05-60 s and at most ``period``.

    ``rise`` successes in a row bring it up, ``fall`` failures in a row down (1-100 each); down it demotes
    by ``demotion`` (1-254).
    """

    name: str
    target: Target
    period: float = 5.0
    timeout: float = 1.0
    rise: int = 2
    fall: int = 3
    demotion: int = 100
    flap: Flap = Flap()

    @property
    def reason(self) -> str:
        """The name of its demotion."""
        return f"health:{self.name}"


# --- settings ---------------------------------------------------------------------------------------


def parse_checks(reader: Reader) -> tuple[Check, ...]:
    """Return the list ``healthChecks`` of a vhost; what is wrong goes to the reader's errors."""
    result: list[Check] = []
    given = reader.sequence("healthChecks")
    for index, item in enumerate(given):
        section = Reader(item, reader.field(f"healthChecks[{index}]"), reader.errors)
        check = _check(section)
        section.finish()
        if check.name and check.name in [other.name for other in result]:
            section.fail("name", check.name, "is already used by another check of this vhost")
        result.append(check)
    if len(given) > MAX_CHECKS:
        reader.fail("healthChecks", len(given), f"checks are more than {MAX_CHECKS}")
    return tuple(result)


def _check(reader: Reader) -> Check:
    name, default = reader.text("name"), Check("", _NOTHING)
    if not NAME.fullmatch(name):
        problem = "must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
        reader.fail("name", name or None, problem)
    period = reader.seconds("period", default.period, 0.1, 3600.0)
    timeout = reader.seconds("timeout", min(default.timeout, period), 0.05, 60.0)
    if timeout > period:
        reader.fail("timeout", f"{timeout:g}s", f"is more than the period of {period:g}s")
    return Check(
        name=name,
        target=_target(reader),
        period=period,
        timeout=timeout,
        rise=reader.integer("rise", default.rise, 1, 100),
        fall=reader.integer("fall", default.fall, 1, 100),
        demotion=reader.integer("demotion", default.demotion, 1, 254),
        flap=_flap(reader.section("flap")),
    )


def _flap(reader: Reader) -> Flap:
    default = Flap()
    result = Flap(
        count=reader.integer("count", default.count, 1, 100),
        window=reader.seconds("window", default.window, 1.0, 86400.0),
    )
    reader.finish()
    return result


def _target(reader: Reader) -> Target:
    given = [kind for kind in _KINDS if reader.has(kind)]
    sections = {kind: reader.section(kind) for kind in _KINDS}
    if len(given) != 1:
        what = " and ".join(given) + " exclude each other" if given else "is required"
        reader.fail(given[0] if given else "tcp", None, f"{what}: exactly one of {', '.join(_KINDS)}")
        return _NOTHING
    section = sections[given[0]]
    result = {"tcp": _tcp, "http": _http, "exec": _exec, "gateway": _gateway}[given[0]](section)
    section.finish()
    return result


def _tcp(reader: Reader) -> Target:
    host = reader.text("host", "localhost")
    return Tcp(_host(reader, "host", host), reader.integer("port", None, 1, 65535))


def _http(reader: Reader) -> Target:
    url, expect, host = reader.text("url"), reader.text("expect", "200-399"), reader.text("host")
    insecure = reader.flag("insecureTLS", default=False)
    match = _URL.fullmatch(url)
    if match is None:
        problem = "is no URL such as http://127.0.0.1:8080/healthz, without user, fragment and blanks"
        reader.fail("url", _shown(url), problem)
        return _NOTHING
    secure = match["scheme"] == "https"
    port = int(match["port"] or (443 if secure else 80))
    if not 1 <= port <= 65535:
        reader.fail("url", _shown(url), "has a port that is not between 1 and 65535")
    if host and not _HOST.fullmatch(host):
        reader.fail("host", host, "is no host name, with or without port")
    if insecure and not secure:
        reader.fail("insecureTLS", None, "goes with a URL of https only")
    path = match["path"] or "/"
    return Http(
        url=url,
        secure=secure,
        address=_host(reader, "url", match["host"].strip("[]")),
        port=port,
        target=path if path.startswith("/") else f"/{path}",
        host=host or url.split("/")[2].partition("?")[0],
        insecure=insecure,
        **_expected(reader, expect),
    )


def _shown(url: str) -> str | None:
    """Return a URL for an error, without what stands behind ? and #; None for one that may name a user."""
    return None if "@" in url or not url else re.sub(r"(?s)([?#]).+", r"\1…", url)


def _expected(reader: Reader, text: str) -> dict[str, int]:
    match = _EXPECT.fullmatch(text)
    lowest, highest = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 100 <= lowest <= highest <= 599:
        reader.fail("expect", text, 'is no status code or range from 100 to 599: write "200" or "200-399"')
        return {}
    return {"lowest": lowest, "highest": highest}


def _exec(reader: Reader) -> Target:
    command = reader.sequence("command")
    if not command or not command[0]:
        reader.fail("command", None, "is required: a list, the program and its arguments")
    for index, word in enumerate(command):
        if not isinstance(word, str) or _UNFIT.search(word):
            # Never the argument: passwords stand there.
            reader.fail(f"command[{index}]", None, "is not a text that a program can be given")
    return Exec(tuple(str(word) for word in command))


def _gateway(reader: Reader) -> Target:
    text = reader.text("address")
    address = _address(text)
    if address is None or address.is_multicast or address.is_unspecified or address.is_loopback:
        reader.fail("address", text or None, "is not an IP address of a neighbour such as 10.1.1.1")
        return _NOTHING
    return Gateway(address)


def _host(reader: Reader, key: str, host: str) -> Address:
    """Return the address of a host; names other than localhost are refused."""
    address = _address("127.0.0.1" if host == "localhost" else host)
    if address is None or address.is_multicast or address.is_unspecified:
        reader.fail(key, host, _NO_NAMES)
        return IPv4Address(0)
    return address


def _address(text: str) -> Address | None:
    try:
        # A zone such as %eth0 cannot be connected to without knowing its index.
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


_NOTHING: Final = Exec(())
"""Stands where an error was reported."""
