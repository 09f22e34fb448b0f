"""Two carpds on one host, such as a static pod beside a DaemonSet: neither touches the other's addresses."""

from __future__ import annotations

from beside import Measured, beside, labs
from carpd import call, shown
from nodefix import VIP, Lab, first, holds, idle, wait_until

__all__ = ["labs"]
HELD = f"address {VIP} is held by another vhost or carp process on this host"


OTHER = first("other", vhid=43)


@beside
def test_an_address_of_the_other(lab: Lab) -> Measured:
    """The second waits and says for what, also after a restart; the first serves on, and lets it begin by
    giving the address up.
    """
    one = lab.daemon("n1", first()).start().master()
    two = lab.daemon("n1", OTHER, files="n1b")
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for _ in range(2):
            two.start()
            wait_until(lambda: shown(lab, "n1b", "other").get("reason") == HELD, 5, "it waits", two)
            idle(1.5)
            assert "INIT" == shown(lab, "n1b", "other")["state"]
            two.kill()
        two.start()
        result = prober.stop()
    assert (0, "MASTER") == (result.summary.lost, one.state())
    lab.configure("n1", first(addresses=["10.99.0.251"]))
    two.wait_state("MASTER", 10, vhost="other")
    assert holds(lab.node("n1"))
    assert "MASTER" == shown(lab, "n1")["state"]
    assert 0 == one.term()
    assert 0 == two.term()
    return {"lost": 0}


@beside
def test_what_the_other_holds_is_shown(lab: Lab) -> None:
    """Who places vhosts sees it among the host's own addresses, at the second look."""
    one = lab.daemon("n1", first()).start().master()
    two = lab.daemon("n1", {**OTHER, "addresses": ["10.99.0.251"]}, files="n1b").start()
    wait_until(lambda: VIP in str(call(lab, "n1b", "status")["links"]), 15, "it is shown", two)
    assert VIP not in str(call(lab, "n1", "status")["links"])
    for each in (one, two):
        each.term()
