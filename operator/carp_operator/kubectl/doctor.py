"""`kubectl carp doctor`: check what the API knows of an installation, and say what to do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from carp.commands.arguments import wrapped
from carp.commands.finding import Finding, Verdict
from carp.core.errors import CarpError
from carp_operator.kube.errors import NotFound
from carp_operator.kubectl import access
from carp_operator.kubectl import install as installed
from carp_operator.kubectl import reading as r
from carp_operator.kubectl.checks_install import check_install
from carp_operator.kubectl.checks_objects import check_nodes, check_vip
from carp_operator.kubectl.usage import FAILED, OK, add_output, as_data, make_parser, put

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carp_operator.kube.client import Client
    from carp_operator.kubectl.install import Install
    from carp_operator.kubectl.reading import Cluster
    from carp_operator.kubectl.usage import Parser

_EPILOG: Final = """\
examples:
  kubectl carp doctor
  kubectl carp doctor ingress -o json

It reads and changes nothing. What a node alone can see (the wire, ARP, the kernel) its own doctor checks:
kubectl -n carp-system exec POD -c carpd -- carp doctor

exit codes: 0; 1 for an error, or when a check fails"""
_LABELS: Final = {
    Verdict.OK: "ok  ",
    Verdict.WARN: "WARN",
    Verdict.FAIL: "FAIL",
    Verdict.SKIPPED: "skip",
}


def parser() -> Parser:
    """Return the command line of `kubectl carp doctor`."""
    result = make_parser("doctor", "Check the installation, with a verdict and advice each.", _EPILOG)
    result.add_argument("names", nargs="*", metavar="VIP", help="only these VirtualIPs, and the rest")
    add_output(result)
    installed.add_option(result)
    access.add_options(result)
    return result


def main(words: Sequence[str]) -> int:
    """Run all checks; return the exit code. Raises CarpError."""
    given = parser().parse_args(words)
    names = [access.named(word, "vip", "virtualip", "virtualips") for word in given.names]
    client = access.client(given)
    findings = diagnose(client, given.namespace, names)
    data = {"findings": [asdict(each) for each in findings], **_totals(findings)}
    put(as_data(json.loads(json.dumps(data)), given.output) if given.output else page(findings))
    return FAILED if any(each.verdict is Verdict.FAIL for each in findings) else OK


def diagnose(client: Client, namespace: str | None, names: Sequence[str] = ()) -> list[Finding]:
    """Read everything and return the findings. Raises CarpError."""
    try:
        cluster = r.read(client)
    except NotFound:
        cluster = r.Cluster()  # the findings say that the definitions are missing
    install = installed.survey(client, namespace or installed.find_namespace(client))
    missing = sorted(set(names) - cluster.vips.keys())
    if missing:
        raise CarpError(f'virtualips.carp.vip "{missing[0]}" not found')
    return examine(install, cluster, r.now(), names)


def examine(install: Install, cluster: Cluster, now: float, names: Sequence[str] = ()) -> list[Finding]:
    """Return the findings about the cluster, the controller, each node and each VirtualIP, in this order."""
    found = [*check_install(install, cluster, now), *check_nodes(install, cluster, now)]
    found += [Finding("cluster", "rights", Verdict.SKIPPED, text) for text in cluster.unread.values()]
    for name, vip in cluster.vips.items():
        if not names or name in names:
            found += check_vip(vip, cluster)
    abouts = list(dict.fromkeys(each.about for each in found))
    return sorted(found, key=lambda each: abouts.index(each.about))


def page(findings: Sequence[Finding]) -> str:
    """Return the findings for people, under what they are about."""
    return "".join(f"{line}\n" for line in _lines(findings))


def _lines(findings: Sequence[Finding]) -> Iterator[str]:
    width = max((len(each.check) for each in findings), default=0)
    about = ""
    for each in findings:
        if each.about != about:
            yield each.about
            about = each.about
        head = f"  {_LABELS[each.verdict]}  {each.check:<{width}}  "
        indent = " " * len(head)
        yield head + wrapped(each.text, indent=indent).lstrip()
        if each.advice and each.verdict is not Verdict.OK:
            yield wrapped(f"-> {each.advice}", indent=indent)
    said = {"fail": "failed", "warn": "warnings", "ok": "ok", "skipped": "skipped"}
    totals = _totals(findings)
    yield ""
    yield ", ".join(f"{word} {totals[verdict]}" for verdict, word in said.items())


def _totals(findings: Sequence[Finding]) -> dict[str, int]:
    counts = Counter(each.verdict for each in findings)
    return {verdict.value: counts[verdict] for verdict in Verdict}
