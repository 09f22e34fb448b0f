"""What the controller counts about itself, as one table: name, type, meaning, labels, how it is read."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from carp import __version__
from carp.daemon.registry import Family, Histogram, Kind
from carp_operator.kube.errors import Conflict, Forbidden, KubeError, NotFound, Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carp.daemon.registry import Sample

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


def failure(error: KubeError) -> str:
    """Return the result that a failed write is counted under."""
    for kind, name in ((Conflict, "conflict"), (NotFound, "not_found"), (Forbidden, "forbidden")):
        if isinstance(error, kind):
            return name
    return "transient" if isinstance(error, Transient) else "invalid"


@dataclass(slots=True)
class Counts:
    """Counted since the start by several threads; the functions are asked at each scrape."""

    plans: Histogram = field(default_factory=lambda: Histogram(BUCKETS))
    writes: Counter[tuple[str, str]] = field(default_factory=Counter)
    resyncs: Counter[str] = field(default_factory=Counter)
    vips: Callable[[], Mapping[tuple[str, str], int]] = field(default=dict)
    """(condition, status) -> VirtualIPs."""
    waiting: Callable[[], int] = field(default=lambda: 0)
    budget_waits: Callable[[], int] = field(default=lambda: 0)
    event_age: Callable[[], float] = field(default=lambda: 0.0)
    reconcile_age: Callable[[], float] = field(default=lambda: 0.0)
    suspended: Callable[[], bool] = field(default=lambda: False)
    leading: Callable[[], bool] = field(default=lambda: False)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self, kind: str, result: str) -> None:
        """Count a write."""
        with self.lock:
            self.writes[kind, result] += 1

    def text(self) -> str:
        """Return the exposition."""
        with self.lock:
            return "".join(family.text(self) for family in METRICS)


def _counted(counter: Mapping[str, int]) -> list[Sample]:
    return [((result,), count) for result, count in sorted(counter.items())]


METRICS: Final[tuple[Family[Counts], ...]] = (
    Family(
        "carp_controller_build_info",
        Kind.GAUGE,
        "Always 1; the version.",
        ("version",),
        lambda _: [((__version__,), 1)],
    ),
    Family(
        "carp_controller_leading",
        Kind.GAUGE,
        "Whether this replica plans and writes.",
        (),
        lambda counts: [((), counts.leading())],
    ),
    Family(
        "carp_controller_suspended",
        Kind.GAUGE,
        "Whether planning is suspended because something is unknown; /readyz says what.",
        (),
        lambda counts: [((), counts.suspended())],
    ),
    Family(
        "carp_controller_plan_seconds",
        Kind.HISTOGRAM,
        "Time that a plan took; its count is the number of reconciles.",
        (),
        lambda counts: counts.plans,
        BUCKETS,
    ),
    Family(
        "carp_controller_writes_total",
        Kind.COUNTER,
        "Writes by what was written and what became of it.",
        ("kind", "result"),
        lambda counts: [(key, count) for key, count in sorted(counts.writes.items())],
    ),
    Family(
        "carp_controller_writes_waiting",
        Kind.GAUGE,
        "Writes that the newest plan wants and that are not done yet.",
        (),
        lambda counts: [((), counts.waiting())],
    ),
    Family(
        "carp_controller_budget_waits_total",
        Kind.COUNTER,
        "How often a write had to wait for --writes-per-second.",
        (),
        lambda counts: [((), counts.budget_waits())],
    ),
    Family(
        "carp_controller_resyncs_total",
        Kind.COUNTER,
        "Lists of everything, by result.",
        ("result",),
        lambda counts: _counted(counts.resyncs),
    ),
    Family(
        "carp_controller_event_age_seconds",
        Kind.GAUGE,
        "Time since the last event or list from the API server.",
        (),
        lambda counts: [((), counts.event_age())],
    ),
    Family(
        "carp_controller_reconcile_age_seconds",
        Kind.GAUGE,
        "Time since the last plan.",
        (),
        lambda counts: [((), counts.reconcile_age())],
    ),
    Family(
        "carp_controller_virtualips",
        Kind.GAUGE,
        "VirtualIPs by condition and its status.",
        ("condition", "status"),
        lambda counts: [(key, count) for key, count in sorted(counts.vips().items())],
    ),
)
