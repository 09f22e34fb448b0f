"""A containerd's disk that has the images already, kept beside their archives: nodes start from links to it.

Unpacking for each node and run took most of a cluster's start.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE: Final = "k8s.io"
_SETTINGS: Final = """
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
"""
_PATIENCE: Final = 120.0


def plant(images: Path, place: Path) -> None:
    """Make ``place`` the disk of a containerd that knows the archives of ``images``."""
    source = _seed(images)
    place.parent.mkdir(parents=True, exist_ok=True)
    linked = subprocess.run(["cp", "-al", source, place], check=False, capture_output=True)
    if linked.returncode:  # another filesystem
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run(["cp", "-a", source, place], check=True)
        return
    for database in source.rglob("*.db"):  # all that is ever written in place
        copy = place / database.relative_to(source)
        copy.unlink()
        shutil.copy2(database, copy)


def _seed(images: Path) -> Path:
    made = images / "containerd"
    with (images / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=images, prefix="seed-") as temporary:
                folder = Path(temporary)
                with _containerd(folder) as socket:
                    for archive in sorted(images.glob("*.tar")):
                        _ctr(socket, "images", "import", str(archive))
                (folder / "root").rename(made)
    return made


@contextlib.contextmanager
def _containerd(folder: Path) -> Iterator[Path]:
    settings, socket = folder / "config.toml", folder / "sock"
    settings.write_text(_SETTINGS, encoding="ascii")
    arguments = [f"--config={settings}", f"--root={folder / 'root'}", f"--state={folder / 'state'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["containerd", *arguments, f"--address={socket}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while _ctr(socket, "version", check=False):
            if process.poll() is not None or time.monotonic() > end:
                text = (folder / "log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"containerd does not start:\n{text[-2000:]}")
            time.sleep(0.05)
        yield socket
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _ctr(socket: Path, *arguments: str, check: bool = True) -> int:
    command = ["ctr", f"--address={socket}", f"--namespace={NAMESPACE}", *arguments]
    return subprocess.run(command, check=check, capture_output=True, timeout=_PATIENCE).returncode
