"""VirtualIP: what the controller answers in the status."""

from __future__ import annotations

from typing import Final

from carp_operator.api import shapes, virtualip
from carp_operator.api.fields import Array, Integer, Object, Text

_MAX_MEMBERS: Final = 256
"""More than maxNodes: who left it stays listed until it has confirmed."""

_NODE: Final = Object(
    description="One node that takes part.",
    fields={
        "name": Text(description="The node.", most=253),
        "state": Text(description="INIT, BACKUP, MASTER, or Unknown where nothing was heard of it.", most=16),
        "advskew": Integer(description="1/256 s added to its interval; the lowest is preferred.", high=255),
        "demotion": Array(
            description="Why it stands back, and how far.",
            items=Object(
                fields={
                    "reason": Text(description="Such as cordoned, maintenance, health:web.", most=253),
                    "amount": Integer(description="Added to advskew.", high=65535),
                },
                required=("reason", "amount"),
            ),
            most=64,
        ),
        "interface": Text(description="Where the addresses live on it.", most=64),
        "address": Text(description="Its own address on the segment.", most=43),
        "lastHeard": shapes.moment("When its agent last reported."),
    },
    required=("name",),
)

STATUS: Final = Object(
    description="What the controller found; written by nobody else.",
    fields={
        "observedGeneration": Integer(description="The generation of the spec that this status is about."),
        "vhid": Integer(description="The vhid in use.", low=1, high=255),
        "addresses": Array(
            description="The addresses in use.", items=Text(most=43), most=virtualip.MAX_ADDRESSES
        ),
        "failoverBound": Text(
            description="How long the addresses are away at most when the master dies, such as 3.28s.",
            most=32,
        ),
        "interface": Text(
            description="The interface in use; several with commas where members differ.", most=2048
        ),
        "pool": Text(description="The pool that the addresses come from.", most=253),
        "master": Object(
            description="The node that holds the addresses.",
            fields={
                "node": Text(description="Its name.", most=253),
                "since": shapes.moment("Since when."),
            },
        ),
        "nodes": Array(
            description="The members, in order of rank.", items=_NODE, most=_MAX_MEMBERS, key="name"
        ),
        "transitions": Integer(description="How often the addresses have moved."),
        "backups": Array(
            description="The nodes that come next, in order.", items=Text(most=253), most=_MAX_MEMBERS
        ),
        "handover": Object(
            description="The last handover that was asked for by annotation.",
            fields={
                "request": Text(description="The annotation's value.", most=512),
                "result": Text(description="done, refused or failed, and why.", most=1024),
            },
        ),
        "authentication": Object(
            description="A change of password or addresses on its way through the members.",
            fields={
                "step": Text(description="Which of the three steps is under way.", most=32),
                "key": Text(
                    description="The entry of the Secret carp-keys that members sign with.", most=253
                ),
                "waitingFor": Array(
                    description="Nodes that have not confirmed the step.", items=Text(most=253), most=1024
                ),
            },
        ),
        "conditions": shapes.CONDITIONS,
    },
)
