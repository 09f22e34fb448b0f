"""What carpd counts about itself, as one table: name, type, meaning, labels, how it is read.

The code that exports, `docs/metrics.md` and the tests use the same `TABLE`. What the engine keeps anyway
(states, demotions, drops) is read when somebody asks; the rest is counted here by plain additions, since
the hooks run on the election's path. Every label has a bounded set of values: names of vhosts, interfaces,
checks and demotions that exist now, and members of our enumerations.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from carp import __version__
from carp.core import events as ev
from carp.core.errors import DropReason
from carp.core.transitions import Cause, State
from carp.daemon.registry import Family, Histogram, Kind, Sample
from carp.meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from carp.core.master import Master
    from carp.core.snapshot import Snapshot
    from carp.core.vhost import Vhost
    from carp.core.wire import Advert
    from carp.ports import Watcher
    from carp.rawsock import Packet

STATES: Final = {State.INIT: 0, State.BACKUP: 1, State.MASTER: 2}
LATENESS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STALLS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class VipView:
    """One vhost as it is now; ``checks`` says which health checks are up."""

    snapshot: Snapshot
    interface: str
    checks: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the engine and the daemon keep, at one moment.

    ``drops``: packets that reached no vhost, by interface. ``config_stale``: the newest configuration was
    refused and an older one is in force. ``state_persisted``: the settings in force are on disk.
    """

    vips: Sequence[VipView]
    drops: Mapping[str, Mapping[DropReason, int]]
    config_stale: bool = False
    state_persisted: bool = True


@dataclass(slots=True)
class Tally:
    """What is counted for one vhost."""

    sent: int = 0
    received: int = 0
    send_errors: int = 0
    renewals: int = 0
    announcements: int = 0
    dual_seconds: float = 0.0
    rival_at: float = -inf
    transitions: Counter[Cause] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Scrape:
    """Everything that a family may read: the view, the tallies of its vhosts, the histograms."""

    node: NodeView
    tallies: Sequence[tuple[str, Tally]]
    lateness: Histogram
    stalls: Histogram


class Metrics(Meter):
    """Counts what happens: as the engine's meter, and as its watcher, which hands on to another one."""

    def __init__(self, watcher: Watcher) -> None:
        """Begin at zero; ``watcher`` is told everything that a watcher is."""
        self._watcher = watcher
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._lateness = Histogram(LATENESS)
        self._stalls = Histogram(STALLS)

    # --- what the engine reports to every watcher ------------------------------------------------

    def saw(self, vhost: Vhost, effect: ev.Effect) -> None:
        """Count a state change."""
        if isinstance(effect, ev.Changed):
            self._tallies[vhost.config.name].transitions[effect.cause] += 1
        self._watcher.saw(vhost, effect)

    def send_failed(self, vhost: Vhost, problem: str) -> None:
        """Count an advert that was not sent."""
        self._tallies[vhost.config.name].send_errors += 1
        self._watcher.send_failed(vhost, problem)

    def dropped(self, interface: str, vhid: int | None, packet: Packet, reason: DropReason) -> None:
        """Hand on; the engine keeps these counts itself."""
        self._watcher.dropped(interface, vhid, packet, reason)

    # --- what is counted for metrics alone -------------------------------------------------------

    def sent(self, vhost: Vhost, count: int, late: float | None) -> None:
        """Count a round of ``count`` adverts; ``late``: s after it was due, None where it had no due time."""
        self._tallies[vhost.config.name].sent += count
        if late is not None:
            self._lateness.observe(max(late, 0.0))

    def heard(self, vhost: Vhost, master: Master | None, advert: Advert, now: float) -> None:
        """Count an advert that was believed, and the time in which there were two masters.

        Two ordinary adverts within a dead time, each heard by a master which is not bowing out, mean that
        there were two in between.
        """
        tally = self._tallies[vhost.config.name]
        tally.received += 1
        if master is None or master.leaving is not None or advert.is_bow_out:
            return
        gap, tally.rival_at = now - tally.rival_at, now
        if gap <= vhost.dead_time():
            tally.dual_seconds += gap

    def renewed(self, vhost: Vhost) -> None:
        """Count a renewal of the lifetime of a vhost's addresses."""
        self._tallies[vhost.config.name].renewals += 1

    def announced(self, vhost: Vhost) -> None:
        """Count a round of announcements."""
        self._tallies[vhost.config.name].announcements += 1

    def stalled(self, seconds: float) -> None:
        """Count a time for which the loop stood still."""
        self._stalls.observe(seconds)

    def forget(self, name: str) -> None:
        """Drop the counts of a vhost that was removed."""
        self._tallies.pop(name, None)

    def render(self, node: NodeView) -> Iterator[str]:
        """Yield the exposition family by family, so that the loop can turn between two."""
        names = [vip.snapshot.name for vip in node.vips]
        tallies = [(name, self._tallies[name]) for name in names]
        scrape = Scrape(node, tallies, self._lateness, self._stalls)
        for family in TABLE:
            yield family.text(scrape)


def _state(scrape: Scrape) -> Iterable[Sample]:
    for vip in scrape.node.vips:
        shown = vip.snapshot
        yield (shown.name, str(shown.vhid), vip.interface), STATES[shown.state]


def _transitions(scrape: Scrape) -> Iterable[Sample]:
    for name, tally in scrape.tallies:
        for cause, count in tally.transitions.items():
            yield (name, cause.value), count


def _drops(scrape: Scrape) -> Iterable[Sample]:
    for interface, counts in scrape.node.drops.items():
        for reason in DropReason:
            yield (interface, reason.value), counts.get(reason, 0)


def _vip_drops(scrape: Scrape) -> Iterable[Sample]:
    for vip in scrape.node.vips:
        for reason, count in vip.snapshot.drops.items():
            yield (vip.snapshot.name, reason.value), count


def _demotions(scrape: Scrape) -> Iterable[Sample]:
    for vip in scrape.node.vips:
        for reason, amount in vip.snapshot.demotions.items():
            yield (vip.snapshot.name, reason), amount


def _health(scrape: Scrape) -> Iterable[Sample]:
    for vip in scrape.node.vips:
        for check, is_up in vip.checks.items():
            yield (vip.snapshot.name, check), is_up


def _each(value: Callable[[Tally], float]) -> Callable[[Scrape], Iterable[Sample]]:
    """Return a reader of one number for each vhost."""
    return lambda scrape: [((name,), value(tally)) for name, tally in scrape.tallies]


TABLE: Final[tuple[Family[Scrape], ...]] = (
    Family(
        "carp_vip_state", Kind.GAUGE, "State of the vhost here: 0 INIT, 1 BACKUP, 2 MASTER.",
        ("vip", "vhid", "interface"), _state,
    ),
    Family(
        "carp_vip_transitions_total", Kind.COUNTER, "State changes; a cause appears with its first.",
        ("vip", "cause"), _transitions,
    ),
    Family(
        "carp_adverts_sent_total", Kind.COUNTER,
        "Adverts sent: one for each family and each password in use, however many peers get it.",
        ("vip",), _each(lambda tally: tally.sent),
    ),
    Family(
        "carp_adverts_received_total", Kind.COUNTER, "Adverts of other members that were believed.",
        ("vip",), _each(lambda tally: tally.received),
    ),
    Family(
        "carp_drops_total", Kind.COUNTER, "Packets not believed before any vhost judged them, by reason.",
        ("interface", "reason"), _drops,
    ),
    Family(
        "carp_vip_drops_total", Kind.COUNTER,
        "Adverts for this vhost that it did not believe; a reason appears with its first.",
        ("vip", "reason"), _vip_drops,
    ),
    Family(
        "carp_send_errors_total", Kind.COUNTER,
        "Rounds of adverts that could not be sent; no renewal follows one.",
        ("vip",), _each(lambda tally: tally.send_errors),
    ),
    Family(
        "carp_advert_lateness_seconds", Kind.HISTOGRAM, "How late after its due time an advert left.",
        (), lambda scrape: scrape.lateness, LATENESS,
    ),
    Family(
        "carp_loop_stall_seconds", Kind.HISTOGRAM,
        "How long the election loop stood still, each time it did so for longer than it may.",
        (), lambda scrape: scrape.stalls, STALLS,
    ),
    Family(
        "carp_dual_master_seconds_total", Kind.COUNTER,
        "Time as master in which another master was heard, from one of its adverts to the next;"
        " a handover does not count.",
        ("vip",), _each(lambda tally: tally.dual_seconds),
    ),
    Family(
        "carp_address_renewals_total", Kind.COUNTER, "Renewals of the kernel's lifetime of the addresses.",
        ("vip",), _each(lambda tally: tally.renewals),
    ),
    Family(
        "carp_announcements_total", Kind.COUNTER, "Rounds of gratuitous ARP and neighbour advertisements.",
        ("vip",), _each(lambda tally: tally.announcements),
    ),
    Family(
        "carp_demotion", Kind.GAUGE, "Demotion in force, by reason; a reason disappears with its demotion.",
        ("vip", "reason"), _demotions,
    ),
    Family(
        "carp_health_up", Kind.GAUGE, "Whether a health check is up: 1, else 0.", ("vip", "check"), _health
    ),
    Family(
        "carp_config_stale", Kind.GAUGE, "1 while the newest configuration is refused and an older in force.",
        (), lambda scrape: [((), scrape.node.config_stale)],
    ),
    Family(
        "carp_state_persisted", Kind.GAUGE, "1 while the settings in force are on disk, else 0.",
        (), lambda scrape: [((), scrape.node.state_persisted)],
    ),
    Family(
        "carp_build_info", Kind.GAUGE, "Always 1; the version is a label.",
        ("version",), lambda _: [((__version__,), 1)],
    ),
)  # fmt: skip
