"""A change of password or addresses, in every order in which its parts can happen (design.md section 9).

A state is what stands in the CarpNodes, what every node runs and has on disk, and the writes that the
controller has planned and not yet made. The search takes every event in every state: a write of one spec,
from a plan that may be older than what happened since; a node takes, stores, confirms; it reboots to what it
stored; the controller restarts; the user changes the target; a node joins or is told to go; every CarpNode
is lost. A node that cannot be reached is one for which no event happens.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pytest

from carp_operator.plan.contexts import Context, Step, Told, advance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

OLD = Context("vip.1", ("10.0.0.9",))
PASSWORD = Context("vip.2", ("10.0.0.9",))
ADDRESS = Context("vip.1", ("10.0.0.9", "10.0.0.10"))
BOTH = Context("vip.2", ("10.0.0.9", "10.0.0.10"))

Spec: TypeAlias = tuple[Context, tuple[Context, ...]] | None
Rule: TypeAlias = "Callable[[Context, Sequence[Told], Sequence[str], Sequence[Context]], Step]"
_NOTHING = "nothing"
"""No write is planned; None is the write of a spec without the vhost."""


class Node(NamedTuple):
    """One node. The flags say whether the newest spec was taken, stored, confirmed."""

    member: bool
    spec: Spec
    running: Spec
    disk: Spec
    taken: bool = True
    stored: bool = True
    confirmed: bool = True
    shown: bool = True
    """Whether its last status has the vhost."""
    planned: Spec | str = _NOTHING


class State(NamedTuple):
    """Everything; nodes are alike, so their order is no part of it."""

    targets: tuple[Context, ...]
    """The one that is wanted, and those that the user will want later."""
    nodes: tuple[Node, ...]
    joins: int = 0
    """How many more joins and leaves there will be."""
    losses: int = 0
    """How often all CarpNodes will still be lost."""
    lost: bool = False
    """Whether they ever were."""
    past: tuple[Context, ...] = ()
    """What was wanted before: the key store still has it."""


def _ask(state: State, rule: Rule, *, early: bool = False) -> Step:
    """Do what the planner does: everybody told, the new ones, and who may still run it.

    ``early``: the status says that nobody signs with the target yet. It may be older than the CarpNodes were.
    """
    members, ghosts = [], []
    for number, node in enumerate(state.nodes):
        name = f"n{number}"
        if node.member:
            members.append(Told(name, *node.spec, node.confirmed) if node.spec else Told(name, None))
        if node.shown and not (node.member and node.spec):
            ghosts.append(name)
    target = state.targets[0]
    others = [context for context in dict.fromkeys(state.past) if context != target]
    lost = [*others, target] if early else [target, *others]
    return rule(target, members, ghosts, lost if others else [])


def _planned(state: State, rule: Rule, *, early: bool = False) -> State:
    contexts = _ask(state, rule, early=early).contexts
    nodes = []
    for number, node in enumerate(state.nodes):
        wanted = contexts.get(f"n{number}")
        nodes.append(node._replace(planned=wanted if wanted != node.spec else _NOTHING))
    return state._replace(nodes=tuple(nodes))


def _written(node: Node) -> Node:
    if node.planned == node.spec:
        return node._replace(planned=_NOTHING)
    assert not isinstance(node.planned, str)
    return node._replace(spec=node.planned, taken=False, stored=False, confirmed=False, planned=_NOTHING)


def _alone(node: Node) -> Iterator[Node]:
    """Yield what can happen to one node next."""
    if node.planned != _NOTHING:
        yield _written(node)
    if not node.taken:
        yield node._replace(running=node.spec, taken=True)
    elif not node.stored:
        yield node._replace(disk=node.running, stored=True)
        yield node._replace(running=node.disk, taken=False)
    elif not node.confirmed:
        yield node._replace(confirmed=True, shown=node.spec is not None)


def _loses(state: State) -> State:
    """Lose every CarpNode: the nodes run on, and who they are stands in the VirtualIP's status."""
    lost = tuple(n._replace(spec=None, taken=True, confirmed=True, planned=_NOTHING) for n in state.nodes)
    return state._replace(nodes=lost, losses=state.losses - 1, lost=True)


def _next(state: State, rule: Rule) -> Iterator[State]:
    """Yield every state that one event leads to."""
    yield _planned(state, rule)
    yield _planned(state, rule, early=True)
    yield state._replace(nodes=tuple(n._replace(planned=_NOTHING) for n in state.nodes))
    if len(state.targets) > 1:
        yield state._replace(targets=state.targets[1:], past=(*state.past, state.targets[0]))
    if state.losses and all(n.stored for n in state.nodes):
        yield _loses(state)
    for number, node in enumerate(state.nodes):
        rest = state.nodes[:number], state.nodes[number + 1 :]
        for after in _alone(node):
            yield state._replace(nodes=(*rest[0], after, *rest[1]))
        # The planner keeps who has not confirmed its settings.
        others = any(n.member and n.confirmed and n.spec for n in (*rest[0], *rest[1]))
        if state.joins and others and (not node.member or (node.confirmed and node.spec)):
            moved = node._replace(member=not node.member)
            yield state._replace(nodes=(*rest[0], moved, *rest[1]), joins=state.joins - 1)


def _deaf(state: State) -> bool:
    """Whether one node does not accept what another signs with: two masters.

    Where CarpNodes were lost nobody knows what the others accept. There it is enough that of any two one
    hears the other: as a backup it obeys, and as a master it also sends in the context that it heard.
    """
    running = [node.running for node in state.nodes if node.running is not None]
    heard = [frozenset((sign, *accept)) for sign, accept in running]
    return any(
        sign not in ears and not (state.lost and other[0] in heard[number])
        for number, (sign, _) in enumerate(running)
        for other, ears in zip(running, heard, strict=True)
    )


@cache
def _rank(node: Node) -> str:
    return repr(node)


def _canonical(state: State) -> State:
    return state._replace(nodes=tuple(sorted(state.nodes, key=_rank)))


def _explore(start: State, rule: Rule = advance) -> tuple[set[State], State | None]:
    """Return every state that can be reached, up to the first in which somebody is deaf."""
    known = {start}
    queue = deque([start])
    while queue:
        for each in _next(queue.popleft(), rule):
            state = _canonical(each)
            if state in known:
                continue
            known.add(state)
            if _deaf(state):
                return known, state
            queue.append(state)
    return known, None


def _served(node: Node) -> Node:
    """Carry a node as far as it goes: written, taken, stored, confirmed."""
    node = _written(node) if node.planned != _NOTHING else node
    shown = node.spec is not None
    node = node._replace(running=node.spec, disk=node.spec, shown=shown)
    return node._replace(taken=True, stored=True, confirmed=True)


def _end(state: State, lost: int | None, rounds: int = 8) -> State:
    """Return where it ends when everybody but ``lost`` goes on and the user changes nothing more."""
    state = state._replace(targets=state.targets[:1], joins=0, losses=0)
    for _ in range(rounds):
        planned = _planned(state, advance)
        nodes = []
        for number, node in enumerate(planned.nodes):
            if number != lost:
                nodes.append(_served(node))
            else:
                nodes.append(_written(node) if node.planned != _NOTHING else node)
        if tuple(nodes) == state.nodes:
            return state
        state = state._replace(nodes=tuple(nodes))
    message = f"no end after {rounds} rounds: {state}"
    raise AssertionError(message)


def _start(count: int, *targets: Context, new: int = 0, joins: int = 0, losses: int = 0) -> State:
    told: Spec = (OLD, ())
    fresh = Node(True, None, None, None, shown=False)
    nodes = [Node(True, told, told, told)] * count + [fresh] * new
    return _canonical(State((OLD, *targets), tuple(nodes), joins, losses))


CHANGES = {
    "password": _start(3, PASSWORD),
    "address": _start(3, ADDRESS),
    "both at once": _start(3, BOTH),
    "one, then the other": _start(3, PASSWORD, BOTH),
    "back again in the middle": _start(3, PASSWORD, OLD),
    "back and forth": _start(2, PASSWORD, OLD, PASSWORD),
    "with a newcomer": _start(3, PASSWORD, new=1),
    "with a newcomer, back again": _start(2, PASSWORD, OLD, new=1),
    "somebody leaves and may return": _start(3, PASSWORD, joins=2),
    "somebody leaves and may return, back again": _start(2, PASSWORD, OLD, joins=2),
    "alone": _start(1, PASSWORD, ADDRESS, OLD),
    "all CarpNodes are lost": _start(3, PASSWORD, losses=1),
    "all CarpNodes are lost twice, back again": _start(2, PASSWORD, OLD, losses=2),
}


@pytest.mark.parametrize("start", CHANGES.values(), ids=CHANGES)
def test_no_order_of_events_makes_two_deaf_masters_and_every_one_ends(start: State) -> None:
    """Any two nodes that may be alive accept what the other signs with; with everybody reachable all end
    with the target alone; with one lost that one is named, or nothing was left to do for it.
    """
    states, deaf = _explore(start)
    print(f"{len(states)} states")
    assert deaf is None
    ended = set()
    for state in states:
        key = state._replace(targets=state.targets[:1], joins=0, losses=0)
        if key in ended:
            continue
        ended.add(key)
        last = _end(key, None)
        assert "Done" == _ask(last, advance).step
        assert all(not n.spec or (last.targets[0], ()) == n.spec for n in last.nodes)
        for lost in range(len(state.nodes)):
            last = _end(key, lost)
            step = _ask(last, advance)
            assert step.step == "Done" or step.waiting == (f"n{lost}",)
            assert not _deaf(last)


def _hasty(target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]) -> Step:
    """Wait for nobody's confirmation."""
    return advance(target, [Told(m.node, m.sign, m.accept) for m in members], ghosts, lost)


def _blind(target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]) -> Step:
    """Forget who was told to go."""
    return advance(target, members)


def _direct(target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]) -> Step:
    """Skip the first step."""
    return Step({m.node: (target, (OLD,)) for m in members}, "Sign")


def _eager(target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]) -> Step:
    """Drop the old as soon as all were told to sign with the new."""
    step = advance(target, members, ghosts, lost)
    return Step({m.node: (target, ()) for m in members}, "Drop") if step.step == "Sign" else step


def _alien(target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]) -> Step:
    """Let newcomers sign with the target at once."""
    step = advance(target, members, ghosts, lost)
    new = {m.node: (target, ()) for m in members if m.sign is None}
    return Step({**step.contexts, **new}, step.step, step.waiting)


def _forgetful(
    target: Context, members: Sequence[Told], ghosts: Sequence[str], lost: Sequence[Context]
) -> Step:
    """Tell those that come back nothing of what the others may run."""
    return advance(target, members, ghosts)


@pytest.mark.parametrize(
    ("rule", "start"),
    [
        (_hasty, CHANGES["password"]),
        (_blind, CHANGES["somebody leaves and may return"]),
        (_direct, CHANGES["password"]),
        (_eager, CHANGES["password"]),
        (_alien, CHANGES["with a newcomer"]),
        (_forgetful, CHANGES["all CarpNodes are lost"]),
    ],
    ids=[
        "ignores confirmations", "forgets ghosts", "skips Accept", "drops early", "newcomers sign new",
        "forgets what lost nodes run",
    ],
)  # fmt: skip
def test_the_search_finds_what_a_wrong_rule_breaks(rule: Rule, start: State) -> None:
    """Each part of the rule is needed: without it the search comes to two deaf masters."""
    _, deaf = _explore(start, rule)
    assert deaf is not None
