"""Everything about one vhost that needs the key: build our adverts, judge those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carp.core import wire
from carp.core.config import SealMode
from carp.core.errors import DropReason
from carp.core.seal import newer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp.core.auth import Address, Context
    from carp.core.config import VhostConfig
    from carp.core.seal import Seal
    from carp.core.wire import Advert


class Authentic(NamedTuple):
    """A believed advert: in which context (0 is the one we sign with), and whether sealed by one of ours."""

    context: int
    sealed: bool


class Signer:
    """The contexts of a vhost: one signs, the others are accepted.

    A master that hears a member in an accepted context answers there as well, so that a member left
    behind by a change of password or addresses is never a second master (design.md section 9).
    """

    def __init__(self, config: VhostConfig, seal: Seal) -> None:
        """``seal`` outlives a change of settings: its times belong to the vhid, not to a password."""
        self.seal = seal
        self._vhid = config.vhid
        self._enforce = config.seal is SealMode.SEALED
        self._credentials = (config.sign, *config.accept)
        self._contexts: list[Context] = [c.context(config.vhid) for c in self._credentials]
        self._in_use = [True] + [False] * len(config.accept)
        self._sources: Sequence[Address] = ()
        self._packed: list[bytes] = []
        self._heads: dict[tuple[int, int, int], tuple[tuple[bytes, int], bytes]] = {}

    def inherit(self, old: Signer) -> None:
        """Keep sending in each context that was in use and is still accepted."""
        for index, credentials in enumerate(self._credentials):
            if credentials in old._credentials:
                self._in_use[index] |= old._in_use[old._credentials.index(credentials)]

    def packets(
        self, header: tuple[int, int, int], sources: Sequence[Address], wall: float
    ) -> list[tuple[Address, bytes]]:
        """Return (source, 36 bytes) for each family and context in use.

        ``header`` is (advbase, advskew, byte 4); ``wall`` in seconds gives the seal its time.
        """
        prepared = self._heads.get(header)
        if prepared is None:
            prepared = wire.prefix_sum(self._vhid, *header), bytes((self._vhid, *header))
            self._heads[header] = prepared
        head, fields = prepared
        if sources is not self._sources:
            self._sources, self._packed = sources, [source.packed for source in sources]
        result = []
        for source, packed in zip(sources, self._packed, strict=True):
            for context, used in zip(self._contexts, self._in_use, strict=True):
                if used:
                    time = self.seal.next(wall)
                    counter = time.to_bytes(4, "big") + context.tag(time, fields, packed)
                    result.append((source, wire.seal_packet(head, counter + context.digest(counter))))
        return result

    def judge(self, advert: Advert, source: Address, own: tuple[Address, ...]) -> Authentic | DropReason:
        """Return whether to believe an advert, checks in the order of design.md sections 5 and 6.

        A believed one advances the floor of its source.
        """
        counter = advert.counter.to_bytes(8, "big")
        index = next(
            (i for i, c in enumerate(self._contexts) if c.verify(counter, advert.digest) is not None), None
        )
        if index is None:
            return DropReason.HMAC
        context = self._contexts[index]
        fields = bytes((advert.vhid, advert.advbase, advert.advskew, advert.demotion))
        if not context.sealed(advert.counter, fields, source.packed):
            return DropReason.UNSEALED if self._enforce else self._believe(index, sealed=False)
        time = advert.counter >> 32
        last = self.seal.last
        # An echo is never later than what we sent; a later time is another host with our address.
        if source in own and last is not None and not newer(time, last):
            return DropReason.LOOP
        if not self.seal.accept(source.packed, time):
            return DropReason.REPLAY
        return self._believe(index, sealed=True)

    def _believe(self, index: int, *, sealed: bool) -> Authentic:
        self._in_use[index] = True
        return Authentic(index, sealed)
