"""`carp doctor`: check everything that has kept a shared address from working, and say what to do."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any, Final

from carp.commands.arguments import (
    OK,
    TROUBLE,
    WrongUseError,
    chosen,
    make_parser,
    say,
    seconds,
    wrapped,
)
from carp.commands.checks_host import check_health, check_host, check_interface, check_proxy
from carp.commands.checks_wire import check_wire
from carp.commands.client import Client, NoAnswerError
from carp.commands.finding import Finding, Target, Verdict
from carp.commands.hearing import Heard, listen
from carp.commands.host import Host, read_host
from carp.converters import number
from carp.core.errors import CarpError, ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from carp.commands.arguments import Parser

_EPILOG: Final = """\
It listens for a few seconds, longer where adverts are slow, and asks by ARP and ND who has the addresses;
it changes nothing and claims nothing. Without carpd, describe the vhost:
carp doctor -i eth0 -v 42 -a 10.1.1.252

exit code: 0; 1 when a check fails; 2 when an argument is wrong, or carpd does not answer and -i is missing
"""
_LISTEN: Final = 4.0
"""s; more than the longest silence of a master at the defaults."""
_LONGEST: Final = 30.0
"""s; slower adverts are waited for only where that is asked for."""
_LABELS: Final = {
    Verdict.OK: "ok  ",
    Verdict.WARN: "WARN",
    Verdict.FAIL: "FAIL",
    Verdict.SKIPPED: "skip",
}


def parser() -> Parser:
    """Return the command line of `carp doctor`."""
    result = make_parser(
        "doctor", "Check this host and its segment, with a verdict and advice each.", _EPILOG
    )
    add = result.add_argument
    add("names", nargs="*", metavar="NAME", help="only these vhosts")
    add("-o", "--output", choices=("json",), help="one JSON object")
    add(
        "--listen",
        type=seconds("--listen", 600.0),
        metavar="TIME",
        help=f"how long to listen (default {_LISTEN:g}s, up to {_LONGEST:g}s for slow adverts; "
        "0s: not at all)",
    )
    group = result.add_argument_group("without carpd (all three)")
    add = group.add_argument
    add("-i", "--interface", metavar="IF", help="the interface")
    add("-v", "--vhid", type=number("--vhid", 1, 255), metavar="N", help="the vhid")
    add("-a", "--address", action="append", default=[], metavar="IP", help="a shared address; repeatable")
    return result


def main(argv: Sequence[str]) -> int:
    """Run all checks and return the exit code."""
    given = parser().parse_args(argv)
    daemon, targets = _described(given) if _is_described(given) else _asked(given)
    host = _host([target.interface for target in targets if target.interface])
    targets = [_placed(target, host) for target in targets]
    findings = examine(daemon, targets, host, _listen_for(targets) if given.listen is None else given.listen)
    if given.output == "json":
        say(json.dumps({"findings": [asdict(each) for each in findings], **_totals(findings)}, indent=2))
    else:
        _print(findings, {target.name: target.title for target in targets})
    return TROUBLE if any(each.verdict is Verdict.FAIL for each in findings) else OK


def _host(interfaces: list[str]) -> Host:
    try:
        return read_host(interfaces)
    except OSError as error:
        raise CarpError(f"doctor: the kernel does not answer: {error}") from None


def _is_described(given: argparse.Namespace) -> bool:
    parts = (given.interface, given.vhid, given.address or None)
    if all(part is None for part in parts):
        return False
    if any(part is None for part in parts) or given.names:
        raise WrongUseError(
            "--interface, --vhid and --address describe one vhost: all three and no NAME; "
            "see carp doctor --help"
        )
    return True


def _described(given: argparse.Namespace) -> tuple[None, list[Target]]:
    addresses = []
    for text in given.address:
        try:
            addresses.append(ip_interface(text))
        except ValueError:
            raise ConfigError("--address (-a)", text, "is not an IP address") from None
    return None, [Target(f"vhid {given.vhid}", given.vhid, given.interface, tuple(addresses))]


def _asked(given: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    try:
        with Client(given.socket) as client:
            answer = client.call("status")
    except NoAnswerError as error:
        raise NoAnswerError(f"{error}\nor without it: carp doctor -i IF -v VHID -a IP") from None
    vhosts = chosen(answer["vhosts"], given.names)
    targets = [
        Target(v["name"], v["vhid"], v["interface"], tuple(map(ip_interface, v["addresses"])), v)
        for v in vhosts
    ]
    return answer["daemon"], targets


def _placed(target: Target, host: Host) -> Target:
    """Find the interface of a vhost that carpd could not place: the one in an address's subnet."""
    if target.interface:
        return target
    for name, link in host.links.items():
        for own in host.addresses:
            network = ip_network((own.address, own.prefixlen), strict=False)
            if own.ifindex == link.ifindex and any(ip in network for ip in target.ips):
                return Target(target.name, target.vhid, name, target.addresses, target.status)
    return target


def examine(
    daemon: dict[str, Any] | None, targets: Sequence[Target], host: Host, listen_for: float
) -> list[Finding]:
    """Return the findings about the host, each interface and each vhost, in this order."""
    findings = list(check_host(host, daemon))
    for name in sorted({target.interface for target in targets} - {""}):
        findings += check_interface(name, [t for t in targets if t.interface == name], host)
    heard = _listen(targets, host, listen_for)
    for target in targets:
        findings += check_wire(target, host, heard)
        findings += check_proxy(target, host)
        findings += check_health(target)
    return findings


def _listen_for(targets: Sequence[Target]) -> float:
    """Return for how many seconds to listen: until each master that is not too slow must have been heard."""
    return max([_LISTEN, *(target.patience for target in targets if target.patience <= _LONGEST)])


def _listen(targets: Sequence[Target], host: Host, listen_for: float) -> Heard | str:
    """Return what was heard, or why nobody listened."""
    if not listen_for:
        return "needs to listen, and --listen is 0s"
    if "CAP_NET_RAW" in host.missing:
        return "needs to listen, and that needs CAP_NET_RAW"
    if sys.stderr.isatty():
        sys.stderr.write(f"listening for {listen_for:g} s ...\n")
    return listen(targets, host, listen_for)


def _totals(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(each.verdict for each in findings)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def _print(findings: Sequence[Finding], titles: dict[str, str]) -> None:
    """Print the findings under what they are about; ``titles`` name the vhosts at more length."""
    width = max(len(each.check) for each in findings)
    about = ""
    for each in findings:
        if each.about != about:
            about = each.about
            say(titles.get(about, about))
        head = f"  {_LABELS[each.verdict]}  {each.check.ljust(width)}  "
        body = wrapped(each.text, indent=" " * len(head))
        say(head + body.lstrip())
        if each.advice and each.verdict is not Verdict.OK:
            say(wrapped(f"-> {each.advice}", indent=" " * len(head)))
    totals = _totals(findings)
    say()
    say(f"failed {totals['fail']}, warnings {totals['warn']}, ok {totals['ok']}, skipped {totals['skipped']}")
