"""Build the image of the Dockerfile for the tests, and print the folder with its archives.

The Dockerfile's base is made on this machine by debootstrap, under the name that the Dockerfile gives it, so
no image registry is asked; Debian's packages and PyPI are. The folder holds carp-operator.tar and pause.tar,
to be loaded by `podman load`, `docker load` or `ctr images import`. Everything is kept: a second call takes
no time.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = "docker.io/library/carp-operator"
PAUSE = "docker.io/library/carp-pause:1"
IMAGE, PAUSE_IMAGE = "carp-operator.tar", "pause.tar"  # names of the archives
_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap", "runc": "runc"}
# Debian 13 has the Python that the Dockerfile names.
_SUITE, _PACKAGES = "trixie", "python3,python3-pip,ca-certificates"
_CONTEXT = ("Dockerfile", ".dockerignore", "LICENSE", "README.md", "pyproject.toml", "uv.lock")
_FOLDERS = ("carp", "operator", "tools/image.d")
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
# What the official image lacks too; above all the bytecode of the standard library.
_UNWANTED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


@dataclass(frozen=True)
class Sizes:
    """Unpacked bytes of an archive's image: of its first layer (the base's), and of all others."""

    base: int
    own: int


def cache(environment: Mapping[str, str]) -> Path:
    """Return the folder in which everything is kept: CARP_IMAGES, or below the user's cache folder."""
    if own := environment.get("CARP_IMAGES"):
        return Path(own).absolute()
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "carp-operator" / "images"


def version() -> str:
    """Return the version that pyproject.toml gives."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', text, flags=re.MULTILINE)
    return found.group(1) if found else _die("pyproject.toml: gives no version")


def context() -> Iterator[Path]:
    """Yield the files that the image is made of."""
    yield from (ROOT / name for name in _CONTEXT)
    for folder in _FOLDERS:
        found = sorted((ROOT / folder).rglob("*"))
        yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def fingerprint() -> str:
    """Return a name for what the image is made of; another content has another name."""
    total = hashlib.sha256(f"{_SUITE} {_PACKAGES} {_PATH}".encode())
    for path in context():
        total.update(f"\0{path.relative_to(ROOT)}\0{path.stat().st_mode & 0o111}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:16]


def sizes(archive: Path) -> Sizes:
    """Measure an archive made by `provide`."""
    with tarfile.open(archive) as tar:
        manifest = tar.extractfile("manifest.json")
        layers = json.load(manifest)[0]["Layers"] if manifest else []
        found = [tar.getmember(name).size for name in layers]
    return Sizes(found[0], sum(found[1:]))


def provide(environment: Mapping[str, str]) -> Path:
    """Build what is missing and return the folder of the archives; one build at a time on this machine."""
    root = cache(environment)
    folder = root / fingerprint()
    if (folder / IMAGE).exists():
        return folder
    _refuse_unless_able()
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / IMAGE).exists():
            _build(root, folder)
            _forget_others(root, folder)
    return folder


def _build(root: Path, folder: Path) -> None:
    tool = _Buildah(root)
    base = tool.base_name()
    if not tool.has(base):
        _say(f"base {base}: debootstrap {_SUITE}")
        _make_base(tool, root, base)
    with tempfile.TemporaryDirectory(dir=root, prefix="building-") as temporary:
        place = Path(temporary)
        _say(f"buildah bud -t {NAME}:{version()}")
        tool.build(place, f"{NAME}:{version()}")
        tool.save(f"{NAME}:{version()}", place / IMAGE)
        tool.make_pause(base)
        tool.save(PAUSE, place / PAUSE_IMAGE)
        folder.mkdir(exist_ok=True)
        # The image last: whoever sees it sees both.
        for name in (PAUSE_IMAGE, IMAGE):
            (place / name).rename(folder / name)
    measured = sizes(folder / IMAGE)
    _say(f"{measured.own / 1e6:.0f} MB unpacked on a base of {measured.base / 1e6:.0f} MB")


class _Buildah:
    """buildah with a storage of its own below our cache folder."""

    def __init__(self, root: Path) -> None:
        storage = ["--root", str(root / "storage"), "--runroot", str(root / "run")]
        self._command = ["buildah", *storage]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run([*self._command, *arguments], check=False, capture_output=True, text=True)
        if done.returncode:
            _die(f"buildah {' '.join(arguments)}: {(done.stdout + done.stderr)[-3000:].strip()}")
        return done.stdout.strip()

    def has(self, image: str) -> bool:
        """Say whether the storage holds an image."""
        done = subprocess.run(
            [*self._command, "inspect", "--type", "image", image], check=False, capture_output=True
        )
        return done.returncode == 0

    def base_name(self) -> str:
        """Return what the Dockerfile builds on."""
        found = set(
            re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
        )
        if len(found) != 1:
            _die(f"Dockerfile: builds on {', '.join(sorted(found))}; one base is expected")
        return f"docker.io/library/{found.pop()}"

    def commit(self, source: str, image: str, command: Sequence[str], tree: Path | None = None) -> None:
        """Make an image from another one or from `scratch`, with this command and the files of ``tree``."""
        container = self("from", "--pull-never", source)
        try:
            if tree is not None:
                self("add", container, str(tree), "/")
            self("config", "--env", f"PATH={_PATH}", "--cmd", json.dumps(list(command)), container)
            self("commit", "--quiet", container, image)
        finally:
            self("rm", container)

    def build(self, place: Path, tag: str) -> None:
        """Build the Dockerfile, trusting and asking whom this machine's pip does."""
        (place / "pip.conf").write_text(_pip_settings(), encoding="utf-8")
        mounts = ["/etc/ssl/certs:/etc/ssl/certs:ro", f"{place / 'pip.conf'}:/etc/pip.conf:ro"]
        options = ["--isolation", "chroot", "--network", "host", "--pull-never", "--layers", "--quiet"]
        self("bud", *options, *(f"--volume={each}" for each in mounts), "--tag", tag, str(ROOT))

    def make_pause(self, base: str) -> None:
        """Make the image whose one process holds a pod's namespaces."""
        self.commit(base, PAUSE, ["sleep", "infinity"])

    def save(self, image: str, path: Path) -> None:
        """Write an image with its name into a file."""
        self("push", "--quiet", image, f"docker-archive:{path}:{image}")


def _make_base(tool: _Buildah, root: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(dir=root, prefix="building-") as temporary:
        tree = Path(temporary) / "tree"
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={_PACKAGES}",
            _SUITE,
            str(tree),
            *_mirror(),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            _die(f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:].strip()}")
        for each in _UNWANTED:
            shutil.rmtree(tree / each, ignore_errors=True)
            (tree / each).mkdir(parents=True)
        for compiled in (tree / "usr" / "lib").rglob("*.pyc"):
            compiled.unlink()
        for marker in (tree / "usr" / "lib").glob("python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (tree / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
        (tree / "etc" / "pip.conf").touch()  # a build mounts one over it
        tool.commit("scratch", name, ["python3"], tree)


def _mirror() -> list[str]:
    """Return the mirror that this machine's apt uses; debootstrap has a default for Debian."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI) $(SUITE)"]
    found = subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()
    words = [line.split() for line in found]
    mirrors = [each[2] for each in words if len(each) == 4 and each[0] == "Debian" and each[1] == "main"]
    return [mirror for mirror in mirrors if "security" not in mirror][:1]


def _pip_settings() -> str:
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    known = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.+)'$", listed, flags=re.MULTILINE))
    kept = {key: known[key] for key in ("index-url", "extra-index-url", "timeout", "proxy") if key in known}
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    trusted = {"cert": str(certificates)} if certificates.exists() else {}
    return "\n".join(["[global]", *(f"{key} = {value}" for key, value in {**trusted, **kept}.items()), ""])


def _forget_others(root: Path, folder: Path) -> None:
    """Remove archives of earlier contents; the two newest stay, for whoever switches between branches."""
    found = sorted(root.glob("*/" + IMAGE), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[2:]:
        if path.parent != folder:
            shutil.rmtree(path.parent)


def _refuse_unless_able() -> None:
    if os.geteuid():
        _die("needs root: debootstrap makes a base with files of several users")
    if lacking := sorted(package for program, package in _PROGRAMS.items() if not shutil.which(program)):
        _die(f"missing: {' '.join(lacking)}. Install with: apt-get install {' '.join(lacking)}")


def _say(what: str) -> None:
    print(f"image: {what}", file=sys.stderr, flush=True)


def _die(why: str) -> NoReturn:
    sys.exit(f"image: {why}")


def main() -> None:
    """Read the command line, provide the archives, print where they are."""
    parser = argparse.ArgumentParser(prog="tools/image", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "CARP_IMAGES: where everything is kept, instead of ~/.cache/carp-operator/images."
    parser.parse_args()
    print(provide(os.environ))


if __name__ == "__main__":
    main()
