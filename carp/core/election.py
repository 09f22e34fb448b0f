"""Who yields to whom: one verdict per heard advert, as data (carp-protocol.md sections 5.2, 5.3, 6)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from carp.core.timing import interval

if TYPE_CHECKING:
    from carp.core.wire import Advert


class Standing(enum.Enum):
    """How another master's advert compares with ours."""

    BETTER = "better"
    TIE = "tie"
    WORSE = "worse"


def compare(own: tuple[int, int, int], theirs: Advert) -> Standing:
    """Compare our (advbase, advskew, demotion), as we advertise them, with a heard advert.

    With no demotion on either side the shorter interval is better, as in every implementation. As soon
    as byte 4 of either side is set, OpenBSD's rule goes first: the lower demotion is better.
    """
    advbase, advskew, demotion = own
    if theirs.demotion != demotion:
        return Standing.BETTER if theirs.demotion < demotion else Standing.WORSE
    ours, other = interval(advbase, advskew), interval(theirs.advbase, theirs.advskew)
    if ours == other:
        return Standing.TIE
    return Standing.BETTER if other < ours else Standing.WORSE
