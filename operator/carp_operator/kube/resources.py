"""Where on an API server things stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects: all, or those of one ``namespace``. ``group`` is empty for the core group."""

    group: str
    version: str
    plural: str
    namespace: str = ""

    def within(self, namespace: str) -> Resource:
        """Return the same kind in one namespace."""
        return replace(self, namespace=namespace)

    def path(self, name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, of one object, or of its subresource."""
        root = f"apis/{self.group}/{self.version}" if self.group else f"api/{self.version}"
        place = f"namespaces/{self.namespace}/" if self.namespace else ""
        parts = [part for part in (name, subresource) if part]
        return "/" + "/".join([f"{root}/{place}{self.plural}", *(quote(part, safe="") for part in parts)])

    def __str__(self) -> str:
        """Return the kind as error lines name it."""
        kind = f"{self.plural}.{self.group}" if self.group else self.plural
        return f"{kind} in {self.namespace}" if self.namespace else kind


GROUP: Final = "carp.vip"
VERSION: Final = "v1alpha1"
VIRTUAL_IPS: Final = Resource(GROUP, VERSION, "virtualips")
POOLS: Final = Resource(GROUP, VERSION, "virtualippools")
CARP_NODES: Final = Resource(GROUP, VERSION, "carpnodes")
NODES: Final = Resource("", "v1", "nodes")
SECRETS: Final = Resource("", "v1", "secrets")
PODS: Final = Resource("", "v1", "pods")
EVENTS: Final = Resource("", "v1", "events")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
