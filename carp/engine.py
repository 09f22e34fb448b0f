"""The driver: sockets and timer in, vhosts in the middle, effects out (style.md section 6, "one advert").

One timer serves all vhosts. A vhost that fails is set back and started again; the others do not notice.
After a stall the lease is judged before anything else, then the sockets are read, then timers fire.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from carp.answers import Answers
from carp.core import events as ev
from carp.core.errors import CarpError
from carp.core.transitions import State
from carp.core.vhost import Vhost
from carp.fence import Fence
from carp.hearing import Hearing
from carp.meter import UNMETERED
from carp.netlink import PROTO_CEDED, PROTO_HELD, Monitor, Netlink
from carp.pulse import Pulse
from carp.rtnl import DelAddr, DelLink, NewAddr, NewLink
from carp.runner import Member, Runner
from carp.scribe import Scribe
from carp.segment import LinkPort
from carp.slots import Places, Slot
from carp.timers import SystemClock

if TYPE_CHECKING:
    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from carp.meter import Meter
    from carp.ports import ScriptStarter, Watcher
    from carp.rawsock import Receiver
    from carp.segment import Segment
    from carp.state import Memory

log: Final = logging.getLogger("carp.engine")
LONG_TURN: Final = 0.02
"""s; what is still due waits for the next turn: no takeover stands on what was known `runner.FRESH` ago."""
REVIVE_AFTER: Final = 1.0
"""s until a vhost that failed by an error of ours starts again."""
MAX_WRITES: Final = 8
"""Vhosts whose floors are written in one go: hundreds at once would make adverts late."""
HOUSEKEEPING: Final = 0.9
"""s between two looks at what may wait."""


class Engine:
    """Runs vhosts in the current network namespace on the running asyncio loop."""

    def __init__(self, watcher: Watcher, scripts: ScriptStarter, meter: Meter = UNMETERED) -> None:
        """Open the netlink sockets and the timer. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._meter = meter
        self._clock = SystemClock()
        self._scripts = scripts
        self._netlink = Netlink()
        self._monitor = Monitor()
        self._pulse = Pulse()
        self.scribe = Scribe()
        self._fence = Fence(self._netlink)
        self._runner = Runner(self._clock, self._fence, watcher, meter)
        self._hearing = Hearing(
            self._clock, self._runner, watcher, meter, failed=self._failed, due=self._pulse.hurry
        )
        self._answers = Answers(self._loop, self._enter, self._deliver)
        self._places = Places(self._netlink, self._runner, self._clock, self._opened)
        self.links, self.listen = self._places.links, self._places.listen
        self.slots: dict[str, Slot] = {}
        self._housekeeping_at = 0.0
        self._settle_planned = self._stopping = False
        self._idle = asyncio.Event()
        self._loop.add_reader(self._pulse.fileno(), self._on_timer)
        self._loop.add_reader(self._monitor.fileno(), self._on_monitor)

    # --- what others call ------------------------------------------------------------------------

    def add(self, config: VhostConfig, memory: Memory | None = None) -> Slot:
        """Take in one vhost; it starts at the next `settle`."""
        seal = None if memory is None else memory.seal()
        vhost = Vhost(config, chance=random.random, seal=seal, now=self._clock.now())
        # What comes in the middle of the end must not begin: nobody would tell it to stop.
        vhost.stopped = self._stopping
        port = LinkPort(
            config,
            self._fence,
            script=lambda up: self._scripts(slot, up=up),
            listen=self._answers.listen,
            remember=lambda: slot.remember(self._clock),
        )
        slot = Slot(Member(vhost, port), port, memory, self.scribe)
        self.slots[config.name] = slot
        self._changed()
        return slot

    def reconfigure(self, slot: Slot, config: VhostConfig) -> None:
        """Give a vhost new settings in place (same vhid and interface), once it can `listen` for them."""
        self._enter()
        old = slot.config
        proven = old.sign == config.sign
        if proven:
            # The very same addresses: prepared renewals are found by their identity.
            config = replace(config, sign=old.sign)
        slot.port.reconfigure(config)
        self._deliver(slot.member, ev.Reconfigure(config))
        self._changed()
        if not proven and slot.port.segment:
            slot.mine = {vip.ip for vip in config.addresses}
        if not proven or old.lifetime != config.lifetime:
            # Nothing else in the file changes, and a write can be held up by a busy disk.
            slot.remember(self._clock)
        self._places.tidy(slot, old)
        if (old.families, old.source, old.source6) != (config.families, config.source, config.source6):
            self.plan_settle()

    def forget(self, slot: Slot) -> None:
        """Drop a vhost that has stopped."""
        self._places.detach(slot, "removed", self._closing)
        del self.slots[slot.config.name]
        slot.mine.clear()  # deleted: whoever adds one from now on is somebody else
        self._changed()
        if slot.memory is not None:
            slot.remember(self._clock, at_end=True)
            slot.memory.close()

    def _changed(self) -> None:
        """Derive anew what depends on the settings of all vhosts."""
        self.links.own = {vip.ip for slot in self.slots.values() for vip in slot.config.addresses}
        self._pulse.tune(slot.config.timing for slot in self.slots.values())

    def settle(self) -> None:
        """Put every vhost where the links and addresses of the host say."""
        self._settle_planned = False
        try:
            self._places.settle(self.slots.values(), self._closing)
        except OSError as error:
            # Unknown is not empty: what we could not read changes nothing.
            log.warning("cannot read the links: %s", error)
        self._after_events()

    def handle(self, slot: Slot, event: ev.Event) -> None:
        """Give one vhost an event."""
        self._enter()
        self._deliver(slot.member, event)
        self._after_events()

    async def ask(self, segment: Segment, address: Address) -> bool:
        """Ask who has an address by ARP or neighbour discovery; see `Answers.ask`."""
        return await self._answers.ask(segment, address)

    def segments(self) -> list[Segment]:
        """Return the interfaces in use."""
        return list(self._places.segments.values())

    async def stop(self, *, release: bool) -> None:
        """Hand every vhost over and return when all have stopped; see `carp.core.events.Stop`."""
        self._stopping = True
        for slot in list(self.slots.values()):
            self.handle(slot, ev.Stop(release=release))
        self._after_events()
        await self._idle.wait()

    def abandon(self) -> None:
        """End now: no handover, every address deleted."""
        for slot in self.slots.values():
            self._places.detach(slot, "abandoned", self._closing)
            self._deliver(slot.member, ev.Stop(release=True))
        self._after_events()

    def close(self) -> None:
        """Give all sockets back; addresses stay as they are."""
        self._loop.remove_reader(self._pulse.fileno())
        self._loop.remove_reader(self._monitor.fileno())
        for segment in self._places.segments.values():
            self._closing(segment)
            segment.close()
        for slot in self.slots.values():
            slot.remember(self._clock, at_end=True)
        self.scribe.finish()
        for memory in [slot.memory for slot in self.slots.values() if slot.memory is not None]:
            memory.close()
        for item in (self._pulse, self._monitor, self._netlink):
            item.close()

    # --- the loop --------------------------------------------------------------------------------

    def _enter(self) -> float:
        """Begin a turn: notice when we did not run, before anything else happens."""
        now = self._clock.now()
        if gap := self._pulse.stall(now):
            self._after_stall(gap)
        return now

    def _after_stall(self, gap: float) -> None:
        log.warning("the election loop stood still for %.2f s", gap)
        self._meter.stalled(gap)
        members = [slot.member for slot in self.slots.values()]
        for member in members:
            if member.vhost.state is State.MASTER:
                self._deliver(member, ev.Stalled())
        self._drain_all(stalled=True)
        for member in members:
            if member.vhost.state is State.BACKUP:
                self._deliver(member, ev.Stalled())

    def _on_timer(self) -> None:
        self._pulse.fired()
        now = self._enter()
        if self._pulse.is_late(now):
            self._drain_all()
        self._tick(now)

    def _on_packets(self, segment: Segment, receiver: Receiver) -> None:
        self._enter()
        self._hearing.drain(segment, receiver)
        self._flush()
        now = self._enter()
        if self._pulse.is_due(now):
            self._tick(now)
        else:
            self._pulse.woken(now)

    def _tick(self, now: float) -> None:
        try:
            self._turn(now)
        finally:
            # Whatever went wrong: without a deadline nobody would run any more.
            self._after_events()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING
            self._housekeeping(now)

    def _turn(self, now: float) -> None:
        due = [(slot, at) for slot in self.slots.values() if (at := slot.member.vhost.deadline()) <= now]
        due.sort(key=lambda each: each[1])
        self._places.check_carriers([slot for slot, _ in due], self.slots.values(), self._closing)
        for slot, at in due:
            slot.member.due_at = at
            try:
                self._runner.run(slot.member, slot.member.vhost.tick(now))
            except Exception as error:  # noqa: BLE001 (one vhost's trouble is one vhost's trouble)
                self._failed(slot.member, error)
            slot.member.due_at = None
            if self._clock.now() - now > LONG_TURN:
                break
        self._meter.turned(now)

    def _after_events(self) -> None:
        self._flush()
        # A turn that was long itself is no silence, unless it was as long as a stall.
        now = self._enter()
        self._pulse.rearm(now, [slot.member.vhost for slot in self.slots.values()])
        if self._stopping and all(slot.member.vhost.stopped for slot in self.slots.values()):
            self._idle.set()

    def _flush(self) -> None:
        try:
            self._runner.flush()
        except OSError as error:
            log.error("cannot renew addresses: %s", error)  # noqa: TRY400 (no bug of ours)

    def _housekeeping(self, now: float) -> None:
        """Do what may wait: look for lost interfaces, write the seal's floors, stop listening for answers."""
        writes = 0
        for slot in self.slots.values():
            vhost = slot.member.vhost
            if slot.failed_at is not None and now - slot.failed_at < REVIVE_AFTER:
                continue
            slot.failed_at = None
            waits = slot.withdrawn and slot.port.segment is None
            if waits or (vhost.state is State.INIT and not vhost.stopped):
                self.plan_settle()
            if now > slot.rewrite_at and writes < MAX_WRITES:
                writes += 1
                slot.remember(self._clock)
        self._places.look()
        self._answers.stop_idle(self._places.segments.values())

    def _deliver(self, member: Member, event: ev.Event) -> None:
        try:
            self._runner.handle(member, event)
        except Exception as error:  # noqa: BLE001 (as above)
            self._failed(member, error, ends=isinstance(event, ev.Stop))

    def _failed(self, member: Member, error: Exception, *, ends: bool = False) -> None:
        """Set one vhost back after an error of ours: no address, and a fresh start soon."""
        slot = next(slot for slot in self.slots.values() if slot.member is member)
        log.error("%s: internal error; the vhost starts over", slot.config.name, exc_info=error)
        with contextlib.suppress(OSError, CarpError):
            if slot.config.manage:
                slot.port.release(slot.config.addresses)
        slot.failed_at = self._clock.now()
        ends = ends or self._stopping or slot.is_going
        self._start_over(slot, "internal error")
        if ends:
            # It has let go, which is all that whoever told it to stop waits for.
            member.vhost.stopped = True
            self._runner.run(member, (ev.Stopped(),))

    def _start_over(self, slot: Slot, reason: str) -> None:
        """Put a vhost without a past into a slot; it begins at the next `settle`."""
        seal = slot.member.vhost.signer.seal
        now = self._clock.now()
        fresh = Vhost(slot.config, chance=random.random, seal=seal, now=now)
        # Demotions are somebody else's judgement; they outlive what went wrong here.
        fresh.demotions = dict(slot.member.vhost.demotions)
        fresh.reason = reason
        slot.member.vhost = fresh
        if slot.port.segment is not None:
            self._places.detach(slot, reason, self._closing)

    def withdraw(self, slot: Slot, reason: str) -> None:
        """Hand a vhost over and keep it out, even if nobody takes it, until `restore`."""
        slot.withdrawn = reason
        self.handle(slot, ev.Stop(release=True))

    def restore(self, slot: Slot) -> None:
        """Let a withdrawn vhost take part again; one still handing over does when it is done."""
        slot.withdrawn = ""
        if slot.member.vhost.stopped and not self._stopping:
            self._start_over(slot, "restored")
            self.plan_settle()

    # --- packets ---------------------------------------------------------------------------------

    def _drain_all(self, *, stalled: bool = False) -> None:
        for segment in list(self._places.segments.values()):
            for receiver in list(segment.receivers.values()):
                self._hearing.drain(segment, receiver, stalled=stalled)

    # --- links and answers -----------------------------------------------------------------------

    def _opened(self, segment: Segment, receiver: Receiver) -> None:
        self._loop.add_reader(receiver.fileno(), self._on_packets, segment, receiver)

    def _closing(self, segment: Segment) -> None:
        for receiver in segment.receivers.values():
            self._loop.remove_reader(receiver.fileno())
        self._answers.stop(segment)

    def plan_settle(self) -> None:
        """Have `settle` called soon, once."""
        if not self._settle_planned:
            self._settle_planned = True
            self._loop.call_soon(self.settle)

    def _on_monitor(self) -> None:
        self._enter()
        waiting = any(slot.port.segment is None for slot in self.slots.values())
        for change in self._monitor.read():
            self.links.update(change)
            ifindex: int | None = None
            match change:
                case DelAddr(addr) if addr.proto in (PROTO_HELD, PROTO_CEDED):
                    for member in self._places.holders(addr.ifindex, addr.address):
                        self._deliver(member, ev.AddressGone(addr.address))
                    if not waiting:
                        continue
                    ifindex = addr.ifindex
                case NewLink(link) | DelLink(link):
                    ifindex = link.ifindex
                case NewAddr(addr) | DelAddr(addr):
                    ifindex = addr.ifindex
            if waiting or ifindex is None or ifindex in self._places.segments:
                self.plan_settle()
        self._after_events()
