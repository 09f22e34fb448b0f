"""From a wanted set to the steps of an engine (carp.changes), with an engine that only notes them."""

from __future__ import annotations

import asyncio
from ipaddress import ip_interface
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from carp.changes import Changes, Outcome
from carp.core import events as ev
from carp.links import Inventory
from carp.rtnl import FOR_EVER, Addr, Link
from carp.state import BusyError
from pair import config

if TYPE_CHECKING:
    from carp.core.config import VhostConfig

A = config(name="a", vhid=1, addresses=["10.1.1.1"])
B = config(name="b", vhid=2, addresses=["10.1.1.2"])
C = config(name="c", vhid=3, addresses=["10.1.1.3"])


class Engine:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.slots: dict[str, Any] = {}
        self.done: list[tuple[Any, ...]] = []
        self.elsewhere: set[str] = set()
        self.deaf = False
        self.inventory = Inventory([], [], has_proto=True)
        self.links = SimpleNamespace(
            own=set(), elsewhere=lambda ip: str(ip) in self.elsewhere, inventory=lambda: self.inventory
        )

    def add(self, settings: VhostConfig, memory: object) -> Any:
        self.done.append(("add", settings))
        vhost = SimpleNamespace(reason="", demotions={}, stopped=False, left_lease=False)
        slot = SimpleNamespace(
            config=settings,
            memory=memory,
            withdrawn="",
            kept=0,
            port=SimpleNamespace(segment=None),
            member=SimpleNamespace(vhost=vhost),
            inherit=lambda old: self.done.append(("inherit", old.config.vhid)),
        )
        self.slots[settings.name] = slot
        return slot

    def listen(self, _slot: Any, settings: VhostConfig) -> str:
        return f"cannot listen on {settings.transport.group4}" if self.deaf else ""

    def reconfigure(self, slot: Any, settings: VhostConfig) -> None:
        self.done.append(("reconfigure", settings))
        slot.config = settings

    def handle(self, slot: Any, event: ev.Event) -> None:
        self.done.append(("handle", slot.config.name, event))

    def forget(self, slot: Any) -> None:
        self.done.append(("forget", slot.config.name))
        del self.slots[slot.config.name]

    def restore(self, slot: Any) -> None:
        self.done.append(("restore", slot.config.name))

    def plan_settle(self) -> None:
        self.done.append(("settle",))


class World:
    """An engine, the changes, and the steps since one looked."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.changes = Changes(self.engine, lambda _: None)  # type: ignore[arg-type]

    def apply(self, source: str, *wanted: VhostConfig, keep: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        async def applied() -> list[Outcome]:
            outcomes = await self.changes.apply(source, wanted, keep=keep)
            await asyncio.sleep(0)  # what is to happen soon
            return outcomes

        return [(each.name, each.problem or each.result) for each in asyncio.run(applied())]

    def retry(self) -> list[tuple[str, str, str]]:
        taken = asyncio.run(self.changes.retry())
        return [(source, each.name, each.problem or each.result) for source, each in taken]

    def steps(self) -> list[tuple[Any, ...]]:
        done, self.engine.done = self.engine.done, []
        return done


@pytest.fixture
def world() -> World:
    """Return an engine that runs a and b of the file."""
    made = World()
    assert [("a", "added"), ("b", "added")] == made.apply("file", A, B)
    assert [("add", A), ("add", B), ("settle",)] == made.steps()
    return made


STOP_A = ("handle", "a", ev.Stop(release=True))
LEAVE_A = ("handle", "a", ev.Stop(release=False))


def test_the_same_set_again_is_no_step(world: World) -> None:
    """Nothing reaches the engine: no packet can follow, no state can change; in any order."""
    assert [("b", "unchanged"), ("a", "unchanged")] == world.apply("file", B, A)
    assert [] == world.steps()


def test_a_change_is_made_in_place(world: World) -> None:
    """Other settings of the same vhid on the same interface need no handover."""
    new = config(name="a", vhid=1, addresses=["10.1.1.1", "10.1.1.9"], advskew=7, password="peace")
    assert [("a", "changed"), ("b", "unchanged")] == world.apply("file", new, B)
    assert [("reconfigure", new)] == world.steps()


@pytest.mark.parametrize(
    "fields",
    [{"vhid": 9, "addresses": ["10.1.1.9"]}, {"interface": "eth1"}, {"manageAddresses": False}],
)
def test_another_place_is_a_replacement(world: World, fields: dict[str, Any]) -> None:
    """The old one hands over and lets go; then the new one begins, demoted as the old one was."""
    new = config(**({"name": "a", "vhid": 1, "addresses": ["10.1.1.1"]} | fields))
    assert [("a", "replaced"), ("b", "unchanged")] == world.apply("file", new, B)
    assert [STOP_A] == world.steps()
    world.engine.slots["a"].member.vhost.demotions["disk"] = 40
    world.changes.stopped("a")
    assert [("forget", "a"), ("add", new), ("settle",)] == world.steps()
    assert {"disk": 40} == world.engine.slots["a"].member.vhost.demotions


@pytest.mark.parametrize("left", [True, False])
def test_another_vhid_alone_goes_on_where_nobody_took_over(world: World, *, left: bool) -> None:
    """It leaves the addresses to their lease, which the new one resumes; not what somebody has taken."""
    new = config(name="a", vhid=9, addresses=["10.1.1.1"])
    assert [("a", "replaced"), ("b", "unchanged")] == world.apply("file", new, B)
    assert [LEAVE_A] == world.steps()
    world.engine.slots["a"].member.vhost.left_lease = left
    world.changes.stopped("a")
    inherits = [("inherit", 1)] if left else []
    assert [("forget", "a"), ("add", new), *inherits, ("settle",)] == world.steps()


def test_a_second_thought_while_it_hands_over(world: World) -> None:
    """Only the last settings begin, and the handover is asked for once."""
    first, second = (config(name="a", vhid=vhid, addresses=["10.1.1.1"]) for vhid in (8, 9))
    world.apply("file", first, B)
    assert [("a", "replaced"), ("b", "unchanged")] == world.apply("file", second, B)
    world.changes.stopped("a")
    assert [LEAVE_A, ("forget", "a"), ("add", second), ("settle",)] == world.steps()


def test_what_goes_for_good_while_it_changes_its_vhid(world: World) -> None:
    """Nothing comes in its place any more: it is told to let go of its addresses after all."""
    new = config(name="a", vhid=9, addresses=["10.1.1.1"])
    world.apply("file", new, B)
    assert [("b", "unchanged"), ("a", "removed")] == world.apply("file", B)
    assert [LEAVE_A, STOP_A] == world.steps()


def test_what_is_gone_hands_over_and_lets_go(world: World) -> None:
    """It is forgotten when it has stopped, and belongs to nobody from the start."""
    assert [("b", "unchanged"), ("a", "removed")] == world.apply("file", B)
    assert ("", "file") == (world.changes.owner("a"), world.changes.owner("b"))
    world.changes.stopped("a")
    assert [STOP_A, ("forget", "a")] == world.steps()


def test_what_is_gone_comes_back_meanwhile(world: World) -> None:
    """A vhost that is wanted again while it hands over begins anew afterwards."""
    world.apply("file", B)
    assert [("a", "replaced"), ("b", "unchanged")] == world.apply("file", A, B)
    world.changes.stopped("a")
    assert [STOP_A, ("forget", "a"), ("add", A), ("settle",)] == world.steps()


def _inventory(*addresses: str) -> Inventory:
    """Return a host with eth0, number 2, and an interface more for each address more."""
    found = [ip_interface(text) for text in addresses]
    host = [Addr(2 + i, a.ip, a.network.prefixlen, 0, 0, FOR_EVER) for i, a in enumerate(found)]
    links = [Link(2 + i, f"eth{i}", b"\2\0\0\0\0\1", 0x41, 1500, 6, "") for i in range(len(found))]
    return Inventory(links, host, has_proto=True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"addresses": ["10.1.1.1", "10.1.0.5"]}, "address 10.1.0.5 is already the interface's own address"),
        ({"addresses": ["10.1.1.1", "2001:db8::9"]}, "interface eth0 has no IPv6 address to send from"),
        ({"source": "10.1.0.99"}, "interface eth0 does not have the source address 10.1.0.99"),
        ({"vhid": 9, "source": "10.1.0.99"}, "interface eth0 does not have the source address 10.1.0.99"),
    ],
)
def test_what_runs_is_not_given_what_it_could_not_run_with(
    world: World, fields: dict[str, Any], problem: str
) -> None:
    """It would drop its addresses, or make the host's own one a lease: it goes on as it is."""
    world.engine.inventory = _inventory("10.1.0.5/16")
    new = config(**({"name": "a", "vhid": 1, "addresses": ["10.1.1.1"]} | fields))
    (_, said), _ = world.apply("file", new, B)
    assert said.startswith(problem)
    assert [] == world.steps()
    world.engine.inventory = Inventory([], [], has_proto=True)
    assert [("file", "a", "changed" if new.vhid == 1 else "replaced")] == world.retry()


def test_what_it_could_not_listen_for_changes_nothing(world: World) -> None:
    """A member that is deaf to those of the new group would become a second master."""
    world.engine.inventory = _inventory("10.1.0.5/16")
    new = config(name="a", vhid=1, addresses=["10.1.1.1"], transport={"group": "224.0.1.9"})
    world.engine.deaf = True
    assert ("a", "cannot listen on 224.0.1.9") == world.apply("file", new, B)[0]
    assert [] == world.steps()
    world.engine.deaf = False
    assert [("file", "a", "changed")] == world.retry()


def test_addresses_of_another_interface_are_another_place() -> None:
    """Where the subnet chooses the interface, new addresses can: it hands over before it moves."""
    world, auto = World(), {"interface": {"subnet": "auto"}}
    world.apply("file", config(name="a", vhid=1, addresses=["10.1.1.1"], **auto))
    world.engine.inventory = _inventory("10.1.0.5/16", "10.2.0.5/16")
    world.engine.slots["a"].port.segment = SimpleNamespace(ifindex=2)
    world.engine.slots["a"].kept = 2
    world.steps()
    near = config(name="a", vhid=1, addresses=["10.1.1.1", "10.1.1.9"], **auto)
    assert [("a", "changed")] == world.apply("file", near)
    assert [("reconfigure", near)] == world.steps()
    far = config(name="a", vhid=1, addresses=["10.2.1.1"], **auto)
    assert [("a", "replaced")] == world.apply("file", far)
    assert [STOP_A] == world.steps()


@pytest.mark.parametrize(
    ("address", "interface", "free"),
    [
        ("fe80::252", "eth1", True),
        ("fe80::252", "eth0", False),
        ("fe80::252", {"pattern": "eth*"}, False),
        ("169.254.0.252", "eth1", False),
        ("fd00::252", "eth1", False),
    ],
)
def test_a_link_local_address_belongs_to_one_on_each_interface(
    world: World, address: str, interface: Any, *, free: bool
) -> None:
    """Only names tell interfaces apart for certain; ARP for one of IPv4 is answered on all."""
    world.apply("file", config(name="a", vhid=1, addresses=[address]))
    wanted = config(name="x", vhid=9, addresses=[address], interface=interface)
    ((_, said),) = world.apply("controller", wanted)
    assert ("added" if free else f"addresses: {address} belongs to vhost 'a'") == said


def test_keep(world: World) -> None:
    """What is named stays as it is though it is not in the set; the rest goes."""
    assert [("b", "removed")] == world.apply("file", keep=("a",))
    assert [("handle", "b", ev.Stop(release=True))] == world.steps()


def test_sources_do_not_touch_each_other(world: World) -> None:
    """Neither by changing, nor by taking away, nor by wanting nothing at all."""
    world.apply("socket", C)
    world.steps()
    assert [("a", "name: 'a' belongs to the file")] == world.apply(
        "socket", config(name="a", vhid=1), keep=("c",)
    )
    assert [("c", "removed")] == world.apply("socket")
    assert [("a", "unchanged"), ("b", "unchanged")] == world.apply("file", A, B)
    assert [("handle", "c", ev.Stop(release=True))] == world.steps()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"vhid": 1}, "vhid: 1 on eth0 belongs to vhost 'a'"),
        ({"addresses": ["10.1.1.9", "10.1.1.2/24"]}, "addresses: 10.1.1.2 belongs to vhost 'b'"),
    ],
)
def test_what_another_source_uses(world: World, fields: dict[str, Any], problem: str) -> None:
    """A vhid on an interface and an address are the first one's; a refused change leaves the old settings."""
    assert [("c", "added")] == world.apply("socket", C)
    world.steps()
    new = config(**({"name": "c", "vhid": 3, "addresses": ["10.1.1.3"]} | fields))
    assert [("c", problem)] == world.apply("socket", new)
    assert [] == world.steps()
    assert C == world.engine.slots["c"].config


def test_the_same_vhid_on_another_interface(world: World) -> None:
    """It is another one."""
    assert [("c", "added")] == world.apply("socket", config(name="c", vhid=1, interface="eth1"))


def test_an_address_of_another_process(world: World) -> None:
    """A vhost that runs is refused it and stays as it is; a new one is taken in and waits for it."""
    world.apply("file", A)
    world.engine.elsewhere = {"10.1.1.9"}
    more = config(name="a", vhid=1, addresses=["10.1.1.1", "10.1.1.9"])
    refused = "addresses: another carp process on this host has 10.1.1.9"
    assert [("a", refused)] == world.apply("file", more)
    assert A == world.engine.slots["a"].config
    new = config(name="new", vhid=9, addresses=["10.1.1.9"])
    assert ("new", "added") in world.apply("file", A, new)


def test_one_source_may_swap(world: World) -> None:
    """Within a source what another vhost gives up in the same set is free."""
    a, b = config(name="a", vhid=1, addresses=["10.1.1.2"]), config(name="b", vhid=2, addresses=["10.1.1.1"])
    assert [("a", "changed"), ("b", "changed")] == world.apply("file", a, b)


def test_a_stop_that_nobody_asked_for(world: World) -> None:
    """A vhost that stopped though it is wanted takes part again; a withdrawn one keeps the reason."""
    world.changes.stopped("a")
    assert [("restore", "a")] == world.steps()
    world.engine.slots["b"].withdrawn = "all health checks fail"
    world.changes.stopped("b")
    assert [] == world.steps()
    assert "all health checks fail" == world.engine.slots["b"].member.vhost.reason
    world.changes.stopped("nosuch")
    assert [] == world.steps()


def test_others_get_their_turn_between_vhosts(world: World) -> None:
    """A large set does not keep the loop."""
    many = [config(name=f"v{n}", vhid=n, addresses=[f"10.2.0.{n}"]) for n in range(101, 201)]

    async def count() -> int:
        turns, applying = 0, asyncio.ensure_future(world.changes.apply("socket", many))
        while not applying.done():
            await asyncio.sleep(0)
            turns += 1
        assert [Outcome(f"v{n}", "added") for n in range(101, 201)] == applying.result()
        return turns

    assert asyncio.run(count()) >= 100


def test_a_vhost_that_another_process_runs(world: World) -> None:
    """It is refused with the reason and belongs to nobody; what comes in the place of one is given up."""

    def memory(settings: VhostConfig) -> None:
        if settings.vhid in (3, 9):
            text = f"{settings.name}: another process runs this vhost"
            raise BusyError(text)

    world.changes = Changes(world.engine, memory)  # type: ignore[arg-type]
    world.engine.slots.clear()
    world.apply("file", A)
    world.steps()
    assert [("a", "unchanged"), ("c", "c: another process runs this vhost")] == world.apply("file", A, C)
    assert ("", []) == (world.changes.owner("c"), world.steps())
    world.apply("file", config(name="a", vhid=9, addresses=["10.1.1.1"]))
    assert [] == world.changes.problems()
    world.changes.stopped("a")
    assert ("", {}) == (world.changes.owner("a"), world.engine.slots)
    assert (["a: a: another process runs this vhost"], {"a"}) == (
        world.changes.problems(), world.changes.refused("file")
    )  # fmt: skip
    assert [("a", "added")] == world.apply("file", A)


def test_quiet(world: World) -> None:
    """It is quiet once the last handover is over, and not before."""

    async def scene() -> tuple[bool, bool]:
        early = await world.changes.quiet(0.0)
        waiting = asyncio.create_task(world.changes.quiet(5.0))
        await asyncio.sleep(0)
        world.changes.stopped("a")
        return early, await waiting

    world.apply("file", B)
    assert (False, True) == asyncio.run(scene())
    assert asyncio.run(world.changes.quiet(0.0))


def _withdraw(world: World, name: str) -> None:
    """Have a vhost's checks take it out of the election, to the end."""
    slot = world.engine.slots[name]
    slot.withdrawn, slot.member.vhost.stopped = "all health checks fail", True


def test_a_withdrawn_vhost_goes(world: World) -> None:
    """It has stopped long ago and says so no more: it is forgotten soon, and nothing restores it."""
    _withdraw(world, "a")
    assert [("b", "unchanged"), ("a", "removed")] == world.apply("file", B)
    assert [("forget", "a")] == world.steps()
    assert not world.changes.leaving("a")
    assert asyncio.run(world.changes.quiet(0.0))


def test_a_withdrawn_vhost_goes_after_the_event_that_asked(world: World) -> None:
    """Not at once, which may be in the middle of a turn of the engine; whoever asks is told that it goes."""

    async def scene() -> tuple[bool, list[str]]:
        told: list[str] = []
        world.changes = Changes(world.engine, lambda _: None, told.append)  # type: ignore[arg-type]
        world.engine.slots.clear()
        await world.changes.apply("file", [A])
        _withdraw(world, "a")
        await world.changes.apply("file", [])
        assert [] == told
        leaving = world.changes.leaving("a")
        await asyncio.sleep(0)
        return leaving, told

    assert (True, ["a"]) == asyncio.run(scene())


def test_a_withdrawn_vhost_is_replaced(world: World) -> None:
    """The new vhid begins; whether it is withdrawn, too, is for its checks to say."""
    _withdraw(world, "a")
    new = config(name="a", vhid=9, addresses=["10.1.1.1"])
    assert [("a", "replaced"), ("b", "unchanged")] == world.apply("file", new, B)
    assert [("forget", "a"), ("add", new), ("settle",)] == world.steps()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"vhid": 1}, "vhid: 1 on eth0 belongs to vhost 'a', which is handing over"),
        ({"addresses": ["10.1.1.1"]}, "addresses: 10.1.1.1 belongs to vhost 'a', which is handing over"),
    ],
)
@pytest.mark.parametrize("source", ["file", "socket"])
def test_what_a_leaving_vhost_still_has(
    world: World, source: str, fields: dict[str, Any], problem: str
) -> None:
    """It is refused, waits, and is taken when the other one has gone."""
    world.apply("file", B)
    new = config(**({"name": "c", "vhid": 3, "addresses": ["10.1.1.3"]} | fields))
    file = (new, B) if source == "file" else (new,)
    assert ("c", problem) in world.apply(source, *file)
    assert [] == world.retry()
    assert ([f"c: {problem}"], {"c"}) == (world.changes.problems(), world.changes.refused(source))
    world.changes.stopped("a")
    world.steps()
    assert [(source, "c", "added")] == world.retry()
    assert ([("add", new), ("settle",)], []) == (world.steps(), world.changes.problems())
    assert source == world.changes.owner("c")


def test_what_waits_for_another_source(world: World) -> None:
    """A name, and a change of what runs, are taken when the rival has gone; not what is wanted no more."""
    name, vhid = config(name="a", vhid=8, addresses=["10.1.1.8"]), config(name="d", vhid=2)
    moved = config(name="c", vhid=3, addresses=["10.1.1.3", "10.1.1.2"])
    world.apply("socket", C)
    world.apply("socket", name, vhid, moved)
    assert {"a", "c", "d"} == world.changes.refused("socket")
    assert [("a", "name: 'a' belongs to the file"), ("c", "addresses: 10.1.1.2 belongs to vhost 'b'")] == (
        world.apply("socket", name, moved)
    )
    world.apply("file")
    world.changes.stopped("a")
    world.changes.stopped("b")
    world.steps()
    assert [("socket", "a", "added"), ("socket", "c", "changed")] == world.retry()
    assert [("add", name), ("reconfigure", moved), ("settle",)] == world.steps()
    assert set() == world.changes.refused("socket")


def test_what_waits_is_kept_waiting(world: World) -> None:
    """Where newer settings of it are wrong, the older ones still wait."""
    world.apply("file", B)
    new = config(name="c", vhid=1, addresses=["10.1.1.3"])
    world.apply("file", B, new)
    world.apply("file", B, keep=("c",))
    world.changes.stopped("a")
    assert [("file", "c", "added")] == world.retry()


def test_what_comes_in_the_place_of_a_leaving_vhost(world: World) -> None:
    """Nobody else gets the vhid or the address that it will have."""
    world.apply("file", config(name="a", vhid=9, addresses=["10.1.1.9"]), B)
    vhid, ip = config(name="c", vhid=9), config(name="c", vhid=7, addresses=["10.1.1.9"])
    assert [("c", "vhid: 9 on eth0 belongs to vhost 'a', which is handing over")] == world.apply(
        "socket", vhid
    )
    assert [("c", "addresses: 10.1.1.9 belongs to vhost 'a', which is handing over")] == world.apply(
        "socket", ip
    )


def test_what_got_the_place_of_one_that_left_with_it(world: World) -> None:
    """The same set again, while the old one still hands over, changes nothing."""
    new = config(name="c", vhid=1, addresses=["10.1.1.1"])
    assert [("c", "added"), ("a", "removed"), ("b", "removed")] == world.apply("file", new)
    assert [("c", "unchanged")] == world.apply("file", new)
