"""A change of password or addresses in three steps (design.md section 9).

The HMAC covers the password and the address list: members with different ones do not hear each other. So all
accept old and new, then all sign with the new, then all drop the old; each step only when every member that
may be alive has stored the one before. The step is derived from what stands in the CarpNodes, so the
controller may die between any two writes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST: Final = 17
"""One to sign with and 16 to accept (carp.core.schema): a further change waits until one is dropped."""


class Context(NamedTuple):
    """What an advert is signed with: the entry of `carp-keys` and the addresses, in their order."""

    key: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What one member was told: ``sign`` None for a member that is new.

    ``settled``: it has stored exactly that, and refused nothing.
    """

    node: str
    sign: Context | None
    accept: tuple[Context, ...] = ()
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What to tell each node; ``step`` Done, Accept, Sign or Drop; whom it waits for."""

    contexts: dict[str, tuple[Context, tuple[Context, ...]]]
    step: str
    waiting: tuple[str, ...] = ()


def advance(
    target: Context, members: Sequence[Told], ghosts: Sequence[str] = (), lost: Sequence[Context] = ()
) -> Step:
    """Return the next step towards all signing with ``target``.

    ``ghosts`` are nodes that were told to forget the vhost and have not confirmed it: what they run is
    unknown, so nothing goes on without them. ``lost``: what they may run, as far as anything still tells
    where every CarpNode was lost; first what they most probably sign with.
    """
    old = [m for m in members if m.sign is not None]
    signed = {m.sign for m in old}
    waiting = tuple(sorted([m.node for m in old if not m.settled] + list(ghosts)))
    if ghosts and lost and not old:
        # Whoever accepts a context answers in it (design.md section 9), so none of them is a second master.
        known, sign = _union([target], lost)[:MOST], lost[0]
        contexts = {m.node: (sign, _without(known, sign)) for m in members}
        return Step(contexts, "Sign" if sign == target else "Accept", waiting)
    known = _union([target], *([*([m.sign] if m.sign else []), *m.accept] for m in old))
    if signed <= {target}:
        return _drop(target, members, waiting, known)
    accepted = all(target in (m.sign, *m.accept) for m in old)
    if accepted and not waiting:
        return Step({m.node: (target, _without(known, target)) for m in members}, "Sign")
    if len(known) > MOST:
        known.remove(target)
    # A newcomer signs as most do: that is accepted everywhere.
    common = max(Counter(m.sign for m in old if m.sign).items(), key=lambda item: (item[1], item[0]))[0]
    contexts = {m.node: (sign := m.sign or common, _without(known, sign)) for m in members}
    return Step(contexts, "Accept", waiting)


def _drop(
    target: Context, members: Sequence[Told], waiting: tuple[str, ...], known: Sequence[Context]
) -> Step:
    """Everybody signs with the target: forget the rest, once everybody is known to."""
    if len(known) == 1:
        return Step({m.node: (target, ()) for m in members}, "Done")
    if not waiting:
        return Step({m.node: (target, ()) for m in members}, "Drop")
    rest = _without(known, target)
    contexts = {m.node: (target, m.accept if m.sign is not None else rest) for m in members}
    return Step(contexts, "Sign", waiting)


def _union(*lists: Sequence[Context]) -> list[Context]:
    return list(dict.fromkeys(context for one in lists for context in one))


def _without(contexts: Sequence[Context], one: Context) -> tuple[Context, ...]:
    return tuple(sorted(context for context in contexts if context != one))
