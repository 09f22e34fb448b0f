"""Events of the watched kinds, through kopf: they only go into the store.

kopf runs in a thread and an event loop of its own. It neither sees Secrets nor writes anything: no
finalizers, annotations, peerings or Events.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import kopf

from carp_operator.controller.store import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from carp_operator.controller.store import Store
    from carp_operator.kube.access import Access
    from carp_operator.kube.resources import Resource

log: Final = logging.getLogger("carp.controller")
_REACH: Final = 1.0
"""s to see whether one of several API servers answers."""
_PATIENCE: Final = 0.5
"""s for kopf to end; what is left of it then ends by itself."""


class _Deaths(logging.Handler):
    """Notices a watcher of kopf's that has died: the others run on, and only its log says so."""

    def __init__(self, died: Callable[[], None]) -> None:
        super().__init__(logging.ERROR)
        self._died = died

    def emit(self, record: logging.LogRecord) -> None:
        if "has failed" in record.getMessage():
            self._died()


class Feed:
    """One run of kopf; begun anew where its watches may have missed something."""

    def __init__(
        self, access: Access, store: Store, heard: Callable[[], None], ended: Callable[[], None]
    ) -> None:
        """``heard`` is called at each event, ``ended`` where kopf ended by itself."""
        self._access = access
        self._store = store
        self._heard = heard
        self._ended = ended
        self._stop: threading.Event | None = None
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether kopf runs."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin, after an end of what ran before."""
        self.stop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="kopf", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End."""
        if self._stop is not None:
            self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        self._stop = self._thread = None

    def _run(self, stop: threading.Event) -> None:
        deaths = _Deaths(lambda: None if stop.is_set() else self._ended())
        logging.getLogger("kopf").addHandler(deaths)
        try:
            asyncio.run(
                kopf.operator(
                    registry=self._registry(stop),
                    settings=settings(),
                    clusterwide=True,
                    standalone=True,
                    stop_flag=stop,
                )
            )
        except Exception as error:  # noqa: BLE001 (whatever ended kopf, it is begun anew)
            if not stop.is_set():
                log.warning("watches ended and are begun anew: %s", " ".join(str(error).split())[:300])
        finally:
            logging.getLogger("kopf").removeHandler(deaths)
        if not stop.is_set():
            self._ended()

    def _registry(self, stop: threading.Event) -> kopf.OperatorRegistry:
        """Return our handlers; a new set for each run, because kopf keeps state with them."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(self._login)
        for kind in KINDS:
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(
                self._handler(kind, stop)
            )
        return registry

    def _handler(self, kind: Resource, stop: threading.Event) -> Callable[..., Any]:
        async def on_event(event: Any, **_: Any) -> None:
            if stop.is_set():
                return
            self._heard()
            if event["type"] == "DELETED":
                self._store.delete(kind, event["object"])
            else:
                self._store.put(kind, event["object"])

        return on_event

    def _login(self, **_: Any) -> kopf.ConnectionInfo:
        """Return how to connect; asked again when the token is refused."""
        access = self._access
        token = access.token()
        return kopf.ConnectionInfo(
            server=self._server(),
            ca_path=access.authority or None,
            insecure=None if access.verify else True,
            scheme="Bearer" if token else None,
            token=token or None,
            certificate_path=access.certificate or None,
            private_key_path=access.key or None,
        )

    def _server(self) -> str:
        """Return the first API server that answers; kopf knows one only."""
        for server in self._access.servers if len(self._access.servers) > 1 else ():
            place = urlsplit(server)
            try:
                socket.create_connection((place.hostname, place.port or 443), _REACH).close()
            except OSError:
                continue
            return server
        return self._access.servers[0]


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings; the figures are measured (1,000 objects)."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.scanning.disabled = True
    made.peering.standalone = True
    # One connection for each object would cost 200 MiB; workers that linger would keep the others waiting.
    made.queueing.worker_limit = 20
    made.queueing.idle_timeout = 0.05
    made.queueing.exit_timeout = 0.2
    made.watching.server_timeout = 300
    made.watching.chunk_size = 500
    made.networking.error_backoffs = [1, 1, 2, 3, 5, 5, 5, 5]
    made.networking.connect_timeout = 5
    return made
