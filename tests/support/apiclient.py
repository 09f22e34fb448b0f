"""A small client of the Kubernetes API for tests: JSON in, JSON out, each request a connection of its own."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from authority import Pair

Object = dict[str, Any]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY = "application/apply-patch+yaml"


class ApiError(Exception):
    """The API refused: `status` is the HTTP code, `reason` Kubernetes' word, `str()` its message."""

    def __init__(self, status: int, body: bytes) -> None:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {"message": body.decode(errors="replace")}
        self.status = status
        self.reason = str(answer.get("reason", ""))
        super().__init__(f"{status} {answer.get('message', '')}")


class ApiClient:
    """Talks to one API server as one user.

    Args:
        host, port: the server's, as seen from where the connections are made.
        authority: certificate file that the server's must be signed by.
        pair: the user's certificate, or None.
        token: the user's bearer token, or None.
        run_in: makes the connections there (`Node.run_in`); the rest happens in the calling thread.
        timeout: seconds for connecting and for each read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        authority: Path,
        *,
        pair: Pair | None = None,
        token: str | None = None,
        run_in: Callable[[Callable[[], socket.socket]], socket.socket] | None = None,
        timeout: float = 60.0,
    ) -> None:
        self._host = host
        self._port = port
        self._run_in = run_in or (lambda make: make())
        self.timeout = timeout
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._tls = ssl.create_default_context(cafile=str(authority))
        if pair is not None:
            self._tls.load_cert_chain(pair.certificate, pair.key)

    def get(self, path: str, **query: str) -> Object:
        """Read an object or a list."""
        return self._json("GET", path, query=query)

    def text(self, path: str) -> str:
        """Read what is no JSON, such as /metrics."""
        return self._request("GET", path).decode()

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Post an object to its collection."""
        return self._json("POST", path, body, query=query)

    def replace(self, path: str, body: Object) -> Object:
        """Put a whole object."""
        return self._json("PUT", path, body)

    def patch(self, path: str, body: object, kind: str = MERGE) -> Object:
        """Patch an object; `kind` is MERGE or JSON_PATCH."""
        return self._json("PATCH", path, body, kind=kind)

    def apply(self, path: str, body: Object, manager: str, *, force: bool = False) -> Object:
        """Apply server-side under a field manager's name."""
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return self._json("PATCH", path, body, kind=APPLY, query=query)

    def delete(self, path: str, **query: str) -> Object:
        """Delete an object, or with a selector in `query` a collection."""
        return self._json("DELETE", path, query=query)

    def exists(self, path: str) -> bool:
        """Tell an object from a 404; any other refusal is raised."""
        try:
            self.get(path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def watch(self, path: str, **query: str) -> Iterator[Object]:
        """Yield the events of a watch until the server ends it or `timeout` seconds pass without one."""
        with self._answer("GET", path, query={**query, "watch": "true"}) as answer:
            while line := answer.readline():
                yield json.loads(line)

    def _json(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Object:
        found: Object = json.loads(self._request(method, path, body, kind=kind, query=query))
        return found

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = "",
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        end = time.monotonic() + self.timeout
        while True:
            try:
                with self._answer(method, path, body, kind=kind, query=query) as answer:
                    return answer.read()
            except ApiError as error:
                # A server that has just started lists no custom resource for some 50 ms.
                if "(re)initializing" not in str(error) or time.monotonic() > end:
                    raise
            time.sleep(0.02)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        kind: str = "",
        query: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection(self._host, self._port)
        try:
            plain = self._run_in(lambda: socket.create_connection((self._host, self._port), self.timeout))
            try:
                connection.sock = self._tls.wrap_socket(plain, server_hostname=self._host)
            except BaseException:
                plain.close()
                raise
            headers = {**self._headers, "Accept": "application/json", "Connection": "close"}
            if body is not None:
                headers["Content-Type"] = kind
            url = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, url, None if body is None else json.dumps(body), headers)
            with connection.getresponse() as answer:
                if answer.status >= http.HTTPStatus.BAD_REQUEST:
                    raise ApiError(answer.status, answer.read())
                yield answer
        finally:
            connection.close()
