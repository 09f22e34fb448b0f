"""The planner over a cluster to which anything happens: what it must never do, after every step.

People apply, change and delete VirtualIPs; nodes come, go, come back, are cordoned, fall silent; CarpNodes
are lost; of a plan only some writes succeed; agents take and report late.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carp.core.errors import ConfigError
from carp_operator.api.objects import Node, Selector, Transport
from carp_operator.plan.model import KeyState
from carp_operator.plan.planner import plan
from planfix import World, link, timeless

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carp_operator.api.objects import CarpNode
    from carp_operator.plan.model import NodePlan, Plan, Snapshot

NODES = tuple(f"n{i}" for i in range(1, 5))
VIPS = ("a", "b", "c")
ADDRESSES = ("10.1.9.1", "10.1.9.2", "10.1.9.3", "10.2.9.1", "10.1.0.2", "192.0.2.1")
"""Of two segments; one is a node's own, one in no node's subnet."""
POOL = "10.1.9.2-10.1.9.4"
"""Of these some are asked for by name, too."""
TRANSPORTS = (Transport(), Transport("Unicast"), Transport(group4="224.0.0.99"), Transport(group6="ff02::99"))
STRAYS = (
    ("eth0", "10.1.9.200/24"),
    ("eth1", "10.1.7.7/16"),
    ("docker0", "10.1.9.254/24"),
    ("eth0", "10.2.9.9/24"),
)
NODE = st.sampled_from(NODES)
VIP = st.sampled_from(VIPS)


def _shuffled(snapshot: Snapshot) -> Snapshot:
    """Return the same snapshot with every mapping in another order."""
    changes: dict[str, Any] = {}
    for name in ("vips", "pools", "nodes", "carpnodes", "keys"):
        items = list(getattr(snapshot, name).items())
        random.Random(1).shuffle(items)
        changes[name] = dict(items)
    return replace(snapshot, **changes)


def _contexts(entry: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Return what an entry signs with, then what else it accepts."""
    return [(part["passwordRef"], tuple(part["addresses"])) for part in (entry, *entry.get("accept", ()))]


def _hears(ears: Mapping[str, Any], told: Mapping[str, Any]) -> bool:
    """Whether who was told ``ears`` hears the groups that who was told ``told`` sends to."""
    return _groups(told) <= _groups(ears) | set(ears.get("transport", {}).get("listen", ()))


def _groups(entry: Mapping[str, Any]) -> set[str]:
    given = entry.get("transport", {})
    if given.get("mode") == "Unicast":
        return set()
    return {given.get("group", "224.0.0.18"), given.get("group6", "ff02::12")}


class Cluster(RuleBasedStateMachine):
    """The actions, and what must hold after each."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.dead: set[str] = set()
        """Nodes whose Node object was deleted while they ran something, until they take a spec again."""
        self.lost: set[str] = set()
        """Nodes whose CarpNode was lost while they ran something: nothing tells any more where they send."""
        self.revived = 0

    @initialize()
    def begin(self) -> None:
        for number, name in enumerate(NODES[:3], start=1):
            self._register(name, number)
        self.world.pool("p", POOL)

    def _register(self, name: str, number: int) -> None:
        zone = {"zone": "x" if number % 2 else "y"}
        self.world.node(
            name, link("eth0", f"10.1.0.{number}/16"), link("eth1", f"10.2.0.{number}/16"), labels=zone
        )

    # --- what people do ------------------------------------------------------------------------------

    @rule(
        name=VIP,
        addresses=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=2, unique=True),
        most=st.sampled_from([1, 2, 3]),
        selector=st.sampled_from([None, None, Selector((("zone", "x"),)), Selector((("zone", "z"),))]),
        vhid=st.sampled_from([None, None, 7]),
        transport=st.sampled_from(TRANSPORTS),
        failover=st.sampled_from([None, None, 0.5, 10.0, 30.0]),
    )
    def apply(
        self, name: str, addresses: list[str], most: int, selector: Selector | None, vhid: int | None,
        transport: Transport, failover: float | None,
    ) -> None:  # fmt: skip
        old = self.world.vips.get(name)
        if old is not None and old.spec is not None and old.spec.vhid:
            vhid = old.spec.vhid  # A new vhid is a new vhost: that is not what is tested here.
        elif old is not None:
            vhid = None
        wanted: dict[str, Any] = {
            "max_nodes": most,
            "node_selector": selector,
            "vhid": vhid,
            "transport": transport,
            "failover_time": failover,
        }
        self.world.vip(name, *addresses, **wanted)

    @rule(name=VIP)
    def apply_pooled(self, name: str) -> None:
        self.world.vip(name, pool="p")

    @rule(span=st.sampled_from([POOL, "10.1.9.3-10.1.9.4", "10.1.9.6-10.1.9.8"]), wrong=st.booleans())
    def edit_pool(self, span: str, wrong: bool) -> None:
        """Shrink it, grow it, replace it or spoil it."""
        self.world.pool("p", span)
        if wrong:
            errors = (ConfigError("spec.addresses[0]", "10.1.9.9-10.1.9.2", "ends before it begins"),)
            self.world.pools["p"] = replace(self.world.pools["p"], errors=errors)

    @precondition(lambda self: self.world.vips)
    @rule(name=VIP)
    def spoil(self, name: str) -> None:
        """Edit a VirtualIP to something invalid."""
        old = self.world.vips.get(name)
        if old is not None:
            errors = (ConfigError("spec.vhid", 300, "is above 255"),)
            self.world.vips[name] = replace(old, spec=None, errors=errors, generation=old.generation + 1)

    @rule(name=VIP)
    def delete(self, name: str) -> None:
        if name in self.world.vips:
            self.world.delete(name)

    @rule(name=VIP, number=st.integers(1, 4))
    def rotate(self, name: str, number: int) -> None:
        if name in self.world.vips:
            self.world.keys[name] = KeyState(f"{name}.{number}")

    @rule(name=VIP)
    def lose_password(self, name: str) -> None:
        if name in self.world.vips:
            self.world.keys[name] = KeyState("", "SecretMissing", "authentication.secretRef: there is none")

    # --- what nodes do -------------------------------------------------------------------------------

    @rule(name=NODE)
    def join(self, name: str) -> None:
        """Register a node, or register it again: with a new uid, and no CarpNode or the old one."""
        number = NODES.index(name) + 1
        if name not in self.world.hardware:
            self._register(name, number)
        elif name not in self.world.nodes:
            self.revived += 1
            labels = {"zone": "x" if number % 2 else "y"}
            self.world.nodes[name] = Node(name, f"uid-again-{self.revived}", labels, True, 0.0, False, False)

    @rule(name=NODE, collected=st.booleans())
    def leave(self, name: str, collected: bool) -> None:
        if name in self.world.nodes:
            del self.world.nodes[name]
            if collected:
                self.lose_carpnode(name)
            self.dead.add(name)

    @rule(name=NODE)
    def lose_carpnode(self, name: str) -> None:
        if self.world.carpnodes.pop(name, None) is not None:
            self.lost.add(name)

    @rule(name=NODE, stray=st.sampled_from([*STRAYS, None]))
    def readdress(self, name: str, stray: tuple[str, str] | None) -> None:
        """Give a node an address that makes a smaller subnet, or joins two segments; or take it away."""
        if name not in self.world.hardware:
            return
        number = NODES.index(name) + 1
        found = {"eth0": [f"10.1.0.{number}/16"], "eth1": [f"10.2.0.{number}/16"]}
        if stray is not None:
            found.setdefault(stray[0], []).append(stray[1])
        self.world.hardware[name] = tuple(link(interface, *found[interface]) for interface in sorted(found))

    @rule(name=NODE, ready=st.booleans())
    def ready(self, name: str, ready: bool) -> None:
        node = self.world.nodes.get(name)
        if node is not None and node.ready != ready:
            self.world.change_node(name, ready=ready, ready_since=self.world.now)

    @rule(name=NODE, cordoned=st.booleans(), zone=st.sampled_from("xy"))
    def change(self, name: str, cordoned: bool, zone: str) -> None:
        if name in self.world.nodes:
            self.world.change_node(name, unschedulable=cordoned, labels={"zone": zone})

    @rule(name=NODE, down=st.booleans())
    def agent(self, name: str, down: bool) -> None:
        (self.world.down.add if down else self.world.down.discard)(name)

    @rule(seconds=st.sampled_from([1, 30, 400]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds

    # --- what the controller and the agents do -------------------------------------------------------

    @rule(parts=st.integers(0, 255), statuses=st.booleans())
    def reconcile(self, parts: int, statuses: bool) -> None:
        """Carry out some of a plan's writes; each bit of ``parts`` is one of them."""
        made, before = self._checked_plan(), dict(self.world.carpnodes)
        for number, each in enumerate(made.writes):
            if not parts >> number & 1:
                self._check_write(each, made, before)
                self.world.write(each)
        if statuses:
            self._store(made)

    def _store(self, made: Plan) -> None:
        for name, status in made.vip_statuses.items():
            self.world.vips[name] = replace(self.world.vips[name], status=status)

    @rule(name=NODE)
    def take(self, name: str) -> None:
        carp = self.world.carpnodes.get(name)
        self.world.take(name)
        if carp is not None and carp.listed and name in self.world.nodes and name not in self.world.down:
            self.dead.discard(name)
            self.lost.discard(name)

    @rule(name=NODE)
    def confirm(self, name: str) -> None:
        self.world.confirm(name)

    @rule()
    def settle(self) -> None:
        """With every agent up it comes to rest, and nothing is left undone."""
        for name in set(self.world.down):
            self.world.down.discard(name)
        for name in self.world.nodes:
            self.world.change_node(name, ready=True, ready_since=self.world.now)
        self.world.settle(30)
        self.dead -= set(self.world.nodes)
        self.lost = {n for n in self.lost if n not in self.world.nodes or not self.world.carpnodes[n].listed}
        for name in self.world.vips:
            self._check_settled(name)

    def _check_settled(self, name: str) -> None:
        vip = self.world.vips[name]
        accepted = self.world.condition(name, "Accepted")
        members = [n for n in self.world.members(name) if n in self.world.nodes]
        if accepted[0] != "True":
            return
        assert vip.spec is not None
        # A node whose CarpNode was lost is told nothing while it runs what nothing can be said about.
        untold = [n for n in self.world.nodes if not self.world.carpnodes[n].listed]
        assert (0 if untold else 1) <= len(members) <= vip.spec.max_nodes
        if "authentication" in vip.status:
            waiting = vip.status["authentication"]["waitingFor"]
            assert not any(self.world.carpnodes[n].listed for n in waiting)
        elif not untold:
            parts = [self.world.entry(n, name) or {} for n in members]
            paces = {(e["advbase"], e["deadRatio"]) for e in parts}
            ways = {(e.get("transport", {}).get("mode"), *sorted(_groups(e))) for e in parts}
            assert (1, 1) == (len(paces), len(ways)), f"{name}: {paces} {ways}"
        # Nobody has ever run it where every node is told nothing.
        master = self.world.masters.get(name)
        if master in self.world.nodes:
            assert master == vip.status["master"]["node"]

    # --- what must hold ------------------------------------------------------------------------------

    @precondition(lambda self: self.world.vips)
    @rule(name=VIP, plans=st.integers(1, 3))
    def keeps_its_address(self, name: str, plans: int) -> None:
        """What a pool gave stays, whatever has become of the pool, and also while no status is written."""
        vip = self.world.vips.get(name)
        told = [e for n in self.world.carpnodes if (e := self.world.entry(n, name)) is not None]
        lists = {addresses for entry in told for _, addresses in _contexts(entry)}
        if vip is None or vip.spec is None or not vip.spec.pool or len(lists) != 1:
            return
        (addresses,) = lists
        if not vip.status:
            self.world.pool("p", "10.1.9.1-10.1.9.9")
        elif (vip.status.get("pool"), vip.status.get("addresses")) != ("p", list(addresses)):
            return
        if len(addresses) != 1 or not addresses[0].startswith("10.1.9."):
            return
        # Deleted and made again, it may find that another has the address by now.
        every = (e for carp in self.world.carpnodes.values() for e in carp.vhosts if e["name"] != name)
        if any(addresses[0] in each for entry in every for _, each in _contexts(entry)):
            return
        for _ in range(plans):
            for each in self._checked_plan().writes:
                self.world.write(each)
        now = [e for n in self.world.carpnodes if (e := self.world.entry(n, name)) is not None]
        assert all(addresses == each for entry in now for _, each in _contexts(entry))

    def _checked_plan(self) -> Plan:
        made = self.world.plan()
        assert timeless(made) == timeless(plan(_shuffled(self.world.snapshot())))
        return made

    def _check_write(self, each: NodePlan, made: Plan, before: Mapping[str, CarpNode]) -> None:
        """A write drops a VirtualIP from a node only where another serves it; no edit takes what runs."""
        if "vhosts" not in each.spec:
            return
        told = {entry["name"] for entry in each.spec["vhosts"]}
        _, running = self.world.running.get(each.name, (None, ()))
        for entry in running:
            name = entry["name"]
            if name in told or name not in self.world.vips:
                continue
            status = made.vip_statuses.get(name, self.world.vips[name].status)
            reason = next(c["reason"] for c in status["conditions"] if c["type"] == "Accepted")
            others = [
                carp.name
                for carp in before.values()
                if carp.name != each.name and carp.name in self.world.nodes and carp.confirmed
                and any(s.name == name and s.state in ("BACKUP", "MASTER") for s in carp.states)
                and any(v["name"] == name for v in carp.vhosts)
            ]  # fmt: skip
            assert others, f"{each.name} loses {name}: {reason}"

    @invariant()
    def members_hear_each_other(self) -> None:
        """Any two nodes of the cluster that run a vhost accept what the other signs with."""
        running: dict[tuple[str, int], list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
        for node, (_, entries) in self.world.running.items():
            for entry in entries:
                if node in self.world.nodes and node not in self.dead and entry["name"] in self.world.vips:
                    running[entry["name"], entry["vhid"]].append((node, entry))
        for (name, _), found in running.items():
            for one, told in found:
                for other, ears in found:
                    assert _contexts(told)[0] in _contexts(ears), f"{other} is deaf to {one}: {name}"
                    heard = _hears(ears, told) or {one, other} & self.lost
                    assert heard, f"{other} does not listen where {one} sends: {name}"

    @invariant()
    def specs_are_sound(self) -> None:
        """Ids are unique per interface, addresses in the cluster, ranks per VirtualIP; one first claimant."""
        made = self._checked_plan()
        ids: dict[tuple[str, str, int], str] = {}
        owners: dict[str, str] = {}
        parts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for node in made.nodes.values():
            for entry in node.spec.get("vhosts", ()):
                parts[entry["name"]].append(entry)
                key = (node.name, entry["interface"]["name"], entry["vhid"])
                assert entry["name"] == ids.setdefault(key, entry["name"]), f"two have vhid {key}"
                for address in (a for _, addresses in _contexts(entry) for a in addresses):
                    owner = owners.setdefault(address, entry["name"])
                    assert entry["name"] == owner, f"{owner} and {entry['name']} have {address}"
        for name, entries in parts.items():
            assert name in self.world.vips
            assert 1 >= sum(entry.get("firstClaimant", False) for entry in entries)
            status = made.vip_statuses.get(name, self.world.vips[name].status)
            if status["conditions"][0]["status"] == "True":
                ranks = [(entry["advbase"], entry["advskew"]) for entry in entries]
                assert len(ranks) == len(set(ranks)), f"{name}: {ranks}"


Cluster.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
TestCluster = Cluster.TestCase
