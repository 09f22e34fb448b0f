"""Settings, wishes, bad clients and the disk, as steps of a resilience run."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from carp.commands.client import NoAnswerError, RefusedError
from chaos_faults import freeze, kill_worker
from chaos_garbage import Pests
from chaos_kinds import (
    ENDED,
    KNOWN,
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
from chaos_world import ADDRESSES, QUICK, SURVIVOR, Broken, Member, World, wait

if TYPE_CHECKING:
    import random
    from pathlib import Path

# --- settings and wishes -----------------------------------------------------------------------------


@step()
def reload(world: World, rng: random.Random) -> str:
    """SIGHUP for a file with other settings and one vhost more, and back."""
    member = any_of(world, rng)
    extra = {
        "name": "extra", "vhid": 99, "interface": "eth0", "addresses": ["10.99.0.240"], "password": "p",
        "firstClaimant": True,
    }  # fmt: skip
    settings = member.file_vhosts(announce={"refresh": f"{rng.randint(20, 90)}s"})
    member.configure(*settings, extra)
    member.signal(signal.SIGHUP)
    wait(lambda: _state(member, "extra") == "MASTER", 6.0, f"{member.name} has the new vhost")
    member.configure()
    for _ in range(rng.randint(1, 8)):
        member.signal(signal.SIGHUP)
    wait(lambda: not _state(member, "extra"), 6.0, f"{member.name} has no more of it")
    return member.name


def _state(member: Member, vhost: str) -> str:
    shown = member.call("status")["vhosts"]
    return next((str(each["state"]) for each in shown if each["name"] == vhost), "")


@step(log=(r".*\.yaml(: | \(line \d+\): )", r"vhosts\[", r"vhosts: "))
def bad_file(world: World, rng: random.Random) -> str:
    """A file that is wrong changes nothing and is told; the next good one ends that."""
    member = any_of(world, rng)
    texts = ("vhosts: [{name: web, vhid: 300}]", "vhosts: [", "\x00\xff", "- 1", "vhosts: {a: &a [*a]}", "")
    text = rng.choice(texts)
    member.lab.write(f"{member.name}.yaml", text)
    if text:
        member.signal(signal.SIGHUP)
        wait(lambda: member.call("hello")["problems"], 4.0, f"{member.name} tells what is wrong")
    member.configure()
    member.signal(signal.SIGHUP)
    wait(lambda: not member.call("hello")["problems"], 4.0, f"{member.name} takes the good file")
    return f"{member.name} {text!r}"


@step(nobody=TAKEOVER, log=(*STALL, *ENDED))
def storm(world: World, rng: random.Random) -> str:
    """Applies and reloads on every node for 3 s, and in the middle of it a kill or a stop."""
    ended = threading.Event()
    counts: list[int] = []
    failed: list[BaseException] = []
    threads = [
        threading.Thread(target=_press, args=(member, ended, counts, failed))
        for member in world.members.values()
    ]
    for thread in threads:
        thread.start()
    try:
        pause(rng.uniform(0.5, 1.5))
        done = _hurt(world, rng)
        pause(1.0)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    if failed:
        msg = f"an apply under load: {failed[0]!r}"
        raise Broken(msg)
    return f"{sum(counts)} applies, {done}"


def _hurt(world: World, rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"kill-worker {kill_worker(world, rng)}"
    return f"freeze {freeze(world, rng)}"


def _press(member: Member, ended: threading.Event, counts: list[int], failed: list[BaseException]) -> None:
    """Apply and reload until told to end; a request may meet a process that is being killed or stopped."""
    done = 0
    try:
        while not ended.wait(0.06):
            with contextlib.suppress(NoAnswerError):
                member.apply(done % 2)
                done += 1
                if done % 5 == 0:
                    member.signal(signal.SIGHUP)
        member.apply()
    except (OSError, RefusedError, AssertionError) as error:
        failed.append(error)
    counts.append(done)


@step(two=MOVED, ping=KNOWN)
def maintenance(world: World, rng: random.Random) -> str:
    """A node stands back from everything, then no more."""
    member = any_of(world, rng)
    member.call("maintenance", on=True)
    wait(lambda: "MASTER" not in _states(member), 8.0, f"{member.name} stands back")
    pause(rng.uniform(0.0, 1.5))
    member.call("maintenance", on=False)
    return member.name


def _states(member: Member) -> set[str]:
    return {each["state"] for each in member.call("status")["vhosts"]}


def gather(world: World, to: Member) -> str:
    """Make one node master of everything for a moment."""
    others = [member for member in world.members.values() if member is not to]
    for member in others:
        member.call("maintenance", on=True)
    wait(lambda: _states(to) == {"MASTER"}, 8.0, f"{to.name} is master of everything")
    for member in others:
        member.call("maintenance", on=False)
    return f"to {to.name}"


@step(two=MOVED, ping=KNOWN)
def handover(world: World, rng: random.Random) -> str:
    """A master gives an address away."""
    vhost = rng.choice([name for name in ADDRESSES if name != QUICK])
    member = world.master(vhost)
    member.call("handover", name=vhost)
    wait(lambda: _state(member, vhost) == "BACKUP", 6.0, f"{member.name} is backup of {vhost}")
    return f"{vhost} from {member.name}"


@step(two=MOVED, ping=KNOWN)
def demote(world: World, rng: random.Random) -> str:
    """A demotion comes and goes."""
    member, vhost, amount = any_of(world, rng), rng.choice(sorted(ADDRESSES)), rng.randint(1, 254)
    member.call("demote", name=vhost, reason="test", amount=amount)
    pause(rng.uniform(0.0, 2.5))
    member.call("undemote", name=vhost, reason="test")
    return f"{vhost} on {member.name} by {amount}"


@step(two=MOVED, ping=KNOWN, log=(r"health check",))
def failing_check(world: World, rng: random.Random) -> str:
    """A health check fails until its node is demoted, then succeeds."""
    member = any_of(world, rng)
    member.flag.unlink()
    try:
        wait(lambda: _demoted(member), 4.0, f"{member.name} is demoted by its check")
        pause(rng.uniform(0.0, 1.5))
    finally:
        member.flag.touch()
    wait(lambda: not _demoted(member), 4.0, f"{member.name} is fit again")
    return member.name


def _demoted(member: Member) -> bool:
    return any(each["demotions"] for each in member.call("status")["vhosts"] if each["name"] == "web")


@step()
def socket_garbage(world: World, rng: random.Random) -> str:
    """Clients that misbehave; one that behaves is answered within a second all the while."""
    member = any_of(world, rng)
    done = pester(member, rng, rng.randint(2, 6))
    return f"{member.name}: {', '.join(done)}"


def pester(member: Member, rng: random.Random, kinds: int) -> list[str]:
    """Let so many kinds of bad clients at a node's socket; return what they did. Raises Broken."""
    pests = Pests(str(member.state / "carpd.sock"), rng)
    done = []
    try:
        chosen = rng.sample(
            [pests.malformed, pests.huge, pests.half, pests.many, pests.deaf, pests.wrong], kinds
        )
        for pest in chosen:
            done.append(pest())
            wait(lambda: _answers(member), 1.0, f"{member.name} answers beside {done[-1]}")
    finally:
        pests.close()
    return done


def _answers(member: Member) -> bool:
    """Whether a client gets its status now; refused for want of room, it may come again."""
    with contextlib.suppress(RefusedError, NoAnswerError), member.client(1.0) as client:
        return bool(client.call("status")["vhosts"])
    return False


# --- the disk ----------------------------------------------------------------------------------------

_DISK_LOG: Final = (
    r"settings not stored: ", r".*No space left on device", r"state: ", r"stored settings: ", *ENDED,
)  # fmt: skip


def _refuse(member: Member) -> None:
    """Check that settings are taken and said not to be stored. Raises Broken."""
    answer = member.apply(1)
    if answer["persisted"] or answer["generation"] is not None or not member.call("hello")["problems"]:
        msg = f"{member.name}: confirms settings that cannot be on disk: {answer}"
        raise Broken(msg)


def _confirm(member: Member) -> None:
    """Check that settings are stored again, and that nothing is wrong any more. Raises Broken."""
    answer = member.apply()
    if not answer["persisted"] or answer["generation"] != member.generation:
        msg = f"{member.name}: the disk is well again, and yet {answer}"
        raise Broken(msg)
    # What vhosts remember is tried again within 2 s.
    wait(lambda: not member.call("hello")["problems"], 4.0, f"{member.name} has no problem any more")


@step(log=_DISK_LOG)
def full_disk(world: World, rng: random.Random) -> str:
    """No space left for the state: everything goes on, and nothing is confirmed; sometimes a crash."""
    member = any_of(world, rng)
    ballast = member.state / "ballast"
    _fill(ballast)
    crash = member.name != SURVIVOR and rng.random() < 0.5
    try:
        _refuse(member)
        if crash:
            gone(member.signal(signal.SIGKILL))
            member.call("status")
        pause(rng.uniform(0.0, 1.0))
    finally:
        ballast.unlink()
    freed = time.time()
    _confirm(member)
    if crash:  # what it could not remember after the crash, another one would have it send again
        wait(lambda: _remembered(member) > freed, 4.0, f"{member.name} stores the runtime state")
    return f"{member.name}{', with a crash' if crash else ''}"


def _remembered(member: Member) -> float:
    """Return the wall time at which the oldest of its runtime states was written."""
    return min((member.state / f"{vhost}.json").stat().st_mtime for vhost in ADDRESSES)


def _fill(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


@step(log=_DISK_LOG)
def folder_in_the_way(world: World, rng: random.Random) -> str:
    """The file of the settings cannot be replaced, then it can."""
    member = any_of(world, rng)
    stored = member.state / "_settings.json"
    stored.unlink()
    stored.mkdir()
    _refuse(member)
    stored.rmdir()
    _confirm(member)
    return member.name


# Without its memory a member sends times that the others may have heard already, until it hears theirs, and
# does not know that the address is what it left itself.
@step(nobody=TAKEOVER, two=MET, log=(*_DISK_LOG, r"address \S+ is held by another vhost"))
def damaged_state(world: World, rng: random.Random) -> str:
    """Files of the state are damaged, then the worker is killed; what it has lost it is told again."""
    member = mortal(world, rng)
    names = rng.sample(["_settings.json", *(f"{vhost}.json" for vhost in ADDRESSES)], rng.randint(1, 3))
    for name in names:
        path: Any = member.state / name
        data = path.read_bytes()
        how = rng.choice((data[: len(data) // 2], b"", rng.randbytes(300), b"[" * 5000, b'{"version": 1}'))
        path.write_bytes(how)
    gone(member.signal(signal.SIGKILL))
    if "_settings.json" in names and not member.call("hello")["problems"]:
        msg = f"{member.name}: does not say that its settings are damaged"
        raise Broken(msg)
    _confirm(member)
    pause(TAKEOVER)  # so long others may refuse its adverts; the next step shall not meet that
    return f"{member.name}: {', '.join(names)}"
