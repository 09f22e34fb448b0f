"""What one vhost remembers between two runs: whose lease it may resume, and the times of its seal.

One file per vhost, mode 0600, written whole and renamed. A file that cannot be read or written costs a
resume or the memory of old recordings, never the vhost.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import ipaddress
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.core.errors import CarpError
from carp.core.seal import Seal, latest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carp.core.auth import Address
    from carp.core.config import VhostConfig

_VERSION: Final = 1
_SALT: Final = 16
_FORGET_AFTER: Final = 30 * 86400
"""s; floors this old could wrap around (97 days) before they are used again."""


class BusyError(CarpError):
    """Another process runs the same vhost from the same folder."""


class Memory:
    """The file of one vhost."""

    def __init__(self, folder: str, config: VhostConfig) -> None:
        """Lock the file of a vhost, making the folder. Raises BusyError, and OSError for a bad folder."""
        self._path = Path(folder) / f"{config.name}.json"
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            msg = (
                f"{config.name}: another process runs this vhost (it holds {self._path.with_suffix('.lock')})"
            )
            raise BusyError(msg) from None
        self._stored = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            stored = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return stored if isinstance(stored, dict) and stored.get("version") == _VERSION else {}

    def seal(self) -> Seal:
        """Return the times of the last run; empty where the file does not tell."""
        stored = self._stored.get("seal", {})
        try:
            age = time.time() - float(stored["wall"])
            reserved = int(stored["reserved"])
            newest = None if stored["newest"] is None else int(stored["newest"])
            floors = {bytes.fromhex(source): int(floor) for source, floor in stored["floors"].items()}
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            return Seal()
        if age > _FORGET_AFTER:
            return Seal()
        newest = latest(reserved, newest)
        return Seal(last=reserved, reserved=reserved, newest=newest, floors=floors)

    def proves(self, config: VhostConfig) -> bool:
        """Whether the last run had this vhid, these addresses, their lifetime and this password."""
        try:
            salt = bytes.fromhex(self._stored["salt"])
            fingerprint = bytes.fromhex(self._stored["fingerprint"])
        except (KeyError, TypeError, ValueError):
            return False
        return hmac.compare_digest(fingerprint, _fingerprint(config, salt))

    def left(self, config: VhostConfig) -> set[Address]:
        """Return the addresses that the last run may have left on this host; nobody else's are touched."""
        try:
            return {ipaddress.ip_address(text) for text in self._stored["addresses"]}
        except KeyError:  # of a version that did not store them
            return {vip.ip for vip in config.addresses} if self.proves(config) else set()
        except (TypeError, ValueError):
            return set()

    @staticmethod
    def content(config: VhostConfig, seal: Seal, addresses: Iterable[Address]) -> bytes:
        """Return the file: whose lease it is, the floors of the seal, and what `left` returns."""
        salt = os.urandom(_SALT)
        known = {
            "version": _VERSION,
            "salt": salt.hex(),
            "fingerprint": _fingerprint(config, salt).hex(),
            "addresses": [str(address) for address in addresses],
            "seal": {
                "reserved": seal.reserved,
                "newest": seal.newest,
                "floors": {source.hex(): floor for source, floor in seal.floors.items()},
                "wall": time.time(),
            },
        }
        return json.dumps(known).encode()

    def write(self, content: bytes) -> None:
        """Store it whole. Raises OSError."""
        temporary = self._path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.rename(self._path)

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._lock)


def _fingerprint(config: VhostConfig, salt: bytes) -> bytes:
    """Return a keyed MAC of vhid, addresses and password: a bare hash of 19 bytes would be guessed.

    And of their lifetime: one that was longer may run on when another member has taken over.
    """
    parts = [str(config.vhid), str(config.lifetime), *sorted(str(vip) for vip in config.addresses)]
    return hmac.digest(salt, b"\0".join((config.sign.password, *(p.encode() for p in parts))), hashlib.sha256)
