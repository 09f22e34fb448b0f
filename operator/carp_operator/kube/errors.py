"""What can go wrong between us and an API server, by what a caller can do about it; each is one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from carp.core.errors import CarpError

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_MESSAGE: Final = 500
"""Characters of a server's message that are worth a log line."""
_UNDECLARED: Final = "field not declared in schema"
"""A server-side apply with a field of a newer CRD is answered by 500 without a reason (seen in 1.34)."""


class KubeError(CarpError):
    """A request that did not succeed.

    ``request`` is its verb and resource, ``status`` the HTTP status, 0 where there was no answer.
    """

    def __init__(self, request: str, problem: str, *, status: int = 0, retry_after: float = 0.0) -> None:
        """Join the parts to one line; ``retry_after`` is the pause in s that the server asks for."""
        self.request = request
        self.problem = problem
        self.status = status
        self.retry_after = retry_after
        super().__init__(f"{request}: {f'HTTP {status}: ' if status else ''}{problem}")


class Transient(KubeError):  # noqa: N818 (named for what it tells the caller, as are its siblings)
    """The same request may succeed later."""


class Unreachable(Transient):
    """No answer, or half of one: refused, reset, timed out, or not what an API server says."""


class Silent(Unreachable):
    """Nothing came on an open watch for as long as we wait: perhaps there was nothing to say."""


class Unauthorized(Transient):
    """The token is not, or not yet, or no longer believed."""


class Conflict(KubeError):  # noqa: N818
    """Somebody else was faster, or the object exists already: read again, then decide again."""


class Gone(KubeError):  # noqa: N818
    """The resource version is too old: list again."""


class NotFound(KubeError):  # noqa: N818
    """There is no such object, or no such kind."""


class Forbidden(KubeError):  # noqa: N818
    """Not allowed, by role or by an admission policy."""


class Fatal(KubeError):  # noqa: N818
    """The request itself is wrong; the same again does not help."""


_BY_STATUS: Final[dict[int, type[KubeError]]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Transient,
    409: Conflict,
    410: Gone,
    429: Transient,
}


def from_answer(request: str, status: int, headers: Mapping[str, str], body: bytes) -> KubeError:
    """Return the error that an HTTP answer of 300 or more stands for."""
    message = _message(body)
    kind = _BY_STATUS.get(status, Transient if status >= 500 else Fatal)
    if status == 500 and _UNDECLARED in message:
        kind = Fatal
    return kind(request, message, status=status, retry_after=_retry_after(headers))


def from_status(request: str, status: Mapping[str, object]) -> KubeError:
    """Return the error that a ``Status`` object in a watch stands for."""
    code = status.get("code")
    code = code if isinstance(code, int) else 500
    return from_answer(request, code, {}, json.dumps(status).encode())


def _message(body: bytes) -> str:
    """Return the message of a ``Status``, or the start of whatever else was answered, in one line."""
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    message = decoded.get("message") if isinstance(decoded, dict) else None
    text = message if isinstance(message, str) and message else body.decode(errors="replace")
    return " ".join(text.split())[:_MAX_MESSAGE] or "no message"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of a Retry-After header; its form with a date, which no API server sends, is 0."""
    value = headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else 0.0
