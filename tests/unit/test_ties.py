"""Two masters of equal interval (design.md section 5, "Ties")."""

from __future__ import annotations

import pytest

from carp.core.ties import V6_PATIENCE, Ties, Verdict
from pair import address

LOW, HIGH, LOW6, HIGH6 = "10.1.1.1", "10.1.1.2", "2001:db8::1", "2001:db8::2"


def _judge(
    source: str, *own: str, sealed: bool = True, ties: Ties | None = None, now: float = 0.0
) -> Verdict:
    return (ties or Ties()).judge(address(source), tuple(address(o) for o in own), now, sealed=sealed)


@pytest.mark.parametrize(
    ("own", "source", "expected"),
    [
        (LOW, HIGH, Verdict.STAY),
        (HIGH, LOW, Verdict.YIELD),
        ("10.1.2.1", "10.1.1.2", Verdict.YIELD),
        ("10.1.1.2", "10.1.2.1", Verdict.STAY),
        (LOW6, HIGH6, Verdict.STAY),
        (HIGH6, LOW6, Verdict.YIELD),
    ],
)
def test_among_ours_the_lower_source_stays(own: str, source: str, expected: Verdict) -> None:
    """Addresses compare as integers, also across the third octet, where ucarp swaps bytes."""
    assert expected is _judge(source, own)


@pytest.mark.parametrize("source", [LOW, HIGH, "10.1.2.1"])
def test_to_a_foreign_master_we_always_yield(source: str) -> None:
    """Whatever the addresses: how a foreign one compares is not known."""
    assert Verdict.YIELD_AND_JITTER is _judge(source, "10.1.1.2", sealed=False)


@pytest.mark.parametrize(("source", "own"), [(LOW, LOW), (LOW6, LOW)])
def test_what_cannot_be_compared_is_yielded_to(source: str, own: str) -> None:
    """Our own address at another host, or a family that we do not send in."""
    assert Verdict.YIELD_AND_JITTER is _judge(source, own)


def test_with_both_families_ipv4_decides() -> None:
    """The IPv4 advert gives the verdict at once; IPv6 alone gives one after a second of ties."""
    ties = Ties()
    assert Verdict.STAY is _judge(HIGH, LOW, HIGH6, ties=ties)
    verdicts = [_judge(LOW6, LOW, HIGH6, ties=ties, now=n) for n in (5.0, 5.5, 5.9, 5.0 + V6_PATIENCE)]
    assert [Verdict.WAIT, Verdict.WAIT, Verdict.WAIT, Verdict.YIELD] == verdicts


def test_ipv4_adverts_start_the_wait_again() -> None:
    """As long as IPv4 adverts arrive, ties over IPv6 decide nothing."""
    ties = Ties()
    for second in range(10):
        ties.heard_v4()
        assert Verdict.WAIT is _judge(LOW6, LOW, HIGH6, ties=ties, now=float(second))
