"""Faults of processes and of the network, as steps of a resilience run."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from chaos_garbage import inject, noise
from chaos_kinds import (
    CEDED,
    ENDED,
    FORGETS,
    KNOWN,
    LEASE,
    MET,
    MOVED,
    STALL,
    TAKEOVER,
    any_of,
    gone,
    mortal,
    pause,
    step,
)
from chaos_world import ADDRESSES, NODES, SURVIVOR, Broken, Member, World, wait
from nodefix import delete

if TYPE_CHECKING:
    import random

# --- processes ---------------------------------------------------------------------------------------


@step(log=ENDED)
def kill_worker(world: World, rng: random.Random) -> str:
    """SIGKILL of the worker, up to three times: its parent starts it again on the live lease."""
    member, times = mortal(world, rng), rng.randint(1, 3)
    for _ in range(times):
        gone(member.signal(signal.SIGKILL))
        pause(rng.uniform(0.1, 0.6))
    return f"{member.name} {times} times"


def _kill_all(member: Member) -> None:
    """SIGKILL of parent and worker at once: one that sees the other die would act on it."""
    worker = member.worker
    member.daemon.stop()
    os.kill(worker, signal.SIGKILL)
    member.daemon.kill()
    gone(worker)


@step(nobody=TAKEOVER)
def kill_all(world: World, rng: random.Random) -> str:
    """SIGKILL of parent and worker, and a new start some time later."""
    member, off = mortal(world, rng), rng.uniform(0.0, 4.5)
    _kill_all(member)
    pause(off)
    member.start()
    return f"{member.name}, started again after {off:.1f} s"


@step(two=MOVED, ping=KNOWN)
def kill_parent(world: World, rng: random.Random) -> str:
    """SIGKILL of the parent alone: its worker hands over."""
    member = mortal(world, rng)
    worker = member.worker
    member.daemon.kill()
    gone(worker)
    member.start()
    return member.name


@step(two=MOVED, ping=KNOWN)
def upgrade(world: World, rng: random.Random) -> str:
    """SIGTERM, and the next version within a second."""
    member, off = mortal(world, rng), rng.uniform(0.0, 1.0)
    if member.daemon.term() != 0:
        msg = f"{member.name}: exit code {member.daemon.running.returncode} after SIGTERM"
        raise Broken(msg)
    pause(off)
    member.start()
    return f"{member.name}, started again after {off:.1f} s"


@step(nobody=TAKEOVER, log=STALL)
def freeze(world: World, rng: random.Random) -> str:
    """SIGSTOP of the worker, SIGCONT some time later."""
    member, off = any_of(world, rng), rng.uniform(0.05, 4.0)
    worker = member.signal(signal.SIGSTOP)
    pause(off)
    member.signal(signal.SIGCONT, worker)
    return f"{member.name} for {off:.2f} s"


@step(nobody=4.0 + TAKEOVER, log=STALL, two=MET)
def freeze_all(world: World, rng: random.Random) -> str:
    """SIGSTOP of all workers, which go on one after the other; several may find no master."""
    off = rng.uniform(0.5, 4.0)
    stopped = [(member, member.signal(signal.SIGSTOP)) for member in world.members.values()]
    rng.shuffle(stopped)
    pause(off)
    for member, worker in stopped:
        member.signal(signal.SIGCONT, worker)
        pause(rng.uniform(0.0, 0.2))
    return f"for {off:.2f} s"


@step(two=CEDED + MOVED, nobody=TAKEOVER, log=(*STALL, *ENDED))
def fault_in_handover(world: World, rng: random.Random) -> str:
    """A handover, and the giver is killed or stopped in the middle of it."""
    member, off = world.master("web"), rng.uniform(0.0, 0.15)
    member.call("handover", name="web")
    pause(off)
    if member.name != SURVIVOR and rng.random() < 0.5:
        member.signal(signal.SIGKILL)
        return f"{member.name} killed after {off * 1000:.0f} ms"
    stop = rng.uniform(0.5, 3.0)
    worker = member.signal(signal.SIGSTOP)
    pause(stop)
    member.signal(signal.SIGCONT, worker)
    return f"{member.name} stopped after {off * 1000:.0f} ms for {stop:.1f} s"


# --- the network -------------------------------------------------------------------------------------


@step(nobody=TAKEOVER, two=MET)
def unplug(world: World, rng: random.Random) -> str:
    """The node's carrier goes and comes back."""
    member, off = any_of(world, rng), rng.uniform(0.1, 5.0)
    world.lab.lan.unplug(member.node)
    pause(off)
    world.lab.lan.plug(member.node)
    return f"{member.name} for {off:.1f} s"


@step(nobody=TAKEOVER, two=MET)
def isolate(world: World, rng: random.Random) -> str:
    """The switch loses all frames of a node, whose carrier stays; then two masters meet."""
    member, off = any_of(world, rng), rng.uniform(0.1, 6.0)
    world.lab.lan.cut(member.node)
    pause(off)
    world.lab.lan.mend(member.node)
    return f"{member.name} for {off:.1f} s"


@step(nobody=TAKEOVER, two=MET)
def partition(world: World, rng: random.Random) -> str:
    """The LAN falls into two; the client stays with one or two of the nodes."""
    order, off = rng.sample(NODES, len(NODES)), rng.uniform(0.5, 6.0)
    near, far = order[: (at := rng.choice((1, 2)))], order[at:]
    world.lab.lan.partition(["client", *near], far)
    pause(off)
    world.lab.lan.heal()
    return f"client, {', '.join(near)} | {', '.join(far)} for {off:.1f} s"


def _pair(rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample([name for name in NODES if name != SURVIVOR], 2)
    return first, second


@step(nobody=TAKEOVER, two=MET, log=STALL)
def stop_in_partition(world: World, rng: random.Random) -> str:
    """A node is cut off, another that may have taken over is stopped, and both come back together."""
    away, hurt = (world.members[name] for name in _pair(rng))
    world.lab.lan.cut(away.node)
    pause(rng.uniform(0.2, 4.0))
    worker = hurt.signal(signal.SIGSTOP)
    pause(rng.uniform(0.5, 3.5))
    hurt.signal(signal.SIGCONT, worker)
    world.lab.lan.mend(away.node)
    return f"{away.name} away, {hurt.name} stopped"


@step(nobody=TAKEOVER, two=LEASE, ping=TAKEOVER + FORGETS)
def kill_in_partition(world: World, rng: random.Random) -> str:
    """A node is cut off, another that may have taken over is killed: only clients know that it had."""
    away, hurt = (world.members[name] for name in _pair(rng))
    world.lab.lan.cut(away.node)
    pause(rng.uniform(0.2, 4.0))
    _kill_all(hurt)
    pause(rng.uniform(0.0, 1.0))
    hurt.start()
    world.lab.lan.mend(away.node)
    return f"{away.name} away, {hurt.name} killed"


@step(log=(r"(packet|advert of vhid \d+) from .* not believed: ",))
def wire_garbage(world: World, rng: random.Random) -> str:
    """Frames of protocol 112 that nobody may believe, recorded adverts and bow-outs among them."""
    with world.lab.sniffer() as sniffer:
        wait(lambda: {f.is_v6 for f in sniffer.adverts()} == {False, True}, 3.0, "adverts of both families")
        pause(1.0)
        recorded = sniffer.adverts()
    frames = noise(rng, recorded, rng.randint(200, 600))
    inject(world.lab.client, frames)
    pause(0.5)
    return f"{len(frames)} frames, {2 * len(recorded)} of them recorded"


@step(two=MOVED, ping=KNOWN, log=(r"(packet|advert of vhid \d+) from .* not believed: ",))
def replayed_handover(world: World, rng: random.Random) -> str:
    """Everything that was on the wire during a handover is sent again, bow-outs too."""
    with world.lab.sniffer() as sniffer:
        giver = world.master("web")
        giver.call("handover", name="web")
        wait(lambda: _moved(world, giver), 5.0, f"web leaves {giver.name}")
        recorded = sniffer.adverts()
    inject(world.lab.client, [frame.data for frame in recorded])
    bow_outs = sum(frame.advert.is_bow_out for frame in recorded)
    return f"{len(recorded)} adverts, {bow_outs} bow-outs"


def _moved(world: World, giver: Member) -> bool:
    with contextlib.suppress(Broken):
        return world.master("web") is not giver
    return False


@step(nobody=0.3, ping=KNOWN)
def delete_address(world: World, rng: random.Random) -> str:
    """Somebody deletes an address of a master by hand."""
    vhost = rng.choice(sorted(ADDRESSES))
    member, address = world.master(vhost), rng.choice(ADDRESSES[vhost])
    delete(member.node, address)
    return f"{address} on {member.name}"
