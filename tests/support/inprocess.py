"""A carpd in this process whose vhosts wait for an interface: `from inprocess import carpd`."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from carp.daemon.configfile import load, watched
from carp.daemon.service import DaemonOptions, Service
from carp.daemon.watchfile import look

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path


def waiting(name: str = "web", **fields: Any) -> dict[str, Any]:
    """Return settings of a vhost that nothing on this machine can start."""
    base = {"name": name, "vhid": 1, "interface": "nosuch0", "addresses": ["10.1.1.9"], "password": "love"}
    return base | fields


class Carpd:
    """The service, and a connection to its socket."""

    def __init__(
        self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, folder: Path
    ) -> None:
        self.service = service
        self.folder = folder
        self._reader = reader
        self._writer = writer

    async def ask(self, op: str, /, **fields: Any) -> dict[str, Any]:
        """Return the answer to one request, refused or not."""
        self._writer.write(json.dumps({"v": 1, "id": 0, "op": op, **fields}).encode() + b"\n")
        return await self.read()

    async def read(self) -> dict[str, Any]:
        """Return the next line."""
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(self._reader.readline(), 10))
        return answer

    async def apply(self, *vhosts: Any, generation: int = 1, **fields: Any) -> dict[str, Any]:
        """Give the whole wanted set."""
        given = {"uid": "u", "cluster": "c", "generation": generation, "vhosts": vhosts} | fields
        return await self.ask("apply", **given)

    async def refusal(self, op: str, /, **fields: Any) -> str:
        """Return why an operation is refused; it must be."""
        answer = await self.ask(op, **fields)
        assert answer["ok"] is False, answer
        return str(answer["error"])

    async def results(self, *vhosts: Any, **fields: Any) -> dict[str, str]:
        """Apply and return what became of each vhost."""
        answer = await self.apply(*vhosts, **fields)
        return {each["name"]: each["problem"] or each["result"] for each in answer["outcomes"]}


def configure(folder: Path, vhosts: Iterable[dict[str, Any]]) -> str:
    """Write a configuration file and return its path."""
    path = folder / "carp.yaml"
    path.write_text(json.dumps({"vhosts": list(vhosts)}))
    path.chmod(0o600)
    return str(path)


@asynccontextmanager
async def carpd(folder: Path, *vhosts: dict[str, Any], **options: Any) -> AsyncIterator[Carpd]:
    """Run a carpd with a file of these vhosts (none: without a file) and stop it in the end."""
    path = configure(folder, vhosts) if vhosts else ""
    state = folder / "state"
    options = {"seen": look(watched(path))} | options
    configs = load(path)[0] if path else []
    service = Service(DaemonOptions(path, str(state), str(folder / "s"), **options), configs)
    running = asyncio.create_task(service.main())
    try:
        async with asyncio.timeout(30):
            while not (folder / "s").exists():
                await asyncio.sleep(0.002)
                assert not running.done(), running
            reader, writer = await asyncio.open_unix_connection(str(folder / "s"), limit=8 << 20)
            try:
                yield Carpd(service, reader, writer, state)
            finally:
                writer.transport.abort()
    finally:
        service.stop("the test ends")
        assert 0 == await asyncio.wait_for(running, 10)
        gc.unfreeze()
