"""What the table of `carp watch` says."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from carp.core.auth import Context
from carp.core.wire import Advert, pack
from carp.inspect.frames import Packet
from carp.inspect.table import MAX_SPEAKERS, Segment
from carp.inspect.verdict import Keys, Verdict, judge
from crafted import UCARP_HEADER, VRRP2, VRRP3

MAC = bytes.fromhex("00005e00012a")
KEYS = Keys(b"love", (ip_address("10.99.0.252"),))


def heard(payload: bytes, source: str = "10.99.0.1", ttl: int = 255) -> Verdict:
    """Judge a payload from a source."""
    group = ip_address("224.0.0.18")
    return judge(Packet(payload, len(payload), ip_address(source), group, ttl, MAC), KEYS)


def advert(advbase: int = 1, advskew: int = 0, demotion: int = 0, *, seal: bool = False) -> bytes:
    """Make an advert of vhid 42 that authenticates, from 10.99.0.1."""
    context = Context(key=b"love", vhid=42, addresses=KEYS.addresses)
    tag = context.tag(1, bytes((42, advbase, advskew, demotion)), ip_address("10.99.0.1").packed)
    counter = 1 << 32 | (int.from_bytes(tag, "big") if seal else 0)
    return pack(Advert(42, advbase, advskew, demotion, counter, context.digest(counter.to_bytes(8, "big"))))


def table(*events: tuple[float, Verdict], now: float) -> list[list[str]]:
    """Return the cells of each line after the heads."""
    segment = Segment()
    for time, verdict in events:
        segment.hear(verdict, time)
    return [line.split() for line in segment.lines(now, width=200, height=50)[1:]]


def test_a_line_of_a_master() -> None:
    """Everything that was heard, the interval as the mean of the last ones."""
    events = [(float(second), heard(UCARP_HEADER)) for second in range(4)]
    expected = ["carp", "42", "10.99.0.1", "master", "1/0", "0", "1.000", "0.5", "4", "ok", MAC.hex(":")]
    assert [expected] == table(*events, now=3.5)


def test_only_the_last_intervals_count() -> None:
    """Nine packets; a long pause before them is forgotten."""
    events = [(float(t), heard(UCARP_HEADER)) for t in (0, *range(100, 109))]
    assert "1.000" == table(*events, now=109)[0][6]
    assert "-" == table(events[0], now=1)[0][6]


@pytest.mark.parametrize(
    ("payload", "age", "state"),
    [
        (advert(), 2.9, "master"),
        (advert(), 3.1, "silent"),
        (advert(2, 128), 7.4, "master"),
        (advert(2, 128), 7.6, "silent"),
        (advert(255, 255), 0.0, "leaving"),
        (VRRP2, 0.5, "master"),
        (VRRP2, 3.1, "silent"),
        (VRRP2[:2] + b"\0" + VRRP2[3:], 0.0, "leaving"),
    ],
)
def test_states(payload: bytes, age: float, state: str) -> None:
    """Silent after three of its intervals; leaving when it said so, in either protocol."""
    assert state == table((10.0, heard(payload)), now=10.0 + age)[0][3]


@pytest.mark.parametrize(
    ("verdict", "remark"),
    [
        (heard(advert(seal=True)), "ok, sealed"),
        (heard(advert()), "ok"),
        (heard(advert()[:-1] + b"\0"), "checksum"),
        (heard(advert(), ttl=1), "ttl"),
        (heard(b"\x51" + bytes(35)), "version"),
        (heard(UCARP_HEADER[:9]), "short"),
        (heard(VRRP3), "VRRPv3"),
    ],
)
def test_remarks(verdict: Verdict, remark: str) -> None:
    """The HMAC, or what is wrong before it."""
    segment = Segment()
    segment.hear(verdict, 0.0)
    assert remark in segment.lines(0.0, width=200, height=9)[1]


def test_vrrp_is_named_with_its_priority() -> None:
    """In the place of base and skew."""
    line = table((0.0, heard(VRRP3)), now=0.0)[0]
    assert ["vrrp", "11", "10.99.0.1", "master", "prio", "200", "-", "-"] == line[:8]


def test_one_line_per_protocol_vhid_and_source_in_order() -> None:
    """Two masters of one vhid stand one below the other."""
    payloads = [(VRRP2, "10.99.0.9"), (UCARP_HEADER, "10.99.0.2"), (UCARP_HEADER, "10.99.0.1")]
    lines = table(*((0.0, heard(payload, source)) for payload, source in payloads * 2), now=0.0)
    expected = [("carp", "10.99.0.1"), ("carp", "10.99.0.2"), ("vrrp", "10.99.0.9")]
    assert expected == [(line[0], line[2]) for line in lines]


def test_lines_fit_the_terminal() -> None:
    """Neither wider nor higher, and what is left out is counted."""
    segment = Segment()
    for number in range(20):
        segment.hear(heard(UCARP_HEADER, f"10.99.0.{number}"), 0.0)
    lines = segment.lines(0.0, width=40, height=10)
    assert (10, "... and 12 more") == (len(lines), lines[-1])
    assert max(len(line) for line in lines) <= 40
    assert 21 == len(segment.lines(0.0, width=40, height=21))
    assert 2 == len(segment.lines(0.0, width=40, height=1))


def test_a_flood_of_sources_is_bounded() -> None:
    """The one silent for longest goes first."""
    segment = Segment()
    for number in range(MAX_SPEAKERS + 5):
        source = str(ip_address("10.0.0.0") + number)
        segment.hear(heard(UCARP_HEADER, source), float(number))
    lines = segment.lines(0.0, width=200, height=9999)
    assert MAX_SPEAKERS + 1 == len(lines)
    assert "10.0.0.5 " in "".join(lines)
    assert "10.0.0.4 " not in "".join(lines)
