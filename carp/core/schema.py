"""The one schema of a vhost (design.md section 8): a mapping in, `VhostConfig` out.

Files, the control socket and the command line all come through here.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Final

from carp.core import config as c
from carp.core.auth import MAX_PASSWORD
from carp.core.errors import ConfigError, ConfigErrors
from carp.core.reader import NAME, Reader
from carp.core.timing import MAX_DEMOTION, Timing

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.health import Check

_IFNAME: Final = re.compile(r"[^/\s:]{1,15}")
_MAX_ADDRESSES: Final = 16
_MAX_ACCEPTED: Final = 16
_MAX_DEMOTIONS: Final = 16
MAX_PEERS: Final = 64
"""Of one vhost, members and further peers together."""
MAX_LISTEN: Final = 8
"""Groups heard beside the one in use: the kernel allows 20 on an interface, which other vhosts share."""
RESERVED_REASONS: Final = ("maintenance",)
"""Demotions that only an operation sets."""


def parse_vhost(
    data: object, *, path: str = "", read_password: Callable[[str], bytes] | None = None
) -> c.VhostConfig:
    """Return the settings in a mapping. Raises ConfigErrors with everything that is wrong.

    ``path`` goes before each field in the errors; ``read_password`` reads a passwordFile (raising
    ConfigError with a problem only); without it such a field is an error.
    """
    errors: list[ConfigError] = []
    reader = Reader(data, path, errors)
    try:
        result = _vhost(reader, read_password)
    finally:
        reader.finish()
    if errors:
        raise ConfigErrors(errors)
    return result


def _vhost(reader: Reader, read_password: Callable[[str], bytes] | None) -> c.VhostConfig:
    name = reader.text("name")
    if not NAME.fullmatch(name):
        reader.fail(
            "name",
            name or None,
            "must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends",
        )
    timing = _timing(reader)
    accept = tuple(
        _credentials(Reader(item, reader.field(f"accept[{i}]"), reader.errors), read_password, finish=True)
        for i, item in enumerate(reader.sequence("accept"))
    )
    if len(accept) > _MAX_ACCEPTED:
        reader.fail("accept", len(accept), f"entries are more than {_MAX_ACCEPTED}")
    return c.VhostConfig(
        name=name,
        vhid=reader.integer("vhid", None, 1, 255),
        interface=_interface(reader),
        sign=_credentials(reader, read_password),
        accept=accept,
        seal=_seal_mode(reader, timing),
        timing=timing,
        preempt=_preempt(reader),
        transport=_transport(reader),
        source=_one_address(reader, "source", IPv4Address),
        source6=_one_address(reader, "source6", IPv6Address),
        announce=_announce(reader),
        fencing=_fencing(reader),
        scripts=_scripts(reader),
        manage=reader.flag("manageAddresses", default=True),
        first_claimant=reader.flag("firstClaimant", default=False),
        health_checks=_health_checks(reader),
        when_all_fail=_when_all_fail(reader),
        demotions=_demotions(reader),
        ignore_link_state=reader.flag("ignoreLinkState", default=False),
    )


def _timing(reader: Reader) -> Timing:
    timing = Timing(
        advbase=reader.integer("advbase", 1, 0, 255),
        advskew=reader.integer("advskew", 0, 0, 254),
        ratio=reader.integer("deadRatio", 3, 1, 255),
    )
    if timing.advbase == 0 and timing.advskew == 0:
        reader.fail("advskew", 0, "with advbase 0 would be no interval at all: give at least 1 (1/256 s)")
    return timing


def _seal_mode(reader: Reader, timing: Timing) -> c.SealMode:
    """Return the mode; advbase 0 is sound among our own members only, so it seals by itself."""
    section = reader.section("authentication")
    given = section.has("mode")
    mode = section.choice("mode", c.SealMode.INTEROPERABLE)
    section.finish()
    if timing.advbase:
        return mode
    if given and mode is not c.SealMode.SEALED:
        problem = (
            "goes with advbase 1 or more only: other implementations time out after one interval at advbase 0"
        )
        section.fail("mode", mode.value, problem)
    return c.SealMode.SEALED


def _interface(reader: Reader) -> c.Interface:
    value = reader.raw("interface")
    if isinstance(value, str):
        value = {"name": value}
    section = Reader(value, reader.field("interface"), reader.errors)
    name, subnet, pattern = (section.text(key) for key in ("name", "subnet", "pattern"))
    section.finish()
    if [bool(name), bool(subnet), bool(pattern)].count(True) != 1:
        problem = "is required: a name such as eth0, or exactly one of {name}, {subnet} and {pattern}"
        reader.fail("interface", None, problem)
    if name and not _IFNAME.fullmatch(name):
        section.fail("name", name, "is no interface name: 1 to 15 characters without '/', ':' and blanks")
    if subnet and subnet != "auto":
        try:
            ipaddress.ip_network(subnet)
        except ValueError:
            section.fail("subnet", subnet, "is neither auto nor a CIDR such as 10.1.1.0/24")
    return c.Interface(name=name, subnet=subnet, pattern=pattern)


def parse_vip(text: object) -> c.Vip:
    """Return an address to hold, /32 or /128 unless a prefix is given. Raises ValueError."""
    if not isinstance(text, str) or "%" in text:
        msg = "is not an IP address such as 10.1.1.252, 10.1.1.252/24 or 2001:db8::252"
        raise ValueError(msg)
    try:
        vip = ipaddress.ip_interface(text)
    except ValueError:
        msg = "is not an IP address such as 10.1.1.252, 10.1.1.252/24 or 2001:db8::252"
        raise ValueError(msg) from None
    ip = vip.ip
    for wrong, what in (
        (ip.is_multicast, "multicast"),
        (ip.is_loopback, "loopback"),
        (ip.is_unspecified, "unspecified"),
        (str(ip) == "255.255.255.255", "broadcast"),
        (ip.version == 6 and ip.ipv4_mapped is not None, "IPv4-mapped"),
    ):
        if wrong:
            msg = f"is a {what} address: give a unicast address of the nodes' subnet"
            raise ValueError(msg)
    return vip


def _addresses(reader: Reader) -> tuple[c.Vip, ...]:
    result: list[c.Vip] = []
    given = reader.sequence("addresses")
    for index, text in enumerate(given):
        try:
            vip = parse_vip(text)
        except ValueError as error:
            reader.fail(f"addresses[{index}]", text, str(error))
            continue
        if vip.ip in [a.ip for a in result]:
            reader.fail(f"addresses[{index}]", text, "stands in the list twice")
        else:
            result.append(vip)
    if not given:
        reader.fail("addresses", None, "is required: at least one address")
    if len(given) > _MAX_ADDRESSES:
        reader.fail("addresses", len(given), f"addresses are more than {_MAX_ADDRESSES}")
    return tuple(result)


def check_password(password: bytes) -> None:
    """Raise ValueError when a password is empty or too long for the protocol."""
    if not password:
        msg = "is empty: an advert that anybody can sign protects nothing"
        raise ValueError(msg)
    if len(password) > MAX_PASSWORD:
        msg = (
            f"has {len(password)} bytes, more than {MAX_PASSWORD}: CARP keeps 20 bytes with a closing "
            "zero, and the BSDs silently cut what is longer"
        )
        raise ValueError(msg)


def _credentials(
    reader: Reader, read_password: Callable[[str], bytes] | None, *, finish: bool = False
) -> c.Credentials:
    addresses = _addresses(reader)
    inline, path = reader.text("password", secret=True), reader.text("passwordFile")
    if finish:
        reader.finish()
    key, password = "password", inline.encode(errors="surrogatepass")
    if bool(inline) == bool(path):
        problem = "is required: exactly one of password and passwordFile"
        reader.fail("password", None, problem if not inline else "and passwordFile exclude each other")
        return c.Credentials(addresses, b"")
    if path:
        key = "passwordFile"
        if read_password is None:
            reader.fail(key, path, "cannot be read here")
            return c.Credentials(addresses, b"")
        try:
            password = read_password(path)
        except ConfigError as error:
            reader.fail(key, path, error.problem)
            return c.Credentials(addresses, b"")
    try:
        check_password(password)
    except ValueError as error:
        # Never the value: it is a secret.
        reader.fail(key, path or None, str(error))
    return c.Credentials(addresses, password)


def _preempt(reader: Reader) -> c.Preempt:
    section = reader.section("preempt")
    mode = section.choice("mode", c.PreemptMode.NEVER)
    given = section.has("after")
    after = section.seconds("after", 0.0, 1.0, 86400.0)
    section.finish()
    if given != (mode is c.PreemptMode.AFTER):
        problem = "write preempt: {mode: After, after: 30s}; mode Never or Always takes no after"
        section.fail("after", None, problem)
    return c.Preempt(mode=mode, after=after)


def _transport(reader: Reader) -> c.Transport:
    section = reader.section("transport")
    mode = section.choice("mode", c.TransportMode.MULTICAST)
    group4 = _one_address(section, "group", IPv4Address) or c.Transport().group4
    group6 = _one_address(section, "group6", IPv6Address) or c.Transport().group6
    peers: list[Address] = []
    for index, text in enumerate(section.sequence("peers")):
        try:
            peer = parse_vip(text)
        except ValueError as error:
            section.fail(f"peers[{index}]", text, str(error))
            continue
        peers.append(peer.ip)
    listen = _listen(section)
    section.finish()
    for key, group in (("group", group4), ("group6", group6)):
        if not group.is_multicast:
            section.fail(key, str(group), "is not a multicast address")
    if (mode is c.TransportMode.UNICAST) != bool(peers):
        section.fail("peers", None, "goes with mode Unicast, which needs at least one")
    if len(peers) > MAX_PEERS:
        section.fail("peers", len(peers), f"peers are more than {MAX_PEERS}")
    return c.Transport(mode=mode, group4=group4, group6=group6, peers=tuple(peers), listen=listen)


def _listen(section: Reader) -> tuple[Address, ...]:
    groups: list[Address] = []
    given = section.sequence("listen")
    if len(given) > MAX_LISTEN:
        section.fail("listen", len(given), f"groups are more than {MAX_LISTEN}")
    for index, text in enumerate(given):
        try:
            group = ipaddress.ip_address(str(text))
        except ValueError:
            group = None
        if group is None or not group.is_multicast:
            section.fail(f"listen[{index}]", text, "is not a multicast address")
        else:
            groups.append(group)
    return tuple(groups)


def _one_address(reader: Reader, key: str, kind: type[Any]) -> Any:
    text = reader.text(key)
    if not text:
        return None
    try:
        return kind(text)
    except ValueError:
        reader.fail(key, text, f"is not an {'IPv4' if kind is IPv4Address else 'IPv6'} address")
        return None


def _health_checks(reader: Reader) -> tuple[Check, ...]:
    if not reader.sequence("healthChecks"):
        return ()
    from carp.core.health import parse_checks  # noqa: PLC0415 (10 ms of every start that has none)

    return parse_checks(reader)


def _when_all_fail(reader: Reader) -> c.WhenAllFail:
    choice = reader.choice("whenAllFail", c.WhenAllFail.KEEP)
    if choice is c.WhenAllFail.RELEASE and not reader.sequence("healthChecks"):
        reader.fail("whenAllFail", choice.value, "needs at least one entry of healthChecks")
        return c.WhenAllFail.KEEP
    return choice


def _demotions(reader: Reader) -> tuple[tuple[str, int], ...]:
    result: dict[str, int] = {}
    given = reader.sequence("demotions")
    if len(given) > _MAX_DEMOTIONS:
        reader.fail("demotions", len(given), f"entries are more than {_MAX_DEMOTIONS}")
    for index, item in enumerate(given):
        entry = Reader(item, reader.field(f"demotions[{index}]"), reader.errors)
        reason, amount = entry.text("reason"), entry.integer("amount", None, 1, MAX_DEMOTION)
        entry.finish()
        if not NAME.fullmatch(reason) or reason in (*RESERVED_REASONS, *result):
            problem = "must be a word that stands once and is not one of " + ", ".join(RESERVED_REASONS)
            entry.fail("reason", reason or None, problem)
        result[reason] = amount
    return tuple(sorted(result.items()))


def _announce(reader: Reader) -> c.AnnounceSettings:
    section, default = reader.section("announce"), c.AnnounceSettings()
    result = c.AnnounceSettings(
        count=section.integer("count", default.count, 1, 100),
        interval=section.seconds("interval", default.interval, 0.05, 60.0),
        refresh=section.seconds("refresh", default.refresh, 0.0, 3600.0),
    )
    section.finish()
    return result


def _fencing(reader: Reader) -> c.Fencing:
    if reader.raw("fencing") == "Lease":
        reader.fail("fencing", "Lease", "is not supported by this version: write Lifetime or Off")
        return c.Fencing.LIFETIME
    return reader.choice("fencing", c.Fencing.LIFETIME)


def _scripts(reader: Reader) -> c.Scripts:
    section = reader.section("scripts")
    result = c.Scripts(
        up=section.text("up"),
        down=section.text("down"),
        argument=section.text("argument"),
        timeout=section.seconds("timeout", 30.0, 0.1, 3600.0),
        neutral=section.flag("neutral", default=False),
        on_exit=section.flag("onExit", default=True),
    )
    section.finish()
    return result
