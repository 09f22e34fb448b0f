"""What a resilience run must never show, judged from records: `from chaos_verdict import broken, grown`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carp.lab.measure import OwnerChange

RESOLUTION: Final = 0.12
"""s; owners are asked every 20 ms, three silent questions are nobody, and who asks may have to wait."""
REJOIN: Final = 0.05
"""s; two stretches of two owners with less between them are one."""
MORE_MIB: Final = 2.5
"""What the memory of a process may grow by after the warm-up: clients that are cut off linger for 1 s, and
the allocator keeps what the most of them at a time have taken."""
BOUND_MIB: Final = 36.0
"""What none may exceed however it is treated; one that is treated well is held to 32 by `make bench`."""

STALLED: Final = "the election loop stood still"
FULL_DEAD_TIME: Final = 3.3
"""s; that of the slowest backup here."""

ORDINARY: Final = (
    r"(INIT|BACKUP|MASTER) -> (INIT|BACKUP|MASTER) \(",
    r"(stopped|added|changed|replaced|removed)$",
    r".*: handing over and stopping",
    r".*: the kernel still holds our lease: resuming as master",
    r".*: deleting addresses that an earlier run left behind",
    r"health check \S+ (demotes by \d+|does not demote): ",
    r"(withdrawn|restored): ",
    # A busy machine; steps that stop a process allow more.
    r"the election loop stood still for 0\.\d+ s",
    r"advert .* it waited while this process stood still",
    # Two adverts of one sender within 1 ms may overtake each other between the processors of one host.
    r"advert .* not newer than what its sender has already sent: a replay",
)
"""What carpd may log at any time."""


@dataclass(frozen=True)
class Allowed:
    """What a step may cause.

    two: s with two owners in one stretch, nobody: s without an owner; ping: s without an echo, which an owner
    that clients do not know yet costs too; log: patterns of messages beyond `ORDINARY`.
    """

    two: float = 0.0
    nobody: float = 0.0
    ping: float = 0.0
    log: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """One address during one step: the longest stretches, in s."""

    two: float
    nobody: float
    ping: float


@dataclass(frozen=True)
class Footprint:
    """What a process takes of the machine; ``memory`` in MiB."""

    pid: int
    descriptors: int
    threads: int
    memory: float


def longest(
    history: Sequence[OwnerChange], start: int, end: int, wanted: Callable[[int], bool], rejoin: float = 0.0
) -> float:
    """Return the longest stretch in s within [start, end) ns whose number of owners is wanted.

    Stretches with less than ``rejoin`` s between them count as one.
    """
    found: list[list[int]] = []
    for index, change in enumerate(history):
        until = history[index + 1].time_ns if index + 1 < len(history) else end
        low, high = max(change.time_ns, start), min(until, end)
        if low >= high or not wanted(len(change.owners)):
            continue
        if found and low - found[-1][1] <= rejoin * 1e9:
            found[-1][1] = high
        else:
            found.append([low, high])
    return max(((high - low) / 1e9 for low, high in found), default=0.0)


def seen(
    history: Sequence[OwnerChange],
    silences: Iterable[tuple[int, int]],
    lost: float,
    start: int,
    end: int,
) -> Seen:
    """Return what one prober saw of its address within [start, end) ns.

    ``lost``: s for which requests were sent and not answered, all together. A silence longer than that is
    the prober's own, which had to wait for a processor.
    """
    overlaps = ((min(high, end) - max(low, start)) / 1e9 for low, high in silences)
    return Seen(
        two=longest(history, start, end, lambda owners: owners > 1, REJOIN),
        nobody=longest(history, start, end, lambda owners: owners == 0),
        ping=min(lost, max((each for each in overlaps if each > 0), default=0.0)),
    )


def broken(address: str, found: Seen, allowed: Allowed) -> list[str]:
    """Return what one address should not have shown."""
    bounds = (
        ("two owners", found.two, allowed.two + RESOLUTION),
        ("no owner", found.nobody, allowed.nobody + RESOLUTION),
        ("no echo", found.ping, max(allowed.ping, allowed.nobody) + 2 * RESOLUTION),
    )
    return [
        f"{address}: {what} for {took:.2f} s, more than {bound:.2f}"
        for what, took, bound in bounds
        if took > bound
    ]


def after_stall(allowed: Allowed) -> Allowed:
    """Return the bounds of a step in which a loop stood still: a backup waits a whole dead time again.

    Where there is an owner all along, a stall is no excuse.
    """
    if not allowed.nobody:
        return allowed
    return replace(allowed, nobody=allowed.nobody + FULL_DEAD_TIME, ping=allowed.ping + FULL_DEAD_TIME)


def unexpected(text: str, patterns: Iterable[str]) -> list[str]:
    """Return the lines of a log that neither `ORDINARY` nor a step's patterns cover."""
    known = [re.compile(pattern) for pattern in (*ORDINARY, *patterns)]
    return [line for line in text.splitlines() if not _is_known(line, known)]


def _is_known(line: str, known: Sequence[re.Pattern[str]]) -> bool:
    try:
        message: Any = json.loads(line)["message"]
    except (ValueError, KeyError, TypeError):
        return False
    if "Traceback" in message or "internal error" in message:
        return False
    return any(pattern.match(message) for pattern in known)


def grown(name: str, before: Footprint, after: Footprint, threads: int) -> list[str]:
    """Return what a process takes that it should have given back; ``threads`` is the most it may have."""
    problems = []
    if after.pid == before.pid and after.memory > before.memory + MORE_MIB:
        problems.append(f"{name}: RSS grew from {before.memory:.1f} to {after.memory:.1f} MiB")
    if after.memory > BOUND_MIB:
        problems.append(f"{name}: RSS is {after.memory:.1f} MiB, more than {BOUND_MIB:.0f}")
    if after.descriptors > before.descriptors:
        problems.append(f"{name}: {before.descriptors} descriptors became {after.descriptors}")
    if after.threads > threads:
        problems.append(f"{name}: {after.threads} threads, more than {threads}")
    return problems


def percentile(buckets: dict[float, int], share: float) -> float:
    """Return the bound of the histogram's bucket below which this share lies; 0 for an empty one."""
    total = max(buckets.values(), default=0)
    return min((bound for bound, count in buckets.items() if total and count >= share * total), default=0.0)
