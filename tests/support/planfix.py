"""A cluster of plain values for the planner: its plans are carried out, its nodes confirm, on command."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

from carp.core.config import Preempt
from carp_operator.api.objects import (
    CarpNode,
    Link,
    Node,
    Pool,
    PoolRange,
    Transport,
    VhostState,
    VipSpec,
    VirtualIP,
)
from carp_operator.plan.model import KeyState, NodePlan, Plan, Snapshot
from carp_operator.plan.planner import Cache, plan
from carp_operator.plan.status import stamp

SPEC = VipSpec(
    addresses=(),
    pool="",
    families=(),
    vhid=None,
    interface=None,
    node_selector=None,
    node_preferences=(),
    max_nodes=5,
    failover_time=None,
    advertisement=None,
    preempt=Preempt(),
    secret=None,
    mode=None,
    transport=Transport(),
    health_checks=(),
    when_all_fail="Keep",
    announce={},
    fencing="Lifetime",
)


def timeless(made: Plan) -> Plan:
    """Return a plan without its conditions' moments: a status that waits to be written keeps its own."""
    statuses = {
        name: {**status, "conditions": [{**c, "lastTransitionTime": ""} for c in status["conditions"]]}
        for name, status in made.vip_statuses.items()
    }
    return replace(made, vip_statuses=statuses)


def link(name: str, *addresses: str) -> Link:
    """Return an interface with these addresses."""
    return Link(name, "02:00:00:00:00:01", 1500, True, tuple(ip_interface(a) for a in addresses))


class World:
    """The API server's content and what every node runs."""

    def __init__(self, *, cached: bool = True) -> None:
        """Start empty."""
        self.vips: dict[str, VirtualIP] = {}
        self.pools: dict[str, Pool] = {}
        self.nodes: dict[str, Node] = {}
        self.carpnodes: dict[str, CarpNode] = {}
        self.keys: dict[str, KeyState] = {}
        self.running: dict[str, tuple[tuple[str, int], tuple[dict[str, Any], ...]]] = {}
        """Node -> what its carpd has stored: (uid, generation), vhosts. Outlives the objects."""
        self.hardware: dict[str, tuple[Link, ...]] = {}
        """Node -> its interfaces, as its agent reports them."""
        self.down: set[str] = set()
        self.masters: dict[str, str] = {}
        self.agents: dict[str, float] | None = None
        """Node -> since when no pod of ours is Ready there."""
        self.now = 1_700_000_000.0
        self.cache = Cache() if cached else None
        self._count = 0

    # --- what people and Kubernetes do ---------------------------------------------------------------

    def node(
        self, name: str, *links: Link, labels: dict[str, str] | None = None, reported: bool = True
    ) -> None:
        """Register a node whose agent has reported."""
        self._count += 1
        self.nodes[name] = Node(name, f"uid-{name}-{self._count}", labels or {}, True, 0.0, False, False)
        number = len(self.nodes)
        shown = links or (link("eth0", f"10.0.{number // 250}.{number % 250 + 1}/16"),)
        self.hardware[name] = shown
        self.carp(name, links=shown, reported=reported)

    def carp(self, name: str, **changes: Any) -> None:
        """Change a CarpNode, or make an empty one."""
        old = self.carpnodes.get(name)
        if old is None:
            self._count += 1
            uid, owner = f"cn-{name}-{self._count}", self.nodes[name].uid
            old = CarpNode(name, uid, 1, owner, {}, "c", (), True, uid, 1, True, "", (), (), ())
        self.carpnodes[name] = replace(old, **changes)

    def change_node(self, name: str, **changes: Any) -> None:
        """Change a Node."""
        self.nodes[name] = replace(self.nodes[name], **changes)

    def vip(self, name: str, *addresses: str, key: str | None = None, **spec: Any) -> None:
        """Apply a VirtualIP, new or changed."""
        old = self.vips.get(name)
        wanted = replace(SPEC, addresses=tuple(ip_interface(a) for a in addresses), **spec)
        if old is None:
            self._count += 1
            created = stamp(self.now + self._count)
            self.vips[name] = VirtualIP(name, f"vip-{name}-{self._count}", 1, created, {}, wanted, (), {})
            self.keys[name] = KeyState(f"{name}.1")
        else:
            self.vips[name] = replace(old, generation=old.generation + 1, spec=wanted)
        if key is not None:
            self.keys[name] = KeyState(key)

    def delete(self, name: str) -> None:
        """Delete a VirtualIP."""
        del self.vips[name], self.keys[name]

    def pool(self, name: str, *ranges: str, avoid_buggy: bool = False) -> None:
        """Apply a pool of ``first-last`` ranges."""
        made = []
        for text in ranges:
            first, last = (ip_address(part) for part in text.split("-"))
            made.append(PoolRange(first.version, int(first), int(last)))
        self.pools[name] = Pool(name, f"pool-{name}", 1, tuple(made), avoid_buggy, (), {})

    # --- what the controller and the agents do -------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the world as the controller sees it."""
        return Snapshot(
            "c",
            dict(self.vips),
            dict(self.pools),
            dict(self.nodes),
            dict(self.carpnodes),
            dict(self.keys),
            self.now,
            agents=self.agents,
        )

    def plan(self) -> Plan:
        """Return the plan; twice the same, with and without what the last one left."""
        result = plan(self.snapshot(), self.cache)
        assert self.cache is None or timeless(plan(self.snapshot())) == timeless(result)
        return result

    def write(self, made: NodePlan) -> None:
        """Carry out one write of a spec."""
        old = self.carpnodes.get(made.name)
        if old is None:
            self.carp(made.name, owner=made.owner, reported=False, observed_uid="", observed_generation=0)
            old = self.carpnodes[made.name]
        vhosts, listed = tuple(made.spec.get("vhosts", ())), "vhosts" in made.spec
        moved = (vhosts, listed, made.spec["cluster"]) != (old.vhosts, old.listed, old.cluster)
        generation = old.generation + moved
        told = {"owner": made.owner, "vhosts": vhosts, "listed": listed, "cluster": made.spec["cluster"]}
        self.carp(made.name, **told, generation=generation)

    def take(self, name: str) -> None:
        """Let a node's agent hand its spec to carpd, which stores it."""
        carp = self.carpnodes.get(name)
        if carp is not None and carp.listed and name not in self.down:
            self.running[name] = (carp.uid, carp.generation), tuple(dict(v) for v in carp.vhosts)

    def confirm(self, name: str) -> None:
        """Let a node's agent report what carpd has stored and does."""
        if name in self.down or name not in self.carpnodes:
            return
        (uid, generation), vhosts = self.running.get(name, (("", 0), ()))
        states = tuple(self._state(name, entry) for entry in vhosts)
        links = self.hardware.get(name, self.carpnodes[name].links)
        shown = {"links": links, "states": states, "reported": True}
        self.carp(name, observed_uid=uid, observed_generation=generation, **shown)

    def _state(self, node: str, entry: dict[str, Any]) -> VhostState:
        master = self.masters.get(entry["name"])
        if master is None or master in self.down or not self._runs(master, entry["name"]):
            self.masters[entry["name"]] = master = node
        state = "MASTER" if master == node else "BACKUP"
        old = next((s for s in self.carpnodes[node].states if s.name == entry["name"]), None)
        since = old.since if old is not None and old.state == state else stamp(self.now)
        return VhostState(
            entry["name"], state, since, 1, entry["advskew"], (), entry["interface"]["name"], "", "", ""
        )

    def _runs(self, node: str, vip: str) -> bool:
        return node in self.running and any(v["name"] == vip for v in self.running[node][1])

    def step(self) -> bool:
        """Plan, write everything, let every node that is up take and confirm; whether something changed."""
        made = self.plan()
        for each in made.writes:
            self.write(each)
        for name, status in made.vip_statuses.items():
            self.vips[name] = replace(self.vips[name], status=status)
        for name, status in made.pool_statuses.items():
            self.pools[name] = replace(self.pools[name], status=status)
        before = dict(self.carpnodes)
        for name in sorted(self.carpnodes):
            self.take(name)
        for name in sorted(self.carpnodes):
            self.confirm(name)
        return bool(made.writes or made.vip_statuses or made.pool_statuses or before != self.carpnodes)

    def settle(self, most: int = 20) -> int:
        """Go on until nothing changes; how many steps that took."""
        for count in range(most):
            if not self.step():
                made = self.plan()
                assert (made.writes, made.vip_statuses, made.pool_statuses) == ((), {}, {})
                return count
        message = f"still changing after {most} steps: {self.plan()}"
        raise AssertionError(message)

    # --- what one asks of it -------------------------------------------------------------------------

    def entry(self, node: str, vip: str) -> dict[str, Any] | None:
        """Return what a node is told of a VirtualIP."""
        return next((dict(v) for v in self.carpnodes[node].vhosts if v["name"] == vip), None)

    def members(self, vip: str) -> list[str]:
        """Return who is told to take part, the preferred first."""
        found = [(e["advskew"], n) for n in self.carpnodes if (e := self.entry(n, vip)) is not None]
        return [name for _, name in sorted(found)]

    def condition(self, vip: str, kind: str) -> tuple[str, str, str]:
        """Return a condition's status, reason and message."""
        status = self.vips[vip].status
        found = next(c for c in status["conditions"] if c["type"] == kind)
        return found["status"], found["reason"], found["message"]


def cluster(count: int, **options: Any) -> World:
    """Return a world of n1 … with one interface each in 10.0.0.0/16."""
    world = World(**options)
    for index in range(count):
        world.node(f"n{index + 1}")
    return world
