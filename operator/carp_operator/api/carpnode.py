"""CarpNode: what the controller tells a node, and what the node's agent answers. Nobody writes it by hand.

No rules and no defaults here: carpd judges the settings, and the planner compares what is stored with what it
wants, so the server must not add anything.
"""

from __future__ import annotations

from typing import Final

from carp.core.config import PreemptMode, SealMode, TransportMode
from carp.core.schema import MAX_LISTEN, MAX_PEERS
from carp_operator.api import shapes, virtualip
from carp_operator.api.fields import Array, Choice, Duration, Field, Flag, Integer, Map, Object, Text

MAX_VHOSTS: Final = 510
"""Of one node: each status write carries all of them."""

_ADDRESSES: Final = Array(
    description="The addresses that a master holds, and that adverts are signed for.",
    items=Text(most=43),
    most=virtualip.MAX_ADDRESSES,
)
_PASSWORD: Final = Text(description="Key of the Secret carp-keys that holds the password.", most=253)
_ADDRESS: Final = Text(most=43)

_ACCEPTED: Final = Object(
    description="Addresses and password that also authenticate a member, during a change.",
    fields={"addresses": _ADDRESSES, "passwordRef": _PASSWORD},
    required=("addresses", "passwordRef"),
)

_TRANSPORT: Final = Object(
    description="How adverts reach the other members.",
    fields={
        "mode": Choice(description="Multicast, Unicast or Broadcast.", of=tuple(TransportMode)),
        "group": Text(description="IPv4 multicast group.", most=43),
        "group6": Text(description="IPv6 multicast group.", most=43),
        "peers": Array(description="The other members, for Unicast.", items=_ADDRESS, most=MAX_PEERS),
        "listen": Array(
            description="Further groups to hear, while the members change to another transport.",
            items=_ADDRESS,
            most=MAX_LISTEN,
        ),
    },
)

DEMOTIONS: Final = Array(
    description="Why the vhost stands back, and how far.",
    items=Object(
        fields={
            "reason": Text(description="Such as cordoned, maintenance, health:web.", most=253),
            "amount": Integer(description="Added to advskew.", high=254),
        },
        required=("reason", "amount"),
    ),
    most=64,
)

VHOST: Final[dict[str, Field]] = {
    "name": Text(description="The VirtualIP.", least=1, most=shapes.MAX_NAME),
    "vhid": Integer(description="Virtual host id.", low=1, high=255),
    "interface": Object(description="Where the addresses live.", fields=shapes.INTERFACE),
    "addresses": _ADDRESSES,
    "passwordRef": _PASSWORD,
    "accept": Array(description="What else authenticates a member.", items=_ACCEPTED, most=16),
    "authentication": Object(
        description="Whether adverts of other implementations count.",
        fields={"mode": Choice(description="Interoperable or Sealed.", of=tuple(SealMode))},
    ),
    "advbase": Integer(description="Seconds between adverts.", high=255),
    "advskew": Integer(description="1/256 s added to advbase; the lowest is preferred.", high=254),
    "deadRatio": Integer(description="A master silent for deadRatio x advbase is gone.", low=1, high=255),
    "preempt": Object(
        description="Whether this node takes over from a living master of lower rank.",
        fields={
            "mode": Choice(description="Never, Always or After.", of=tuple(PreemptMode)),
            "after": Duration(description="For mode After.", low="1s", high="24h"),
        },
    ),
    "transport": _TRANSPORT,
    "source": Text(description="IPv4 source of adverts.", most=43),
    "source6": Text(description="IPv6 source of adverts.", most=43),
    "announce": shapes.ANNOUNCE,
    "fencing": Choice(description='Lifetime or "Off".', of=("Lifetime", "Off")),
    "healthChecks": shapes.CHECKS,
    "whenAllFail": Choice(description="Keep or Release.", of=("Keep", "Release")),
    "manageAddresses": Flag(description="false: something else sets the addresses."),
    "firstClaimant": Flag(description="Claim at once: nobody ever held the addresses."),
    "ignoreLinkState": Flag(description="Take part without carrier."),
    "demotions": DEMOTIONS,
}

SPEC: Final = Object(
    description="What this node takes part in; written by the controller, corrected when edited.",
    fields={
        "cluster": Text(
            description="The cluster's uid; a node drops what another cluster told it.", most=253
        ),
        "vhosts": Array(
            description="The settings of each VirtualIP on this node, as in the configuration file of carpd.",
            items=Object(fields=VHOST, required=("name",)),
            most=MAX_VHOSTS,
        ),
        "uninstall": Flag(
            description="true, with no vhosts: give all up and delete what is stored on the node."
        ),
    },
)

_INTERFACE: Final = Object(
    fields={
        "name": Text(description="Its name.", most=64),
        "mac": Text(description="Its MAC address.", most=64),
        "mtu": Integer(description="Its MTU in bytes."),
        "carrier": Flag(description="Whether it has a link."),
        "addresses": Array(description="Its addresses with prefix lengths.", items=_ADDRESS, most=8192),
    },
    required=("name",),
)

_STATE: Final = Object(
    fields={
        "name": Text(description="The VirtualIP.", most=shapes.MAX_NAME),
        "state": Text(description="INIT, BACKUP or MASTER.", most=16),
        "since": shapes.moment("Since when."),
        "transitions": Integer(description="Changes of state since carpd started."),
        "interface": Text(description="The interface in use.", most=64),
        "vhid": Integer(description="The virtual host id in use.", high=255),
        "advbase": Integer(description="As it goes out.", high=255),
        "advskew": Integer(description="As it goes out, demotions included.", high=255),
        "demotions": DEMOTIONS,
        "masterSeen": Object(
            description="The master that it heard last.",
            fields={
                "source": Text(description="Its address.", most=64),
                "advskew": Integer(description="As it sent it.", high=255),
            },
        ),
        "drops": Map(description="Packets that were not believed, by reason.", values=Integer(), most=64),
        "problem": Text(description="Why it does not work.", most=32768),
        "refused": Text(description="Why the newest settings were not taken; older ones run on.", most=32768),
        "conflict": Text(description="Another host answers for an address: its MAC.", most=32768),
        "reason": Text(description="What led to the state.", most=32768),
    },
    required=("name",),
)

_SPEAKER: Final = Object(
    fields={
        "interface": Text(description="Where it was heard.", most=64),
        "protocol": Text(description="carp or vrrp.", most=16),
        "id": Integer(description="Its vhid or virtual router id.", high=255),
        "source": Text(description="Its address.", most=64),
        "mac": Text(description="Its MAC address, where known.", most=64),
    },
    required=("interface", "protocol", "id"),
)

STATUS: Final = Object(
    description="What this node does; written by its agent only.",
    fields={
        "observedUID": Text(description="uid of the object whose settings carpd has stored.", most=64),
        "observedGeneration": Integer(description="Their generation."),
        "agentVersion": Text(description="Version of the agent.", most=64),
        "carpdVersion": Text(description="Version of carpd.", most=64),
        "lastWrite": shapes.moment("When the agent last wrote this status."),
        "masters": Integer(description="On how many of its vhosts the node is master."),
        "interfaces": Array(description="The node's interfaces.", items=_INTERFACE, most=8192),
        "vhosts": Array(description="The state of each vhost.", items=_STATE, most=MAX_VHOSTS),
        "foreign": Array(
            description="Speakers of CARP and VRRP that are not members.", items=_SPEAKER, most=1024
        ),
        "conditions": shapes.CONDITIONS,
    },
)
