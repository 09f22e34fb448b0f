"""The last accepted settings, on disk: what a rebooted node starts from when nobody can be asked.

One file, mode 0600, keys included; written whole, synced and renamed; checksummed. Whatever is wrong with
the disk costs the memory, never a running vhost (design.md section 2).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from carp.daemon.status import stamp
from carp.state import BusyError
from carp.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log: Final = logging.getLogger("carp.daemon")
_VERSION: Final = 1
FILE: Final = "_settings.json"
LOCK: Final = "_carpd.lock"
SLOW: Final = 1.0
"""s from which a write that is under way is a problem to show."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a node was told last.

    ``vhosts`` are mappings of the schema; ``uid`` and ``generation`` name the object they came from,
    ``cluster`` the cluster it lives in; ``maintenance`` whether the node stands back. ``refused`` names the
    vhosts that were not in force, since another source or process had what they need.
    """

    vhosts: tuple[dict[str, Any], ...] = ()
    uid: str = ""
    generation: int = 0
    cluster: str = ""
    maintenance: bool = False
    refused: tuple[str, ...] = ()


class Store:
    """The settings file of one state folder. ``problem`` says why it cannot be trusted or written."""

    def __init__(self, folder: str) -> None:
        """Lock the folder. Raises BusyError when another carpd has it; a bad folder is a problem only."""
        self._folder = Path(folder)
        self.problem = ""
        self.unread = False
        """Whether there is something that the disk refused to give: another attempt may succeed."""
        self._forgotten = False
        self._damaged = False
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
        if self.unread:
            self.problem = ""
        self._damaged = self.unread = False
        try:
            outer = json.loads(path.read_bytes())
            payload = outer["payload"]
            if outer["version"] != _VERSION:
                self._damaged, self.problem = True, f"{path}: version {outer['version']} is not {_VERSION}"
                return None
            if hashlib.sha256(payload.encode()).hexdigest() != outer["checksum"]:
                self._damaged, self.problem = True, f"{path}: the checksum is wrong; starting without it"
                return None
            content = json.loads(payload)
            lists = {key: tuple(content[key]) for key in ("vhosts", "refused") if key in content}
            return Settings(**(content | lists))
        except FileNotFoundError:
            return None
        except OSError as error:
            self.problem = f"{path}: {error.strerror}"
            # A folder in its place has no settings in it, and is nobody's to move.
            self._damaged = self.unread = not isinstance(error, IsADirectoryError)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._damaged, self.problem = True, f"{path}: damaged; starting without it"
        return None

    def save(self, settings: Settings) -> bool:
        """Write the settings so that they survive a power cut; whether that worked (else see `problem`)."""
        # An earlier version can read what names none that are refused.
        refused = {"refused": list(settings.refused)} if settings.refused else {}
        payload = json.dumps(
            {
                "vhosts": list(settings.vhosts),
                "uid": settings.uid,
                "generation": settings.generation,
                "cluster": settings.cluster,
                "maintenance": settings.maintenance,
                **refused,
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
            self._put_aside(path)
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

    def _put_aside(self, path: Path) -> None:
        """Keep what could not be read: a later version, or a person, may make something of it."""
        if self._damaged:
            with contextlib.suppress(OSError):
                path.chmod(0o600)
            with contextlib.suppress(FileNotFoundError):
                path.replace(path.with_suffix(".bad"))
            self._damaged = self.unread = False

    def forget(self) -> bool:
        """Delete what a start would go on from; whether that worked (else see `problem`).

        Also what vhosts remember, but for those that somebody runs. `close` then deletes our lock too, so
        that an empty folder is left.
        """
        settings = self._folder / FILE
        try:
            for path in (settings, settings.with_suffix(".new"), settings.with_suffix(".bad")):
                path.unlink(missing_ok=True)
            for lock in self._folder.glob("*.lock"):
                _forget_vhost(lock)
        except OSError as error:
            self.problem = f"{error.filename}: {error.strerror}"
            return False
        self._forgotten, self._damaged, self.unread, self.problem = True, False, False, ""
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


class Keeper:
    """The settings in force, and whether the disk has them; written in a thread, for a disk can be slow."""

    def __init__(self, store: Store, on_change: Callable[[], None]) -> None:
        """``on_change`` is called when there is something new to say of the disk."""
        self.settings = Settings()
        self.persisted = True
        self._store = store
        self._on_change = on_change
        self._since: float | None = None

    async def load(self) -> bool:
        """Take over what is stored; whether there was something."""
        known = self.problem
        stored = await in_thread(self._store.load)
        if stored is not None:
            self.settings = stored
        if self.problem and self.problem != known:
            log.warning("state: %s", self.problem)
        return stored is not None

    async def recall(self) -> bool:
        """Try once more what the disk refused; whether there is something to go on from now.

        To be done before the first write, which puts aside what is still unread. What was told since is
        newer, whether it is on disk or not.
        """
        now = self.settings
        if now.uid or now.vhosts or not self._store.unread or not await self.load():
            return False
        self.settings = replace(self.settings, maintenance=now.maintenance or self.settings.maintenance)
        return True

    async def keep(self, wanted: Settings, in_force: Callable[[], None] = lambda: None) -> None:
        """Store these settings, which are in force from now on, whether that works or not.

        ``in_force`` is called before the disk is waited for.
        """
        if wanted == self.settings and self.persisted:
            return
        self.settings = wanted
        in_force()
        await self._written(in_thread(lambda: self._store.save(wanted)))
        if not self.persisted:
            log.error("settings not stored: %s; going on in memory", self.problem)

    async def forget(self, told: Settings) -> None:
        """Leave nothing on disk; ``told`` is in force."""
        self.settings = told
        await self._written(in_thread(self._store.forget))

    def put_off(self, told: Settings, problem: str) -> None:
        """Take note of settings in force that cannot be stored now."""
        self.settings, self.persisted, self._store.problem = told, False, problem
        self._on_change()

    async def _written(self, writing: Awaitable[bool]) -> None:
        """Wait for the disk; until then nothing may be said to be on it."""
        loop = asyncio.get_running_loop()
        self.persisted, self._since = False, loop.time()
        slow = loop.call_later(SLOW, self._on_change)
        try:
            self.persisted = await writing
        finally:
            self._since = None
            slow.cancel()
            self._on_change()

    @property
    def problem(self) -> str:
        """Why the disk cannot be trusted or written; empty where it can."""
        return self._store.problem

    def problems(self, now: float) -> list[str]:
        """Return what there is to say of the disk at ``now``, of the loop's clock."""
        found = [self.problem] if self.problem else []
        if self._since is not None and now - self._since >= SLOW:
            found.append(f"settings: being written since {stamp(self._since, now)}")
        return found
