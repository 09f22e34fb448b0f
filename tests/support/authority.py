"""A certificate authority for one test run, by the openssl program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")
# The system's own configuration would add extensions of its choice.
_CONFIGURATION = "[req]\ndistinguished_name = name\n[name]\n"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates for two days into a folder; `root` is what others have to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        (folder / "openssl.cnf").write_text(_CONFIGURATION, encoding="ascii")
        self.root = self._issue(
            "ca", "/CN=carp-t", ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"]
        )

    def server(self, name: str, hosts: Sequence[str]) -> Pair:
        """Issue a server's certificate for DNS names and IP addresses."""
        alternatives = ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)
        return self._issue(
            name, f"/CN={name}", [f"subjectAltName={alternatives}", "extendedKeyUsage=serverAuth"]
        )

    def client(self, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a client's certificate; Kubernetes reads CN as the user and each O as a group."""
        subject = "".join(f"/O={group}" for group in groups) + f"/CN={user}"
        return self._issue(f"client-{user.replace(':', '-')}", subject, ["extendedKeyUsage=clientAuth"])

    def key(self, name: str) -> Path:
        """Make a bare private key, for signing tokens."""
        path = self._folder / f"{name}.key"
        # SEC 1: of a PKCS #8 file kube-apiserver reads no public key.
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path))
        return path

    def _issue(self, name: str, subject: str, extensions: Sequence[str]) -> Pair:
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        command = ["req", "-x509", "-days", "2", "-config", str(self._folder / "openssl.cnf"), *_NEW_KEY]
        command += ["-subj", subject, "-keyout", str(pair.key), "-out", str(pair.certificate)]
        for extension in extensions:
            command += ["-addext", extension]
        if name != "ca":
            command += ["-CA", str(self.root.certificate), "-CAkey", str(self.root.key)]
        _openssl(*command)
        return pair


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
