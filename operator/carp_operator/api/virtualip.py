"""VirtualIP: the fields that people write, and their rules."""

from __future__ import annotations

from typing import Any, Final

from carp.core.config import Transport
from carp.core.reader import parse_duration
from carp.core.schema import MAX_PEERS
from carp_operator.api import shapes, values
from carp_operator.api.fields import (
    DURATION,
    Array,
    Choice,
    Duration,
    Field,
    Integer,
    Object,
    Rule,
    Text,
    quoted,
)

MAX_ADDRESSES: Final = 16

ADVERTISEMENT: Final = Object(
    description="Explicit timing instead of failoverTime: the first node sends every advbase seconds; "
    "the one of rank n every advbase + n x advskewStep/256 seconds, and takes over after deadRatio x "
    "advbase without it.",
    fields={
        "advbase": Integer(
            description="Seconds between two adverts, 0 to 255. 0: below a second, by advskew alone, "
            "which only members of this implementation understand.",
            default=1,
            low=0,
            high=255,
        ),
        "advskewStep": Integer(
            description="1/256 s from one rank to the next, 0 to 254. Default: chosen so that ranks do "
            "not meet.",
            low=0,
            high=254,
        ),
        "deadRatio": Integer(
            description="A master that was silent for this many advbase is gone, 1 to 255. ucarp and "
            "FreeBSD use 3.",
            default=3,
            low=1,
            high=255,
        ),
    },
)

PREEMPT: Final = Object(
    description="Whether a node with a better rank takes the address from a living master. Each move "
    "costs clients a moment, so the default is not to.",
    default={"mode": "Never"},
    fields={
        "mode": Choice(
            description="Never, Always, or After a delay.", default="Never", of=("Never", "Always", "After")
        ),
        "after": Duration(
            description="For mode After: how long the better node waits, from the first advert that it "
            "hears.",
            low="1s",
            high="24h",
        ),
    },
    rules=(
        Rule(
            "(self.mode == 'After') == has(self.after)",
            lambda v: (v["mode"] == "After") == ("after" in v),
            "write preempt: {mode: After, after: 30s}; mode Never or Always takes no after",
            at=".after",
        ),
    ),
)

AUTHENTICATION: Final = Object(
    description="The password that all members share. Left out, the controller makes a random one in a "
    "Secret of its namespace.",
    fields={
        "secretRef": Object(
            description="A Secret in the namespace of the release. Its value has 1 to 19 bytes: CARP "
            "keeps no more.",
            fields={
                "name": shapes.object_name("The Secret's name."),
                "key": Text(
                    description="The key in the Secret.",
                    default="password",
                    least=1,
                    most=253,
                    pattern=("[-._a-zA-Z0-9]+", "is no key of a Secret: letters, digits, '-', '_' and '.'"),
                ),
            },
            required=("name",),
        ),
        "mode": Choice(
            description="Sealed: only members of this implementation count, and a recorded advert cannot be "
            "replayed. Interoperable: firewalls and ucarp take part too. Default: Sealed where all "
            "members are ours.",
            of=("Interoperable", "Sealed"),
        ),
    },
)

TRANSPORT: Final = Object(
    description="How adverts reach the other members.",
    default={"mode": "Multicast"},
    fields={
        "mode": Choice(
            description="Multicast, or Unicast to each member, which the controller fills in, for "
            "networks that drop multicast.",
            default="Multicast",
            of=("Multicast", "Unicast"),
        ),
        "group": values.group(f"IPv4 multicast group. Default {Transport().group4}.", version=4),
        "group6": values.group(f"IPv6 multicast group. Default {Transport().group6}.", version=6),
        "extraPeers": Array(
            description="Mode Unicast: members that are not nodes of this cluster, such as a firewall.",
            items=values.host(""),
            most=16,
            unique=True,
        ),
    },
    rules=(
        Rule(
            "!has(self.extraPeers) || size(self.extraPeers) == 0 || self.mode == 'Unicast'",
            lambda v: not v.get("extraPeers") or v["mode"] == "Unicast",
            "extraPeers goes with mode Unicast only; by multicast everybody on the segment hears",
            at=".extraPeers",
        ),
    ),
)

RESERVED: Final = "keys"
"""No name of a VirtualIP: its generated Secret would be the one that holds the passwords of all."""

ADDRESSES_FROM: Final = Object(
    description="Take addresses from a pool instead of naming them; they stay until the object is deleted.",
    fields={
        "pool": shapes.object_name("Name of a VirtualIPPool."),
        "families": Array(
            description="IPv4, IPv6 or both: one address of each. Default: of each family that the pool has.",
            items=Choice(of=("IPv4", "IPv6")),
            least=1,
            most=2,
            unique=True,
        ),
    },
    required=("pool",),
)

_FIELDS: Final[dict[str, Field]] = {
    "addresses": Array(
        description="The IPv4 and IPv6 addresses that one node at a time holds, with or without prefix "
        "length. All of them move together. Either this or addressesFrom.",
        items=values.address(""),
        least=1,
        most=MAX_ADDRESSES,
        unique=True,
    ),
    "addressesFrom": ADDRESSES_FROM,
    "vhid": Integer(
        description="CARP's virtual host id, 1 to 255, unique on the segment. Default: chosen once, not "
        "one that somebody else on the segment uses. A firewall that takes part needs the same.",
        low=1,
        high=255,
    ),
    "interface": shapes.interface(
        "Where the addresses live on each node. Default: the interface whose own subnet contains the address."
    ),
    "nodeSelector": shapes.selector(
        "Nodes that may hold the addresses. Default: all without the label "
        "node.kubernetes.io/exclude-from-external-load-balancers; a selector written here overrides that "
        "label."
    ),
    "nodePreferences": Array(
        description="Which of the candidates come first: the sum of the weights that match decides.",
        items=shapes.PREFERENCE,
        most=16,
    ),
    "maxNodes": Integer(
        description="How many nodes take part at most, 1 to 64: one master, the others ready to take over.",
        default=5,
        low=1,
        high=64,
    ),
    "failoverTime": Duration(
        description="How long a dead master's address is away until the next node answers, at most: 30ms "
        "to 10m. Default 3s. Shorter costs more adverts; the bound that results stands in "
        "status.failoverBound.",
        low="30ms",
        high="10m",
    ),
    "advertisement": ADVERTISEMENT,
    "preempt": PREEMPT,
    "authentication": AUTHENTICATION,
    "transport": TRANSPORT,
    "healthChecks": shapes.CHECKS,
    "whenAllFail": Choice(
        description="What happens while every health check fails on every member. Keep: the master "
        "stays, a bad answer beats none. Release: nobody holds the addresses.",
        default="Keep",
        of=("Keep", "Release"),
    ),
    "announce": shapes.ANNOUNCE,
    "fencing": Choice(
        description="What takes the address from a node whose process died. Lifetime: the kernel, after "
        "seconds. "
        '"Off": nothing; write it in quotes, YAML makes false of a bare Off. Default Lifetime.',
        of=("Lifetime", "Off"),
    ),
}

# --- rules that need more than one field --------------------------------------------------------------

_SEALED: Final = "has(self.authentication) && has(self.authentication.mode) && self.authentication.mode == "
_PEERS: Final = "has(self.transport.extraPeers) && size(self.transport.extraPeers) > 0"
_SHORT: Final = (
    f"has(self.failoverTime) && self.failoverTime.matches({quoted(DURATION)}) && "
    "duration(self.failoverTime) < duration('1s')"
)
_BASE0: Final = "has(self.advertisement) && self.advertisement.advbase == 0"
_ONE_EACH: Final = "self.addresses.map(a, isIP(a) ? a : string(cidr(a).ip()))"


def _mode_is(spec: Any, mode: str) -> bool:
    return bool(spec.get("authentication", {}).get("mode") == mode)


def _peers(spec: Any) -> int:
    return len(spec["transport"].get("extraPeers", ()))


def _base0(spec: Any) -> bool:
    return bool("advertisement" in spec and spec["advertisement"]["advbase"] == 0)


def _short(spec: Any) -> bool:
    return "failoverTime" in spec and (parse_duration(spec["failoverTime"]) or 0.0) < 1.0


def _ranks_fit(spec: Any) -> bool:
    return bool(spec.get("advertisement", {}).get("advskewStep", 0) * (spec["maxNodes"] - 1) <= 254)


_ADDRESS_RULES: Final = (
    Rule(
        "has(self.addresses) != has(self.addressesFrom)",
        lambda v: ("addresses" in v) != ("addressesFrom" in v),
        "write exactly one of addresses (a list) and addressesFrom ({pool: NAME})",
        at=".addresses",
    ),
    Rule(
        f"!has(self.addresses) || !self.addresses.all(a, isIP(a) || isCIDR(a)) || "
        f"{_ONE_EACH}.all(x, {_ONE_EACH}.exists_one(y, ip(x) == ip(y)))",
        lambda v: not values.has_twice(v.get("addresses", ())),
        "the same address stands twice, with and without prefix or in two spellings",
        at=".addresses",
    ),
)

_TIMING_RULES: Final = (
    Rule(
        "!(has(self.failoverTime) && has(self.advertisement))",
        lambda v: not ("failoverTime" in v and "advertisement" in v),
        "write failoverTime or advertisement, not both",
        at=".advertisement",
    ),
    Rule(
        "!has(self.advertisement) || !has(self.advertisement.advskewStep) || "
        "self.advertisement.advskewStep * (self.maxNodes - 1) <= 254",
        _ranks_fit,
        "advskewStep x (maxNodes - 1) is more than 254, the highest advskew: lower one of them",
        at=".advertisement",
    ),
    Rule(
        f"!({_BASE0}) || !({_SEALED}'Interoperable')",
        lambda v: not (_base0(v) and _mode_is(v, "Interoperable")),
        "advbase 0 goes with authentication.mode Sealed only: other implementations time out after one "
        "interval",
        at=".advertisement",
    ),
    Rule(
        f"!({_BASE0}) || !({_PEERS})",
        lambda v: not (_base0(v) and _peers(v)),
        "advbase 0 does not go with transport.extraPeers: other implementations time out after one interval",
        at=".advertisement",
    ),
    Rule(
        f"!({_SHORT}) || !({_SEALED}'Interoperable')",
        lambda v: not (_short(v) and _mode_is(v, "Interoperable")),
        "a failoverTime below 1s goes with authentication.mode Sealed only: other implementations count in "
        "whole seconds",
        at=".failoverTime",
    ),
    Rule(
        f"!({_SHORT}) || !({_PEERS})",
        lambda v: not (_short(v) and _peers(v)),
        "a failoverTime below 1s does not go with transport.extraPeers: other implementations count in "
        "whole seconds",
        at=".failoverTime",
    ),
)

_MEMBER_RULES: Final = (
    Rule(
        f"!({_PEERS}) || !({_SEALED}'Sealed')",
        lambda v: not (_peers(v) and _mode_is(v, "Sealed")),
        "transport.extraPeers are members that cannot seal: write authentication.mode Interoperable or "
        "leave it out",
        at=".authentication",
    ),
    Rule(
        f"!({_PEERS}) || self.maxNodes - 1 + size(self.transport.extraPeers) <= {MAX_PEERS}",
        lambda v: not _peers(v) or v["maxNodes"] - 1 + _peers(v) <= MAX_PEERS,
        f"maxNodes - 1 and extraPeers are more than {MAX_PEERS} peers together: lower maxNodes",
        at=".maxNodes",
    ),
    Rule(
        "self.whenAllFail != 'Release' || has(self.healthChecks) && size(self.healthChecks) > 0",
        lambda v: v["whenAllFail"] != "Release" or bool(v.get("healthChecks")),
        "whenAllFail Release needs at least one entry of healthChecks",
        at=".whenAllFail",
    ),
)

SPEC: Final = Object(
    description="What you want: the addresses, and who may hold them.",
    fields=_FIELDS,
    rules=(*_ADDRESS_RULES, *_TIMING_RULES, *_MEMBER_RULES),
)

NAME_RULE: Final = Rule(
    f"size(self.metadata.name) <= {shapes.MAX_NAME} && self.metadata.name != '{RESERVED}'",
    lambda name: len(name) <= shapes.MAX_NAME and name != RESERVED,
    f"metadata.name is longer than {shapes.MAX_NAME} characters (it names the vhost on the nodes), or it is "
    f"{RESERVED} (the Secret carp-{RESERVED} is the controller's own)",
)
"""About the object as a whole; ``holds`` takes the name."""
