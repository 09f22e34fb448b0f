"""The first claim on a segment, and addresses that somebody else uses."""

from __future__ import annotations

import time

from beside import Measured, beside, labs
from nodefix import VIP, VIP6, Lab, add, at, delete, first, holds, idle, in_time, run_ip, vhost, wait_until

__all__ = ["labs"]


@beside
def test_first_claim_among_own(lab: Lab) -> Measured:
    """Among our own members a free address is claimed within one interval and 0.3 s of the start."""
    lab.node("n1")
    with lab.sniffer() as sniffer:
        one = lab.daemon("n1", vhost(authentication={"mode": "Sealed"})).start()
        wait_until(lambda: sniffer.adverts("10.99.0.1"), 5, "an advert", one)
        took = sniffer.adverts("10.99.0.1")[0].at - one.started_at
        one.master(2)
        began, claimed = one.events("state")[:2]
    listening = at(claimed) - at(began)
    in_time(1.0 - 0.02, listening)  # the first line may have been written late
    in_time(listening, 1.3)
    return {"first_claim_s": took, "of_that_listening_s": listening}


@beside
def test_first_claim_among_strangers(lab: Lab) -> Measured:
    """Where members may be others' it listens for base + 1 s, since any skew may be theirs."""
    one = lab.daemon("n1", vhost()).start().master()
    times = [at(line) for line in one.events("state")]
    in_time(2.0 - 0.02, times[1] - times[0])
    in_time(times[1] - times[0], 2.4)
    return {"listening_s": times[1] - times[0]}


@beside
def test_named_first_claimant(lab: Lab) -> Measured:
    """The first claimant that the planner names claims after three unanswered probes."""
    lab.node("n1")
    with lab.sniffer() as sniffer:
        one = lab.daemon("n1", first()).start().master()
        wait_until(sniffer.adverts, 2, "an advert", one)
        probes = [
            f for f in sniffer._frames if f.is_arp and f.packet[14:18] == b"\0" * 4 and _asks_for_vip(f)
        ]
        advert = sniffer.adverts()[0]
    assert 3 == len(probes)
    assert advert.at - probes[0].at > 0.2
    in_time(advert.at - probes[0].at, 0.5)
    return {"probes_to_claim_s": advert.at - probes[0].at}


@beside
def test_members_start_together(lab: Lab) -> None:
    """Three members of different skews that start at the same moment make one master."""
    daemons = [lab.daemon(f"n{i}", vhost(advskew=10 * i)) for i in (1, 2, 3)]
    for each in daemons:
        each.start()
    wait_until(lambda: "MASTER" in [each.state() for each in daemons], 6, "a master", *daemons)
    idle(2)
    assert ["BACKUP", "BACKUP", "MASTER"] == sorted(each.state() for each in daemons)


@beside
def test_conflict_with_a_host(lab: Lab) -> Measured:
    """A host that answers for the address and sends no adverts is named with its MAC, and nothing is claimed;
    when it gives the address up, it is claimed.
    """
    stranger = lab.node("n9")
    add(stranger, f"{VIP}/32")
    one = lab.daemon("n1", first(advbase=1, deadRatio=2)).start()
    begin = time.monotonic()
    notice = one.wait_event("conflict", 12)
    took = time.monotonic() - begin
    assert stranger.mac in notice["message"]
    assert VIP in notice["message"]
    assert stranger.mac in lab.status(one)
    assert not holds(lab.node("n1"))
    assert "BACKUP" == one.state()
    delete(stranger, VIP)
    claimed = wait_until(lambda: one.state() == "MASTER", 6, "it claims", one)
    return {"conflict_after_s": took, "claimed_after_s": claimed}


@beside
def test_conflict_over_ipv6(lab: Lab) -> None:
    """The same for an IPv6 address, by neighbour discovery."""
    stranger = lab.node("n9")
    add(stranger, f"{VIP6}/128")
    one = lab.daemon("n1", first(addresses=[VIP6], deadRatio=2)).start()
    assert stranger.mac in one.wait_event("conflict", 12)["message"]
    assert not holds(lab.node("n1"), VIP6)
    delete(stranger, VIP6)
    one.master(6)


@beside
def test_killed_owner_only_defers(lab: Lab) -> None:
    """The kernel of a killed owner still answers for the address: a member that starts then waits, and calls
    nothing a conflict.
    """
    one = lab.daemon("n1", first()).start().master()
    wait_until(lambda: holds(lab.node("n1")), 2, "it holds the address", one)
    one.kill()
    with lab.prober() as prober:
        two = lab.daemon("n2", first()).start().master(6)
        idle(0.5)
        result = prober.stop()
    assert [] == two.events("conflict")
    assert 0 == result.summary.two_owners.total_s


@beside
def test_address_of_the_host_itself(lab: Lab) -> None:
    """An address that the host has for good is no address to share: the vhost says so and leaves it alone."""
    node = lab.node("n1")
    run_ip(node, "address", "add", f"{VIP}/24", "dev", "eth0")
    one = lab.daemon("n1", first()).start()
    wait_until(lambda: one.running.poll() is None and "Switching" not in one.text, 1, "it runs", one)
    idle(1.5)
    assert f"address {VIP} is already the interface's own address" in lab.status(one)
    assert f"{VIP}/24" in run_ip(node, "address", "show", "dev", "eth0")
    run_ip(node, "address", "del", f"{VIP}/24", "dev", "eth0")
    one.master(6)


def _asks_for_vip(frame: object) -> bool:
    return frame.packet[24:28] == bytes(map(int, VIP.split(".")))  # type: ignore[attr-defined,no-any-return]
