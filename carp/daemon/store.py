"""The last accepted settings, on disk: what a rebooted node starts from when nobody can be asked.

One file, mode 0600, keys included; written whole, synced and renamed; checksummed. Whatever is wrong with
the disk costs the memory, never a running vhost (design.md section 2).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from carp.state import BusyError

_VERSION: Final = 1
FILE: Final = "_settings.json"
LOCK: Final = "_carpd.lock"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node was told last.

    ``vhosts`` are mappings of the schema; ``uid`` and ``generation`` name the object they came from,
    ``cluster`` the cluster it lives in; ``maintenance`` whether the node stands back.
    """

    vhosts: tuple[dict[str, Any], ...] = ()
    uid: str = ""
    generation: int = 0
    cluster: str = ""
    maintenance: bool = False


class Store:
    """The settings file of one state folder. ``problem`` says why it cannot be trusted or written."""

    def __init__(self, folder: str) -> None:
        """Lock the folder. Raises BusyError when another carpd has it; a bad folder is a problem only."""
        self._folder = Path(folder)
        self.problem = ""
        self._forgotten = False
        self._lock = -1
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            msg = f"another carpd uses the state folder {folder}"
            raise BusyError(msg) from None
        except OSError as error:
            self.problem = f"{folder}: {error.strerror}"

    def load(self) -> Settings | None:
        """Return the stored settings; None where there are none, with `problem` saying what is damaged."""
        path = self._folder / FILE
        try:
            outer = json.loads(path.read_bytes())
            payload = outer["payload"]
            if outer["version"] != _VERSION:
                self.problem = f"{path}: version {outer['version']} is not {_VERSION}"
                return None
            if hashlib.sha256(payload.encode()).hexdigest() != outer["checksum"]:
                self.problem = f"{path}: the checksum is wrong; starting without it"
                return None
            return Settings(**{**json.loads(payload), "vhosts": tuple(json.loads(payload)["vhosts"])})
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.problem = f"{path}: damaged; starting without it"
        return None

    def save(self, settings: Settings) -> bool:
        """Write the settings so that they survive a power cut; whether that worked (else see `problem`)."""
        payload = json.dumps(
            {
                "vhosts": list(settings.vhosts),
                "uid": settings.uid,
                "generation": settings.generation,
                "cluster": settings.cluster,
                "maintenance": settings.maintenance,
            }
        )
        checksum = hashlib.sha256(payload.encode()).hexdigest()
        content = json.dumps({"version": _VERSION, "checksum": checksum, "payload": payload})
        path = self._folder / FILE
        temporary = path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"
            return False
        self._forgotten, self.problem = False, ""
        return True

    def forget(self) -> bool:
        """Delete what a start would go on from; whether that worked (else see `problem`).

        Also what vhosts remember, but for those that somebody runs. `close` then deletes our lock too, so
        that an empty folder is left.
        """
        settings = self._folder / FILE
        try:
            for path in (settings, settings.with_suffix(".new")):
                path.unlink(missing_ok=True)
            for lock in self._folder.glob("*.lock"):
                _forget_vhost(lock)
        except OSError as error:
            self.problem = f"{error.filename}: {error.strerror}"
            return False
        self._forgotten, self.problem = True, ""
        return True

    def close(self) -> None:
        """Give up the lock."""
        if self._forgotten:
            with contextlib.suppress(OSError):
                (self._folder / LOCK).unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _forget_vhost(lock: Path) -> None:
    """Delete what a vhost remembers (carp/state.py) unless some process runs it. Raises OSError."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (lock.with_suffix(".json"), lock.with_suffix(".new"), lock):
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
