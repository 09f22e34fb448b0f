"""Which cluster a command talks to, and what it cannot reach or may not do, as kubectl says it."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import CarpError, ConfigError
from carp_operator.kube.access import FOLDER, from_kubeconfig
from carp_operator.kube.errors import Forbidden, KubeError, NotFound, Unauthorized, Unreachable
from carp_operator.kube.resources import GROUP, Resource

if TYPE_CHECKING:
    import argparse

    from carp_operator.kube.client import Client, Query

_MOST_TEXT: Final = 32 << 20
"""Bytes of a pod's log that are read."""


@dataclass(frozen=True, slots=True)
class Raw(Resource):
    """A path that is no collection of objects; ``plural`` is the whole path, such as ``/version``."""

    def path(self, name: str = "", subresource: str = "") -> str:  # noqa: ARG002 (it has neither)
        """Return the path."""
        return self.plural

    def __str__(self) -> str:
        """Return the path, for error lines."""
        return self.plural


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which cluster is meant, named as kubectl's."""
    group = parser.add_argument_group("the cluster")
    group.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="default: $KUBECONFIG, else ~/.kube/config, else the service account of the pod",
    )
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig, instead of its current one")


def client(given: argparse.Namespace) -> Client:
    """Return a client for these options; nothing is sent yet. Raises ConfigError."""
    # Needs packages that `render` does not.
    from carp_operator.kube.client import Client, connect  # noqa: PLC0415

    path = given.kubeconfig or os.environ.get("KUBECONFIG", "")
    if not path:
        with contextlib.suppress(RuntimeError, OSError):  # whoever has no home has no file there
            home = Path.home() / ".kube" / "config"
            path = str(home) if home.exists() else ""
    if given.kubeconfig and not Path(given.kubeconfig).exists():
        raise ConfigError("kubeconfig", given.kubeconfig, "does not exist")
    if path:
        return Client(from_kubeconfig(path, context=given.context or ""))
    if given.context or not (Path(FOLDER) / "token").exists():
        raise ConfigError("kubeconfig", None, "there is none: --kubeconfig FILE, or set KUBECONFIG")
    return connect(None)


def text(client: Client, path: str, query: Query) -> bytes:
    """Return what stands at a path that answers no JSON, such as a pod's log. Raises KubeError."""
    stream = client.watch(Raw("", "", path), query)
    found = bytearray()
    try:
        for chunk in stream.chunks():
            found += chunk
            if len(found) > _MOST_TEXT:
                break
    finally:
        stream.close()
    return bytes(found[:_MOST_TEXT])


def explained(error: CarpError) -> str:
    """Return the line that kubectl would print."""
    if not isinstance(error, KubeError):
        return f"error: {error}"
    verb, _, kind = error.request.partition(" ")
    if isinstance(error, Unauthorized):
        return f"error: You must be logged in to the server ({error.problem})"
    if isinstance(error, Unreachable):
        return f"Unable to connect to the server: {error.problem}"
    if isinstance(error, Forbidden):
        return f"Error from server (Forbidden): {error.problem} (needed: the right to {verb} {kind})"
    if isinstance(error, NotFound) and verb in ("list", "watch") and kind.endswith(GROUP):
        return f"error: the cluster does not serve {kind}: install the CRDs of carp-operator"
    return f"Error from server ({type(error).__name__}): {error.problem}"


def named(word: str, *kinds: str) -> str:
    """Return the name in ``vip/web`` or ``web``. Raises ConfigError for a name of another kind."""
    kind, slash, name = word.partition("/")
    if not slash:
        return word
    if kind not in kinds or not name:
        raise ConfigError("NAME", word, f"is no {kinds[0]}")
    return name


def query_of(**fields: Any) -> Query:
    """Return a query of what is neither None nor empty."""
    return {name: str(value) for name, value in fields.items() if value not in (None, "")}
