"""What goes into the planner and what comes out: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.api.objects import CarpNode, Node, Pool, VirtualIP


@dataclass(frozen=True, slots=True)
class KeyState:
    """The password of one VirtualIP, by name only.

    ``current`` names the entry of the Secret `carp-keys` whose value the user wants now (``ingress.8``),
    empty while there is none; ``reason`` and ``message`` then say why (a condition).
    """

    current: str
    reason: str = ""
    message: str = ""
    older: tuple[str, ...] = ()
    """Its other entries, the newest first: nodes may run one of them."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster as the controller knows it. Every mapping is by name and complete."""

    cluster: str
    """uid of the cluster (of its namespace kube-system)."""
    vips: Mapping[str, VirtualIP]
    pools: Mapping[str, Pool]
    nodes: Mapping[str, Node]
    carpnodes: Mapping[str, CarpNode]
    keys: Mapping[str, KeyState]
    now: float
    """Epoch seconds; only for how long a node has been away."""
    replace_after: float = 300.0
    """s that a node may be NotReady before another takes its membership."""
    interfaces: str = ""
    """Names or patterns, with commas, of the interfaces that count where no annotation says which.
    """
    agents: Mapping[str, float] | None = None
    """Node -> epoch seconds since when no Ready pod of ours runs there, 0: one does; None: unknown."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should hear of, as an Event on an object."""

    kind: str
    """VirtualIP or CarpNode."""
    name: str
    reason: str
    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class NodePlan:
    """The spec that a CarpNode should have; ``owner`` is the Node's uid."""

    name: str
    owner: str
    spec: Mapping[str, Any]
    urgent: bool = False
    """To be written before the others: it brings a first claimant."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be, and where it differs from what is."""

    nodes: Mapping[str, NodePlan]
    """Every CarpNode that should exist."""
    writes: tuple[NodePlan, ...]
    """Those that differ from the snapshot, in the order to write them."""
    vip_statuses: Mapping[str, Mapping[str, Any]]
    """Statuses that differ from the snapshot, by name, whole."""
    pool_statuses: Mapping[str, Mapping[str, Any]]
    keys_in_use: frozenset[str]
    """Names of `carp-keys` that a node was told, will be told, or that a user wants."""
    settled: bool
    """Whether every node has stored its spec: only then does no node run a key outside ``keys_in_use``."""
    notices: tuple[Notice, ...] = ()
    wake_at: float | None = None
    """Epoch seconds when time alone changes the plan."""
