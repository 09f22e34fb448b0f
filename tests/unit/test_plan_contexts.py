"""The three steps of a change of password or addresses, by table; every order is in tests/properties."""

from __future__ import annotations

import pytest

from carp_operator.plan.contexts import MOST, Context, Step, Told, advance

A, B, C = Context("vip.1", ("10.0.0.9",)), Context("vip.2", ("10.0.0.9",)), Context("vip.2", ("10.0.0.8",))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([Told("n1", B), Told("n2", B)], Step({"n1": (B, ()), "n2": (B, ())}, "Done")),
        ([Told("n1", None), Told("n2", None)], Step({"n1": (B, ()), "n2": (B, ())}, "Done")),
        ([Told("n1", A), Told("n2", A)], Step({"n1": (A, (B,)), "n2": (A, (B,))}, "Accept")),
        (
            [Told("n1", A, (B,)), Told("n2", A, (B,), settled=False)],
            Step({"n1": (A, (B,)), "n2": (A, (B,))}, "Accept", ("n2",)),
        ),
        ([Told("n1", A, (B,)), Told("n2", A, (B,))], Step({"n1": (B, (A,)), "n2": (B, (A,))}, "Sign")),
        ([Told("n1", B, (A,)), Told("n2", A, (B,))], Step({"n1": (B, (A,)), "n2": (B, (A,))}, "Sign")),
        (
            [Told("n1", B, (A,), settled=False), Told("n2", B, (A,))],
            Step({"n1": (B, (A,)), "n2": (B, (A,))}, "Sign", ("n1",)),
        ),
        ([Told("n1", B, (A,)), Told("n2", B, (A,))], Step({"n1": (B, ()), "n2": (B, ())}, "Drop")),
        ([Told("n1", B, (A,)), Told("n2", B)], Step({"n1": (B, ()), "n2": (B, ())}, "Drop")),
    ],
    ids=[
        "nothing to do", "all new", "accept both", "waits for one", "all accept: sign", "half signs: sign",
        "waits before dropping", "all sign: drop", "half dropped: drop",
    ],
)  # fmt: skip
def test_a_step_follows_from_what_members_were_told(members: list[Told], expected: Step) -> None:
    """Accept, then Sign, then Drop, each when everybody has stored the one before."""
    assert expected == advance(B, members)


def test_a_newcomer_signs_what_most_sign_and_accepts_all() -> None:
    """So everybody hears it, and it hears everybody, whatever step it is."""
    step = advance(B, [Told("n1", A, (B,)), Told("n2", A, (B,), settled=False), Told("n3", None)])
    assert (A, (B,)) == step.contexts["n3"]
    step = advance(B, [Told("n1", B, (A,), settled=False), Told("n2", None)])
    assert (B, (A,)) == step.contexts["n2"]


def test_who_was_told_to_go_is_waited_for() -> None:
    """What a ghost runs is unknown: no step without it; with nothing to change it does not matter."""
    members = [Told("n1", A, (B,)), Told("n2", A, (B,))]
    step = advance(B, members, ["n9"])
    assert ("Accept", ("n9",)) == (step.step, step.waiting)
    assert "Done" == advance(A, [Told("n1", A)], ["n9"]).step


def test_a_target_that_changes_again_adds_a_third_context() -> None:
    """Nobody is asked to forget what another may still sign with."""
    step = advance(C, [Told("n1", B, (A,)), Told("n2", A, (B,))])
    assert "Accept" == step.step
    assert {A, B, C} == {step.contexts["n1"][0], *step.contexts["n1"][1]}
    assert (B, A) == (step.contexts["n1"][0], step.contexts["n2"][0])


def test_a_change_too_many_waits_until_one_is_dropped() -> None:
    """A vhost accepts 16 contexts beside the one that signs: the next target is not told before."""
    accept = tuple(Context(f"vip.{i}", ("10.0.0.9",)) for i in range(10, 9 + MOST))
    step = advance(B, [Told("n1", A, accept, settled=False)])
    assert (A, tuple(sorted(accept))) == step.contexts["n1"]
    assert ("Accept", ("n1",)) == (step.step, step.waiting)
