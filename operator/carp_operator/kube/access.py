"""Who we are to an API server and where it is: a pod's service account, or a kubeconfig."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from carp.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its token, the certificate authority and its namespace."""


@dataclass(slots=True)
class Access:
    """Addresses and credentials; ``token`` returns the bearer token (empty: none) and is asked each time."""

    servers: tuple[str, ...]
    token: Callable[[], str]
    authority: str = ""
    """File with the certificates to believe; empty: those of the system."""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    """Name that the server's certificate must have, where it is not the one of its address."""
    verify: bool = True
    proxy: str = ""
    """URL of the proxy that leads to them; empty: none."""
    _made_of: tuple[int, ...] = ()
    _context: ssl.SSLContext | None = field(default=None, repr=False)

    def tls(self) -> ssl.SSLContext:
        """Return the TLS settings; new ones after a file that they come from has changed. Raises OSError.

        Data inside a kubeconfig stand in temporary files, and somebody may clean up: what was read goes on.
        """
        files = [path for path in (self.authority, self.certificate, self.key) if path]
        try:
            made_of = tuple(number for path in files for number in _mark(path))
        except FileNotFoundError:
            if self._context is None:
                raise
            return self._context
        if self._context is None or made_of != self._made_of:
            context = ssl.create_default_context(cafile=self.authority or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key or None)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._context, self._made_of = context, made_of
        return self._context


def _mark(path: str) -> tuple[int, int]:
    """Return what differs when a file was replaced; a kubelet replaces a link to its folder."""
    found = Path(path).stat()
    return found.st_ino, found.st_mtime_ns


class TokenFile:
    """The token in a file that somebody renews."""

    def __init__(self, path: Path) -> None:
        """Read nothing yet."""
        self._path = path
        self._read: tuple[int, int] = (0, 0)
        self._token = ""

    def __call__(self) -> str:
        """Return the token, read again where the file has changed. Raises OSError."""
        mark = _mark(str(self._path))
        if mark != self._read:
            self._token = self._path.read_text(encoding="ascii").strip()
            self._read = mark
        return self._token


def namespace(folder: str = FOLDER) -> str:
    """Return the namespace of the pod that we run in; empty outside one."""
    try:
        return (Path(folder) / "namespace").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def in_cluster(servers: Sequence[str] = (), folder: str = FOLDER) -> Access:
    """Return the access that a pod has. Raises ConfigError outside one."""
    place = Path(folder)
    if not (place / "token").exists():
        raise ConfigError("kubeconfig", None, f"is required outside a pod: there is no token in {folder}")
    authority = place / "ca.crt"
    return Access(
        servers=_checked(servers) or (_injected(),),
        token=TokenFile(place / "token"),
        authority=str(authority) if authority.exists() else "",
    )


def _injected() -> str:
    """Return the address that the kubelet or the pod's manifest has put into the environment."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if not host:
        raise ConfigError("api-server", None, "is required: KUBERNETES_SERVICE_HOST is not set")
    return f"https://{f'[{host}]' if ':' in host else host}:{port or 443}"


def _checked(servers: Sequence[str]) -> tuple[str, ...]:
    for server in servers:
        parts = urlsplit(server)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ConfigError("api-server", server, "is no URL such as https://10.0.0.1:6443")
    return tuple(server.rstrip("/") for server in servers)


def from_kubeconfig(path: str, servers: Sequence[str] = (), context: str = "") -> Access:
    """Return the access of a kubeconfig's current context. Raises ConfigError for one that gives none.

    ``path`` empty: ``$KUBECONFIG``, else ``~/.kube/config``.
    """
    # Costs 20 MiB, which a pod that has its service account need not pay.
    from kubernetes.client.configuration import Configuration  # noqa: PLC0415
    from kubernetes.config import load_kube_config  # noqa: PLC0415

    settings = Configuration(proxy="", no_proxy="")  # a proxy is the context's, or none
    try:
        load: Any = load_kube_config
        load(
            config_file=path or None,
            context=context or None,
            client_configuration=settings,
            persist_config=False,
        )
    except Exception as error:  # noqa: BLE001 (what the loader stumbles over is the file's, in many types)
        problem = " ".join(str(error).split())
        raise ConfigError("kubeconfig", path or None, f"cannot be used: {problem}") from None

    def token() -> str:
        value = settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return str(value or "").removeprefix("Bearer ")

    return Access(
        servers=_checked(servers) or (str(settings.host).rstrip("/"),),
        token=token,
        authority=settings.ssl_ca_cert or "",
        certificate=settings.cert_file or "",
        key=settings.key_file or "",
        server_name=settings.tls_server_name or "",
        verify=bool(settings.verify_ssl),
        proxy=_proxy(str(settings.proxy or "")),
    )


def _proxy(url: str) -> str:
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError("proxy-url", url, "is no proxy that is known: http:// or https://")
    return url
