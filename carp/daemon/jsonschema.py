"""The JSON Schema (draft 2020-12) of the configuration file, for editors: `carp check --schema`.

One table, `VHOST`; a test holds its fields, ranges, defaults and choices against what `carp.core.schema`
really asks for. The parser decides: it also knows what a schema cannot say (addresses, ranges of durations).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from carp.core import config as c
from carp.core.auth import MAX_PASSWORD
from carp.core.health import MAX_CHECKS, Check, Exec, Flap
from carp.core.schema import MAX_LISTEN, MAX_PEERS, RESERVED_REASONS
from carp.core.timing import MAX_DEMOTION, Timing
from carp.daemon.configfile import MAX_VHOSTS

if TYPE_CHECKING:
    import enum

Schema: TypeAlias = dict[str, Any]

_NAME: Final = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
_IP4: Final = r"^[0-9.]+$"
_IP6: Final = r"^[0-9A-Fa-f:.]+$"
_VIP: Final = r"^[0-9A-Fa-f:.]+(/[0-9.]+)?$"


def _text(description: str, **more: Any) -> Schema:
    return {"description": description, "type": "string", **more}


def _whole(description: str, low: int, high: int, **more: Any) -> Schema:
    return {"description": description, "type": "integer", "minimum": low, "maximum": high, **more}


def _flag(description: str, *, default: bool) -> Schema:
    return {"description": description, "type": "boolean", "default": default}


def _choice(description: str, default: enum.StrEnum) -> Schema:
    return {"description": description, "enum": [str(m) for m in type(default)], "default": str(default)}


def _seconds(description: str, limits: str, default: str | None = None) -> Schema:
    result: Schema = {"description": f"{description}; {limits}", "$ref": "#/$defs/duration"}
    return result if default is None else {**result, "default": default}


def _list(description: str, items: Schema, most: int, least: int = 0) -> Schema:
    limits: Schema = {"minItems": least, "maxItems": most} if least else {"maxItems": most}
    return {"description": description, "type": "array", "items": items, **limits}


def _section(description: str, properties: Schema, **more: Any) -> Schema:
    result = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return {"description": description, **result} if description else result


def _require(*fields: str) -> Schema:
    return {"required": list(fields)}


def _given(field: str, value: str | int) -> Schema:
    """Return the condition that a field is given with this value."""
    return {"properties": {field: {"const": value}}, "required": [field]}


CREDENTIALS: Final[Schema] = {
    "addresses": _list(
        "IPv4 and IPv6 addresses, with or without prefix length (default /32, /128)",
        {"type": "string", "pattern": _VIP},
        16,
        1,
    ),
    "password": _text(
        f"Shared by all members: 1 to {MAX_PASSWORD} bytes", minLength=1, maxLength=MAX_PASSWORD
    ),
    "passwordFile": _text("Absolute path; the file's first line is the password", minLength=1),
}
_ONE_PASSWORD: Final[list[Schema]] = [_require("password"), _require("passwordFile")]

INTERFACE: Final[Schema] = {
    "name": _text("The interface's name", pattern=r"^[^/\s:]{1,15}$"),
    "subnet": _text("The interface that has an address in this CIDR; auto: in the VIP's subnet", minLength=1),
    "pattern": _text(
        "A name with the wildcards of a shell; of several the one in the VIP's subnet", minLength=1
    ),
}

PREEMPT: Final = _section(
    "Whether a better placed backup takes over from a living master",
    {
        "mode": _choice("Never, Always, or After a delay", c.Preempt().mode),
        "after": _seconds("Mode After: from the first advert of a worse master", "1s to 24h"),
    },
    **{"if": _given("mode", "After"), "then": _require("after"), "else": {"properties": {"after": False}}},
)

TRANSPORT: Final = _section(
    "How adverts reach the other members",
    {
        "mode": _choice("Broadcast is ucarp's --nomcast", c.Transport().mode),
        "group": _text("IPv4 multicast group", pattern=_IP4, default=str(c.Transport().group4)),
        "group6": _text("IPv6 multicast group", pattern=_IP6, default=str(c.Transport().group6)),
        "peers": _list("Mode Unicast: the other members", {"type": "string", "pattern": _VIP}, MAX_PEERS),
        "listen": _list(
            "Further groups to hear, while members change to another group", {"type": "string"}, MAX_LISTEN
        ),
    },
    **{
        "if": _given("mode", "Unicast"),
        "then": {"properties": {"peers": {"minItems": 1}}, "required": ["peers"]},
        "else": {"properties": {"peers": {"maxItems": 0}}},
    },
)

ANNOUNCE: Final = _section(
    "Gratuitous ARP and unsolicited neighbour advertisements of a new master",
    {
        "count": _whole("Rounds after a takeover", 1, 100, default=c.AnnounceSettings().count),
        "interval": _seconds("Time between them", "0.05s to 60s", f"{c.AnnounceSettings().interval:g}s"),
        "refresh": _seconds(
            "Then one every so often", "0s (never) to 1h", f"{c.AnnounceSettings().refresh:g}s"
        ),
    },
)

SCRIPTS: Final = _section(
    "Programs run as SCRIPT INTERFACE ADDRESS [ARGUMENT]",
    {
        "up": _text("When the addresses have come", default=""),
        "down": _text("When they have gone", default=""),
        "argument": _text("A third argument", default=""),
        "timeout": _seconds("A script that takes longer is ended", "0.1s to 1h", f"{c.Scripts().timeout:g}s"),
        "neutral": _flag("Leave out the down script at start (ucarp -n)", default=c.Scripts().neutral),
        "onExit": _flag("Run the down script at the end", default=c.Scripts().on_exit),
    },
)

_CHECK: Final = Check("", Exec(()))

CHECK: Final[Schema] = {
    "name": _text("Unique in the vhost; its demotion is health:NAME", pattern=_NAME),
    "tcp": _section(
        "A TCP connection is accepted",
        {
            "host": _text("An IP address or localhost", default="localhost", minLength=1),
            "port": _whole("The port", 1, 65535),
        },
        required=["port"],
    ),
    "http": _section(
        "A GET is answered with a status that is expected",
        {
            "url": _text(
                "http:// or https://, an IP address or localhost, path", pattern="^https?://[^/?#@]"
            ),
            "expect": _text("Status codes", pattern="^[1-5][0-9]{2}(-[1-5][0-9]{2})?$", default="200-399"),
            "host": _text("Host header, and the name in the certificate; default: as in the URL"),
            "insecureTLS": _flag("Accept any certificate", default=False),
        },
        required=["url"],
    ),
    "exec": _section(
        "A program exits with 0",
        {
            "command": {
                "description": "The program, found on PATH, and its arguments",
                "type": "array",
                "items": {"type": "string"},
                "minItems": 1,
            }
        },
        required=["command"],
    ),
    "gateway": _section(
        "A neighbour on the segment answers by ARP or neighbour discovery",
        {"address": _text("Its IPv4 or IPv6 address", pattern=_IP6)},
        required=["address"],
    ),
    "period": _seconds("Time between two runs", "0.1s to 1h", f"{_CHECK.period:g}s"),
    "timeout": _seconds(
        "A run that takes longer has failed; at most the period", "0.05s to 60s", f"{_CHECK.timeout:g}s"
    ),
    "rise": _whole("Successes in a row until it is up", 1, 100, default=_CHECK.rise),
    "fall": _whole(
        "Failures in a row until it is down; the first result after a start decides at once",
        1,
        100,
        default=_CHECK.fall,
    ),
    "demotion": _whole("Added to advskew while it is down", 1, 254, default=_CHECK.demotion),
    "flap": _section(
        "A check that turns more often stays demoted until it is quiet for the window",
        {
            "count": _whole("Turns", 1, 100, default=Flap().count),
            "window": _seconds("In this time", "1s to 24h", f"{Flap().window:g}s"),
        },
    ),
}

_TIMING: Final = Timing(advbase=1, advskew=0, ratio=3)

VHOST: Final[Schema] = {
    "name": _text("Unique on the node", pattern=_NAME),
    "vhid": _whole("Virtual host id, unique on its interface, equal on all members", 1, 255),
    "interface": {
        "description": "Where the addresses live: a name, or one of {name}, {subnet} and {pattern}",
        "anyOf": [
            INTERFACE["name"],
            _section("", INTERFACE, oneOf=[_require(field) for field in INTERFACE]),
        ],
    },
    **CREDENTIALS,
    "accept": _list(
        "Further passwords and address lists that authenticate a member during a change",
        _section("", CREDENTIALS, required=["addresses"], oneOf=_ONE_PASSWORD),
        16,
    ),
    "authentication": _section(
        "Whether adverts of other implementations count",
        {"mode": _choice("Sealed: members of this implementation only", c.SealMode.INTEROPERABLE)},
    ),
    "advbase": _whole("Seconds between adverts; 0 only among own members", 0, 255, default=_TIMING.advbase),
    "advskew": _whole("1/256 s added to advbase; the lowest is preferred", 0, 254, default=_TIMING.advskew),
    "deadRatio": _whole("The master counts as gone after deadRatio x advbase", 1, 255, default=_TIMING.ratio),
    "preempt": PREEMPT,
    "transport": TRANSPORT,
    "source": _text(
        "IPv4 source of adverts; default: the interface's address in the VIP's subnet, else its first",
        pattern=_IP4,
    ),
    "source6": _text("IPv6 source of adverts; default as with source", pattern=_IP6),
    "announce": ANNOUNCE,
    "fencing": _choice("Lifetime: the kernel removes the addresses of a dead owner", c.Fencing.LIFETIME),
    "healthChecks": _list(
        "While one fails, the vhost is demoted; each has exactly one of tcp, http, exec and gateway",
        _section(
            "",
            CHECK,
            required=["name"],
            oneOf=[_require(kind) for kind in ("tcp", "http", "exec", "gateway")],
        ),
        MAX_CHECKS,
    ),
    "whenAllFail": _choice("Release: nobody holds the addresses while all checks fail", c.WhenAllFail.KEEP),
    "scripts": SCRIPTS,
    "manageAddresses": _flag("false: the scripts set the addresses, and there is no fence", default=True),
    "demotions": _list(
        "Added to advskew for as long as they stand here; a master hands over",
        _section(
            "",
            {
                "reason": _text(
                    "Shown in the status", pattern=_NAME, **{"not": {"enum": list(RESERVED_REASONS)}}
                ),
                "amount": _whole("1/256 s", 1, MAX_DEMOTION),
            },
            **_require("reason", "amount"),
        ),
        16,
    ),
    "firstClaimant": _flag(
        "Claim at start without listening for a master first; for one member at most", default=False
    ),
    "ignoreLinkState": _flag("Take part without carrier (ucarp -S)", default=False),
}
"""Field -> its schema, in the order of the documentation."""

_ADVBASE_0: Final[Schema] = {
    "properties": {
        "advskew": {"minimum": 1},
        "authentication": {"properties": {"mode": {"const": str(c.SealMode.SEALED)}}},
    },
    "required": ["advskew"],
}


def schema() -> Schema:
    """Return the schema of a configuration file, or of a file in conf.d."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "carp daemon: configuration file",
        "type": "object",
        "properties": {
            "vhosts": {
                "description": "The virtual hosts that this node takes part in",
                "type": "array",
                "items": {"$ref": "#/$defs/vhost"},
                "maxItems": MAX_VHOSTS,
            }
        },
        "required": ["vhosts"],
        "additionalProperties": False,
        "$defs": {
            "vhost": _section(
                "One vhid on one interface with its addresses",
                VHOST,
                required=["name", "vhid", "interface", "addresses"],
                oneOf=_ONE_PASSWORD,
                **{"if": _given("advbase", 0), "then": _ADVBASE_0},
            ),
            "duration": _text("A duration: 3s, 500ms, 1m30s", pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"),
        },
    }


def text() -> str:
    """Return the schema as JSON for people, with a closing newline."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
