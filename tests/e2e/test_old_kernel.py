"""Kernels before 5.18 do not tell who added an address: no resume there, but all else works."""

from __future__ import annotations

from beside import Measured, beside, labs
from nodefix import VIP, Lab, add, first, gave_up, holds, idle, in_time, run_ip, vhost, wait_until

__all__ = ["labs"]


@beside
def test_election_on_an_old_kernel(lab: Lab) -> Measured:
    """Failover, handover and the way back work, and a killed owner still never makes two."""
    one = lab.daemon("n1", first(), patch="old-kernel").start().master()
    two = lab.daemon("n2", vhost(advskew=20), patch="old-kernel").start()
    lab.heard(two)
    with lab.prober() as prober:
        prober.wait_owner(lab.node("n1"), 5)
        prober.mark("term")
        assert 0 == one.term()
        prober.wait_owner(lab.node("n2"), 3)
        lab.heard(one.start())
        prober.mark("kill")
        two.kill()
        prober.wait_owner(lab.node("n1"), 6)
        result = prober.stop()
    handed_over, killed = (summary for _, summary in result.per_mark())
    assert 0 == handed_over.lost
    assert 0 == killed.two_owners.total_s
    return {"lost": 0, "two_owners_s": 0}


@beside
def test_no_resume_on_an_old_kernel(lab: Lab) -> None:
    """A restarted owner deletes the finite address that an earlier run left and begins as backup."""
    one = lab.daemon("n1", first(), patch="old-kernel").start().master()
    wait_until(lambda: holds(lab.node("n1")), 2, "it holds the address", one)
    one.kill()
    add(lab.node("n1"), "10.99.0.253/32", lifetime=60)
    before = one.count
    one.start()
    assert "BACKUP" == one.wait_event("state", 5, since=before)["new"]
    assert gave_up(one, before)
    one.master(5)
    assert "resuming" not in one.text
    assert holds(lab.node("n1"), "10.99.0.253")


@beside
def test_deleted_by_hand_on_an_old_kernel(lab: Lab) -> Measured:
    """An address deleted by hand is back by the next renewal at the latest, half a second later."""
    one = lab.daemon("n1", first(), patch="old-kernel").start().master()
    node = lab.node("n1")
    wait_until(lambda: holds(node), 2, "it holds the address", one)
    idle(0.3)
    run_ip(node, "address", "del", f"{VIP}/32", "dev", "eth0")
    took = wait_until(lambda: holds(node), 2, "it is back", one)
    in_time(took, 0.6)
    assert "MASTER" == one.state()
    return {"back_after_s": took}
