from __future__ import annotations

from pathlib import Path

import pytest

from carp.core.errors import DropReason
from carp.core.transitions import State
from simulation_fuzz import BELIEVED, SOURCES, Target, fuzz

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.hex"))


@pytest.mark.parametrize("file", CORPUS, ids=lambda file: file.stem)
def test_corpus_file_counts_under_the_reason_in_its_name(file: Path) -> None:
    """Each packet of the corpus is dropped for the reason that its file is named after."""
    payload = bytes.fromhex(file.read_text(encoding="ascii"))
    assert file.stem.split("-")[0] == Target(1).feed(payload, SOURCES[1])


@pytest.mark.slow
def test_no_packet_raises_and_each_is_counted() -> None:
    """200 000 random and mutated packets: no exception, each one believed or dropped for one reason."""
    counts = fuzz(200_000)
    assert 200_000 == sum(counts.values())
    # What a receiver of well-formed packets cannot see: a TTL, a stall, a link.
    unseen = {DropReason.TTL, DropReason.STALLED, DropReason.INACTIVE}
    assert {BELIEVED, *DropReason} - unseen <= set(counts)


def test_the_target_reaches_every_state() -> None:
    """The vhosts under test become master and backup while they are fed."""
    target = Target(2)
    states = set()
    for _ in range(3000):
        target.feed(*target.make())
        states |= {vhost.state for vhost in target.vhosts}
    assert {State.BACKUP, State.MASTER} <= states
