"""A resilience run from beginning to end: `from chaos_run import Run`."""

from __future__ import annotations

import os
import random
import time
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import chaos_faults  # noqa: F401 (fills STEPS)
from carp.commands.client import NoAnswerError, RefusedError
from chaos_garbage import Pests
from chaos_kinds import STEPS, Step
from chaos_verdict import (
    STALLED,
    Allowed,
    Footprint,
    Seen,
    after_stall,
    broken,
    grown,
    percentile,
    seen,
    unexpected,
)
from chaos_wishes import gather, pester
from chaos_world import ADDRESSES, ASK_MS, SURVIVOR, Broken, Member, World, wait
from nodefix import found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carp.lab.client import Status
    from carp.lab.measure import Summary

LEFT_BEHIND: Final = 2 + 1.5
"""s; L of the longest lifetime here and 1.5: no address is left that long after the last carpd has ended."""
WARM_UP: Final = ("storm", "wire-garbage", "reload")
"""What makes a process as large as it gets, besides every kind of bad client."""
SHRINK: Final = 12.0
"""s; what bad clients hold is given back by then (control.HALF_LINE and some)."""
_SILENCE_NS: Final = 100_000_000
_TO_THREAD: Final = min(32, (os.cpu_count() or 1) + 4)
_MOST_THREADS: Final = 1 + 1 + _TO_THREAD
"""The loop, the one that watches the file, and asyncio's pool."""
_STOPPING: Final = Allowed(log=(r".*nobody|nobody|stopped",))


class FailedError(Exception):
    """An invariant broke; the text says in which step and how."""


@dataclass
class Kind:
    """What all steps of one kind came to; s."""

    steps: int = 0
    outage: float = 0.0
    nobody: float = 0.0
    two: float = 0.0
    settled: float = 0.0

    def add(self, worst: Seen, settled: float) -> None:
        """Take in one step."""
        self.steps += 1
        self.outage = max(self.outage, worst.ping)
        self.nobody = max(self.nobody, worst.nobody)
        self.two = max(self.two, worst.two)
        self.settled = max(self.settled, settled)


@dataclass
class Figures:
    """What a run measured."""

    kinds: defaultdict[str, Kind] = field(default_factory=lambda: defaultdict(Kind))
    before: dict[str, Footprint] = field(default_factory=dict)
    after: dict[str, Footprint] = field(default_factory=dict)
    lateness: dict[str, tuple[float, int]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    two_total: dict[str, float] = field(default_factory=dict)


class Run:
    """Steps in the order of a seed until the time is over.

    Args:
        seed: of the order of the steps and of everything random in them.
        seconds: no step begins later than this after the warm-up.
        only: names of steps to choose from; none: all.
        say: told one line a step, and the table.
    """

    def __init__(
        self, seed: int, seconds: float, only: Sequence[str] = (), say: Callable[[str], None] = print
    ) -> None:
        self.figures = Figures()
        self._seed = seed
        self._seconds = seconds
        self._only = list(only) or list(STEPS)
        self._say = say
        self._rng = random.Random(seed)
        self._number = 0
        self._began = 0.0

    def work(self) -> None:
        """Run. Raises FailedError."""
        self._began = time.monotonic()
        with World() as world:
            try:
                self._work(world)
            except (Broken, AssertionError, NoAnswerError, RefusedError, OSError) as error:
                self._say(world.tails())
                msg = f"{type(error).__name__}: {error}" if not str(error) else str(error)
                raise FailedError(msg) from error

    def _work(self, world: World) -> None:
        self._one(world, "start", world.start, Allowed(nobody=30.0, ping=30.0))
        self._warm_up(world)
        with closing(Pests(str(world.members[SURVIVOR].state / "carpd.sock"), self._rng)) as idlers:
            idlers.half()
            idlers.deaf()
            end = time.monotonic() + SHRINK
            self._steps(world)
            # Not sooner: to look is to read, and one that reads may stay.
            wait(lambda: time.monotonic() > end, SHRINK + 1, "patience with clients that hang ends")
            wait(idlers.cut_off, 0.0, "clients that hang have been cut off")
        self._measure(world)
        self._stop(world)

    def _steps(self, world: World) -> None:
        end = time.monotonic() + self._seconds
        for step in self._deck():
            if time.monotonic() >= end:
                break
            self._step(world, step)

    def _warm_up(self, world: World) -> None:
        survivor = world.members[SURVIVOR]
        # Twice: only the second huge line shows what the allocator keeps of one.
        for member in (*world.members.values(), survivor):
            self._one(world, "bad-clients", partial(_pester, member, self._rng), Allowed())
        for name in WARM_UP:
            self._step(world, STEPS[name])
        # Sockets for sending are opened by the first use of a family.
        self._one(world, "gather", partial(gather, world, survivor), STEPS["maintenance"].allowed)
        self.figures.before = dict(_footprints(world))

    def _deck(self) -> Iterator[Step]:
        """Yield every kind once before any comes again."""
        while True:
            for name in self._rng.sample(self._only, len(self._only)):
                yield STEPS[name]

    def _step(self, world: World, step: Step) -> None:
        # A generator of its own for each step: what one draws must not depend on how long another took.
        rng = random.Random(f"{self._seed} {self._number}")
        self._one(world, step.name, lambda: step.work(world, rng), step.allowed)

    def _one(self, world: World, name: str, work: Callable[[], str], allowed: Allowed) -> None:
        """Do one thing, let the cluster settle, and judge what was seen and logged."""
        self._number += 1
        for prober in world.probers.values():
            prober.mark(name)
        before = {address: prober.status for address, prober in world.probers.items()}
        start = time.monotonic_ns()
        what = ""
        try:
            what = work()
            took = world.settle()
        except (Broken, AssertionError, NoAnswerError, RefusedError, OSError):
            self._line(name, what, "BROKEN")
            raise
        end = time.monotonic_ns()
        found = {
            address: seen(
                prober.history,
                prober.silences(_SILENCE_NS),
                _lost(before[address], prober.status),
                start,
                end,
            )
            for address, prober in world.probers.items()
        }
        worst = Seen(
            *(max(getattr(each, key) for each in found.values()) for key in ("two", "nobody", "ping"))
        )
        texts = {member.name: member.new_text() for member in world.members.values()}
        bounds = after_stall(allowed) if any(STALLED in text for text in texts.values()) else allowed
        problems = [line for address, each in found.items() for line in broken(address, each, bounds)]
        problems += _logged(texts, allowed)
        self.figures.kinds[name].add(worst, took)
        verdict = "BROKEN" if problems else "ok"
        figures = f"no owner {worst.nobody:.2f}, no echo {worst.ping:.2f}, two {worst.two:.2f}"
        self._line(name, what, f"{verdict}; settled in {took:.1f} s; {figures}")
        if problems:
            raise Broken("\n".join(problems))

    def _line(self, name: str, what: str, verdict: str) -> None:
        at = time.monotonic() - self._began
        self._say(f"{at:7.1f} s  {self._number:3d} {name:18s} {what}: {verdict}")

    # --- the end -------------------------------------------------------------------------------------

    def _measure(self, world: World) -> None:
        """Compare every process with itself, or with its like, after the warm-up. Raises Broken."""
        end = time.monotonic() + SHRINK
        while (problems := self._grown(world)) and time.monotonic() < end:
            time.sleep(0.2)
        if problems:
            raise Broken("\n".join(problems))
        for member in world.members.values():
            buckets = member.lateness()
            self.figures.lateness[member.name] = percentile(buckets, 0.99), max(buckets.values())

    def _grown(self, world: World) -> list[str]:
        self.figures.after = dict(_footprints(world))
        return [
            line
            for name, before in self.figures.before.items()
            for line in grown(name, before, self.figures.after[name], _MOST_THREADS)
        ]

    def _stop(self, world: World) -> None:
        """Stop one carpd after the other; nothing may stay. Raises Broken."""
        for name, prober in world.probers.items():
            self._sum_up(name, prober.stop().samples.summary(tolerance_ms=50.0))
        for member in world.members.values():
            worker = member.worker
            code = member.daemon.term()
            if code != 0 or os.path.exists(f"/proc/{worker}"):  # noqa: PTH110 (a process, not a file)
                msg = f"{member.name}: exit code {code} after SIGTERM, worker {worker}"
                raise Broken(msg)
        ended = time.monotonic()
        wait(lambda: not list(_left(world)), LEFT_BEHIND, "every address is gone")
        self._line("stop", "", f"ok; no address {time.monotonic() - ended:.1f} s after the last carpd ended")
        orphans = {m.name: pids for m in world.members.values() if (pids := m.node.namespace.pids())}
        if orphans:
            msg = f"processes are left: {orphans}"
            raise Broken(msg)
        texts = {member.name: member.new_text() for member in world.members.values()}
        logged = _logged(texts, _STOPPING)
        if logged:
            raise Broken("\n".join(logged))

    def _sum_up(self, address: str, summary: Summary) -> None:
        figures = self.figures
        figures.sent[address], figures.lost[address] = summary.sent, summary.lost
        figures.two_total[address] = summary.two_owners.total_s

    def table(self) -> list[str]:
        """Return the figures as lines."""
        figures = self.figures
        lines = [
            "",
            f"{'longest, s':18s} {'n':>4s} {'no owner':>9s} {'no echo':>8s} {'two':>6s} {'settled':>8s}",
        ]
        for name, kind in sorted(figures.kinds.items()):
            spans = f"{kind.nobody:9.2f} {kind.outage:8.2f} {kind.two:6.2f} {kind.settled:8.1f}"
            lines.append(f"{name:18s} {kind.steps:4d} {spans}")
        lines += ["", f"{'address':18s} {'asked':>8s} {'lost':>6s} {'two owners, s in all':>22s}"]
        for address, sent in figures.sent.items():
            two = figures.two_total[address]
            lines.append(f"{address:18s} {sent:8d} {figures.lost[address]:6d} {two:22.2f}")
        lines += ["", f"{'process':18s} {'descriptors':>14s} {'RSS, MiB':>16s} {'threads':>10s}"]
        for name, after in figures.after.items():
            before = figures.before[name]
            lines.append(
                f"{name:18s} {before.descriptors:6d} -> {after.descriptors:4d} "
                f"{before.memory:7.1f} -> {after.memory:5.1f} {before.threads:4d} -> {after.threads:2d}"
            )
        late = [f"{name} {p99 * 1000:g} ms of {n}" for name, (p99, n) in figures.lateness.items()]
        return [*lines, "", f"adverts' lateness since the last start, p99 at most: {', '.join(late)}"]


def _logged(texts: dict[str, str], allowed: Allowed) -> list[str]:
    return [f"{name} logs {line}" for name, text in texts.items() for line in unexpected(text, allowed.log)]


def _lost(before: Status, after: Status) -> float:
    """Return for how many s echo requests were sent and not answered."""
    lost = after.sent - before.sent - (after.answered - before.answered)
    return max(0, lost) * ASK_MS / 1000


def _pester(member: Member, rng: random.Random) -> str:
    return f"{member.name}: {', '.join(pester(member, rng, 6))}"


def _footprints(world: World) -> Iterator[tuple[str, Footprint]]:
    for name, member in world.members.items():
        wait(lambda m=member: m.worker, 6.0, f"{name} has a worker")
        yield f"{name} worker", member.footprint(member.worker)
        yield f"{name} parent", member.footprint(member.parent)


def _left(world: World) -> Iterator[str]:
    for member in world.members.values():
        for address in (each for addresses in ADDRESSES.values() for each in addresses):
            if found(member.node, address) is not None:
                yield f"{address} on {member.name}"
