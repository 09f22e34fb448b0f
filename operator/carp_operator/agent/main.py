"""`carp-agent`: the process beside carpd in each node's pod."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from carp import __version__, logs
from carp.commands.arguments import Parser, seconds
from carp.commands.client import SOCKET
from carp.core.errors import CarpError, ConfigError
from carp_operator.agent.agent import Agent, Options
from carp_operator.kube.access import FOLDER, from_kubeconfig, in_cluster, namespace
from carp_operator.kube.client import Client

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITE_TIMEOUT: Final = 15.0
"""s without an answer to a write."""
_DESCRIPTION: Final = """\
Hands this node's CarpNode to carpd over its control socket, and writes what carpd does into its status.
Needs no privilege: carpd touches the network, the agent the API server. While the API server, the
CarpNode or the Secret is away, carpd keeps what it has; nothing is removed but by a spec that was read."""
_EPILOG: Final = """\
examples:
  carp-agent                                  in a pod, with NODE_NAME and POD_NAMESPACE in the environment
  carp-agent --node n1 --namespace carp-system --kubeconfig /etc/kubernetes/carp-agent.conf
  carp-agent --api-server https://10.0.0.1:6443 --api-server https://10.0.0.2:6443
                                              tried in turn, so that no address has to float for it

/readyz is 200 when carpd answers and each vhost has taken part for one dead time, with or without API.
On SIGTERM the agent stays until carpd has handed over and closed the socket, writes the last status,
and exits 0."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the agent; return the exit code: 0 after SIGTERM, 2 for wrong use, 1 for what cannot be served."""
    try:
        given = _parser().parse_args(words)
        options = _options(given)
        clients = _clients(given)
    except CarpError as error:
        sys.stderr.write(f"carp-agent: {error}\n")
        return 2
    logs.setup(json=given.log_format == "json", debug=False, facility=None, daemon=False)
    try:
        asyncio.run(_run(options, *clients))
    except (CarpError, OSError) as error:
        logging.getLogger("carp.agent").error("%s", error)  # noqa: TRY400 (not a bug)
        return 1
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="carp-agent",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    env = os.environ.get
    add("--node", default=env("NODE_NAME", ""), metavar="NAME", help="this node's name ($NODE_NAME)")
    add(
        "--namespace",
        default=env("POD_NAMESPACE", ""),
        metavar="NS",
        help="where the Secret is ($POD_NAMESPACE, else the pod's own)",
    )
    add(
        "--secret",
        default="carp-keys",
        metavar="NAME",
        help="the Secret with the passwords (default carp-keys)",
    )
    add("--socket", default=SOCKET, metavar="PATH", help=f"carpd's control socket (default {SOCKET})")
    add("--kubeconfig", metavar="FILE", help="instead of the pod's service account")
    add(
        "--service-account",
        default=FOLDER,
        metavar="FOLDER",
        help=f"with token, ca.crt and namespace, read again when renewed (default {FOLDER})",
    )
    add(
        "--api-server",
        action="append",
        default=[],
        metavar="URL",
        help="instead of the pod's or the kubeconfig's; may be given several times",
    )
    add("--metrics", default="", metavar="ADDR:PORT", help="serve /metrics, /healthz and /readyz there")
    add(
        "--stay",
        type=seconds("stay"),
        default=13.0,
        metavar="TIME",
        help="how long to wait for carpd after SIGTERM: the pod's grace period less 2s (default 13s)",
    )
    add("--log-format", choices=("text", "json"), default="text", help="how lines are written (default text)")
    add("--version", action="version", version=f"carp-agent {__version__}")
    return parser


def _options(given: argparse.Namespace) -> Options:
    place = given.namespace or namespace(given.service_account)
    for option, value in (("node", given.node), ("namespace", place)):
        if not value:
            raise ConfigError(option, None, f"is required: --{option}, or in the environment")
    return Options(given.node, place, given.socket, given.secret, given.metrics, given.stay)


def _clients(given: argparse.Namespace) -> tuple[Client, Client]:
    """Return the client that watches and the one that writes."""
    if given.kubeconfig is None:
        access = in_cluster(given.api_server, given.service_account)
    else:
        access = from_kubeconfig(given.kubeconfig, given.api_server)
    return Client(access), Client(access, WRITE_TIMEOUT)


async def _run(options: Options, watching: Client, writing: Client) -> None:
    agent = Agent(options, watching, writing)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, agent.stop)
    await agent.run()


if __name__ == "__main__":
    sys.exit(main())
