"""Addresses and networks as fields: which texts are one, in CEL and in Python with the same verdict.

The server's ip() and cidr() refuse leading zeros, zones and IPv4-mapped addresses; they know no multicast
beyond the link (Kubernetes documentation, "CEL: Kubernetes IP address library").
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from carp.core.schema import parse_vip
from carp_operator.api.fields import Rule, Text, quoted

if TYPE_CHECKING:
    from carp.core.config import Vip

Ip: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MULTICAST: Final = "^([fF][fF][0-9a-fA-F]{2}:|22[4-9][.]|23[0-9][.])"
_PREFIXED: Final = re.compile(r"[^/]+(/(0|[1-9][0-9]{0,2}))?")
_MOST: Final = 43
"""Characters of the longest IPv6 network."""
_ANY: Final = "(isIP(self) || isCIDR(self))"
_IP: Final = "(isIP(self) ? ip(self) : cidr(self).ip())"
_UNICAST: Final = (
    f"!{_IP}.isLoopback() && !{_IP}.isUnspecified() && !self.matches({quoted(MULTICAST)}) && "
    "self != '255.255.255.255' && !self.startsWith('255.255.255.255/')"
)


@lru_cache(4096)
def vip_of(text: str) -> Vip | None:
    """Return an address to hold, with or without prefix; None where it is none."""
    try:
        return parse_vip(text) if _PREFIXED.fullmatch(text) else None
    except ValueError:
        return None


@lru_cache(4096)
def ip_of(text: str) -> Ip | None:
    """Return an address without prefix and zone; None where it is none."""
    try:
        result = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = isinstance(result, IPv6Address) and result.ipv4_mapped is not None
    return None if mapped or "%" in text else result


@lru_cache(1024)
def network_of(text: str) -> Network | None:
    """Return a network without host bits; None where it is none."""
    if "/" not in text or not _PREFIXED.fullmatch(text) or ip_of(text.partition("/")[0]) is None:
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _form(text: str) -> bool:
    """Whether a text is an address or an address with prefix, of whatever kind."""
    if vip_of(text) is not None:
        return True
    host, slash, _ = text.partition("/")
    address = ip_of(host)
    if address is None or not slash:
        return address is not None
    return bool(_PREFIXED.fullmatch(text)) and int(text.partition("/")[2]) <= address.max_prefixlen


def address(description: str) -> Text:
    """Return the field of an address that nodes hold, with or without prefix length."""
    form = "is not an IP address: write 10.1.1.252, 10.1.1.252/24 or 2001:db8::252/64, without zone or port"
    kind = "is a loopback, multicast, broadcast or unspecified address: give one of the nodes' subnet"
    rules = (
        Rule(_ANY, _form, form, shown=True),
        Rule(f"!{_ANY} || {_UNICAST}", lambda v: not _form(v) or vip_of(v) is not None, kind, shown=True),
    )
    return Text(description=description, least=2, most=_MOST, rules=rules)


def host(description: str, *, local: bool = False) -> Text:
    """Return the field of somebody's unicast address without prefix; ``local`` allows this host too."""
    form = "is not an IP address such as 10.1.1.1, without prefix, zone or port"
    kind = "is a multicast or unspecified address"
    if not local:
        kind = "is a loopback, multicast or unspecified address, no neighbour's"
    no_loopback = "" if local else " && !ip(self).isLoopback()"
    cel = f"!isIP(self) || !ip(self).isUnspecified() && !self.matches({quoted(MULTICAST)}){no_loopback}"
    rules = (
        Rule("isIP(self)", lambda v: ip_of(v) is not None, form, shown=True),
        Rule(cel, lambda v: ip_of(v) is None or _is_host(v, local=local), kind, shown=True),
    )
    return Text(description=description, least=2, most=_MOST, rules=rules)


def host_or_localhost(description: str) -> Text:
    """Return the field of a health check's target: an address or the word localhost."""
    unicast = f"!ip(self).isUnspecified() && !self.matches({quoted(MULTICAST)})"
    cel = f"self == 'localhost' || isIP(self) && {unicast}"
    problem = "is neither an IP address nor localhost; names are not looked up, DNS may hang"
    rule = Rule(cel, lambda v: v == "localhost" or _is_host(v, local=True), problem, shown=True)
    return Text(description=description, least=1, most=_MOST, rules=(rule,))


def _is_host(text: str, *, local: bool) -> bool:
    found = ip_of(text)
    if found is None or found.is_multicast or found.is_unspecified:
        return False
    return local or not found.is_loopback


def group(description: str, *, version: int) -> Text:
    """Return the field of a multicast group of one family."""
    regex = "^(22[4-9]|23[0-9])[.]" if version == 4 else "^[fF][fF][0-9a-fA-F]{2}:"
    example = "224.0.0.18" if version == 4 else "ff02::12"
    rule = Rule(
        f"isIP(self) && ip(self).family() == {version} && self.matches({quoted(regex)})",
        lambda v: (found := ip_of(v)) is not None and found.version == version and found.is_multicast,
        f"is not an IPv{version} multicast address such as {example}",
        shown=True,
    )
    return Text(description=description, most=_MOST, rules=(rule,))


def has_twice(texts: Any) -> bool:
    """Whether an address stands twice in a list, with and without prefix or in two spellings."""
    found = [vip.ip for text in texts if (vip := vip_of(text)) is not None]
    return len(set(found)) < len(found)
