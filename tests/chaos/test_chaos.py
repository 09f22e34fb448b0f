from __future__ import annotations

import json

import pytest

from carp.lab.measure import OwnerChange
from chaos_run import FailedError, Run
from chaos_verdict import (
    Allowed,
    Footprint,
    Seen,
    after_stall,
    broken,
    grown,
    longest,
    percentile,
    seen,
    unexpected,
)
from chaos_world import Broken, World
from lanfix import need_lan
from nodefix import add, delete, idle

SEED = 4
SECONDS = 32.0

S = 1_000_000_000
ONE, TWO = ("a",), ("a", "b")


def _history(*changes: tuple[float, tuple[str, ...]]) -> list[OwnerChange]:
    return [OwnerChange(int(at * S), owners) for at, owners in changes]


@pytest.mark.root
@pytest.mark.slow
def test_a_short_run(capsys: pytest.CaptureFixture[str]) -> None:
    """For half a minute a cluster is hurt in every way that a fixed seed draws, and no invariant breaks."""
    need_lan()
    run = Run(SEED, SECONDS)
    try:
        run.work()
    except FailedError as error:
        pytest.fail(f"--seed {SEED}: {error}\n{capsys.readouterr().out}", pytrace=False)
    print("\n".join(run.table()))


@pytest.mark.root
def test_a_run_notices_what_is_not_allowed() -> None:
    """A second owner of an address, planted by hand, is a broken invariant that names it."""
    need_lan()
    with World() as world:
        world.start()

        def plant() -> str:
            thief = next(each for each in world.members.values() if each is not world.master("web"))
            add(thief.node, "10.99.0.252/32")
            idle(0.8)
            delete(thief.node, "10.99.0.252")
            return thief.name

        with pytest.raises(Broken, match=r"^10\.99\.0\.252: two owners for (0\.[789]|1\.)"):
            Run(1, 0.0, say=lambda _: None)._one(world, "thief", plant, Allowed())


def test_stretches_are_counted_within_their_step() -> None:
    """What began before a step counts from its beginning, what lasts counts up to its end."""
    history = _history((0, ONE), (1, TWO), (3, ONE), (3.02, TWO), (4, ()), (6, ONE))
    assert 2.0 == longest(history, 0, 10 * S, lambda owners: owners > 1)
    assert 3.0 == longest(history, 0, 10 * S, lambda owners: owners > 1, rejoin=0.05)
    assert 1.0 == longest(history, 2 * S, 10 * S, lambda owners: owners > 1)
    assert 0.5 == longest(history, 0, int(4.5 * S), lambda owners: owners == 0)
    assert 4.0 == longest(history, 0, 10 * S, lambda owners: owners == 1)


def test_what_a_prober_saw() -> None:
    """Two owners, nobody, and silence are told apart; one in which nothing was asked is none."""
    history, silences = _history((0, ONE), (1, TWO), (2, ()), (5, ONE)), [(2 * S, 6 * S), (0, S // 2)]
    assert Seen(two=1.0, nobody=3.0, ping=4.0) == seen(history, silences, 4.5, S, 9 * S)
    assert 0.25 == seen(history, silences, 0.25, S, 9 * S).ping


@pytest.mark.parametrize(
    ("found", "allowed", "what"),
    [
        (Seen(0.0, 0.0, 0.0), Allowed(), []),
        (Seen(0.11, 0.11, 0.2), Allowed(), []),
        (Seen(0.5, 0.0, 0.0), Allowed(nobody=9.0), ["two owners"]),
        (Seen(0.0, 0.5, 0.5), Allowed(two=9.0), ["no owner", "no echo"]),
        (Seen(0.0, 0.0, 0.5), Allowed(two=9.0), ["no echo"]),
        (Seen(0.0, 3.0, 3.1), Allowed(nobody=3.0), []),
        (Seen(0.1, 0.0, 0.5), Allowed(two=0.1, ping=0.5), []),
    ],
)
def test_bounds_of_a_step(found: Seen, allowed: Allowed, what: list[str]) -> None:
    """Each figure has its own bound; an address without an owner may be silent as long as that."""
    problems = broken("10.0.0.1", found, allowed)
    assert len(what) == len(problems)
    assert all(line.startswith(f"10.0.0.1: {part}") for line, part in zip(problems, what, strict=True))


@pytest.mark.parametrize(
    ("line", "patterns", "expected"),
    [
        (json.dumps({"message": "BACKUP -> MASTER (dead-time)"}), (), True),
        (json.dumps({"message": "cannot renew addresses: x"}), (), False),
        (json.dumps({"message": "cannot renew addresses: x"}), ("cannot renew",), True),
        (json.dumps({"message": "stopped: internal error"}), (".*",), False),
        ("Traceback (most recent call last):", (".*",), False),
        ("12", (".*",), False),
    ],
)
def test_unexpected_lines(line: str, patterns: tuple[str, ...], expected: bool) -> None:
    """A line is known by an ordinary pattern or by one of its step; no pattern excuses an internal error."""
    assert ([] if expected else [line]) == unexpected(f"{line}\n", patterns)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (Footprint(1, 20, 5, 27.0), []),
        (Footprint(1, 20, 5, 29.1), ["RSS grew"]),
        (Footprint(2, 20, 5, 29.1), []),
        (Footprint(2, 20, 5, 36.1), ["RSS is"]),
        (Footprint(1, 21, 9, 26.0), ["descriptors", "threads"]),
    ],
)
def test_growth(after: Footprint, words: list[str]) -> None:
    """Descriptors and threads of any process, memory of one that has lived all along."""
    problems = grown("n1", Footprint(1, 20, 5, 26.5), after, threads=8)
    assert len(words) == len(problems)
    assert all(word in line for line, word in zip(problems, words, strict=True))


def test_a_stall_is_an_excuse_only_where_an_owner_may_be_missing() -> None:
    """A backup that stood still waits a whole dead time again; a handover needs no dead time."""
    assert Allowed(two=0.1, ping=0.5) == after_stall(Allowed(two=0.1, ping=0.5))
    assert Allowed(nobody=7.1, ping=3.3) == after_stall(Allowed(nobody=3.8))


def test_percentile_of_a_histogram() -> None:
    """The bound of the first bucket that holds the share; 0 where nothing was observed."""
    buckets = {0.001: 90, 0.005: 99, 0.01: 100, float("inf"): 100}
    assert 0.005 == percentile(buckets, 0.99)
    assert 0.0 == percentile({}, 0.99)
