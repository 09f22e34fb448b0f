"""Which vhid each VirtualIP has: what runs goes on, then what is asked for, then new ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carp_operator.plan.claims import Claim, Problem, Vhids, whose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carp_operator.api.objects import VirtualIP
    from carp_operator.plan.candidates import Candidates, Finder
    from carp_operator.plan.claims import Addresses
    from carp_operator.plan.facts import Facts
    from carp_operator.plan.members import View


@dataclass(slots=True)
class _Wish:
    """A VirtualIP that could not go on with what runs."""

    vip: VirtualIP
    claim: Claim
    candidates: Candidates
    vhid: int | None
    runs: bool


@dataclass(slots=True)
class Ids:
    """Gives out vhids. An edit must not take what another serves, whoever is older."""

    vips: Mapping[str, VirtualIP]
    views: Mapping[str, Sequence[View]]
    facts: Facts
    finder: Finder
    found: dict[str, tuple[Claim, Candidates | None]] = field(default_factory=dict)
    waiting: list[_Wish] = field(default_factory=list)
    apart: list[tuple[str, str]] = field(default_factory=list)
    """Who has a vhid of another's on what only the plan takes for one segment."""

    def claim(
        self, vips: Sequence[VirtualIP], addresses: Addresses
    ) -> dict[str, tuple[Claim, Candidates | None]]:
        """Return what each has of what all share, and who may hold it; ``vips`` the oldest first."""
        vhids = Vhids(self.facts)
        for vip in vips:
            claim = addresses.found.get(vip.name, Claim())
            if vip.spec is None:
                claim = Claim(problem=Problem("Invalid", "; ".join(str(error) for error in vip.errors)))
            if vip.spec is None or claim.problem is not None:
                self._reserve(vip, vhids)
                self.found[vip.name] = claim, None
                continue
            told = [v for v in self.views.get(vip.name, ()) if v.told is not None]
            candidates = self.finder.find(vip.spec, claim.addresses, told)
            wanted = vip.spec.vhid or self._held(vip)
            runs = any(v.told and v.told.get("vhid") == wanted for v in told)
            self._go_on(_Wish(vip, claim, candidates, wanted, runs), vhids)
        self._new([wish for wish in self.waiting if not self._want(wish, vhids)], vhids)
        self._keep_apart()
        return self.found

    def _go_on(self, wish: _Wish, vhids: Vhids) -> None:
        """Let what runs go on; anything else waits."""
        name, vhid = wish.vip.name, wish.vhid
        if not wish.runs or not wish.candidates.segments or vhid is None:
            self._reserve(wish.vip, vhids)
            self.waiting.append(wish)
            return
        other = vhids.claim(name, vhid, wish.candidates.segments)
        if other and self._places(name, vhid) & self._places(other, vhid):
            self.waiting.append(wish)
            return
        note = f"vhid {vhid} also belongs to VirtualIP {other} on what is one segment now" if other else ""
        self.found[name] = wish.claim.also(vhid, note=note), wish.candidates
        if other:
            self.apart.append((name, other))

    def _want(self, wish: _Wish, vhids: Vhids) -> bool:
        """Give what is asked for, or say who has it; whether there is an answer."""
        vip, segments = wish.vip, wish.candidates.segments
        other = vhids.claim(vip.name, wish.vhid, segments) if wish.vhid else ""
        if other and vip.spec is not None and vip.spec.vhid:
            self._reserve(vip, vhids)
            message = f"vhid: {wish.vhid} on this segment belongs to {whose(self.vips[other], vip)}"
            problem = Problem("VhidInUse", message, wish.runs)
            self.found[vip.name] = wish.claim.also(problem=problem), wish.candidates
        elif wish.vhid and not other:
            self.found[vip.name] = wish.claim.also(wish.vhid), wish.candidates
        else:
            return False
        return True

    def _new(self, wishes: Sequence[_Wish], vhids: Vhids) -> None:
        message = "vhid: all 255 of the segment are used or heard from others"
        for wish in wishes:
            segments = wish.candidates.segments
            vhid = vhids.allocate(wish.vip.name, segments) if segments else None
            lacking = Problem("NoVhidLeft", message) if segments and vhid is None else None
            self.found[wish.vip.name] = wish.claim.also(vhid, lacking), wish.candidates

    def _keep_apart(self) -> None:
        """Let two with one vhid never share an interface: each keeps what it has, the second gets no more."""
        for name, other in self.apart:
            (claim, mine), (first, theirs) = self.found[name], self.found[other]
            if mine is not None and theirs is not None:
                places = self._places(name, claim.vhid)
                self.found[name] = claim, mine.without(theirs.places.items() - places)
                self.found[other] = first, theirs.without(places)

    def _places(self, name: str, vhid: int | None) -> set[tuple[str, str]]:
        """Return the nodes and interfaces where a VirtualIP was told to be with a vhid."""
        told = self.views.get(name, ())
        return {(v.node, v.interface) for v in told if v.told and v.told.get("vhid") == vhid}

    def _reserve(self, vip: VirtualIP, vhids: Vhids) -> None:
        """Keep the vhid of what runs, whatever is wrong with the spec."""
        for view in self.views.get(vip.name, ()):
            segment = self.facts.segments.get((view.node, view.interface))
            if view.told and segment is not None:
                vhids.claim(vip.name, view.told.get("vhid", 0), {segment})

    def _held(self, vip: VirtualIP) -> int | None:
        held = vip.status.get("vhid")
        told = (v.told.get("vhid") for v in self.views.get(vip.name, ()) if v.told)
        return held or next(told, None)
