"""Lists everything, and judges what vanished: the store's other source beside events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from carp_operator.controller.schemas import CRDS, OURS, Served, crd_name, served
from carp_operator.controller.store import KINDS
from carp_operator.kube.errors import KubeError, NotFound, Unreachable
from carp_operator.kube.resources import VIRTUAL_IPS, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carp_operator.controller.store import Store
    from carp_operator.kube.client import Client

KEEP: Final = 600.0
"""s that VirtualIPs are kept that vanished with their CustomResourceDefinition, after it is back: whoever
applies both again may take a while, and their addresses answer meanwhile."""
NAMESPACES: Final = Resource("", "v1", "namespaces")


class Observer:
    """Asks the API server; for the loop's thread."""

    def __init__(self, client: Client, store: Store) -> None:
        """Ask nothing yet."""
        self._client = client
        self._store = store
        self._homes: dict[Resource, str] = {}
        """Kind -> uid of the CustomResourceDefinition that its objects were listed under."""
        self._served: dict[Resource, Served] = {}
        self.moved = False
        """Whether a CustomResourceDefinition was replaced since this was last set to False."""
        self.refused = False
        """Whether in the last resync the server has refused a list, or failed at it."""
        self.cluster = ""

    @property
    def schemas(self) -> Mapping[Resource, Mapping[str, Any] | None]:
        """Return the served schema of each of our kinds, None where it is unknown."""
        return {kind: served.schema for kind, served in self._served.items()}

    def resync(self) -> bool:
        """Read the definitions and list all kinds; whether everything is known now.

        What is unknown comes first: the others are listed only when nothing else is missing.
        """
        self.refused = False
        lacking = self._store.lacking()
        return self._look(lacking) and self._look([kind for kind in KINDS if kind not in lacking])

    def _look(self, kinds: Iterable[Resource]) -> bool:
        """List some kinds; whether nothing is unknown then."""
        problem = ""
        for kind in kinds:
            if problem:
                # The others would only wait for the same silence.
                self._store.unknown(kind, problem)
                continue
            try:
                self._list(kind)
            except Unreachable as error:
                problem = str(error)
                self._store.unknown(kind, problem)
            except KubeError as error:
                # A definition that was made just now is served a moment later.
                self.refused = self.refused or not isinstance(error, NotFound)
                self._store.unknown(kind, str(error))
        return not self._store.problems()

    def identify(self) -> str:
        """Return the cluster's uid, that of its namespace kube-system. Raises KubeError."""
        if not self.cluster:
            self.cluster = self._client.get(NAMESPACES, "kube-system")["metadata"]["uid"]
        return self.cluster

    def judge(self) -> bool:
        """Look whether VirtualIPs that vanished were deleted; whether a resync is needed to know."""
        names = self._store.unjudged()
        if not names:
            return False
        try:
            now = self._definition(VIRTUAL_IPS)
        except KubeError as error:
            self._store.unknown(VIRTUAL_IPS, str(error))
            return True
        if now.problem:
            self._store.unknown(VIRTUAL_IPS, now.problem)
            return True
        if now.uid != self._homes.get(VIRTUAL_IPS):
            return True
        self._store.believe(names)
        return False

    def _list(self, kind: Resource) -> None:
        """List one kind. Raises KubeError."""
        uid = ""
        if kind in OURS:
            found = self._served[kind] = self._definition(kind)
            if found.problem:
                self._store.unknown(kind, found.problem)
                return
            uid = found.uid
        began = self._store.begin()
        self._store.replace(kind, self._client.list(kind), began)
        home = self._homes.get(kind, uid)
        self._homes[kind] = uid
        self.moved = self.moved or home != uid
        if kind is VIRTUAL_IPS and (names := self._store.unjudged()):
            if home == uid:
                self._store.believe(names)
            else:
                self._store.keep(names, time.monotonic() + KEEP)

    def _definition(self, kind: Resource) -> Served:
        try:
            return served(self._client.get(CRDS, crd_name(kind)))
        except NotFound:
            return Served(f"the CustomResourceDefinition {crd_name(kind)} does not exist: install the CRDs")
