"""What a step of a resilience run is, and what it may cost: `from chaos_kinds import STEPS, step`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chaos_verdict import Allowed
from chaos_world import NODES, SURVIVOR, Member, World, wait

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    Work = Callable[[World, random.Random], str]

TAKEOVER: Final = 3.3 + 0.5
"""s; dead time of the slowest backup at the defaults, and a busy machine's share."""
MOVED: Final = 0.1
"""s; on purpose the old owner answers so long after its successor's advert."""
CEDED: Final = 2.15
"""s; bound of two owners when a node dies in the middle of a handover (docs/fencing.md)."""
LEASE: Final = 3.15
"""s for which the kernel of a node that is killed holds its address: what ends two owners where the other one
claimed for want of hearing, before the kill."""
MET: Final = 0.6
"""s; two masters that can hear each other again: one advert period of 0.5 and a packet's way."""
FORGETS: Final = 9.0
"""s after which Linux asks again for a neighbour that does not answer: 5 of DELAY, 3 probes, a reply."""
KNOWN: Final = 0.5
"""s without echo where the owner is known at once, but a client has to learn it."""

STALL: Final = (r"the election loop stood still",)
ENDED: Final = (r"carpd ended by signal 9 after",)


@dataclass(frozen=True)
class Step:
    """A kind of step: what it is called, what it does, what it may cost."""

    name: str
    work: Work
    allowed: Allowed


STEPS: Final[dict[str, Step]] = {}


def step(*, log: tuple[str, ...] = (), **bounds: float) -> Callable[[Work], Work]:
    """Make a function a step; ``bounds`` and ``log`` are those of `Allowed`."""

    def made(work: Work) -> Work:
        name = work.__name__.replace("_", "-")
        STEPS[name] = Step(name, work, Allowed(**bounds, log=log))
        return work

    return made


def pause(seconds: float) -> None:
    """Let the fault last."""
    time.sleep(seconds)


def any_of(world: World, rng: random.Random) -> Member:
    """Return one of the nodes."""
    return world.members[rng.choice(NODES)]


def mortal(world: World, rng: random.Random) -> Member:
    """Return one of the nodes whose processes may be killed."""
    return world.members[rng.choice([name for name in NODES if name != SURVIVOR])]


def gone(pid: int) -> None:
    """Wait until a process has ended and somebody has taken note of it."""
    wait(lambda: not Path(f"/proc/{pid}").exists(), 8.0, f"process {pid} ends")
