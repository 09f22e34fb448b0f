"""The checks of `carp doctor` that need nothing from the wire. Pure: facts in, findings out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from carp.commands import words
from carp.commands.finding import Finding, Target, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any

    from carp.commands.host import Host
    from carp.core.auth import Address
    from carp.rtnl import Addr

OK, WARN, FAIL, SKIPPED = Verdict.OK, Verdict.WARN, Verdict.FAIL, Verdict.SKIPPED
_MIN_MTU: Final = {4: 576, 6: 1280}
"""Bytes: RFC 791 and RFC 8200 section 5; the kernel switches IPv6 off below its own."""
_TEMPORARY: Final = 0x01
"""IFA_F_TEMPORARY, for IPv6 addresses only."""
_ARP_SILENT: Final = 8
"""The value of arp_ignore under which no address is answered (ip-sysctl)."""


def check_host(host: Host, daemon: dict[str, Any] | None) -> Iterator[Finding]:
    """Judge what is the same for all vhosts; ``daemon`` is carpd's hello, None where it is not asked."""
    yield _capability(host, runs=daemon is not None)
    yield from _carpd(daemon)


def _capability(host: Host, *, runs: bool) -> Finding:
    if not host.missing:
        return Finding("host", "capability", OK, "this process has CAP_NET_ADMIN and CAP_NET_RAW")
    lacks = f"this process lacks {' and '.join(host.missing)}"
    advice = "run carp doctor as root"
    if runs:
        return Finding("host", "capability", WARN, f"{lacks}; carpd runs all the same", advice)
    return Finding("host", "capability", FAIL, f"{lacks}: carp could not take part", advice)


def _carpd(daemon: dict[str, Any] | None) -> Iterator[Finding]:
    if daemon is None:
        yield Finding("host", "carpd", SKIPPED, "not asked, since --interface is given")
        return
    yield Finding("host", "carpd", OK, f"answers: version {daemon['version']}, pid {daemon['pid']}")
    if daemon["maintenance"]:
        text = f"this node stands back: maintenance mode is on, {words.how_long(daemon)}"
        yield Finding("host", "maintenance", WARN, text, "if that is over: carp maintenance off")
    for problem in daemon["problems"]:
        yield Finding("host", "carpd", FAIL, problem, "correct it; carpd goes on with what it has")
    if not daemon["persisted"]:
        text = "the newest settings are not on disk: a restart goes back to older ones"
        yield Finding("host", "carpd", FAIL, text, "make room or mend the disk of --state-dir")


def check_interface(name: str, targets: Sequence[Target], host: Host) -> Iterator[Finding]:
    """Judge an interface on which ``targets`` live, in the order in which things have to work."""
    link = host.links.get(name)
    if link is None:
        there = ", ".join(sorted(host.links))
        yield Finding(
            name, "interface", FAIL, f"does not exist; there are {there}", "correct the vhost's `interface`"
        )
        return
    families = sorted({family for target in targets for family in target.families})
    vips = {ip for target in targets for ip in target.ips}
    own = host.own(name, vips)
    if not link.up:
        yield Finding(name, "interface", FAIL, "is down", f"ip link set {name} up")
    else:
        yield from _addressing(name, families, vips, own)
    yield _carrier(name, host)
    yield _mtu(name, link.mtu, families)
    yield from _memberships(name, targets, host)
    if 4 in families:
        yield _reverse_path(name, vips, own, host)
        yield _arp(name, host)
    yield _bridge(name, host)
    if 6 in families:
        yield _privacy(name, own, host)


def _network(address: Addr) -> IPv4Network | IPv6Network:
    return ip_network((address.address, address.prefixlen), strict=False)


def _addressing(
    name: str, families: Sequence[int], vips: set[Address], own: Sequence[Addr]
) -> Iterator[Finding]:
    for family in families:
        if not any(a.address.version == family for a in own):
            text = f"has no own IPv{family} address, so adverts have no source"
            yield Finding(name, "interface", FAIL, text, f"give {name} an address beside the shared one")
            return
    outside = [str(vip) for vip in sorted(vips, key=str) if not any(vip in _network(a) for a in own)]
    if outside:
        text = f"{', '.join(outside)} is in no subnet of this interface: neighbours do not ask for it by ARP"
        yield Finding(name, "interface", WARN, text, "right only where a router sends it here")
        return
    shown = ", ".join(f"{a.address}/{a.prefixlen}" for a in own)
    yield Finding(name, "interface", OK, f"is up, with {shown}")


def _carrier(name: str, host: Host) -> Finding:
    carrier = host.carriers.get(name)
    if carrier is None:
        return Finding(name, "carrier", SKIPPED, "its driver does not say")
    if carrier:
        return Finding(name, "carrier", OK, "is there")
    return Finding(name, "carrier", FAIL, "no carrier", "look at the cable, the switch port, the bond")


def _mtu(name: str, mtu: int, families: Sequence[int]) -> Finding:
    for family in families:
        if mtu < _MIN_MTU[family]:
            text = f"{mtu} bytes; IPv{family} needs {_MIN_MTU[family]}"
            return Finding(name, "mtu", FAIL, text, f"ip link set {name} mtu 1500")
    return Finding(name, "mtu", OK, f"{mtu} bytes; the other members need the same")


def _memberships(name: str, targets: Sequence[Target], host: Host) -> Iterator[Finding]:
    transports = [t.status["transport"] for t in targets if t.status and t.state in ("MASTER", "BACKUP")]
    if not transports:
        yield Finding(name, "group", SKIPPED, "no vhost takes part here now")
        return
    groups = {each[key]: None for each in transports for key in ("group4", "group6") if key in each}
    if not groups:
        yield Finding(name, "group", OK, "needs no group: unicast only")
    for group in groups:
        if ip_address(group) in host.groups.get(name, frozenset()):
            yield Finding(name, "group", OK, f"is a member of {group}")
        else:
            text = f"is no member of {group}, to which adverts are sent"
            yield Finding(name, "group", FAIL, text, "restart carpd and look at its log")


def _reverse_path(name: str, vips: set[Address], own: Sequence[Addr], host: Host) -> Finding:
    value = host.effective(name, "rp_filter")
    if value is None:
        return Finding(name, "rp_filter", SKIPPED, "the kernel's parameter cannot be read")
    if value != 1:
        return Finding(name, "rp_filter", OK, f"{value} ({'loose' if value == 2 else 'off'})")
    advice = f"sysctl -w net.ipv4.conf.{name}.rp_filter=2"
    twins = [n for n in host.links if n != name and _share_subnet(own, host.own(n, vips))]
    if twins:
        text = f"strict, and {', '.join(twins)} has the same subnet: packets from there may be dropped here"
        return Finding(name, "rp_filter", FAIL, text, advice)
    if any(vip.version == 4 and not any(vip in _network(a) for a in own) for vip in vips):
        text = "strict, with a shared address outside of the interface's subnets: replies may be dropped"
        return Finding(name, "rp_filter", WARN, text, advice)
    return Finding(name, "rp_filter", OK, "strict, which does no harm here")


def _share_subnet(own: Sequence[Addr], others: Sequence[Addr]) -> bool:
    subnets = [_network(a) for a in own if a.address.version == 4]
    return any(other.address in subnet for other in others for subnet in subnets)


def _arp(name: str, host: Host) -> Finding:
    ignore, announce = host.effective(name, "arp_ignore"), host.effective(name, "arp_announce")
    if ignore is None:
        return Finding(name, "arp_ignore", SKIPPED, "the kernel's parameter cannot be read")
    if ignore >= _ARP_SILENT:
        text = f"arp_ignore is {ignore}: ARP is answered for no address at all"
        return Finding(name, "arp_ignore", FAIL, text, f"sysctl -w net.ipv4.conf.{name}.arp_ignore=1")
    twins = [n for n in host.links if n != name and _share_subnet(host.own(name), host.own(n))]
    if ignore == 0 and twins:
        text = f"arp_ignore is 0, and {', '.join(twins)} has the same subnet: both answer for an address"
        return Finding(name, "arp_ignore", WARN, text, f"sysctl -w net.ipv4.conf.{name}.arp_ignore=1")
    return Finding(name, "arp_ignore", OK, f"arp_ignore {ignore}, arp_announce {announce}")


def _bridge(name: str, host: Host) -> Finding:
    bridge = host.bridges.get(name)
    if bridge is None:
        text = f"{name} stands on no bridge of this host; a switch that snoops cannot be seen from here"
        return Finding(name, "snooping", SKIPPED, text)
    if not bridge.snooping:
        return Finding(name, "snooping", OK, f"bridge {bridge.name} floods multicast")
    if bridge.querier:
        return Finding(name, "snooping", OK, f"bridge {bridge.name} snoops, and a querier asks")
    text = f"bridge {bridge.name} snoops on multicast and no querier asks: members may be forgotten"
    advice = f"ip link set {bridge.name} type bridge mcast_querier 1 (or mcast_snooping 0)"
    return Finding(name, "snooping", WARN, text, advice)


def _privacy(name: str, own: Sequence[Addr], host: Host) -> Finding:
    temporary = [a for a in own if a.address.version == 6 and a.flags & _TEMPORARY]
    advice = "set the vhost's `source` to a lasting address"
    if temporary:
        shown = ", ".join(str(a.address) for a in temporary)
        text = f"{shown} is temporary: adverts that leave from it end with it"
        return Finding(name, "ipv6-privacy", WARN, text, advice)
    if host.setting(f"ipv6/conf/{name}/use_tempaddr") in (None, 0, -1):
        return Finding(name, "ipv6-privacy", OK, "no temporary addresses")
    text = "use_tempaddr is on: after a router's advertisement a temporary address may become the source"
    return Finding(name, "ipv6-privacy", WARN, text, advice)


def check_health(target: Target) -> Iterator[Finding]:
    """Report carpd's own health checks of a vhost, where it has any."""
    if target.status is None or not target.status["health"]:
        return
    down = list(words.failing(target.status))
    for text in down:
        yield Finding(
            target.name, "health", WARN, text, "mend what it checks; this node is demoted meanwhile"
        )
    if not down:
        names = ", ".join(check["name"] for check in target.status["health"])
        yield Finding(target.name, "health", OK, f"no check is down: {names}")


def check_proxy(target: Target, host: Host) -> Iterator[Finding]:
    """Judge whether this host would answer for an address that the vhost's interface does not hold."""
    ignore = host.effective(target.interface, "arp_ignore")
    for ip in target.ips:
        where = ", ".join(name for name in host.holders(ip) if name != target.interface)
        if not where:
            text = f"no other interface holds {ip}; a DNAT rule for it cannot be seen from here"
            yield Finding(target.name, "kube-proxy", OK, text)
            continue
        if ip.version == 6 or ignore:
            text = f"{ip} is also on {where}; ARP and ND for it are not answered from there"
            yield Finding(target.name, "kube-proxy", OK, text)
            continue
        text = f"{ip} is on {where}, and arp_ignore 0 makes {target.interface} answer for it in every state"
        advice = (
            f"kube-proxy: ipvs.strictARP true; else sysctl -w net.ipv4.conf.{target.interface}.arp_ignore=1"
        )
        yield Finding(target.name, "kube-proxy", FAIL, text, advice)
