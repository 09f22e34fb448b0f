"""What ours and Debian's ucarp put on the wire, byte by byte; and what a kill of ours costs beside it."""

from __future__ import annotations

import random
import struct
import time
from ipaddress import ip_interface
from typing import TYPE_CHECKING

import pytest

from beside import Measured, beside, labs
from carp.core import wire
from carp.core.config import Credentials
from nodefix import PASSWORD, VIP, Lab, idle, in_time, wait_until

if TYPE_CHECKING:
    from sniffer import Frame

__all__ = ["labs"]

_WIRE_OPTIONS = {
    "defaults": (),
    "base-skew": ("-b", "2", "-k", "17"),
    "nomcast": ("-M",),
    "group": ("--mcastip=239.7.7.7",),
}


def _frames(lab: Lab, source: str, count: int = 2) -> list[Frame]:
    with lab.sniffer() as sniffer:
        wait_until(lambda: len(sniffer.adverts(source)) >= count, 12, f"{count} adverts of {source}")
        return sniffer.adverts(source)


@pytest.mark.parametrize("case", _WIRE_OPTIONS)
@beside
def test_equal_bytes(lab: Lab, case: str) -> None:
    """For ucarp's counter ours are its 36 bytes, in an IP packet with the same fields, to the same group."""
    options = _WIRE_OPTIONS[case]
    theirs = lab.ucarp("n2", *options).start()
    their_frames = _frames(lab, "10.99.0.2")
    theirs.term()  # with -z its script deletes the address: a host that kept it would be a conflict
    ours = lab.carp("n1", *options).start().master()
    our_frame = _frames(lab, "10.99.0.1")[0]
    context = Credentials((ip_interface(VIP),), PASSWORD.encode()).context(42)
    for frame in their_frames:
        advert = frame.advert
        counter = advert.counter.to_bytes(8, "big")
        assert 0 == context.verify(counter, advert.digest)
        head = wire.prefix_sum(42, our_frame.advert.advbase, our_frame.advert.advskew, 0)
        assert frame.payload == wire.seal_packet(head, counter + context.digest(counter))
    assert _ip_fields(their_frames[0]) == _ip_fields(our_frame)
    assert their_frames[0].destination_mac == our_frame.destination_mac
    assert lab.node("n1").mac == our_frame.source_mac
    assert ours.state() == "MASTER"


def _ip_fields(frame: Frame) -> dict[str, object]:
    """Return the header's fields but id and checksum; those are checked apart."""
    first, tos, length, _, fragment, ttl, protocol = struct.unpack("!BBHHHBB", frame.packet[:10])
    assert 0 == wire.checksum(frame.packet[:20].ljust(36, b"\0"))
    return {
        "version and length": first,
        "tos": tos,
        "total length": length,
        "fragment": fragment,
        "ttl": ttl,
        "protocol": protocol,
        "destination": frame.destination,
        "payload": len(frame.data) - 34,
    }


@beside
def test_believes_each_other(lab: Lab) -> None:
    """Neither drops what the other sends: ours counts no drop, ucarp logs no complaint."""
    ours = lab.carp("n1").start().master()
    theirs = lab.ucarp("n2", "-k", "50", "-D").start().backup()
    idle(4)
    ours.kill()
    theirs.master(8)
    ours.start().backup()
    lab.heard(ours)
    idle(3)
    assert [] == ours.events("dropped")
    for complaint in ("checksum", "HMAC", "Bad", "ignor", "mismatch"):
        assert complaint.lower() not in theirs.text.lower(), theirs.text


@pytest.mark.parametrize("seed", [1, 2, 3])
@beside
def test_kill_with_ucarp_as_successor(lab: Lab, seed: int) -> Measured:
    """After kill -9 of ours, at any phase, it and ucarp own the address together for at most 0.15 s."""
    phase = random.Random(seed)
    ours = lab.carp("n1", "-P").start().master()
    theirs = lab.ucarp("n2", "-k", "1").start().backup()
    overlaps, outages = [], []
    with lab.prober() as prober:
        for _ in range(3):
            prober.wait_owner(lab.node("n1"), 8)
            idle(2.2 + phase.uniform(0.0, 0.6))
            prober.mark("kill")
            ours.kill()
            prober.wait_owner(lab.node("n2"), 8)
            idle(0.2)
            prober.mark("back")
            ours.start().master()
        idle(1)
        result = prober.stop()
    for mark, summary in result.per_mark():
        if mark.label == "kill":
            overlaps.append(summary.two_owners.total_s)
            outages.append(round(max(o.duration_ms for o in summary.outages)))
    in_time(max(overlaps), 0.15)
    assert theirs.running.poll() is None
    return {"two_owners_s": overlaps, "outages_ms": outages}


@beside
def test_stop_with_ucarp_as_successor(lab: Lab) -> Measured:
    """Ours stopped for 5 s beside ucarp: together for at most 0.15 s, and it wakes up as a backup."""
    ours = lab.carp("n1").start().master()
    theirs = lab.ucarp("n2", "-k", "1").start().backup()
    with lab.prober() as prober, lab.sniffer() as sniffer:
        prober.wait_owner(lab.node("n1"), 5)
        idle(2.5)
        ours.stop()
        theirs.master(6)
        idle(2)
        woken = time.monotonic()
        ours.cont()
        ours.backup(3)
        idle(1)
        assert [] == sniffer.adverts("10.99.0.1", since=woken)
        result = prober.stop()
    in_time(result.summary.two_owners.total_s, 0.15)
    assert ("BACKUP", "MASTER") == (ours.state(), theirs.state())
    return {"two_owners_s": result.summary.two_owners.total_s}
