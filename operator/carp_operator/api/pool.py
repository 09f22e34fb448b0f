"""VirtualIPPool: addresses to hand out, and how many are left."""

from __future__ import annotations

import re
from typing import Any, Final

from carp_operator.api import shapes, values
from carp_operator.api.fields import Array, Field, Flag, Integer, Object, Rule, Text

_SPAN: Final = re.compile("[^-]+-[^-]+")
_CIDR: Final = "(isCIDR(self) && cidr(self).ip() == cidr(self).masked().ip())"
# Not split(): what it returns has no bounded length, which the server's budget for rules minds.
_FIRST: Final = "self.substring(0, self.indexOf('-'))"
_LAST: Final = "self.substring(self.indexOf('-') + 1)"
_SPAN_CEL: Final = (
    f"(self.indexOf('-') > 0 && isIP({_FIRST}) && isIP({_LAST}) && "
    f"ip({_FIRST}).family() == ip({_LAST}).family())"
)


def span_of(text: str) -> tuple[int, int, int] | None:
    """Return family, first and last address of a CIDR or of ``first-last``; None where it is neither.

    The last may be lower than the first; `SPEC` refuses that.
    """
    network = values.network_of(text)
    if network is not None:
        return network.version, int(network.network_address), int(network.broadcast_address)
    if not _SPAN.fullmatch(text):
        return None
    first, last = (values.ip_of(end) for end in text.split("-"))
    if first is None or last is None or first.version != last.version:
        return None
    return first.version, int(first), int(last)


def _ascends(text: Any) -> bool:
    span = span_of(text)
    return span is None or span[1] <= span[2]


_RANGE: Final = Text(
    least=2,
    most=79,
    rules=(
        Rule(
            f"{_CIDR} || {_SPAN_CEL}",
            lambda v: span_of(v) is not None,
            "is neither a CIDR without host bits such as 10.1.1.192/27 nor a range such as "
            "10.1.1.200-10.1.1.220",
            shown=True,
        ),
        # CEL cannot compare two addresses.
        Rule("", _ascends, "ends before it begins: write the lower address first", shown=True),
    ),
)

SPEC: Final = Object(
    description="What the pool hands out.",
    fields={
        "addresses": Array(
            description="CIDRs (10.1.1.192/27) and ranges (10.1.1.200-10.1.1.220), IPv4 and IPv6. All "
            "addresses of them are handed out, the lowest free one first.",
            items=_RANGE,
            least=1,
            most=64,
            unique=True,
        ),
        "avoidBuggyIPs": Flag(
            description="Leave out IPv4 addresses that end in .0 or .255; some old devices drop them.",
            default=False,
        ),
    },
    required=("addresses",),
)


def _family(version: int) -> Field:
    return Object(
        description=f"IPv{version} addresses.",
        fields={
            "used": Integer(description="Handed out."),
            "available": Integer(description="Left; at most 2^53 is shown."),
        },
    )


STATUS: Final = Object(
    description="What the controller found; written by nobody else.",
    fields={
        "observedGeneration": Integer(description="The generation of the spec that this status is about."),
        "ipv4": _family(4),
        "ipv6": _family(6),
        "conditions": shapes.CONDITIONS,
    },
)
