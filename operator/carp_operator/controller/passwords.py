"""The Secrets of the controller's own namespace.

Reads those that VirtualIPs refer to, makes what is missing, and keeps a copy of every password in use in the
Secret `carp-keys`.

No value leaves this module but into a Secret: none in a log line, an error or a condition.
"""

from __future__ import annotations

import logging
import secrets
import string
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from carp_operator.api.crd import GROUP, VERSION
from carp_operator.controller import keys
from carp_operator.controller.outbox import Write
from carp_operator.kube.errors import Conflict, NotFound
from carp_operator.kube.resources import SECRETS
from carp_operator.kube.watch import Deleted, Lost, Synced, Upsert
from carp_operator.plan.model import KeyState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from carp_operator.api.objects import VirtualIP
    from carp_operator.kube.client import Client, Object
    from carp_operator.kube.watch import Event

log: Final = logging.getLogger("carp.controller")
SELECTION: Final = "type!=helm.sh/release.v1"
"""Field selector: Helm keeps its releases in Secrets, which are large and none of our business."""
LABELS: Final = {"app.kubernetes.io/managed-by": "carp-operator"}
MANAGER: Final = "carp-controller"
KEY: Final = "password"
_ALPHABET: Final = string.ascii_letters + string.digits
_LENGTH: Final = 19
"""Bytes of a generated password, the most that CARP takes; 113 bits of chance."""


@dataclass(frozen=True, slots=True)
class _Secret:
    data: Mapping[str, bytes] = field(repr=False)
    ours: bool
    owner: str


def generated_name(vip: str) -> str:
    """Return the name of the Secret of a VirtualIP that names none."""
    return f"carp-{vip}"


class Passwords:
    """What is known of Secrets; `event` is called by the watcher's thread, the rest by the loop's."""

    def __init__(
        self, client: Client, namespace: str, changed: Callable[[], None], regained: Callable[[], None]
    ) -> None:
        """``regained`` is called when the API server was lost and is back."""
        self._client = client
        self._namespace = namespace
        self._changed = changed
        self._regained = regained
        self._resource = SECRETS.within(namespace)
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._secrets: dict[str, _Secret] = {}
        self._wanted: frozenset[str] = frozenset()
        self._current: frozenset[str] = frozenset()
        """The entries that `states` named last."""
        self._stored: dict[str, bytes] = {}
        self._version = ""
        """Resource version of `carp-keys` on the server; empty: there is none."""
        self._entries: dict[str, bytes] = {}
        self._counter = 0
        self._leading = False
        """Whether our memory counts more than what stands on the server."""
        self.problem = "secrets: not listed yet"
        """Why passwords are unknown; empty once they were listed."""
        self._lost = False

    # --- from the watcher -----------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """Take what the watcher tells."""
        regained = False
        with self._lock:
            match event:
                case Synced(items):
                    regained, self._lost, self.problem = self._lost, False, ""
                    self._relist(items)
                case Upsert(item):
                    self._put(item)
                case Deleted(item):
                    self._forget(item["metadata"]["name"])
                case Lost(reason):
                    self._lost = True
                    log.warning("watches are interrupted: %s", reason)
                    self.problem = self.problem and f"secrets: {reason}"
        if regained:
            log.info("the API server is back")
            self._regained()
        if not isinstance(event, Lost):
            self._changed()

    def _relist(self, items: Iterable[Object]) -> None:
        names = {item["metadata"]["name"] for item in items}
        for name in self._names - names:
            self._forget(name)
        for item in items:
            self._put(item)

    def _put(self, item: Object) -> None:
        meta = item["metadata"]
        name, labels = meta["name"], meta.get("labels") or {}
        self._names.add(name)
        if name == keys.KEYS:
            self._read_keys(item)
            return
        ours = LABELS.items() <= labels.items()
        if not ours and name not in self._wanted:
            self._secrets.pop(name, None)
            return
        owners = [o.get("uid", "") for o in meta.get("ownerReferences") or () if o.get("kind") == "VirtualIP"]
        self._secrets[name] = _Secret(keys.decoded(item.get("data")), ours, owners[0] if owners else "")

    def _forget(self, name: str) -> None:
        self._names.discard(name)
        self._secrets.pop(name, None)
        if name == keys.KEYS:
            self._stored, self._version = {}, ""

    def _read_keys(self, item: Object) -> None:
        meta = item["metadata"]
        self._stored, self._version = keys.decoded(item.get("data")), str(meta.get("resourceVersion", ""))
        counter = (meta.get("annotations") or {}).get(keys.COUNTER, "")
        self._counter = max(self._counter, int(counter) if counter.isascii() and counter.isdigit() else 0)
        self._entries = {**self._stored, **self._entries} if self._leading else dict(self._stored)

    # --- from the loop --------------------------------------------------------------------------------

    def follow(self) -> None:
        """Let what stands on the server count: somebody else leads."""
        with self._lock:
            self._leading = False
            self._entries = dict(self._stored) or self._entries

    def states(self, vips: Mapping[str, VirtualIP], told: Collection[str]) -> dict[str, KeyState]:
        """Return the name of each VirtualIP's password; `save` must come before a node is told a new one.

        ``told``: the entries that CarpNodes name. Raises KubeError.
        """
        if not self._leading:
            self._read()  # What the leader before us wrote last may not have reached us by events.
        self._fetch(vips)
        with self._lock:
            self._leading = True
            newest = keys.newest(self._entries)
            sources = {vip.name: self._source(vip, newest) for vip in vips.values() if vip.spec is not None}
            made = keys.assign(sources, self._entries, self._counter, told)
            self._entries, self._counter = dict(made.entries), made.counter
            self._current = frozenset(state.current for state in made.states.values())
            return dict(made.states)

    @property
    def unsaved(self) -> bool:
        """Whether `carp-keys` differs from what we know."""
        with self._lock:
            return self._entries != self._stored

    def saved(self, states: Mapping[str, KeyState]) -> dict[str, KeyState]:
        """Return states that name only what `carp-keys` holds: a new password waits, the older one counts."""
        found = {}
        with self._lock:
            newest, stored = keys.newest(self._stored), keys.by_owner(self._stored)
            for vip, state in states.items():
                if not state.current:
                    found[vip] = state
                elif state.current in self._stored or vip in newest:
                    current = state.current if state.current in self._stored else newest[vip]
                    found[vip] = KeyState(current, older=keys.older(current, stored[vip]))
        return found

    def drop(self, in_use: Collection[str]) -> None:
        """Forget the entries that nobody uses or is about to use, for the next `save`."""
        with self._lock:
            kept = self._current.union(in_use)
            self._entries = {name: value for name, value in self._entries.items() if name in kept}

    def missing(self, vips: Iterable[VirtualIP]) -> list[Write]:
        """Return the Secrets to make for VirtualIPs that name none, and those to give to a new owner."""
        found = []
        with self._lock:
            newest = keys.newest(self._entries)
            for vip in vips:
                if vip.spec is None or vip.spec.secret is not None:
                    continue
                name = generated_name(vip.name)
                held = self._secrets.get(name)
                if name not in self._names and vip.name in newest:
                    body = self._body(name, vip, self._entries[newest[vip.name]])
                    found.append(Write(self._resource, name, "create", body))
                elif held is not None and held.ours and held.owner != vip.uid:
                    # Else Kubernetes deletes it with the owner that it had.
                    body = {"metadata": {"ownerReferences": [_reference(vip)]}}
                    found.append(Write(self._resource, name, "patch", body))
        return found

    def _source(self, vip: VirtualIP, newest: Mapping[str, str]) -> keys.Source:
        assert vip.spec is not None  # noqa: S101 (the caller looked)
        if vip.spec.secret is not None:
            name, key = vip.spec.secret.name, vip.spec.secret.key
        else:
            name, key = generated_name(vip.name), KEY
            if name not in self._names:
                known = newest.get(vip.name)
                return keys.Source(_random() if known is None else self._entries[known])
        held = self._secrets.get(name)
        return keys.source(None if held is None else held.data, f"{self._namespace}/{name}", key)

    def _fetch(self, vips: Mapping[str, VirtualIP]) -> None:
        """Read the Secrets that are referred to for the first time: until then they were not kept."""
        wanted = frozenset(
            vip.spec.secret.name if vip.spec.secret is not None else generated_name(vip.name)
            for vip in vips.values()
            if vip.spec is not None
        )
        with self._lock:
            self._wanted = wanted
            unread = sorted(name for name in wanted if name in self._names and name not in self._secrets)
        for name in unread:
            try:
                item = self._client.get(self._resource, name)
            except NotFound:
                with self._lock:
                    self._names.discard(name)  # its deletion is on the way
                continue
            with self._lock:
                self._put(item)

    def save(self) -> None:
        """Make `carp-keys` hold what we know, and nothing else. Raises KubeError."""
        try:
            self._send()
        except (Conflict, NotFound):
            self._read()
            self._send()

    def _read(self) -> None:
        try:
            item = self._client.get(self._resource, keys.KEYS)
        except NotFound:
            with self._lock:
                self._forget(keys.KEYS)
            return
        with self._lock:
            self._put(item)

    def _send(self) -> None:
        with self._lock:
            version = self._version
            data: dict[str, str | None] = dict(keys.encoded(self._entries))
            gone = self._stored.keys() - self._entries.keys()
            meta: Object = {"labels": LABELS, "annotations": {keys.COUNTER: str(self._counter)}}
        if version:
            # The version makes it fail where somebody else has written meanwhile, such as another leader.
            body = {"metadata": {**meta, "resourceVersion": version}, "data": {**data, **dict.fromkeys(gone)}}
            item = self._client.patch(self._resource, keys.KEYS, body, manager=MANAGER)
        else:
            made = {"apiVersion": "v1", "kind": "Secret", "metadata": {**meta, "name": keys.KEYS}}
            item = self._client.create(self._resource, {**made, "type": "Opaque", "data": data})
        with self._lock:
            self._put(item)

    def _body(self, name: str, vip: VirtualIP, value: bytes) -> dict[str, Any]:
        meta = {"name": name, "labels": LABELS, "ownerReferences": [_reference(vip)]}
        data = keys.encoded({KEY: value})
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": meta, "data": data}

    def took(self, item: Object) -> None:
        """Take a Secret as the answer to a write shows it."""
        with self._lock:
            self._put(item)


def _reference(vip: VirtualIP) -> dict[str, Any]:
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "VirtualIP", "name": vip.name, "uid": vip.uid}


def _random() -> bytes:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)).encode("ascii")
