"""A process on a simulated machine: the real Vhost and Runner, and around them what carp/engine.py does.

Same order as there: the lease is judged first, then packets are read, then timers fire. Idle wake-ups that
would change nothing are left out; the stall detector sees the gaps that it would see with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from carp.core import events as ev
from carp.core.seal import Seal, latest
from carp.core.transitions import State
from carp.core.vhost import NEVER, Vhost
from carp.fence import RESUME_GRACE
from carp.netlink import PROTO_HELD
from carp.pulse import HEARTBEAT, LATE, STALL, heartbeat, patience
from carp.runner import Member, Runner
from simulation_host import Killed, Stored
from simulation_ports import Clock, Port, Renewals, Watched, Watcher
from simulation_world import Packet, Violation

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp.core.auth import Address
    from carp.core.config import VhostConfig
    from simulation_host import Host

REWRITE_AFTER: Final = 240.0
FORGET_AFTER: Final = 30 * 86400.0
HOUSEKEEPING: Final = 10.0
"""s; the engine's 0.25 s is far more often than its work needs."""


class Process:
    """One run of the daemon with one vhost."""

    def __init__(self, host: Host) -> None:
        """Read the disk; `start` does the rest."""
        self.host = host
        self.world = host.world
        self.clock = Clock(host)
        self.port = Port(self)
        self.runner = Runner(self.clock, Renewals(host), Watcher(host))
        config, stored = host.config, host.stored
        seal = self._stored_seal(stored)
        self._proven = stored is not None and stored.proof == _proof(config)
        self.member = Member(Watched(host, seal), self.port)
        self._packets: list[Packet] = []
        self._kernel_news: list[Address] = []
        self._answers: list[tuple[Address, bytes]] = []
        self._orders: list[ev.Event] = []
        self._link_news = False
        self._busy = False
        self._awake_at = host.local()
        self._stops: list[tuple[float, float]] = []
        self._armed_at = NEVER
        self._alarm_at = NEVER
        self._housekeeping_at = 0.0
        self._written_at = 0.0
        self._patience = patience([config.timing])

    def _stored_seal(self, stored: Stored | None) -> Seal:
        """Continue from the floors on disk unless they seem too old (carp/state.py)."""
        if stored is None or self.host.wall() - stored.wall > FORGET_AFTER:
            self.world.checks.seals.state_lost(self.host)
            return Seal()
        reserved = stored.reserved
        newest = stored.newest if reserved is None else latest(reserved, stored.newest)
        return Seal(reserved, reserved, newest, dict(stored.floors))

    @property
    def vhost(self) -> Vhost:
        """The machine under test."""
        return self.member.vhost

    # --- what happens to a process -----------------------------------------------------------------

    def start(self) -> None:
        """Begin as the daemon does: write the floors, look at the links."""
        self.world.say(self.host.name, "starts")
        self._turn(self._begin)

    def arrived(self, packet: Packet) -> None:
        """Let a packet wait in the socket."""
        self._packets.append(packet)
        self._turn(self._on_packets)

    def told(self, address: Address, mac: bytes) -> None:
        """Let an answer to a probe wait in the socket."""
        self._answers.append((address, mac))
        self._turn(self._on_answers)

    def kernel_said(self, address: Address) -> None:
        """Let the news of a deleted address wait."""
        self._kernel_news.append(address)
        self.world.at(self.world.now, self.wake)

    def link_changed(self) -> None:
        """Let the news of a link wait."""
        self._link_news = True
        self.wake()

    def order(self, event: ev.Event) -> None:
        """Let a signal or a command wait."""
        self._orders.append(event)
        self.wake()

    def was_stopped(self, start: float, end: float) -> None:
        """Take note of a SIGSTOP from and to a time of the machine's monotonic clock."""
        self._stops.append((start, end))
        soon = self.world.rng.random() * HEARTBEAT * self._patience
        self.world.at(self.world.now + soon, self._turn, self._on_timer)

    def wake(self) -> None:
        """Take turns until nothing waits; the order of what is ready is any."""
        if self._busy or self.host.stopped or self.host.process is not self:
            return
        ready: list[Callable[[], None]] = []
        for waits, turn in (
            (self._packets, self._on_packets), (self._answers, self._on_answers),
            (self._kernel_news or self._link_news, self._on_monitor), (self._orders, self._on_orders),
            (self.host.local() >= self._armed_at, self._on_timer),
        ):  # fmt: skip
            if waits:
                ready.append(turn)
        if len(ready) > 1:
            self.world.rng.shuffle(ready)
        for turn in ready:
            self._turn(turn)

    def _turn(self, do: Callable[[], None]) -> None:
        host = self.host
        if self._busy or host.stopped or host.process is not self:
            return
        self._busy = True
        try:
            do()
            if self.vhost.stopped:
                self.remember(at_end=True)
        except Killed:
            return
        except Violation:
            raise
        except Exception as error:
            msg = f"(6) {host.name} raised {error!r}"
            raise Violation(msg) from error
        finally:
            self._busy = False
        self.world.checks.turn_ended(host)
        if self.vhost.stopped:
            self.world.say(host.name, "exits")
            host.gone(fault=False)
        elif self._packets or self._answers or self._kernel_news or self._link_news or self._orders:
            self.world.at(self.world.now, self.wake)

    def _alarm(self, due: float) -> None:
        if due != self._alarm_at or self.host.process is not self:
            return
        self._alarm_at = NEVER
        if self.host.local() >= self._armed_at:
            self.wake()
        else:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """Plan a look at the timer; one that is early only looks again."""
        due = self.host.virtual(self._armed_at)
        if due < self._alarm_at:
            self._alarm_at = due
            self.world.at(due, self._alarm, due)

    # --- the engine's turns ------------------------------------------------------------------------

    def _begin(self) -> None:
        self.remember()
        self._settle()
        self._after_events()

    def _enter(self) -> float:
        now = self.clock.now()
        gap = self._longest_gap(now) if self._stops else 0.0
        self._awake_at = now
        if gap > STALL * self._patience:
            self._after_stall()
        return now

    def _longest_gap(self, now: float) -> float:
        """Return how long we did not run. Idle wake-ups, left out here, come as `heartbeat` says."""
        over = [stop for stop in self._stops if stop[1] <= now]
        self._stops = [stop for stop in self._stops if stop[1] > now]
        chance = self.world.rng.random() * self._patience
        asleep = [(start - chance * heartbeat(start, [self.vhost]), end) for start, end in over]
        return max((end - max(self._awake_at, start) for start, end in asleep), default=0.0)

    def _after_stall(self) -> None:
        self.world.say(self.host.name, "notices a stall")
        if self.vhost.state is State.MASTER:
            self.runner.handle(self.member, ev.Stalled())
        self._drain(stalled=True)
        if self.vhost.state is State.BACKUP:
            self.runner.handle(self.member, ev.Stalled())

    def _on_timer(self) -> None:
        now = self._enter()
        if now - self._armed_at > LATE:
            self._drain()
        self._tick(now)

    def _on_packets(self) -> None:
        self._enter()
        self._drain()
        self.runner.flush()
        now = self._enter()
        if now >= self._armed_at:
            self._tick(now)

    def _on_orders(self) -> None:
        self._enter()
        orders, self._orders = self._orders, []
        for event in orders:
            self.world.say(self.host.name, f"told {_brief(event)}")
            self.runner.handle(self.member, event)
            if isinstance(event, ev.Reconfigure):
                self._patience = patience([event.config.timing])
                self.remember()
                self.host.config = event.config
        self._after_events()

    def _on_answers(self) -> None:
        self._enter()
        answers, self._answers = self._answers, []
        for address, mac in answers:
            self.runner.handle(self.member, ev.Answered(address, mac))
        self._after_events()

    def _on_monitor(self) -> None:
        self._enter()
        news, self._kernel_news = self._kernel_news, []
        addresses = {vip.ip for vip in self.vhost.config.addresses}
        for address in news:
            if self.port.attached and self.vhost.holds and address in addresses:
                self.runner.handle(self.member, ev.AddressGone(address))
        if self._link_news:
            self._link_news = False
            self._settle()
        self._after_events()

    def _tick(self, now: float) -> None:
        if self.vhost.deadline() <= now:
            if self.vhost.state is State.MASTER and self.port.attached and not self.host.link:
                self._detach("no carrier")
            self.runner.run(self.member, self.vhost.tick(now))
        self._after_events()
        if now >= self._housekeeping_at:
            self._housekeeping_at = now + HOUSEKEEPING
            if not self.port.attached and not self.vhost.stopped and self.host.link:
                self._settle()
                self._after_events()
            if now - self._written_at > REWRITE_AFTER:
                self.remember()

    def _after_events(self) -> None:
        self.runner.flush()
        self._rearm(self._enter())

    def _rearm(self, now: float) -> None:
        self._armed_at = min(self.vhost.deadline(), max(now, self._housekeeping_at))
        self._set_alarm()

    def _drain(self, *, stalled: bool = False) -> None:
        packets, self._packets = self._packets, []
        vhost, checks = self.vhost, self.world.checks
        for packet in packets:
            if packet.advert.vhid != vhost.config.vhid or (stalled and vhost.state is State.BACKUP):
                continue
            effects = vhost.handle(ev.Heard(packet.advert, packet.source), self.clock.now())
            if effects and isinstance(effects[0], ev.Dropped):
                checks.dropped(self.host, packet, effects[0].reason)
                effects = effects[1:]
            else:
                checks.heard(self.host, packet)
            if effects:
                self.runner.run(self.member, effects)
            due = vhost.deadline()
            if due < self._armed_at:
                self._armed_at = due
                self._set_alarm()

    # --- links, disk ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        host = self.host
        read_at = self.clock.now()
        shown = {vip.ip: host.kernel.reported(vip.ip) for vip in self.vhost.config.addresses}
        host.boundary("inventory")
        if self.vhost.stopped:
            return
        if not host.link:
            self._detach("no carrier")
        elif not self.port.attached:
            self.port.attached = self.port.was_attached = True
            self._start(shown, read_at)

    def _detach(self, reason: str) -> None:
        self.runner.handle(self.member, ev.LinkDown(reason))
        self.port.attached = False

    def _start(self, shown: dict[Address, tuple[int, int] | None], read_at: float) -> None:
        """Resume a proven lease, else clean up and begin as backup (carp/slots.py)."""
        config, host = self.vhost.config, self.host
        left = [vip for vip in config.addresses if shown[vip.ip] is not None]
        proven = config.fenced and self._proven
        if proven and all(s is not None and s[0] == PROTO_HELD and s[1] >= 1 for s in shown.values()):
            # From before the kernel was asked: a stop since then must not make the proof look fresh.
            expires = read_at + RESUME_GRACE
            self.runner.handle(self.member, ev.Resume(host.sources, expires))
            return
        if left:
            self.port.release(left)
        self.runner.handle(self.member, ev.LinkUp(host.sources))

    def remember(self, *, at_end: bool = False) -> None:
        host, seal = self.host, self.vhost.signer.seal
        host.boundary("disk")
        if at_end:
            seal.close()
        else:
            seal.reserve(self.clock.wall())
        self._written_at = self.clock.now()
        floors = dict(seal.floors)
        host.stored = Stored(_proof(self.vhost.config), seal.reserved, seal.newest, floors, host.wall())
        self._proven = True
        host.boundary("disk")


def _proof(config: VhostConfig) -> tuple[Any, ...]:
    return config.vhid, tuple(sorted(map(str, config.addresses))), config.sign.password


def _brief(event: ev.Event) -> str:
    match event:
        case ev.Reconfigure(config):
            passwords = [config.sign.password.decode(), *(a.password.decode() for a in config.accept)]
            vips = [str(vip) for vip in config.addresses]
            return f"Reconfigure {config.timing} {config.preempt.mode} {passwords} {vips}"
    return str(event)
