"""`carp-selftest`: make a scratch VirtualIP, wait until it is served, delete it; what `helm test` runs."""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from carp.commands.arguments import Parser
from carp_operator.controller import once
from carp_operator.kube.client import connect
from carp_operator.kube.errors import Conflict, KubeError, NotFound, Transient
from carp_operator.kube.resources import GROUP, VERSION, VIRTUAL_IPS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp_operator.kube.client import Client

POLL: Final = 0.5
"""s between two looks at the status."""
ANY_NODE: Final = {"matchLabels": {"kubernetes.io/os": "linux"}}
"""A selector of one's own counts instead of the label that keeps control-plane nodes out: kubeadm gives it to
each of them, and where there are no other nodes none would be left."""
_PORT: Final = 9
"""discard: hardly anybody listens, and a refusal is an answer too."""
_ABOUT: Final = """\
Make a VirtualIP of one free address of the nodes' subnet, wait until it is Ready, and delete it. Exit code 0
when it was served, or when there is no --address to try."""


@dataclass(slots=True)
class Selftest:
    """One run; ``timeout`` in s."""

    client: Client
    name: str
    address: str
    timeout: float
    say: Callable[[str], None] = print
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> bool:
        """Return whether the address was served. Raises KubeError."""
        meta = {"name": self.name, "labels": {"app.kubernetes.io/part-of": "carp-operator"}}
        spec = {"addresses": [self.address], "nodeSelector": ANY_NODE}
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VirtualIP", "metadata": meta, "spec": spec}
        try:
            self.client.create(VIRTUAL_IPS, body)
        except Conflict:
            self.say(
                f"there is a VirtualIP {self.name} already, left by a test that was cut short; deleting it"
            )
            self.client.delete(VIRTUAL_IPS, self.name)
            self.client.create(VIRTUAL_IPS, body)
        try:
            return self._served()
        finally:
            self._remove()

    def _served(self) -> bool:
        began = self.clock()
        status: dict[str, Any] = {}
        while self.clock() - began < self.timeout:
            try:
                status = self.client.get(VIRTUAL_IPS, self.name).get("status") or {}
            except Transient as error:
                self.say(f"{error}; trying again")
            if _condition(status, "Ready").get("status") == "True":
                master = (status.get("master") or {}).get("node", "?")
                self.say(f"{self.address} is held by {master} after {self.clock() - began:.1f} s")
                self.say(_answer(self.address.partition("/")[0]))
                return True
            self.sleep(POLL)
        self.say(f"{self.address} was not Ready within {self.timeout:g} s")
        for kind in ("Accepted", "Advertised", "Ready"):
            found = _condition(status, kind)
            if found.get("status") != "True":
                self.say(
                    f"{kind}: {found.get('reason', 'Unknown')}: {found.get('message', 'no controller?')}"
                )
        return False

    def _remove(self) -> None:
        try:
            self.client.delete(VIRTUAL_IPS, self.name)
        except NotFound:
            return
        except KubeError as error:
            self.say(f"{error}; delete the VirtualIP {self.name} by hand")


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found = [each for each in status.get("conditions") or () if each.get("type") == kind]
    return found[0] if found else {}


def _answer(address: str) -> str:
    """Tell whether the address answers from here; with a packet filter between, silence proves little."""
    try:
        socket.create_connection((address, _PORT), 2.0).close()
    except ConnectionRefusedError:
        pass
    except OSError as error:
        why = error.strerror or "timed out"
        return f"from this pod it does not answer ({why}): a packet filter, or no route"
    return "from this pod it answers"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; return the exit code: 0 served or nothing to try, 1 not served, 2 wrong use."""
    return once.run("carp-selftest", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    if not given.address:
        once.say("skipped: set the value test.address to a free address of the nodes' subnet")
        return 0
    client = connect(given.kubeconfig, given.api_server)
    return int(not Selftest(client, given.name, given.address, given.timeout, say=once.say).run())


def _parser() -> Parser:
    parser = Parser(prog="carp-selftest", description=_ABOUT, allow_abbrev=False)
    add = parser.add_argument
    add("--address", default="", metavar="IP", help="a free address; empty: nothing is tested")
    add("--name", default="carp-test", metavar="NAME", help="of the VirtualIP [%(default)s]")
    add("--timeout", type=once.patience, default=60.0, metavar="TIME", help="how long to wait [60s]")
    once.add_connection(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
