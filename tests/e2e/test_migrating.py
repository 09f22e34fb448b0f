"""The steps of docs/migrating.md, as far as the other programs run here."""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from nodefix import VIP, Lab, Program, add, found, idle, vhost, wait_until
from require import require

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS = 112
"""IFA_PROTO of an address that carp holds."""
SEALED = {"mode": "Sealed"}
KEEPALIVED = """\
vrrp_instance v42 {{
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id 42
  priority {priority}
  advert_int 1
  virtual_ipaddress {{
    {address}/32 dev eth0
  }}
}}
"""


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A LAN of this test alone."""
    with Lab() as made:
        yield made


class Keepalived(Program):
    """Debian's keepalived on a node."""

    def __init__(self, lab: Lab, name: str, priority: int) -> None:
        program = shutil.which("keepalived", path="/usr/sbin:/usr/bin:/sbin:/bin")
        require("keepalived", program is not None, "Debian's package keepalived is not installed")
        config = lab.write(f"{name}.conf", KEEPALIVED.format(priority=priority, address=VIP))
        words = ["--dont-fork", "--vrrp", "--log-console", "--use-file", str(config)]
        pids = ["--pid", str(lab.folder / f"{name}.pid"), "--vrrp_pid", str(lab.folder / f"{name}.vrrp.pid")]
        super().__init__(lab.node(name), lab.folder / f"{name}.keepalived.log", [str(program), *words, *pids])


def test_keepalived_is_replaced_within_a_second(lab: Lab) -> None:
    """The backup ends first; carpd, the first claimant, waits beside the owner until that lets go."""
    one, two = Keepalived(lab, "n1", 200), Keepalived(lab, "n2", 100)
    one.start().wait_text("Entering MASTER STATE", 15)
    two.start().wait_text("Entering BACKUP STATE", 15)
    with lab.prober() as prober:
        prober.wait_answering(10)
        prober.mark("migration")
        two.term()
        first = lab.daemon("n1", vhost(authentication=SEALED, firstClaimant=True)).start()
        first.wait_event("added")
        wait_until(lambda: "own address" in lab.status(first), 5, "carpd stands aside", first)
        one.term()
        first.master(5)
        lab.daemon("n2", vhost(authentication=SEALED, advskew=20)).start().backup()
        lab.configure("n1", vhost(authentication=SEALED))
        first.signal(signal.SIGHUP)
        idle(4)
        assert "MASTER" == first.state()
        held = found(one.node)
        (_, summary) = prober.stop().per_mark()[-1]
    assert held is not None
    assert OURS == held.proto
    assert 0.0 == summary.two_owners.total_s
    assert 1000 > summary.outage_ms
    print(f"outage {summary.outage_ms:.0f} ms")


def test_members_wait_for_an_owner_that_does_not_speak(lab: Lab) -> None:
    """While another program answers for the address nobody claims it; when it lets go, a member does within
    a dead time and the time of three probes.
    """
    owner = lab.node("n9")
    add(owner, VIP)
    with lab.prober() as prober:
        prober.wait_answering(10)
        members = [lab.daemon(f"n{n}", vhost(advskew=20 * n)).start().backup() for n in (1, 2)]
        for member in members:
            member.wait_event("conflict", 20)
        prober.mark("let go")
        assert 0 == owner.popen(["ip", "address", "del", f"{VIP}/32", "dev", "eth0"]).wait(5)
        wait_until(lambda: "MASTER" in [m.state() for m in members], 10, "a member claims")
        idle(2)
        (_, summary) = prober.stop().per_mark()[-1]
    assert 0.0 == summary.two_owners.total_s
    assert 4000 > summary.outage_ms
    print(f"outage {summary.outage_ms:.0f} ms")
