"""Adverts built and judged with the keys of a vhost (design.md sections 6 and 9)."""

from __future__ import annotations

import pytest

from carp.core import wire
from carp.core.errors import DropReason
from carp.core.seal import HOUR, Seal, from_wall
from carp.core.signer import Authentic, Signer
from pair import WALL, address, config, plain, sealed

OLD = {"addresses": ["10.1.1.252"], "password": "old"}
NEW = {"addresses": ["10.1.1.253"], "password": "new"}
US, THEM = address("10.1.1.1"), address("10.1.1.2")
STAMP = from_wall(WALL)
HEADER = (1, 0, 0)


def _adverts(signer: Signer, *sources: str, header: tuple[int, int, int] = HEADER) -> list[wire.Advert]:
    packets = signer.packets(header, [address(s) for s in sources or ("10.1.1.1",)], WALL)
    adverts = [wire.unpack(payload) for _, payload in packets]
    assert all(isinstance(advert, wire.Advert) for advert in adverts)
    return [advert for advert in adverts if isinstance(advert, wire.Advert)]


def _judge(signer: Signer, advert: wire.Advert, source: str = "10.1.1.2") -> Authentic | DropReason:
    return signer.judge(advert, address(source), (US,))


def test_what_is_built_is_believed() -> None:
    """A member with the same settings believes our advert and knows it as one of ours."""
    theirs, ours = Signer(config(), Seal()), Signer(config(), Seal())
    assert Authentic(0, sealed=True) == _judge(theirs, _adverts(ours)[0], "10.1.1.1")


def test_one_advert_per_family() -> None:
    """Each source gets its own advert with a seal of its own, later than the one before."""
    first, second = _adverts(Signer(config(), Seal()), "10.1.1.1", "2001:db8::1")
    assert (STAMP, STAMP + 1) == (first.counter >> 32, second.counter >> 32)
    assert first.digest != second.digest


def test_header_goes_out_as_given() -> None:
    """Base, skew and byte 4 are those asked for, also when they change between two adverts."""
    signer = Signer(config(), Seal())
    for header in ((1, 100, 3), (255, 255, 255), (1, 100, 3)):
        (advert,) = _adverts(signer, header=header)
        assert header == (advert.advbase, advert.advskew, advert.demotion)
        assert 42 == advert.vhid


@pytest.mark.parametrize("other", [{"password": "hate"}, {"addresses": ["10.1.1.9"]}])
def test_a_wrong_key_or_address_list_is_hmac(other: dict[str, object]) -> None:
    """What no context authenticates is dropped as such."""
    assert DropReason.HMAC is _judge(Signer(config(), Seal()), plain(config(**other)))


def test_both_dialects_of_openbsd_are_believed() -> None:
    """A digest over the link-local address too is believed like the one without."""
    settings = config(addresses=["2001:db8::1", "fe80::200:5eff:fe00:109"])
    counter = (5).to_bytes(8, "big")
    for form in (0, 1):
        digest = settings.sign.context(42).digest(counter, form)
        advert = wire.Advert(42, 1, 0, 0, 5, digest)
        assert Authentic(0, sealed=False) == _judge(Signer(settings, Seal()), advert)


def test_a_foreign_advert_counts_while_interoperable() -> None:
    """Without a seal an authentic advert is believed, whatever its counter, also twice (section 3.3)."""
    signer = Signer(config(), Seal())
    for counter in (7, 7, 3):
        assert Authentic(0, sealed=False) == _judge(signer, plain(config(), counter=counter))


def test_a_foreign_advert_is_unsealed_where_seals_are_demanded() -> None:
    """In Sealed mode it is dropped, a sealed one is believed."""
    settings = config(authentication={"mode": "Sealed"})
    signer = Signer(settings, Seal())
    assert DropReason.UNSEALED is _judge(signer, plain(settings))
    assert Authentic(0, sealed=True) == _judge(signer, sealed(settings, "10.1.1.2", STAMP))


@pytest.mark.parametrize("change", ["advskew", "source"])
def test_a_captured_advert_with_a_better_skew_is_no_member_of_ours(change: str) -> None:
    """Rewritten skew or source breaks the seal: dropped where seals are demanded (section 3.4)."""
    settings = config(authentication={"mode": "Sealed"})
    captured = sealed(settings, "10.1.1.2", STAMP, 1, 100)
    skew, source = (0, "10.1.1.2") if change == "advskew" else (100, "10.1.1.3")
    forged = wire.Advert(42, 1, skew, 0, captured.counter, captured.digest)
    assert DropReason.UNSEALED is _judge(Signer(settings, Seal()), forged, source)


def test_replay_is_dropped_in_both_modes() -> None:
    """A valid seal that is not newer than the last of its source is a replay, Interoperable or not."""
    for mode in ("Interoperable", "Sealed"):
        settings = config(authentication={"mode": mode})
        signer = Signer(settings, Seal())
        assert Authentic(0, sealed=True) == _judge(signer, sealed(settings, "10.1.1.2", STAMP))
        assert DropReason.REPLAY is _judge(signer, sealed(settings, "10.1.1.2", STAMP))
        assert DropReason.REPLAY is _judge(signer, sealed(settings, "10.1.1.2", STAMP - 1))


def test_an_old_recording_of_an_unknown_source_gains_nothing() -> None:
    """More than an hour before the newest time heard it is a replay."""
    signer = Signer(config(), Seal(newest=STAMP))
    assert DropReason.REPLAY is _judge(signer, sealed(config(), "10.1.1.9", STAMP - HOUR), "10.1.1.9")


def test_a_clock_years_off_is_no_reason_to_drop() -> None:
    """Who is ahead is believed; who is behind is believed after it has heard one advert."""
    ours, theirs = Signer(config(), Seal()), Signer(config(), Seal())
    (advert,) = _adverts(ours)
    assert Authentic(0, sealed=True) == _judge(theirs, advert, "10.1.1.1")
    ((_, payload),) = theirs.packets(HEADER, [THEM], 12.0)
    answer = wire.unpack(payload)
    assert isinstance(answer, wire.Advert)
    assert Authentic(0, sealed=True) == _judge(ours, answer)


def test_our_own_advert_coming_back_is_a_loop() -> None:
    """From our address with a time that we have already sent."""
    signer = Signer(config(), Seal())
    assert DropReason.LOOP is _judge(signer, _adverts(signer)[0], "10.1.1.1")


def test_another_host_with_our_address_is_no_loop() -> None:
    """A later time than any of ours was sent by somebody else, who has to be heeded."""
    signer = Signer(config(), Seal())
    advert = sealed(config(), "10.1.1.1", STAMP)
    assert Authentic(0, sealed=True) == _judge(signer, advert, "10.1.1.1")
    _adverts(signer)
    later = sealed(config(), "10.1.1.1", STAMP + 100)
    assert Authentic(0, sealed=True) == _judge(signer, later, "10.1.1.1")


def test_an_accepted_context_authenticates_and_is_sent_once_heard() -> None:
    """Only the signing context is sent until a member is heard in an accepted one; then both are."""
    settings = config(**NEW, accept=[OLD])
    signer = Signer(settings, Seal())
    assert 1 == len(_adverts(signer))
    advert = plain(settings, signed_with=settings.accept[0])
    assert Authentic(1, sealed=False) == _judge(signer, advert)
    assert 2 == len(_adverts(signer))
    left_behind = Signer(config(**OLD), Seal())
    verdicts = [_judge(left_behind, a, "10.1.1.1") for a in _adverts(signer)]
    assert [DropReason.HMAC, Authentic(0, sealed=True)] == verdicts


def test_what_is_not_believed_puts_no_context_into_use() -> None:
    """An unsealed advert in an accepted context changes nothing where seals are demanded."""
    settings = config(**NEW, accept=[OLD], authentication={"mode": "Sealed"})
    signer = Signer(settings, Seal())
    assert DropReason.UNSEALED is _judge(signer, plain(settings, signed_with=settings.accept[0]))
    assert 1 == len(_adverts(signer))


def test_a_change_of_settings_keeps_sending_what_is_still_accepted() -> None:
    """Sign new, accept old: a context in use stays in use until it is dropped."""
    before = Signer(config(**OLD, accept=[NEW]), Seal())
    swapped = Signer(config(**NEW, accept=[OLD]), before.seal)
    swapped.inherit(before)
    assert 2 == len(_adverts(swapped))
    dropped = Signer(config(**NEW), before.seal)
    dropped.inherit(swapped)
    assert 1 == len(_adverts(dropped))
    added = Signer(config(**NEW, accept=[{"addresses": ["10.1.1.9"], "password": "x"}]), before.seal)
    added.inherit(dropped)
    assert 1 == len(_adverts(added))
