"""The resources as typed, frozen values: what the planner reads.

`carp_operator.api.codec` makes them of decoded JSON. A field that a user did not write and that has no
default in the schema is None here; which value then counts, `carp_operator.plan` decides.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Interface, IPv6Interface

    from carp.core.config import Interface, Preempt, SealMode, Vip
    from carp.core.errors import ConfigError


class Operator(enum.StrEnum):
    """How one expression of a label selector compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Expression:
    """One expression of a label selector."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it holds for an object with these labels."""
        present = self.key in labels
        if self.operator is Operator.EXISTS:
            return present
        if self.operator is Operator.DOES_NOT_EXIST:
            return not present
        listed = present and labels[self.key] in self.values
        return listed if self.operator is Operator.IN else not listed

    def __str__(self) -> str:
        """Return the expression as ``kubectl get -l`` takes it."""
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.DOES_NOT_EXIST:
            return f"!{self.key}"
        return f"{self.key} {self.operator.value.lower()} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """A label selector with the meaning that Kubernetes gives it; all parts must hold."""

    labels: tuple[tuple[str, str], ...] = ()
    expressions: tuple[Expression, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            expression.holds(labels) for expression in self.expressions
        )

    def __str__(self) -> str:
        """Return the selector as ``kubectl get -l`` takes it."""
        return ",".join([f"{key}={value}" for key, value in self.labels] + [str(e) for e in self.expressions])


@dataclass(frozen=True, slots=True)
class NodePreference:
    """Nodes with these labels come ``weight`` (1-100) earlier."""

    weight: int
    labels: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Advertisement:
    """Explicit timing instead of failoverTime. ``skew_step`` in 1/256 s from rank to rank, None: chosen."""

    advbase: int
    skew_step: int | None
    dead_ratio: int


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A key of a Secret in the namespace of the release."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Transport:
    """How adverts travel. ``mode`` Multicast or Unicast; ``extra_peers`` are members that are not ours."""

    mode: str = "Multicast"
    group4: str = ""
    group6: str = ""
    extra_peers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VipSpec:
    """What a user wants of one virtual IP."""

    addresses: tuple[Vip, ...]
    """Empty exactly where ``pool`` is given."""
    pool: str
    families: tuple[int, ...]
    """Of ``addressesFrom``: 4, 6 or both; empty: every family that the pool has."""
    vhid: int | None
    interface: Interface | None
    """None: by the subnet of the addresses."""
    node_selector: Selector | None
    node_preferences: tuple[NodePreference, ...]
    max_nodes: int
    failover_time: float | None
    """s"""
    advertisement: Advertisement | None
    preempt: Preempt
    secret: SecretRef | None
    mode: SealMode | None
    transport: Transport
    health_checks: tuple[Mapping[str, Any], ...]
    """As in a vhost, defaults left out."""
    when_all_fail: str
    announce: Mapping[str, Any]
    """As in a vhost."""
    fencing: str


@dataclass(frozen=True, slots=True)
class VirtualIP:
    """One VirtualIP. ``spec`` is None where it breaks a rule; ``errors`` then says which."""

    name: str
    uid: str
    generation: int
    created: str
    """RFC 3339; the order of age."""
    annotations: Mapping[str, str]
    spec: VipSpec | None
    errors: tuple[ConfigError, ...]
    status: Mapping[str, Any]
    """As stored, for what is sticky and for the comparison with what it ought to be."""


@dataclass(frozen=True, slots=True)
class PoolRange:
    """Addresses first to last, both included, as integers of one family."""

    version: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Pool:
    """One VirtualIPPool."""

    name: str
    uid: str
    generation: int
    ranges: tuple[PoolRange, ...]
    avoid_buggy: bool
    """Leave out IPv4 addresses that end in .0 and .255."""
    errors: tuple[ConfigError, ...]
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """What matters of a Kubernetes Node."""

    name: str
    uid: str
    labels: Mapping[str, str]
    ready: bool
    ready_since: float
    """Epoch seconds of the last change of its Ready condition; 0: unknown."""
    unschedulable: bool
    deleting: bool


@dataclass(frozen=True, slots=True)
class Link:
    """An interface of a node as its agent reports it."""

    name: str
    mac: str
    mtu: int
    carrier: bool
    addresses: tuple[IPv4Interface | IPv6Interface, ...]


@dataclass(frozen=True, slots=True)
class Speaker:
    """A foreign speaker that a node hears: protocol ``carp`` or ``vrrp``, its id, source and MAC."""

    interface: str
    protocol: str
    id: int
    source: str
    mac: str


@dataclass(frozen=True, slots=True)
class VhostState:
    """What a node says about one vhost."""

    name: str
    state: str
    """INIT, BACKUP or MASTER."""
    since: str
    transitions: int
    advskew: int
    demotions: tuple[tuple[str, int], ...]
    interface: str
    problem: str
    """Why it does not work, such as a missing interface; empty when it does."""
    refused: str
    """Why the newest settings were not taken; the older ones then still run."""
    conflict: str
    """Another host answers for an address: its MAC."""
    advbase: int = 0
    """As it goes out; 0 also where it is not told."""
    vhid: int = 0
    """0 where it is not told."""
    seen: str = ""
    """The address of the master that it heard last."""


@dataclass(frozen=True, slots=True)
class CarpNode:
    """One CarpNode: what a node was told, and what it says."""

    name: str
    uid: str
    generation: int
    owner: str
    """uid of the Node that owns it; empty: none."""
    annotations: Mapping[str, str]
    cluster: str
    vhosts: tuple[Mapping[str, Any], ...]
    """spec.vhosts as stored."""
    listed: bool
    """Whether spec.vhosts is there at all: without it a node keeps what it runs."""
    observed_uid: str
    observed_generation: int
    """What carpd has taken and stored: a confirmation counts only with the same uid and generation."""
    reported: bool
    """Whether its agent has said, for this object, what the node has and runs: both come from carpd."""
    written: str
    """RFC 3339; when the agent last wrote."""
    links: tuple[Link, ...]
    states: tuple[VhostState, ...]
    speakers: tuple[Speaker, ...]

    @property
    def confirmed(self) -> bool:
        """Whether the node has stored the very spec that stands here."""
        return (self.observed_uid, self.observed_generation) == (self.uid, self.generation)
