"""Fields that several resources share: what a vhost has, label selectors, conditions.

Defaults of health checks and announcements stand in the descriptions only: they are `carp.core`'s, and an
object stays as short as its user wrote it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from carp.core.config import AnnounceSettings
from carp.core.health import MAX_CHECKS, Check, Exec, Flap, parse_checks
from carp.core.reader import NAME, Reader, parse_duration
from carp_operator.api import values
from carp_operator.api.fields import (
    DURATION,
    Array,
    Choice,
    Duration,
    Field,
    Flag,
    Integer,
    Map,
    Object,
    Rule,
    Text,
    quoted,
)

if TYPE_CHECKING:
    from carp.core.errors import ConfigError

MAX_NAME: Final = 63
_NAME_PROBLEM: Final = "must be 1 to 63 letters, digits, '-', '_' or '.', a letter or digit at both ends"
_DNS: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_CHECK: Final = Check("", Exec(()))


def name(description: str) -> Text:
    """Return the field of a vhost's or a check's name."""
    return Text(description=description, least=1, most=MAX_NAME, pattern=(NAME.pattern, _NAME_PROBLEM))


def object_name(description: str) -> Text:
    """Return the field of another object's name."""
    problem = "is no name of an object: lower-case letters, digits, '-' and '.'"
    return Text(description=description, least=1, most=253, pattern=(_DNS, problem))


def moment(description: str) -> Text:
    """Return the field of a moment as RFC 3339."""
    return Text(description=description, most=64, format="date-time")


# --- selectors --------------------------------------------------------------------------------------

_LABELS: Final = Map(description="Labels that a node must all have.", values=Text(most=63), most=16)


def _values_fit(expression: Any) -> bool:
    return bool(expression.get("values")) == (expression["operator"] in ("In", "NotIn"))


_EXPRESSION: Final = Object(
    description="One expression about a label.",
    fields={
        "key": Text(description="The label's name.", least=1, most=317),
        "operator": Choice(
            description="In and NotIn compare with values; Exists and DoesNotExist take none.",
            of=("In", "NotIn", "Exists", "DoesNotExist"),
        ),
        "values": Array(description="For In and NotIn.", items=Text(most=63), most=64),
    },
    required=("key", "operator"),
    rules=(
        Rule(
            "(has(self.values) && size(self.values) > 0) == (self.operator in ['In', 'NotIn'])",
            _values_fit,
            "In and NotIn need values; Exists and DoesNotExist take none",
            at=".values",
        ),
    ),
)


def selector(description: str) -> Object:
    """Return a label selector as in other Kubernetes resources."""
    expressions = Array(description="Expressions that must all hold.", items=_EXPRESSION, most=16)
    return Object(description=description, fields={"matchLabels": _LABELS, "matchExpressions": expressions})


PREFERENCE: Final = Object(
    description="Nodes with these labels come first.",
    fields={
        "weight": Integer(description="1 to 100; the weights of all that match add up.", low=1, high=100),
        "matchLabels": _LABELS,
    },
    required=("weight", "matchLabels"),
)

# --- interface and announcements ----------------------------------------------------------------------

_SUBNET_PROBLEM: Final = "is neither auto nor a CIDR without host bits such as 10.1.1.0/24"
INTERFACE: Final[dict[str, Field]] = {
    "subnet": Text(
        description="auto: the interface whose own subnet contains the address; or a CIDR: the interface "
        "that has an address in it.",
        most=43,
        rules=(
            Rule(
                "self == 'auto' || isCIDR(self) && cidr(self).ip() == cidr(self).masked().ip()",
                lambda v: v == "auto" or values.network_of(v) is not None,
                _SUBNET_PROBLEM,
                shown=True,
            ),
        ),
    ),
    "name": Text(
        description="The interface's name on every node, such as eth0.",
        least=1,
        most=15,
        pattern=(r"[^/\s:]+", "is no interface name: 1 to 15 characters without '/', ':' and blanks"),
    ),
    "pattern": Text(
        description="A name with the wildcards of a shell, such as en*; where several fit, the one in the "
        "address's subnet.",
        least=1,
        most=64,
    ),
}


def interface(description: str) -> Object:
    """Return the field that selects an interface in one of three ways."""
    rule = Rule(
        "[has(self.subnet), has(self.name), has(self.pattern)].exists_one(x, x)",
        lambda v: len(v) == 1,
        "write exactly one of interface: {subnet: auto}, {subnet: 10.1.1.0/24}, {name: eth0} and "
        "{pattern: en*}",
    )
    return Object(description=description, fields=INTERFACE, rules=(rule,))


ANNOUNCE: Final = Object(
    description="Gratuitous ARP and unsolicited neighbour advertisements by which a new master tells the "
    "segment.",
    fields={
        "count": Integer(
            description=f"Rounds after a takeover. Default {AnnounceSettings().count}.", low=1, high=100
        ),
        "interval": Duration(
            description=f"Time between them. Default {AnnounceSettings().interval:g}s.",
            low="50ms",
            high="60s",
        ),
        "refresh": Duration(
            description=f"Then one round every so often; 0s: never. Default {AnnounceSettings().refresh:g}s.",
            low="0s",
            high="1h",
        ),
    },
)

# --- health checks ------------------------------------------------------------------------------------
# The vhost's own parser decides what a check may be; CEL repeats it, and tests hold the two together.

_PORT: Final = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_URL: Final = rf"https?://(\[[0-9A-Fa-f:.]+\]|[^/?#:@\[\]]+)(:({_PORT}))?([/?][!\"$-~]*)?"
_OCTET: Final = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IP4: Final = f"({_OCTET}[.]){{3}}{_OCTET}"
_IP6: Final = "self.substring(self.indexOf('[') + 1, self.indexOf(']'))"
_URL_FORM: Final = re.compile(_URL)


def _url_taken(url: str) -> bool:
    errors: list[ConfigError] = []
    parse_checks(Reader({"healthChecks": [{"name": "x", "http": {"url": url}}]}, "", errors))
    return not errors


_URL_HOST: Final = Rule(
    f"!self.matches({quoted(f'^{_URL}$')}) || (self.matches('^https?://\\\\[') ? "
    f"isIP({_IP6}) && !ip({_IP6}).isUnspecified() && !{_IP6}.matches({quoted(values.MULTICAST)}) : "
    f"self.matches('^https?://(localhost|{_IP4})([:/?]|$)') && "
    "!self.matches('^https?://(22[4-9][.]|23[0-9][.]|0[.]0[.]0[.]0([:/?]|$))'))",
    lambda v: not _URL_FORM.fullmatch(v) or _url_taken(v),
    "has a host that is neither an IP address nor localhost; names are not looked up, DNS may hang",
    shown=True,
)

_TCP: Final = Object(
    description="A TCP connection is accepted.",
    fields={
        "host": values.host_or_localhost("An IP address or localhost. Default localhost."),
        "port": Integer(description="The port, 1 to 65535.", low=1, high=65535),
    },
    required=("port",),
)

_HTTP: Final = Object(
    description="A GET is answered with a status code that is expected.",
    fields={
        "url": Text(
            description="http:// or https://, an IP address or localhost, and a path.",
            most=1024,
            pattern=(
                _URL,
                "is no URL such as http://127.0.0.1:8080/healthz, without user, fragment and blanks",
            ),
            rules=(_URL_HOST,),
        ),
        "expect": Text(
            description='Status codes: "200" or "200-399". Default 200-399.',
            most=7,
            pattern=(
                "[1-5][0-9]{2}(-[1-5][0-9]{2})?",
                'is no status code or range: write "200" or "200-399"',
            ),
            rules=(
                Rule(
                    "self.size() < 7 || self.substring(0, 3) <= self.substring(4)",
                    lambda v: len(v) < 7 or v[:3] <= v[4:],
                    "is a range that ends before it begins",
                    shown=True,
                ),
            ),
        ),
        "host": Text(
            description="Host header, and for https the name in the certificate. Default: as in the URL.",
            most=262,
            pattern=(
                r"([A-Za-z0-9_-][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?",
                "is no host name, with or without port",
            ),
        ),
        "insecureTLS": Flag(description="Accept any certificate; https only. Default false."),
    },
    required=("url",),
    rules=(
        Rule(
            "!has(self.insecureTLS) || !self.insecureTLS || self.url.startsWith('https://')",
            lambda v: not v.get("insecureTLS") or v["url"].startswith("https://"),
            "insecureTLS goes with a URL of https only",
            at=".insecureTLS",
        ),
    ),
)

_EXEC: Final = Object(
    description="A program in the container of carpd, or on the host where carpd runs there, exits with 0.",
    fields={
        "command": Array(
            description="The program, found on PATH, and its arguments.",
            # In CEL the rule would cost more than the server's budget for arguments of this length.
            items=Text(most=4096, rules=(Rule("", lambda v: "\0" not in v, "contains a zero byte"),)),
            least=1,
            most=64,
            rules=(Rule("self[0] != ''", lambda v: bool(v[0]), "the first entry, the program, is empty"),),
        )
    },
    required=("command",),
)

_GATEWAY: Final = Object(
    description="A neighbour on the address's segment answers by ARP or neighbour discovery.",
    fields={"address": values.host("Its IPv4 or IPv6 address.")},
    required=("address",),
)

_FLAP: Final = Object(
    description="A check that turns more often than this stays demoted until it was quiet for the window.",
    fields={
        "count": Integer(description=f"Turns. Default {Flap().count}.", low=1, high=100),
        "window": Duration(description=f"In this time. Default {Flap().window:g}s.", low="1s", high="24h"),
    },
)


def _in_time(check: Any) -> bool:
    period = parse_duration(check.get("period", f"{_CHECK.period:g}s")) or 0.0
    return "timeout" not in check or (parse_duration(check["timeout"]) or 0.0) <= period


_CHECK_RULES: Final = (
    Rule(
        "[has(self.tcp), has(self.http), has(self.exec), has(self.gateway)].exists_one(x, x)",
        lambda v: sum(kind in v for kind in ("tcp", "http", "exec", "gateway")) == 1,
        "write exactly one of tcp: {port: 80}, http: {url: …}, exec: {command: […]} and gateway: "
        "{address: …}",
    ),
    Rule(
        f"!has(self.timeout) || !self.timeout.matches({quoted(DURATION)}) || "
        f"has(self.period) && !self.period.matches({quoted(DURATION)}) || "
        f"duration(self.timeout) <= duration(has(self.period) ? self.period : '{_CHECK.period:g}s')",
        _in_time,
        "timeout is longer than period: shorten it",
        at=".timeout",
    ),
)

CHECK: Final = Object(
    description="One health check, run on each node that takes part.",
    fields={
        "name": name(
            "Unique in the list; while it is down the node is demoted under the reason health:NAME."
        ),
        "tcp": _TCP,
        "http": _HTTP,
        "exec": _EXEC,
        "gateway": _GATEWAY,
        "period": Duration(
            description=f"Time between two runs. Default {_CHECK.period:g}s.", low="100ms", high="1h"
        ),
        "timeout": Duration(
            description="A run that takes longer has failed; at most the period. "
            f"Default {_CHECK.timeout:g}s, or the period where that is shorter.",
            low="50ms",
            high="1m",
        ),
        "rise": Integer(
            description=f"Successes in a row until it is up. Default {_CHECK.rise}.", low=1, high=100
        ),
        "fall": Integer(
            description=f"Failures in a row until it is down. Default {_CHECK.fall}.", low=1, high=100
        ),
        "demotion": Integer(
            description=f"Added to advskew while it is down. Default {_CHECK.demotion}.", low=1, high=254
        ),
        "flap": _FLAP,
    },
    required=("name",),
    rules=_CHECK_RULES,
)

CHECKS: Final = Array(
    description="Checks that every member runs. While one fails its node is demoted, and a node without "
    "failures takes over by handover. None by default.",
    items=CHECK,
    most=MAX_CHECKS,
    key="name",
)

# --- conditions ---------------------------------------------------------------------------------------

CONDITIONS: Final = Array(
    description="What holds now, each with its reason.",
    items=Object(
        description="One condition.",
        fields={
            "type": Text(description="Its name.", most=316),
            "status": Choice(description="True, False or Unknown.", of=("True", "False", "Unknown")),
            "reason": Text(description="One word for programs.", most=1024),
            "message": Text(description="One sentence for people.", most=32768),
            "lastTransitionTime": moment("When status last changed."),
            "observedGeneration": Integer(description="The generation of the spec that it was judged by."),
        },
        required=("type", "status", "reason", "lastTransitionTime"),
    ),
    most=16,
    key="type",
)
