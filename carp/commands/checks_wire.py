"""The checks of `carp doctor` that judge what was heard. Pure: facts in, findings out."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Final

from carp.commands import words
from carp.commands.arguments import age
from carp.commands.finding import Finding, Target, Verdict
from carp.core.seal import is_far

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp.commands.hearing import Heard, Speaker
    from carp.commands.host import Host
    from carp.core.auth import Address

OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED
_VIRTUAL_MAC: Final = "00:00:5e:00:01:"
_SETTINGS: Final = "compare password, address list and vhid on both sides; else choose another vhid"


def check_wire(target: Target, host: Host, heard: Heard | str) -> Iterator[Finding]:
    """Judge adverts, other speakers, owners of the addresses and clocks of one vhost.

    ``heard`` says why nobody listened where it is a text.
    """
    reason = heard if isinstance(heard, str) else heard.problems.get(target.interface, "")
    if isinstance(heard, str) or reason or target.interface not in host.links:
        text = reason or "there is no interface to listen on"
        if target.state == "INIT":
            yield _adverts(target, [], [], 0.0)
        for check in ("adverts", "speakers", "owner", "clock")[target.state == "INIT" :]:
            yield Finding(target.name, check, SKIPPED, text)
        return
    ours = [each for each in heard.of(target) if each.ours]
    others = [each for each in heard.of(target) if not each.ours]
    yield _adverts(target, ours, others, heard.seconds)
    yield from _speakers(target, ours, others, heard)
    for ip in target.ips:
        yield _owner(target, ip, host, others, heard)
    yield from _clocks(target, ours, others)


def _sources(speakers: Sequence[Speaker]) -> str:
    return ", ".join(f"{each.source} ({each.mac})" for each in speakers)


def _adverts(target: Target, ours: list[Speaker], others: list[Speaker], seconds: float) -> Finding:
    """Judge whether adverts get through, as far as one node can know."""
    name, status = target.name, target.status
    if status is None:
        return Finding(name, "adverts", SKIPPED, "carpd is not asked, so this node's part is not known")
    if target.state == "INIT":
        text = status["reason"] or words.cause(status["cause"])
        return Finding(name, "adverts", FAIL, f"the vhost takes no part: {text}", "correct that first")
    if target.state == "MASTER":
        return _own_adverts(target, status["sendProblem"], sum(each.count for each in ours), seconds)
    if target.believed is not None:
        ago = age(status["master"]["lastHeard"])
        text = f"a backup sends none; it heard the master {target.believed} {ago} ago"
        return Finding(name, "adverts", OK, text)
    if others:
        text = f"{_sources(others)} advertises this vhid, and carpd does not believe it: "
        text += words.drops(status["drops"]) or "no reason counted yet"
        return Finding(name, "adverts", FAIL, text, _SETTINGS)
    text = f"backup, and no master was heard for {age(seconds)}"
    return Finding(name, "adverts", FAIL, text, "is multicast filtered? carp watch on the master's node")


def _own_adverts(target: Target, problem: str, sent: int, seconds: float) -> Finding:
    if problem:
        advice = "look at qdiscs and at the packet filter for protocol 112"
        return Finding(target.name, "adverts", FAIL, f"do not leave: {problem}", advice)
    if not sent and seconds < target.patience:
        text = f"an advert leaves every {age(target.period)}: {age(seconds)} of listening are too short"
        return Finding(target.name, "adverts", SKIPPED, text, _longer(target))
    if not sent:
        text = f"master, but no advert left {target.interface} in {age(seconds)}"
        return Finding(target.name, "adverts", FAIL, text, "look at carpd's log")
    text = f"{sent} left {target.interface} in {age(seconds)}; backups are silent: whether they hear them "
    text += "cannot be known from here"
    advice = f"on another node: carp watch -i {target.interface} --vhid {target.vhid}"
    return Finding(target.name, "adverts", SKIPPED, text, advice)


def _longer(target: Target) -> str:
    return f"carp doctor {target.name} --listen {ceil(target.patience)}s"


def _speakers(target: Target, ours: list[Speaker], others: list[Speaker], heard: Heard) -> Iterator[Finding]:
    """Judge who else uses the vhid: VRRP shares the protocol, the group and the virtual MACs."""
    routers = [each for each in heard.of(target, "vrrp") if not each.ours]
    if routers:
        text = f"{_sources(routers)} speaks VRRP with the same id: the same virtual MAC for both"
        yield Finding(target.name, "speakers", WARN, text, "choose a vhid that no VRRP router here uses")
    pairs = [(a, b) for a in (*ours, *others) for b in others if a.mac != b.mac and a.overlaps(b)]
    if pairs:
        both = sorted({f"{each.source} ({each.mac})" for pair in pairs for each in pair})
        text = f"several masters advertise vhid {target.vhid} at once: {', '.join(both)}"
        yield Finding(target.name, "speakers", FAIL, text, f"they do not hear each other: {_SETTINGS}")
    elif others and target.state == "BACKUP" and target.believed is None:
        text = f"vhid {target.vhid} is in use by {_sources(others)}, which carpd does not believe"
        yield Finding(target.name, "speakers", FAIL, text, _SETTINGS)
    elif others and target.status is None:
        text = f"vhid {target.vhid} is in use by {_sources(others)}"
        yield Finding(target.name, "speakers", WARN, text, "right if that is a member; else choose another")
    elif others and target.state == "MASTER":
        text = f"{_sources(others)} advertised vhid {target.vhid} too, but not at the same time: a handover?"
        yield Finding(target.name, "speakers", WARN, text, "run carp doctor again")
    elif not routers:
        text = f"nobody else uses vhid {target.vhid}" if not others else f"only {_sources(others)}, a member"
        yield Finding(target.name, "speakers", OK, text)


def _owner(target: Target, ip: Address, host: Host, others: list[Speaker], heard: Heard) -> Finding:
    """Judge who answers ARP or ND for an address: that is its owner (design.md section 4, rule 10)."""
    macs = heard.answers.get((target.interface, ip), set())
    shown = ", ".join(sorted(macs))
    look = "look there: ip address show; other VIP software? kube-proxy without strictARP?"
    if target.interface in host.holders(ip):
        if macs:
            return Finding(
                target.name, "owner", FAIL, f"{ip} is held here, and {shown} answers for it too", look
            )
        return Finding(target.name, "owner", OK, f"{ip} is held here, and nobody else answers for it")
    if target.state == "MASTER":
        text = f"{ip} is not on {target.interface}, though this node is master"
        return Finding(target.name, "owner", FAIL, text, "look at carpd's log, and at the up script if any")
    if len(macs) > 1:
        return Finding(target.name, "owner", FAIL, f"{ip} is answered by several: {shown}", look)
    if not macs:
        return _nobody(target, ip, others)
    known = {each.mac for each in others} | {f"{_VIRTUAL_MAC}{target.vhid:02x}"}
    if macs <= known:
        return Finding(target.name, "owner", OK, f"{ip} is answered by the master ({shown})")
    if target.believed is not None and not others and heard.seconds < target.patience:
        text = f"{ip} is answered by {shown}; the master advertises every {age(target.period)}, and was not "
        text += f"heard in {age(heard.seconds)}"
        return Finding(target.name, "owner", SKIPPED, text, _longer(target))
    if others:
        text = f"{ip} is answered by {shown}, but the adverts come from {_sources(others)}"
        return Finding(target.name, "owner", FAIL, text, look)
    return Finding(target.name, "owner", FAIL, f"{ip} is answered by {shown}, which advertises nothing", look)


def _nobody(target: Target, ip: Address, others: list[Speaker]) -> Finding:
    if not others:
        return Finding(target.name, "owner", OK, f"nobody answers for {ip}, and nobody advertises it")
    text = f"nobody answers for {ip}, though {_sources(others)} advertises"
    advice = "on that node: does its interface hold it? arp_ignore? the up script?"
    return Finding(target.name, "owner", FAIL, text, advice)


def _clocks(target: Target, ours: list[Speaker], others: list[Speaker]) -> Iterator[Finding]:
    """Compare the time in sealed adverts with this host's clock; it never decides who is master."""
    members = [each for each in others if target.sealed and str(each.source) == target.believed]
    sealed = [*ours, *members] if target.status is not None else []
    far = [each for each in sealed if is_far(each.drift)]
    for each in far:
        side = "ahead of" if each.drift > 0 else "behind"
        text = f"the counter of {each.source} is {age(abs(each.drift))} {side} this host's clock"
        advice = "set both clocks by NTP; a master's counter runs ahead after a clock was set back"
        yield Finding(target.name, "clock", WARN, text, advice)
    if not sealed:
        yield Finding(target.name, "clock", SKIPPED, "no sealed advert was heard to compare with")
    elif not far:
        worst = max(abs(each.drift) for each in sealed)
        yield Finding(target.name, "clock", OK, f"counters are within {age(worst)} of this host's clock")
