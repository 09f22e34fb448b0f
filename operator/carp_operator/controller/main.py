"""`carp-controller`: the process."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from carp import __version__, logs
from carp.core.errors import ConfigError
from carp_operator.controller.budget import Budget
from carp_operator.controller.counts import Counts
from carp_operator.controller.events import Recorder
from carp_operator.controller.feed import Feed
from carp_operator.controller.lease import Lease
from carp_operator.controller.observer import Observer
from carp_operator.controller.options import parse
from carp_operator.controller.pages import Pages
from carp_operator.controller.parts import Parts
from carp_operator.controller.passwords import SELECTION, Passwords
from carp_operator.controller.pods import SELECTOR, Pods
from carp_operator.controller.probes import Probes
from carp_operator.controller.reconcile import Loop
from carp_operator.controller.store import Store
from carp_operator.kube.access import FOLDER, from_kubeconfig, in_cluster
from carp_operator.kube.client import Client
from carp_operator.kube.resources import PODS, SECRETS
from carp_operator.kube.watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carp_operator.controller.options import Options

log: Final = logging.getLogger("carp.controller")
_ARENA_MAX: Final = -8
"""M_ARENA_MAX of mallopt(3)."""
GRACE: Final = 1.2
"""s for the writes under way after SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    _save_memory()
    try:
        options = parse(arguments)
        _logging(options)
        process = Process(options)
        process.start()
    except ConfigError as error:
        sys.stderr.write(f"carp-controller: --{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"carp-controller: --metrics: {options.metrics}: {error.strerror}\n")
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    process.stop()
    # A request that hangs in a thread must not keep the process.
    os._exit(0)


def _save_memory() -> None:
    """Let all threads share two heaps: one for each of a dozen threads keeps what the others could use."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)


class Process:
    """Everything that runs."""

    def __init__(self, options: Options) -> None:
        """Put the parts together. Raises ConfigError, and OSError where it cannot listen."""
        servers = options.servers
        config = options.kubeconfig
        access = in_cluster(servers, FOLDER) if config is None else from_kubeconfig(config, servers)
        client, counts = Client(access), Counts()
        budget = Budget(options.rate, options.burst, time.monotonic())
        identity = f"{options.identity}_{secrets.token_hex(4)}"
        self._lease = (
            Lease(client, options.namespace, identity, self._changed) if options.leader_elect else None
        )
        leads: Callable[[], bool] = self._lease.leads if self._lease is not None else _always
        store = Store(self._changed)
        passwords = Passwords(client, options.namespace, self._changed, self._regained)
        pods = Pods(self._changed)
        self._parts = Parts(
            client=client,
            store=store,
            passwords=passwords,
            observer=Observer(client, store),
            feed=Feed(access, store, self._heard, self._ended),
            budget=budget,
            recorder=Recorder(client, budget, counts, leads),
            counts=counts,
            leads=leads,
            pods=pods,
        )
        self._loop = Loop(
            self._parts,
            resync=options.resync,
            replace_after=options.replace_after,
            interfaces=options.interfaces,
        )
        secrets_here, pods_here = SECRETS.within(options.namespace), PODS.within(options.namespace)
        # Pods first: a first plan without them would say for a moment that all is well.
        self._watchers = (
            Watcher(client, pods_here, pods.event, label=SELECTOR),
            Watcher(client, secrets_here, passwords.event, field=SELECTION),
        )
        self._thread = threading.Thread(target=self._loop.run, name="loop", daemon=True)
        self._pages = self._serve(options)

    def start(self) -> None:
        """Begin."""
        log.info("carp-controller %s", __version__)
        self._parts.recorder.start()
        if self._lease is not None:
            self._lease.start()
        if self._pages is not None:
            self._pages.start()
        for watcher in self._watchers:
            watcher.start()
        self._thread.start()

    def stop(self) -> None:
        """End: no new write, and those under way have a moment."""
        log.info("ending")
        self._loop.stop()
        self._thread.join(GRACE)
        if self._lease is not None:
            self._lease.stop()

    def _serve(self, options: Options) -> Pages | None:
        probes, counts = Probes(self._loop, self._parts, options.resync), self._parts.counts
        counts.waiting = self._loop.waiting
        counts.budget_waits = lambda: self._parts.budget.waited
        counts.event_age, counts.reconcile_age = probes.event_age, probes.reconcile_age
        counts.suspended = lambda: bool(self._loop.suspended())
        counts.leading, counts.vips = self._parts.leads, probes.vips
        if not options.metrics:
            return None
        pages = {"/healthz": probes.health, "/readyz": probes.ready, "/metrics": probes.metrics}
        return Pages(options.metrics, pages)

    # The loop is made last, of parts that call it.

    def _changed(self, soon: bool = True) -> None:  # noqa: FBT001, FBT002 (what the store tells)
        self._loop.dirty(soon)

    def _heard(self) -> None:
        self._loop.heard()

    def _regained(self) -> None:
        self._loop.relist()

    def _ended(self) -> None:
        self._loop.relist(1.0)


def _always() -> bool:
    return True


class _Relay(logging.Handler):
    """Log lines of libraries, each logger's once a minute at most: kopf tells of each attempt."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = tuple(handlers)
        self._quiet = logs.Quiet()

    def emit(self, record: logging.LogRecord) -> None:
        if self._quiet.allow((record.name, record.levelno), time.monotonic()) is not None:
            for handler in self._handlers:
                handler.handle(record)


def _logging(options: Options) -> None:
    """Direct our log lines, and those of the libraries that matter, to the standard streams."""
    logs.setup(json=options.json, debug=options.debug, facility=None, daemon=False)
    ours = logging.getLogger("carp").handlers
    for name in ("kopf", "asyncio", "aiohttp", "urllib3"):
        other = logging.getLogger(name)
        other.handlers = list(ours) if options.debug else [_Relay(ours)]
        other.propagate = False
        other.setLevel(logging.DEBUG if options.debug and name == "kopf" else logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
