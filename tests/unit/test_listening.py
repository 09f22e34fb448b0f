"""The first claim (design.md section 5)."""

from __future__ import annotations

import pytest

from carp.core.listening import LEASE_TAIL, Listening, Step
from pair import address

VIP, MAC, OTHER_MAC = address("10.1.1.252"), b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


def _start(listen: float = 2.0, dead_time: float = 3.2) -> Listening:
    return Listening(10.0, listen=listen, dead_time=dead_time)


def _round(listening: Listening, mac: bytes | None) -> tuple[float, Step]:
    """Let three probes pass, the last one answered; return when the round ended and how."""
    for _ in range(3):
        assert Step.PROBE is listening.step(listening.due())
    if mac:
        listening.answer(VIP, mac)
    at = listening.due()
    return round(at, 6), listening.step(at)


def test_three_probes_a_tenth_of_a_second_apart_before_the_claim() -> None:
    """Probes go out 0.3, 0.2 and 0.1 s before the claim that nobody objects to."""
    listening, times, steps = _start(), [], []
    for _ in range(4):
        times.append(round(listening.due() - 10.0, 6))
        steps.append(listening.step(listening.due()))
    assert [1.7, 1.8, 1.9, 2.0] == times
    assert [Step.PROBE, Step.PROBE, Step.PROBE, Step.CLAIM] == steps


def test_nothing_is_due_before_its_time() -> None:
    """Until the first probe there is nothing to do."""
    assert Step.WAIT is _start().step(10.1)


def test_probes_need_their_time_however_short_the_listening() -> None:
    """A first claimant claims after three unanswered probes 0.1 s apart, never sooner."""
    listening = _start(listen=0.0)
    assert pytest.approx(10.0) == listening.due()
    assert (10.3, Step.CLAIM) == _round(listening, None)


def test_an_answer_before_our_first_probe_is_nothing() -> None:
    """What was not asked for proves nothing."""
    listening = _start()
    listening.answer(VIP, MAC)
    assert Step.CLAIM is _round(listening, None)[1]


def test_an_answered_probe_defers_to_the_dead_time() -> None:
    """A killed owner's kernel answers on: the claim waits for the dead time, then asks again."""
    listening = _start()
    assert (12.0, Step.WAIT) == _round(listening, MAC)
    assert (13.2, Step.CLAIM) == _round(listening, None)


def test_still_answered_past_the_lease_is_a_conflict() -> None:
    """After dead time + 1.2 s the answering MAC is named, once for each MAC, and asking goes on."""
    assert 1.2 == LEASE_TAIL
    listening = _start()
    assert (12.0, Step.WAIT) == _round(listening, MAC)
    assert (13.2, Step.WAIT) == _round(listening, MAC)
    assert listening.conflict is None
    assert (14.4, Step.CONFLICT) == _round(listening, MAC)
    assert (VIP, MAC) == listening.conflict
    assert (17.6, Step.WAIT) == _round(listening, MAC)
    assert (20.8, Step.CONFLICT) == _round(listening, OTHER_MAC)
    assert (24.0, Step.CLAIM) == _round(listening, None)


def test_a_limit_that_has_passed_does_not_shorten_the_probes() -> None:
    """Where listening took longer than the dead time, asking again takes 0.3 s."""
    listening = _start(listen=2.0, dead_time=1.2)
    assert (12.0, Step.WAIT) == _round(listening, MAC)
    assert (12.3, Step.WAIT) == _round(listening, MAC)
    assert (12.6, Step.CONFLICT) == _round(listening, MAC)
