"""The command line of `carp-controller`."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from carp import __version__
from carp.core.errors import ConfigError
from carp.core.reader import parse_duration
from carp_operator.kube.access import namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT: Final = """\
Turn VirtualIPs into what each node's carpd runs.

Reads VirtualIP, VirtualIPPool, Node and CarpNode objects of the whole cluster, and Secrets and the pods of
agents in one namespace; writes CarpNode specs, statuses, Events, a Secret for each VirtualIP that names none,
and the Secret carp-keys that the agents read. No address moves through here: with the controller away
everything that runs goes on."""
_MORE: Final = """\
examples:
  carp-controller --metrics 0.0.0.0:9107                     in a pod, as its service account
  carp-controller --namespace carp-system --kubeconfig ~/.kube/config
  carp-controller --leader-elect                             one of several replicas

/healthz says whether the loop turns, /readyz whether everything is known that a plan needs, and since when;
/metrics is for Prometheus. Waiting for changes costs no request; everything is listed once each --resync."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for; times in s."""

    namespace: str
    kubeconfig: str | None
    servers: tuple[str, ...]
    metrics: str
    rate: float
    burst: int
    replace_after: float
    interfaces: str
    resync: float
    leader_elect: bool
    identity: str
    json: bool
    debug: bool


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line. Raises ConfigError; exits with 2 for what is no option, 0 after --help."""
    given = _parser().parse_args(arguments)
    place = given.namespace or os.environ.get("POD_NAMESPACE", "") or namespace()
    if not place:
        raise ConfigError("namespace", None, "is required: --namespace carp-system, or POD_NAMESPACE")
    return Options(
        namespace=place,
        kubeconfig=given.kubeconfig,
        servers=tuple(given.api_server),
        metrics=given.metrics,
        rate=_number("writes-per-second", given.writes_per_second, 0.1, 1000),
        burst=int(_number("write-burst", given.write_burst, 1, 10000)),
        replace_after=_seconds("replace-after", given.replace_after, 10, 7 * 86400),
        interfaces=",".join(_names(given.interfaces)),
        resync=_seconds("resync", given.resync, 10, 86400),
        leader_elect=given.leader_elect,
        identity=os.environ.get("POD_NAME", "") or os.uname().nodename,
        json=given.log_format == "json",
        debug=given.debug,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="carp-controller",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--namespace", default="", metavar="NS", help="where Secrets are [$POD_NAMESPACE, or the pod's own]")
    add("--kubeconfig", metavar="FILE", help="connect as its current context; default: as the pod's account")
    add(
        "--api-server",
        action="append",
        default=[],
        metavar="URL",
        help="an API server to use instead of the one known otherwise; may be repeated: tried in turn",
    )
    add("--metrics", default="", metavar="ADDR:PORT", help="answer /healthz, /readyz and /metrics here")
    add("--writes-per-second", default="10", metavar="N", help="changes sent a second, in the long run [10]")
    add("--write-burst", default="60", metavar="N", help="changes that may be sent at once after a rest [60]")
    add(
        "--replace-after",
        default="5m",
        metavar="TIME",
        help="how long a Node may be NotReady before another takes its memberships [5m]",
    )
    add(
        "--interfaces",
        default="",
        metavar="NAMES",
        help="names or patterns, with commas, of the interfaces that addresses may live on where the "
        "annotation carp.vip/interfaces of a CarpNode does not say; e.g. 'eth*,bond0' [all]",
    )
    add("--resync", default="5m", metavar="TIME", help="how often everything is listed [5m]")
    add("--leader-elect", action="store_true", help="plan and write only while holding the Lease")
    add("--log-format", choices=("text", "json"), default="text", help="[text]")
    add("--debug", action="store_true", help="log more")
    add("--version", action="version", version=f"carp-controller {__version__}")
    return parser


def _names(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if len(name) > 15 or "/" in name or any(map(str.isspace, name)):
            raise ConfigError(
                "interfaces", name, "is no name or pattern of an interface, such as eth0 or bond*"
            )
    return found


def _number(option: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise ConfigError(option, text, f"is not between {low:g} and {high:g}")
    return value


def _seconds(option: str, text: str, low: float, high: float) -> float:
    value = parse_duration(text)
    if value is None:
        raise ConfigError(option, text, "is no duration such as 30s or 5m")
    if not low <= value <= high:
        raise ConfigError(option, text, f"is not between {low:g}s and {high:g}s")
    return value
