"""Scripts beside the election: slow, failing, flooding ones never change it."""

from __future__ import annotations

import signal
import time
from itertools import pairwise

from beside import Measured, beside, labs
from nodefix import VIP, Lab, first, holds, idle, in_time, run_ip, vhost, wait_until

__all__ = ["labs"]


def recorder(lab: Lab, name: str, more: str = "") -> str:
    """Return a script that writes down its arguments."""
    return lab.script(name, f'echo "{name} $*" >> {lab.folder}/calls\n{more}')


def calls(lab: Lab) -> list[str]:
    """Return the calls that were written down."""
    path = lab.folder / "calls"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


@beside
def test_arguments_and_order(lab: Lab) -> None:
    """Scripts get interface, address and argument: down at start, up as master, down when it is no more."""
    scripts = {"up": recorder(lab, "up"), "down": recorder(lab, "down"), "argument": "extra word"}
    one = lab.daemon("n1", first(scripts=scripts)).start().master()
    wait_until(lambda: len(calls(lab)) == 2, 3, "down and up", one)
    lab.heard(lab.daemon("n2", vhost(advskew=20)).start())
    one.signal(signal.SIGUSR2)
    one.backup(5)
    wait_until(lambda: len(calls(lab)) == 3, 3, "down again", one)
    words = f"eth0 {VIP} extra word"
    assert [f"down {words}", f"up {words}", f"down {words}"] == calls(lab)


@beside
def test_ucarp_way(lab: Lab) -> Measured:
    """With --upscript the scripts set the address, as with ucarp; carp says at its start that no fence holds,
    and a script that takes long delays nothing but the address.
    """
    up = lab.script("up", 'exec ip address add "$2/32" dev "$1"')
    down = lab.script("down", 'ip address del "$2/32" dev "$1" 2>/dev/null; exit 0')
    options = ("-u", up, "-d", down, "-z")
    one = lab.carp("n1", *options).start().master()
    assert "nothing takes it away when carp is killed" in one.text
    two = lab.carp("n2", *options, "-k", "20").start()
    lab.heard(two)
    wait_until(lambda: holds(lab.node("n1")), 3, "the script adds the address", one)
    with lab.prober(interval_ms=1.0) as prober:
        prober.wait_owner(lab.node("n1"), 5)
        assert 0 == one.term()
        prober.wait_owner(lab.node("n2"), 5)
        result = prober.stop()
    assert not holds(lab.node("n1"))
    assert "MASTER" == two.state()
    # The old script deletes 0.1 s after the other advert, whether the new one has added by then or not.
    in_time(result.summary.lost, 1)
    return {"lost": 0, "two_owners_s": result.summary.two_owners.total_s}


@beside
def test_script_over_its_time(lab: Lab) -> None:
    """A script that hangs is ended after its own time limit, with what it started, and the log says so."""
    up = lab.script("up", f"sleep 33 & echo $! > {lab.folder}/child; wait")
    one = lab.daemon("n1", first(scripts={"up": up, "timeout": "1s"})).start().master()
    wait_until(lambda: "runs for more than 1 s" in one.text, 6, "it is ended", one)
    child = int((lab.folder / "child").read_text())
    wait_until(lambda: child not in lab.node("n1").namespace.pids(), 4, "its child is ended", one)
    assert "MASTER" == one.state()


@beside
def test_failing_scripts(lab: Lab) -> None:
    """Scripts that fail, do not exist or flood the log are reported, bounded, and change no state."""
    flood = lab.script("up", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 3")
    one = lab.daemon("n1", first(scripts={"up": flood, "down": "/nowhere/down"})).start().master()
    with lab.sniffer() as sniffer:
        wait_until(lambda: "exit code 3" in one.text, 10, "the flood ends", one)
        idle(1)
        times = [f.at for f in sniffer.adverts("10.99.0.1")]
    assert "/nowhere/down eth0 10.99.0.252: cannot be run" in one.text
    assert "prints too much" in one.text
    assert one.count < 300
    in_time(max(b - a for a, b in pairwise(times)), 0.7)
    assert "MASTER" == one.state()


@beside
def test_scripts_at_exit(lab: Lab) -> None:
    """An owner that nobody replaces runs its down script at exit where that is asked for (ucarp's -z)."""
    scripts = {"up": recorder(lab, "up"), "down": recorder(lab, "down")}
    one = lab.daemon("n1", first(scripts={**scripts, "onExit": False, "neutral": True})).start().master()
    assert 0 == one.term()
    assert [f"up eth0 {VIP}"] == calls(lab)
    lab.configure("n1", first(scripts={**scripts, "onExit": True, "neutral": True}))
    wait_until(lambda: not holds(lab.node("n1")), 5, "the lease is over", one)
    one.start().master()
    begin = time.monotonic()
    assert 0 == one.term()
    in_time(time.monotonic() - begin, 3)
    assert [f"up eth0 {VIP}", f"up eth0 {VIP}", f"down eth0 {VIP}"] == calls(lab)
    assert VIP in run_ip(lab.node("n1"), "address", "show", "dev", "eth0")
