"""What the API server holds, as far as the controller needs it: typed objects by kind and name.

Filled by events, by lists and by the answers to our own writes. Unknown is not empty: a kind counts as known
only while its last list succeeded, and a VirtualIP that vanished is kept until somebody has looked whether
its CustomResourceDefinition vanished with it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from carp_operator.api import codec
from carp_operator.kube.resources import CARP_NODES, NODES, POOLS, VIRTUAL_IPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from carp_operator.kube.resources import Resource

KINDS: Final[dict[Resource, Callable[[Mapping[str, Any]], Any]]] = {
    VIRTUAL_IPS: codec.virtual_ip,
    POOLS: codec.pool,
    NODES: codec.node,
    CARP_NODES: codec.carp_node,
}
"""What is followed, and how it is read."""
_OURS: Final[dict[Resource, tuple[str, ...]]] = {
    VIRTUAL_IPS: ("status",),
    POOLS: ("status",),
    CARP_NODES: ("generation", "owner", "cluster", "vhosts", "listed"),
}
"""Fields that only the controller writes: a change of nothing else is nearly always its own."""
NEVER: Final = "not listed yet"


@dataclass(frozen=True, slots=True)
class _Gone:
    """A deletion; ``step`` as in `_Held`."""

    version: int
    uid: str
    step: int


@dataclass(frozen=True, slots=True)
class _Held:
    """An object as last seen; ``step`` orders what was put into the store, across kinds."""

    value: Any
    uid: str
    version: int
    step: int


@dataclass(slots=True)
class _Table:
    objects: dict[str, _Held] = field(default_factory=dict)
    gone: dict[str, _Gone] = field(default_factory=dict)
    """By name, deletions that a list under way or the answer to a write of ours may not show yet."""
    listed: int = 0
    """The moment that the last list began at."""
    problem: str = NEVER
    """Why the kind is unknown; empty: it is known."""
    shown: dict[str, Any] | None = None


class Store:
    """The objects. Used by several threads; ``changed`` is called in whichever brought a change."""

    def __init__(self, changed: Callable[[bool], None]) -> None:
        """Know nothing. ``changed(True)``: plan soon; ``changed(False)``: what changed is ours to write."""
        self._changed = changed
        self._lock = threading.Lock()
        self._tables = {kind: _Table() for kind in KINDS}
        self._doubtful: dict[str, float | None] = {}
        """VirtualIPs that vanished -> monotonic time until which they are kept; None: nobody has judged."""
        self._step = 0

    def put(self, kind: Resource, raw: Mapping[str, Any]) -> Any:
        """Take an object as an event or a write showed it, unless a newer one, or its deletion, is known.

        Return what is known.
        """
        name, version, uid = _identity(raw)
        with self._lock:
            before = self._tables[kind].objects.get(name)
            gone = self._tables[kind].gone.get(name)
            if gone is not None and gone.uid == uid and gone.version >= version:
                # The answer to a write of ours may come after the deletion of what it has changed.
                return KINDS[kind](raw) if before is None else before.value
            held, news = self._take(self._tables[kind], kind, raw)
            back = self._is_back(kind, held.value.name)
        if news or back:
            self._changed(back or not _is_ours(kind, before, held))
        return held.value

    def delete(self, kind: Resource, raw: Mapping[str, Any]) -> None:
        """Take a deletion; of an older object of that name than the one that is known it is none."""
        name, version, uid = _identity(raw)
        with self._lock:
            table = self._tables[kind]
            held = table.objects.get(name)
            self._step += 1
            table.gone[name] = _Gone(version, uid, self._step)
            if held is None or held.uid != uid or held.version > version:
                return
            self._remove(table, kind, name)
        self._changed(True)

    def begin(self) -> int:
        """Return the moment that a list begins at, for `replace`."""
        with self._lock:
            return self._step

    def replace(self, kind: Resource, items: Iterable[Mapping[str, Any]], began: int) -> None:
        """Take a consistent list that was asked for at ``began``.

        Older knowledge is void, even of a later version (a restored etcd runs backwards); what came in
        meanwhile counts by its version.
        """
        news = False
        with self._lock:
            table = self._tables[kind]
            listed = set()
            for raw in items:
                name, version, _ = _identity(raw)
                gone = table.gone.get(name)
                if gone is not None and gone.step > began and gone.version > version:
                    continue
                listed.add(name)
                table.gone.pop(name, None)
                held = table.objects.get(name)
                if held is not None and held.step <= began and held.version > version:
                    table.objects[name] = replace(held, version=0)
                news = self._take(table, kind, raw)[1] or news
                news = self._is_back(kind, name) or news
            lost = [n for n, held in table.objects.items() if n not in listed and held.step <= began]
            for name in lost:
                if kind is not VIRTUAL_IPS or name not in self._doubtful:
                    self._remove(table, kind, name)
                    news = True
            table.gone = {name: gone for name, gone in table.gone.items() if gone.step > table.listed}
            table.listed = began
            news = news or bool(table.problem)
            table.problem = ""
        if news:
            self._changed(True)

    def unknown(self, kind: Resource, problem: str) -> None:
        """Take note that nothing is known of a kind, and why."""
        with self._lock:
            self._tables[kind].problem = problem

    def lacking(self) -> tuple[Resource, ...]:
        """Return the kinds of which nothing is known."""
        with self._lock:
            return tuple(kind for kind, table in self._tables.items() if table.problem)

    def problems(self) -> tuple[str, ...]:
        """Return why planning is not possible; empty when it is."""
        with self._lock:
            return tuple(f"{k.plural}: {t.problem}" for k, t in self._tables.items() if t.problem)

    def objects(self, kind: Resource) -> Mapping[str, Any]:
        """Return all of a kind by name; not to be changed, and the same one while nothing changes."""
        with self._lock:
            table = self._tables[kind]
            if table.shown is None:
                table.shown = {name: held.value for name, held in table.objects.items()}
            return table.shown

    def version(self, kind: Resource, name: str) -> int:
        """Return the resource version that is known of an object; 0: none."""
        with self._lock:
            table = self._tables.get(kind)
            held = table.objects.get(name) if table is not None else None
            return held.version if held is not None else 0

    # --- VirtualIPs that vanished ---------------------------------------------------------------------

    def unjudged(self) -> tuple[str, ...]:
        """Return the VirtualIPs that vanished and that nobody has judged yet."""
        with self._lock:
            return tuple(name for name, until in self._doubtful.items() if until is None)

    def absent(self) -> frozenset[str]:
        """Return the VirtualIPs that are kept although they are not on the server."""
        with self._lock:
            return frozenset(self._doubtful)

    def believe(self, names: Iterable[str]) -> None:
        """Forget VirtualIPs: they were deleted."""
        with self._lock:
            for name in names:
                if self._is_back(VIRTUAL_IPS, name):
                    self._tables[VIRTUAL_IPS].objects.pop(name, None)
                    self._tables[VIRTUAL_IPS].shown = None
        self._changed(True)

    def keep(self, names: Iterable[str], until: float) -> None:
        """Keep VirtualIPs until then: they vanished with their CustomResourceDefinition."""
        with self._lock:
            self._doubtful.update({name: until for name in names if name in self._doubtful})

    def expire(self, now: float) -> float | None:
        """Forget those that were kept long enough; return when the next one is due."""
        with self._lock:
            due = [name for name, until in self._doubtful.items() if until is not None and until <= now]
        if due:
            self.believe(due)
        with self._lock:
            return min((until for until in self._doubtful.values() if until is not None), default=None)

    # --- with the lock held ---------------------------------------------------------------------------

    def _take(self, table: _Table, kind: Resource, raw: Mapping[str, Any]) -> tuple[_Held, bool]:
        """Put an object; return what is known now, and whether that is news."""
        name, version, uid = _identity(raw)
        self._step += 1
        held = table.objects.get(name)
        if held is not None and held.version > version:
            return held, False
        value = KINDS[kind](raw)
        if held is not None and held.uid == uid and held.value == value:
            # The same object for the same content spares the planner a comparison.
            table.objects[name] = replace(held, version=version, step=self._step)
            return table.objects[name], False
        table.objects[name] = made = _Held(value, uid, version, self._step)
        table.shown = None
        return made, True

    def _is_back(self, kind: Resource, name: str) -> bool:
        """Whether it was among the vanished, where it is not any more."""
        vanished = kind is VIRTUAL_IPS and name in self._doubtful
        if vanished:
            del self._doubtful[name]
        return vanished

    def _remove(self, table: _Table, kind: Resource, name: str) -> None:
        if kind is VIRTUAL_IPS:
            self._doubtful[name] = None
            return
        del table.objects[name]
        table.shown = None


def _is_ours(kind: Resource, before: _Held | None, after: _Held) -> bool:
    """Whether nothing differs but what the controller writes."""
    fields = _OURS.get(kind, ())
    if before is None or before.uid != after.uid or not fields:
        return False
    return bool(replace(before.value, **{name: getattr(after.value, name) for name in fields}) == after.value)


def _identity(raw: Mapping[str, Any]) -> tuple[str, int, str]:
    """Return name, resource version (a number, as promised since Kubernetes 1.35) and uid."""
    meta = raw["metadata"]
    version = str(meta.get("resourceVersion", ""))
    return meta["name"], int(version) if version.isdigit() else 0, meta.get("uid", "")
