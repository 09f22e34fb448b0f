"""Requests to an API server: JSON in, JSON out, no models. May be used by several threads at once.

urllib3, which the `kubernetes` package stands on, is used directly: its generated client needs 20 MiB more.
"""

from __future__ import annotations

import json
import socket
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlencode

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from carp import __version__
from carp_operator.kube.access import FOLDER, from_kubeconfig, in_cluster
from carp_operator.kube.errors import Silent, Unauthorized, Unreachable, from_answer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from urllib3.response import BaseHTTPResponse

    from carp_operator.kube.access import Access
    from carp_operator.kube.resources import Resource

Object = dict[str, Any]
Query = dict[str, str]

CONNECT: Final = 5.0
READ: Final = 60.0
"""s without a byte. An API server sends bookmarks once a minute, but not into every watch (1.34: none for
Secrets), so after a silence it is opened anew; with `CONNECT` a dead server is noticed within 70 s."""
PAGE: Final = 500
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
_JSON: Final = "application/json"
_KEEPALIVE: Final = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A half-open connection shows after 20 + 3 x 10 s, one with unsent data after 30 s.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
]


def connect(kubeconfig: str | None = None, servers: Sequence[str] = (), folder: str = FOLDER) -> Client:
    """Return a client; nothing is sent yet. Raises ConfigError.

    ``kubeconfig`` None: as the pod's service account, whose files are in ``folder``. ``servers`` are URLs of
    API servers that are tried in turn, instead of the one that the pod or the kubeconfig names.
    """
    if kubeconfig is None:
        return Client(in_cluster(servers, folder))
    return Client(from_kubeconfig(kubeconfig, servers))


class Stream:
    """The answer to a watch, as it comes."""

    def __init__(self, request: str, answer: BaseHTTPResponse) -> None:
        """``request`` is how errors name it."""
        self._request = request
        self._answer = answer

    def chunks(self) -> Iterator[bytes]:
        """Yield bytes until the server ends. Raises Unreachable."""
        try:
            yield from self._answer.stream(1 << 16)
        except ReadTimeoutError as error:
            raise Silent(self._request, _said(error)) from None
        except (HTTPError, OSError) as error:
            raise Unreachable(self._request, _said(error)) from None

    def interrupt(self) -> None:
        """Let `chunks` end soon; for another thread."""
        try:
            self._answer.shutdown()
        except (ValueError, RuntimeError, OSError):
            return  # it has ended already

    def close(self) -> None:
        """Close the connection."""
        self._answer.close()


class Client:
    """Talks to the first of several API servers that can be reached, and stays with it."""

    def __init__(self, access: Access, read_timeout: float = READ) -> None:
        """``read_timeout`` in s without a byte from the server."""
        self._access = access
        self._timeout = urllib3.Timeout(connect=CONNECT, read=read_timeout)
        self._pool: urllib3.PoolManager | None = None
        self._context: ssl.SSLContext | None = None
        self._at = 0

    def get(self, resource: Resource, name: str) -> Object:
        """Return one object, as a quorum of etcd knows it. Raises KubeError."""
        return self._json("get", resource, name)

    def page(self, resource: Resource, query: Query) -> Object:
        """Return one page of a list. Raises KubeError."""
        return self._json("list", resource, query=query)

    def list(self, resource: Resource, *, field: str = "", label: str = "") -> list[Object]:
        """Return all objects that the selectors choose. Raises KubeError."""
        items: list[Object] = []
        query = selected(field, label) | {"limit": str(PAGE)}
        while True:
            page = self.page(resource, query)
            items += page.get("items") or []
            following = (page.get("metadata") or {}).get("continue")
            if not following:
                return items
            query["continue"] = following

    def create(self, resource: Resource, body: Object) -> Object:
        """Make an object and return it. Raises KubeError, Conflict where there is one of this name."""
        return self._json("create", resource, body=body)

    def patch(
        self, resource: Resource, name: str, body: Object, *, subresource: str = "", manager: str = ""
    ) -> Object:
        """Merge into an object and return it. Raises KubeError."""
        query = {"fieldManager": manager} if manager else {}
        return self._json("patch", resource, name, body, query=query, subresource=subresource, kind=MERGE)

    def apply(self, resource: Resource, body: Object, manager: str, *, subresource: str = "") -> Object:
        """Apply server-side, taking over fields that others own, and return the object. Raises KubeError."""
        query = {"fieldManager": manager, "force": "true"}
        name = body["metadata"]["name"]
        return self._json("apply", resource, name, body, query=query, subresource=subresource, kind=APPLY)

    def apply_status(self, resource: Resource, body: Object, manager: str) -> Object:
        """Apply server-side to the status. Raises KubeError; NotFound where the object does not exist."""
        return self.apply(resource, body, manager, subresource="status")

    def delete(self, resource: Resource, name: str) -> Object:
        """Delete an object. Raises KubeError."""
        return self._json("delete", resource, name)

    def watch(self, resource: Resource, query: Query) -> Stream:
        """Open a watch. Raises KubeError."""
        request = f"watch {resource}"
        answer = self._send("GET", resource.path(), request, query=query, stream=True)
        return Stream(request, answer)

    def _json(
        self,
        verb: str,
        resource: Resource,
        name: str = "",
        body: Object | None = None,
        *,
        query: Query | None = None,
        subresource: str = "",
        kind: str = _JSON,
    ) -> Object:
        what = f"{resource} {name}".strip() + (f"/{subresource}" if subresource else "")
        method = {"create": "POST", "patch": "PATCH", "apply": "PATCH", "delete": "DELETE"}.get(verb, "GET")
        path = resource.path(name, subresource)
        answer = self._send(method, path, f"{verb} {what}", query=query or {}, body=body, kind=kind)
        try:
            decoded = json.loads(answer.data)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict):
            raise Unreachable(f"{verb} {what}", "the answer is no JSON object: is this an API server?")
        return decoded

    def _send(
        self,
        method: str,
        path: str,
        request: str,
        *,
        query: Query,
        body: Object | None = None,
        kind: str = _JSON,
        stream: bool = False,
    ) -> BaseHTTPResponse:
        """Send, and return an answer of 2xx. Raises KubeError."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        url = path + ("?" + urlencode(query) if query else "")
        token = self._token(request)
        answer = self._exchange(method, url, request, self._headers(token, kind), data, stream=stream)
        # It may have been renewed since it was read; with the same one again there is nothing to gain.
        if answer.status == 401 and (renewed := self._token(request)) != token:
            answer.close()
            answer = self._exchange(method, url, request, self._headers(renewed, kind), data, stream=stream)
        if answer.status < 300:
            return answer
        try:
            content = answer.data
        except (HTTPError, OSError):
            content = b""
        answer.close()
        raise from_answer(request, answer.status, answer.headers, content)

    def _token(self, request: str) -> str:
        try:
            return self._access.token()
        except OSError as error:
            raise Unauthorized(request, f"the token cannot be read: {error}") from None

    def _headers(self, token: str, kind: str) -> dict[str, str]:
        headers = {"Accept": _JSON, "Content-Type": kind, "User-Agent": f"carp-operator/{__version__}"}
        return headers | ({"Authorization": f"Bearer {token}"} if token else {})

    def _exchange(
        self,
        method: str,
        url: str,
        request: str,
        headers: Mapping[str, str],
        data: bytes | None,
        *,
        stream: bool,
    ) -> BaseHTTPResponse:
        """Ask one server after the other until one can be reached. Raises Unreachable."""
        pool = self._connections(request)
        problem = ""
        for _ in self._access.servers:
            server = self._access.servers[self._at % len(self._access.servers)]
            try:
                return pool.request(
                    method,
                    server + url,
                    headers=headers,
                    body=data,
                    timeout=self._timeout,
                    retries=False,
                    redirect=False,
                    preload_content=not stream,
                )
            except (NewConnectionError, ConnectTimeoutError, SSLError, ProxyError) as error:
                self._at += 1
                problem = f"{server}: {_said(error)}"
            except (HTTPError, OSError) as error:
                # It may have been carried out: whether to send it again is the caller's to say.
                self._at += 1
                raise Unreachable(request, f"{server}: {_said(error)}") from None
        raise Unreachable(request, problem)

    def _connections(self, request: str) -> urllib3.PoolManager:
        try:
            context = self._access.tls()
        except OSError as error:
            raise Unauthorized(request, f"certificates cannot be used: {error}") from None
        pool = self._pool
        if pool is None or context is not self._context:
            name = self._access.server_name or None
            pool = _manager(self._access.proxy)(
                ssl_context=context, server_hostname=name, maxsize=16, socket_options=_KEEPALIVE
            )
            self._pool, self._context = pool, context
        return pool


def _manager(proxy: str) -> Callable[..., urllib3.PoolManager]:
    if not proxy:
        return urllib3.PoolManager
    auth = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
    return partial(urllib3.ProxyManager, proxy, proxy_headers=headers)


def selected(field: str, label: str) -> Query:
    """Return the query of a field selector and a label selector; an empty one selects all."""
    query = {"fieldSelector": field, "labelSelector": label}
    return {key: value for key, value in query.items() if value}


def _said(error: Exception) -> str:
    """Return what went wrong without the representation of our own objects."""
    text = str(error)
    if isinstance(error, NewConnectionError | ConnectTimeoutError):
        text = text.rpartition("Failed to establish a new connection: ")[2]
        text = text.rpartition("object at ")[2].partition(": ")[2] or text if "object at " in text else text
    return " ".join(text.split()) or type(error).__name__
