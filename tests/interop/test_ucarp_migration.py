"""The steps of deploy/examples/ucarp-migration, with what a controller makes of its VirtualIP."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from beside import Measured, beside, labs
from nodefix import Lab, holds, idle, vhost, wait_until

__all__ = ["labs"]

pytestmark = pytest.mark.root


def members(**changes: Any) -> dict[str, dict[str, Any]]:
    """Return the vhosts of two nodes of a cluster, by node."""
    mode = {"authentication": {"mode": "Interoperable"}}
    return {
        "n3": vhost("service", advskew=0, **{**mode, **changes}),
        "n4": vhost("service", advskew=20, **{**mode, **changes}),
    }


@beside
def test_migration(lab: Lab) -> Measured:
    """A pair of ucarp is replaced by two nodes: no answer is lost, and each step leaves one owner."""
    # Made before one starts: they share scripts, which cannot be written while one runs.
    master, standby = lab.ucarp("n1", "-k", "50"), lab.ucarp("n2", "-k", "100")
    master.start().master()
    standby.start().backup()
    nodes = {name: lab.daemon(name, given).start() for name, given in members().items()}
    with lab.prober(interval_ms=2.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        for daemon in nodes.values():
            lab.heard(daemon)
        idle(1.5)
        assert holds(lab.node("n1"))

        def told(**changes: Any) -> None:
            for name, given in members(**changes).items():
                lab.configure(name, given)
                nodes[name].signal(signal.SIGHUP)

        told(preempt={"mode": "Always"})
        nodes["n3"].master(5)
        prober.wait_owner(lab.node("n3"), 5)
        wait_until(lambda: master.state() == "BACKUP", 4, "ucarp gives way", master)
        for ucarp in (standby, master):
            ucarp.term()
        told(authentication={"mode": "Sealed"})
        idle(4.0)
        result = prober.stop()
    assert ["MASTER", "BACKUP"] == [nodes[name].state() for name in ("n3", "n4")]
    assert [True, False] == [holds(lab.node(name)) for name in ("n3", "n4")]
    summary = result.summary
    assert 0 == summary.lost
    return {"lost": summary.lost, "two_owners_s": summary.two_owners.total_s}
