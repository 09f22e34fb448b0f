"""Ask the carpd of a lab's node over its control socket: `from carpd import call, children`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from carp.commands.client import Client, NoAnswerError
from nodefix import wait_until

if TYPE_CHECKING:
    from nodefix import Daemon, Lab


def client(lab: Lab, name: str, seconds: float = 5.0) -> Client:
    """Connect to a node's carpd, which may take some time to listen."""
    path = str(lab.folder / f"{name}.state" / "carpd.sock")
    made: list[Client] = []

    def connects() -> bool:
        try:
            made.append(Client(path))
        except NoAnswerError:
            return False
        return True

    wait_until(connects, seconds, f"{name} answers on its socket")
    return made[0]


def call(lab: Lab, node: str, op: str, /, **fields: Any) -> dict[str, Any]:
    """Carry out one operation on a node's carpd. Raises RefusedError."""
    with client(lab, node) as asked:
        return asked.call(op, **fields)


def shown(lab: Lab, name: str, vhost: str = "web") -> dict[str, Any]:
    """Return what a node's carpd shows of one vhost, nothing where it has none of that name."""
    vhosts = call(lab, name, "status")["vhosts"]
    return next((each for each in vhosts if each["name"] == vhost), {})


def fileless(lab: Lab, name: str, *options: str) -> Daemon:
    """Return a carpd without a file, which gets its vhosts over the socket; not started."""
    daemon = lab.daemon(name, options=options)
    at = daemon.argv.index("--config")
    del daemon.argv[at : at + 2]
    return daemon


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
