"""Effects carried out in order, stopped between any two calls (design.md rule 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp.core import events as ev
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.runner import FRESH, Member, Runner
from pair import WALL, address, config, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp.core.auth import Address
    from carp.core.config import Vip

MASTER, BACKUP, INIT = State.MASTER, State.BACKUP, State.INIT


class World:
    """Clock, port, kernel and observer in one; the process can be stopped at the entry of any call."""

    ifindex = 7

    def __init__(self) -> None:
        self.time = 100.0
        self.stops: dict[int, float] = {}
        self.calls = 0
        self.log: list[str] = []
        self.expires: float | None = None
        self.send_problem: str | None = None
        self.hold_problem: str | None = None
        self.refused: set[int] = set()
        self.on_send: Callable[[], None] | None = None
        self.stale_renewals = 0
        self.last_advert = 0.0

    def _enter(self, what: str = "") -> None:
        self.time += self.stops.get(self.calls, 0.0)
        self.calls += 1
        if what:
            self.log.append(what)

    def now(self) -> float:
        self._enter()
        return self.time

    def wall(self) -> float:
        self._enter()
        return WALL + self.time

    def send(self, packets: Sequence[tuple[Address, bytes]]) -> str | None:
        assert packets
        self._enter("bow-out" if packets[0][1][5] == 255 else "send")
        self.last_advert = self.time
        if self.on_send:
            self.on_send()
        return self.send_problem

    def hold(self, vips: Sequence[Vip], lifetime: int | None, *, ceded: bool = False) -> str | None:
        self._enter(f"hold {lifetime}{' ceded' if ceded else ''}")
        if self.hold_problem is None:
            self.expires = float("inf") if lifetime is None else self.time + lifetime
        return self.hold_problem

    def renew(self, leases: Sequence[tuple[int, Sequence[Vip], int]]) -> set[int]:
        self._enter(f"renew {len(leases)}")
        self.stale_renewals += self.time - self.last_advert > FRESH
        if 0 not in self.refused:
            self.expires = self.time + leases[0][2]
        return self.refused

    def release(self, vips: Sequence[Vip]) -> None:
        self._enter("release")
        self.expires = None

    def announce(self, vips: Sequence[Vip]) -> None:
        self._enter("announce")

    def probe(self, vips: Sequence[Vip]) -> None:
        self._enter("probe")

    def script(self, *, up: bool) -> None:
        self._enter("up" if up else "down")

    def remember(self) -> None:
        self._enter("remember")

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        if isinstance(effect, ev.Changed):
            self.log.append(f"{effect.new}: {effect.cause}")
        elif isinstance(effect, ev.Stopped):
            self.log.append("stopped")

    def send_failed(self, vhost: Vhost, problem: str) -> None:
        self.log.append(f"send failed: {problem}")


def _backup(world: World, **fields: Any) -> tuple[Runner, Member]:
    """Return a runner with a vhost that is about to claim: its dead time ends at the next tick."""
    runner = Runner(world, world, world)
    member = Member(Vhost(config(**fields), chance=lambda: 0.0, now=world.time), world)
    runner.handle(member, ev.LinkUp((address("10.1.1.1"),)))
    runner.handle(member, ev.Heard(plain(config()), address("10.1.1.2")))
    world.time = member.vhost.deadline()
    world.log.clear()
    return runner, member


def _tick(world: World, runner: Runner, member: Member) -> None:
    """Let the vhost do what is due next, as the engine does."""
    world.time = max(world.time, member.vhost.deadline())
    runner.run(member, member.vhost.tick(world.time))
    runner.flush()


def _master(world: World, **fields: Any) -> tuple[Runner, Member]:
    """Return a runner with a vhost that has just taken over."""
    runner, member = _backup(world, **fields)
    _tick(world, runner, member)
    assert MASTER is member.vhost.state
    world.log.clear()
    world.calls = 0
    return runner, member


def test_a_takeover_in_order() -> None:
    """Advert, addresses, announcement, script; and only then a log line."""
    world = World()
    runner, member = _backup(world)
    _tick(world, runner, member)
    assert ["send", "hold 2", "announce", "up", "MASTER: dead-time"] == world.log
    assert pytest.approx(world.time + 2) == member.vhost.lapses_at


def test_an_advert_then_its_renewal() -> None:
    """The renewal follows at the flush, and the lease is counted from when it began."""
    world = World()
    runner, member = _master(world)
    _tick(world, runner, member)
    assert ["send", "renew 1"] == world.log
    assert world.time + 2 == member.vhost.lapses_at == world.expires
    runner.flush()
    assert ["send", "renew 1"] == world.log


def test_renewals_of_many_leave_in_one_call() -> None:
    """Two vhosts, two adverts, one renewal of both; one that is refused keeps its old lease."""
    world = World()
    runner, first = _master(world)
    second = Member(Vhost(config(vhid=43), chance=lambda: 0.0, now=world.time), world)
    runner.handle(second, ev.Resume((address("10.1.1.1"),), world.time + 1.0))
    runner.flush()
    world.log.clear()
    before = second.vhost.lapses_at
    world.refused = {1}
    world.time = first.vhost.deadline()
    for member in (first, second):
        runner.run(member, (ev.Send(), ev.Renew()))
    runner.flush()
    assert ["send", "send", "renew 2"] == world.log
    assert (world.time + 2, before) == (first.vhost.lapses_at, second.vhost.lapses_at)


def test_a_handover_in_order() -> None:
    """Cede before the bow-out; release after the answer's 0.1 s."""
    world = World()
    runner, member = _master(world)
    runner.handle(member, ev.Stop())
    assert ["hold 1 ceded", "bow-out"] == world.log
    runner.handle(member, ev.Heard(plain(config()), address("10.1.1.2")))
    _tick(world, runner, member)
    assert ["release", "down", "INIT: stopped", "stopped"] == world.log[2:]


def test_an_unanswered_stop_leaves_a_fresh_lease() -> None:
    """The last ordinary advert, then the full lifetime with the held mark."""
    world = World()
    runner, member = _master(world)
    runner.handle(member, ev.Stop())
    while not member.vhost.stopped:
        _tick(world, runner, member)
    assert ["send", "hold 2", "down", "INIT: stopped", "stopped"] == world.log[-5:]
    assert world.expires == world.time + 2


@pytest.mark.parametrize(("effect", "entry"), [(ev.Probe(), "probe"), (ev.Script(up=False), "down")])
def test_simple_effects(effect: ev.Effect, entry: str) -> None:
    """What needs no check goes straight to the port."""
    world = World()
    runner, member = _backup(world)
    runner.run(member, (effect,))
    assert [entry] == world.log


# --- what fails -------------------------------------------------------------------------------------


def test_no_renewal_after_a_failed_send() -> None:
    """An advert that did not leave renews nothing; the problem is told."""
    world = World()
    runner, member = _master(world)
    world.send_problem = "cannot send on eth0: No buffer space available"
    _tick(world, runner, member)
    assert ["send", f"send failed: {world.send_problem}"] == world.log


def test_failed_sends_end_mastership_with_the_lease() -> None:
    """After L without a sent advert it is a backup, before it would send again."""
    world = World()
    runner, member = _master(world)
    start = world.time
    world.send_problem = "x"
    while member.vhost.state is MASTER:
        _tick(world, runner, member)
    assert ["release", "down", "BACKUP: lease-lapsed"] == world.log[-3:]
    assert 2.0 < world.time - start <= 2.5


def test_a_claim_without_an_advert_fails() -> None:
    """At a takeover the address is added only on a sent advert."""
    world = World()
    runner, member = _backup(world)
    world.send_problem = "cannot send on eth0: Network is down"
    _tick(world, runner, member)
    failed = f"send failed: {world.send_problem}"
    told = ["MASTER: dead-time", failed, "bow-out", failed, "release", "down", "BACKUP: claim-failed"]
    assert ["send", *told] == world.log
    assert world.send_problem == member.vhost.reason


def test_a_claim_without_an_address_fails() -> None:
    """The kernel refused it: whatever was added is deleted, whoever heard the advert is told to take over."""
    world = World()
    runner, member = _backup(world)
    world.hold_problem = "address 10.1.1.252/32: Permission denied"
    _tick(world, runner, member)
    told = ["MASTER: dead-time", "bow-out", "release", "down", "BACKUP: claim-failed"]
    assert ["send", "hold 2", "release", *told] == world.log
    assert world.hold_problem == member.vhost.reason


def test_without_a_fence_the_address_is_added_all_the_same() -> None:
    """Fencing Off has no lease that an old or failed advert could spoil."""
    world = World()
    runner, member = _backup(world, fencing="Off")
    world.send_problem = "x"
    _tick(world, runner, member)
    assert ["MASTER: dead-time", "send failed: x", "hold None", "announce", "up"] == world.log[1:]
    assert MASTER is member.vhost.state
    assert not member.vhost.has_lease


@pytest.mark.parametrize(
    "effects", [(ev.Send(), ev.Hold()), (ev.Cede(), ev.Send(bow_out=True))], ids=["hold", "cede"]
)
def test_a_refused_change_of_a_lease_is_no_lease(effects: tuple[ev.Effect, ...]) -> None:
    """A running lease ends when the kernel's does, not when a refused message would have made it end."""
    world = World()
    runner, member = _master(world)
    before = member.vhost.lapses_at
    world.time += 0.4
    world.hold_problem = "x"
    runner.run(member, effects)
    assert before == member.vhost.lapses_at
    assert MASTER is member.vhost.state


def test_a_lease_is_not_held_again_on_an_old_advert() -> None:
    """Adding an address to a running lease waits for an advert that leaves."""
    world = World()
    runner, member = _master(world)
    before = member.vhost.lapses_at
    world.send_problem = "x"
    runner.run(member, (ev.Send(), ev.Hold()))
    assert ["send", "send failed: x"] == world.log
    assert before == member.vhost.lapses_at


def test_who_let_go_renews_and_sends_nothing() -> None:
    """A renewal still pending when the vhost yields dies with its mastership, even after a pause."""
    world = World()
    runner, member = _master(world)
    world.time = member.vhost.deadline()
    runner.run(member, member.vhost.tick(world.time))
    runner.handle(member, ev.Heard(plain(config(), 0, 1), address("10.1.1.2")))
    assert BACKUP is member.vhost.state
    world.log.clear()
    world.time += 0.2
    runner.flush()
    assert [] == world.log


def test_a_last_advert_is_not_sent_late() -> None:
    """What a master that has let go says is worth nothing after a pause; the rest is done."""
    world = World()
    runner, member = _master(world)
    effects = member.vhost.handle(ev.Heard(plain(config(), 0, 1), address("10.1.1.2")), world.time)
    world.time += 1.0
    runner.run(member, effects)
    assert ["release", "down", "BACKUP: better-master"] == world.log


def test_seal_times_beyond_the_stored_floor_are_stored_first() -> None:
    """The port is asked to remember before the advert leaves."""
    world = World()
    runner, member = _master(world)
    member.vhost.signer.seal.reserve(WALL)
    _tick(world, runner, member)
    assert "remember" not in world.log
    world.log.clear()
    member.vhost.signer.seal.reserve(WALL - 10_000.0)
    member.vhost.signer.seal.reserved = 0
    _tick(world, runner, member)
    assert world.log.index("remember") < world.log.index("send")


# --- stopped between two calls ----------------------------------------------------------------------


def test_an_advert_older_than_50_ms_is_sent_again_before_a_renewal() -> None:
    """A pause between advert and renewal: a second advert, then the renewal."""
    world = World()
    runner, member = _master(world)
    world.time = member.vhost.deadline()
    runner.run(member, member.vhost.tick(world.time))
    world.time += 0.06
    runner.flush()
    assert ["send", "send", "renew 1"] == world.log


def test_a_pause_past_the_lease_ends_it_instead() -> None:
    """Neither a second advert nor a renewal, but backup."""
    world = World()
    runner, member = _master(world)
    world.time = member.vhost.deadline()
    runner.run(member, member.vhost.tick(world.time))
    world.time += 2.0
    runner.flush()
    assert ["send", "release", "down", "BACKUP: lease-lapsed"] == world.log


def _takeover_and_reign(world: World, runner: Runner, member: Member) -> None:
    for _ in range(4):
        _tick(world, runner, member)


def _step_down(world: World, runner: Runner, member: Member) -> None:
    _takeover_and_reign(world, runner, member)
    runner.handle(member, ev.StepDown())
    for _ in range(3):
        _tick(world, runner, member)
    runner.handle(member, ev.Heard(plain(config()), address("10.1.1.2")))
    _tick(world, runner, member)


def _stop_alone(world: World, runner: Runner, member: Member) -> None:
    _takeover_and_reign(world, runner, member)
    runner.handle(member, ev.Stop())
    for _ in range(20):
        if member.vhost.deadline() < world.time + 10:
            _tick(world, runner, member)


def _add_an_address(world: World, runner: Runner, member: Member) -> None:
    _takeover_and_reign(world, runner, member)
    runner.handle(member, ev.Reconfigure(config(addresses=["10.1.1.252", "10.1.1.253"])))
    _tick(world, runner, member)


SCENARIOS = [_takeover_and_reign, _step_down, _stop_alone, _add_an_address]


def _play(scenario: Callable[[World, Runner, Member], None], stops: dict[int, float]) -> tuple[World, Member]:
    world = World()
    runner, member = _backup(world)
    world.calls, world.stops = 0, stops
    scenario(world, runner, member)
    return world, member


@pytest.mark.parametrize("pause", [0.06, 0.6, 1.5, 2.1, 3.0, 3600.0])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_stopped_at_any_call(scenario: Callable[[World, Runner, Member], None], pause: float) -> None:
    """Wherever the process stands still: who is no master leaves no address behind, and no master
    believes in a lease that the kernel does not have.
    """
    total = _play(scenario, {})[0].calls
    assert total > 20
    for position in range(total):
        world, member = _play(scenario, {position: pause})
        vhost, text = member.vhost, f"stopped at call {position}: {world.log}"
        if vhost.state is MASTER:
            assert world.expires is not None, text
            assert vhost.lapses_at <= world.expires, text
        elif not vhost.stopped:
            assert world.expires is None, text


def _one_tick(stops: dict[int, float]) -> tuple[World, Member]:
    """Return a master after one advert and renewal, stopped as said."""
    world = World()
    runner, member = _master(world)
    world.stops = stops
    _tick(world, runner, member)
    if member.vhost.state is MASTER and stops:
        # What was not yet seen is seen at the next tick, before anything is sent.
        runner.run(member, member.vhost.tick(world.time))
    return world, member


@pytest.mark.parametrize("pause", [2.1, 3600.0])
def test_stopped_at_the_renewal_past_the_lease_it_is_taken_back(pause: float) -> None:
    """A late renewal resurrects the address (REPLACE creates it); it is deleted at once."""
    taken_back = 0
    for position in range(_one_tick({})[0].calls):
        world, member = _one_tick({position: pause})
        assert BACKUP is member.vhost.state, f"stopped at call {position}"
        assert world.expires is None
        assert ["release", "down", "BACKUP: lease-lapsed"] == world.log[-3:]
        taken_back += "renew 1" in world.log
    assert 3 == taken_back


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_renewal_stands_on_an_old_advert(scenario: Callable[[World, Runner, Member], None]) -> None:
    """Stopped for 0.1 s anywhere, an advert at most 50 ms old precedes each renewal, save for a stop at
    the very call that renews or right before it.
    """
    total = _play(scenario, {})[0].calls
    stale = [p for p in range(total) if _play(scenario, {p: 0.1})[0].stale_renewals]
    renewals = sum(e.startswith("renew") for e in _play(scenario, {})[0].log)
    assert len(stale) <= 3 * renewals
    world = _play(scenario, {})[0]
    assert 0 == world.stale_renewals


def test_a_takeover_that_was_stopped_is_given_up() -> None:
    """Before the advert, between it and the address, or while that is added: no address, and a dead time."""
    total = _play(_tick, {})[0].calls
    reasons = set()
    for position in range(total):
        world, member = _play(_tick, {position: 0.6})
        if member.vhost.state is BACKUP:
            reasons.add(member.vhost.reason)
            assert world.expires is None
    expected = {
        "stopped before the advert",
        "stopped between advert and address",
        "stopped while adding the address",
    }
    assert expected == reasons


def test_a_stop_that_lapsed_sends_no_last_advert() -> None:
    """The vhost is no master any more when its last advert is due: after its lease nothing is sent."""
    world = World()
    runner, member = _master(world)
    runner.handle(member, ev.Stop())
    effects = member.vhost.tick(world.time)
    while not any(isinstance(effect, ev.Leave) for effect in effects):
        runner.run(member, effects)
        world.time = max(world.time, member.vhost.deadline())
        effects = member.vhost.tick(world.time)
    world.log.clear()
    world.time += 1.5
    runner.run(member, effects)
    assert ["down", "INIT: stopped", "stopped"] == world.log
